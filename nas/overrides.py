"""`--set training.budget.steps=100`: values of a configuration changed by their path of keys."""

from __future__ import annotations

from typing import Any

import yaml

from h4hc.errors import Problem, UserError

Path_ = tuple[str | int, ...]


def parse_sets(texts: tuple[str, ...]) -> list[tuple[Path_, Any, str]]:
    """Path, value and `--set ...` of each KEY=VALUE; the value is YAML: `{steps: 100}`, `[1, 2]`, `null`.

    Whole numbers in a path count the items of a list from 0. Raises UserError with every text that is none.
    """
    found, problems, seen = [], [], set()
    for text in texts:
        key, equals, value = text.partition("=")
        given = f"--set {text}"
        if not equals or not all(key.split(".")):
            problems.append(Problem(f"{given} is not KEY=VALUE", ("--set",), hint="--set training.batch=32"))
            continue
        if key in seen:
            problems.append(Problem(f"--set {key} is given twice", ("--set",), hint="give it once"))
        seen.add(key)
        try:
            data = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problems.append(Problem(f"the value of {given} is no YAML", ("--set",), str(error).replace("\n", " ")))
            continue
        found.append((tuple(int(k) if k.isdecimal() else k for k in key.split(".")), data, given))
    if problems:
        raise UserError.of(tuple(problems))
    return found


def override(data: Any, path: Path_, value: Any, given: str) -> list[Problem]:
    """Put a value into nested data, in place; missing sections are made. Problems where a path leads nowhere."""
    at = data
    for key, following in zip(path, [*path[1:], None], strict=True):
        fits = (isinstance(at, list) and isinstance(key, int) and key < len(at)) or isinstance(at, dict)
        if not fits:
            kind = f"a list of {len(at)}" if isinstance(at, list) else f"the value {at!r}"
            return [Problem(f"{given} leads nowhere", ("--set",), f"{key!r} is asked of {kind}", "set the whole value")]
        if following is None:
            at[key] = value
        else:
            at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
            if at is None:
                return [Problem(f"{given} leads nowhere", ("--set",), f"{key!r} is null", "set the whole value")]
    return []
