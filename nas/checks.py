"""What can be wrong with a configuration beyond its keys, told before hours are spent: systems, metrics, genes."""

from __future__ import annotations

from collections.abc import Iterable

from h4hc.api import load_system
from h4hc.errors import H4hcError, UserError
from nas.config import RunConfig
from nas.search.problem import measured_problems, metric_problems


def check_config(config: RunConfig) -> None:
    """Raises one error with every target, number of one, metric and pattern of genes that does not exist."""
    hardware, search = config.hardware, config.search
    errors: list[H4hcError] = []
    asked = search.objectives, search.limits
    if problems := [*metric_problems(*asked), *measured_problems(*asked)]:
        errors.append(UserError.of(tuple(problems)))
    try:
        config.of_space.choices(search.allowed or None)
    except UserError as error:
        errors.append(error)
    others = ((target, ()) for target in dict.fromkeys(config.export.targets) if target != hardware.target)
    raise_all([*errors, *system_errors([(hardware.target, hardware.sets), *others])])


def system_errors(systems: Iterable[tuple[str, tuple[str, ...]]]) -> list[H4hcError]:
    """The error of each target with its numbers that cannot be loaded."""
    found: list[H4hcError] = []
    for target, sets in systems:
        try:
            load_system(target, sets)
        except H4hcError as error:
            found.append(error)
    return found


def raise_all(errors: list[H4hcError]) -> None:
    """One error with the problems of all, of the kind of the first."""
    if errors:
        raise type(errors[0]).of(tuple(problem for error in errors for problem in error.problems))
