"""run_pipeline: (ir.Model, passes) -> PipelineRun. Holds each pass to its contract and records what it did."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from h4hc.annotations import all_origins
from h4hc.diagnostics import Diagnostic
from h4hc.errors import PassError, Problem, UserError
from h4hc.passbase import Pass, Skip
from h4hc.registry import pass_class, pipelines


@dataclass(frozen=True)
class PassStep:
    """What one pass did. seconds is wall time, for the log only: it never reaches a report."""

    name: str
    changed: int
    nodes_before: int
    nodes_after: int
    removed: tuple[tuple[str, str], ...]
    skipped: tuple[Skip, ...]
    diagnostics: tuple[Diagnostic, ...]
    seconds: float


@dataclass(frozen=True)
class PipelineRun:
    """The legalised model and the record of how it came about."""

    model: ir.Model
    steps: tuple[PassStep, ...]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Remarks of all passes, in order, each once."""
        return tuple(dict.fromkeys(d for step in self.steps for d in step.diagnostics))

    @property
    def removed(self) -> dict[str, str]:
        """Origin -> why no node stands for it any more."""
        return {name: f"{step.name}: {why}" for step in self.steps for name, why in step.removed}


_ITEM = re.compile(r"\s*(?P<name>[a-z0-9-]+)\s*(?:\{(?P<options>[^{}]*)\})?\s*(?:,|$)")


def parse_pipeline(text: str, extra: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Pass, ...]:
    """Build the passes named by `text`: a pipeline's name, or a comma list of passes with options.

    Syntax: `fold-constants{max-growth-bytes=1048576},drop-no-ops`; several options are separated by spaces.
    extra: pass name -> field values that the command line gives by other means (input shapes).

    Raises: UserError with every mistake: unknown pass, unknown option, bad value, wrong order.
    """
    text = pipelines().get(text.strip(), text)
    passes: list[Pass] = []
    problems: list[Problem] = []
    at = 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            problems.append(
                Problem(
                    f"cannot read the pass list from {text[at : at + 40]!r} on",
                    why="it is a comma list of passes, options in braces: fold-constants{max-growth-bytes=0}",
                    hint="see `h4hc passes` for the passes and the named lists",
                )
            )
            break
        at = match.end()
        try:
            name = match["name"]
            passes.append(_build(pass_class(name), match["options"] or "", (extra or {}).get(name, {})))
        except UserError as error:
            problems.extend(error.problems)
    problems.extend(_order_problems(passes))
    if not passes and not problems:
        problems.append(Problem("the pass list is empty", hint="use --passes minimal for the shortest useful list"))
    if problems:
        raise UserError.of(tuple(problems))
    return tuple(passes)


def _build(cls: type[Pass], options: str, extra: Mapping[str, Any]) -> Pass:
    fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = dict(extra)
    problems: list[Problem] = []
    for item in options.split():
        key, _, value = item.partition("=")
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            problems.append(Problem(f"pass {cls.name} has no option {key!r}", why=f"its options: {known}"))
            continue
        default = fields[key].default
        try:
            if isinstance(default, bool):
                values[fields[key].name] = {"true": True, "false": False}[value]
            elif isinstance(default, int | float | str):
                values[fields[key].name] = type(default)(value)
            else:
                raise ValueError
        except (ValueError, KeyError):
            problems.append(
                Problem(f"pass {cls.name}: {key}={value!r} is not a value for it", why=f"its default is {default!r}")
            )
    if problems:
        raise UserError.of(tuple(problems))
    return cls(**values)


def _order_problems(passes: list[Pass]) -> list[Problem]:
    first: dict[str, int] = {}
    for index, item in enumerate(passes):
        first.setdefault(item.name, index)
    return [
        Problem(f"pass {item.name} stands before {needed}, which it needs to come after", hint="reorder the pass list")
        for index, item in enumerate(passes)
        for needed in item.after
        if first.get(needed, -1) > index
    ]


def run_pipeline(model: ir.Model, passes: tuple[Pass, ...]) -> PipelineRun:
    """Run the passes in order on a copy of the model (weights shared), and check the origin law after each.

    Raises: whatever a pass raises (UserError, GraphError); PassError when a pass loses an origin, invents one, or
    leaves nodes with the same name.
    """
    steps: list[PassStep] = []
    model = model.clone()
    before = all_origins(model)
    for item in passes:
        nodes_before = len(model.graph)
        begun = time.perf_counter()
        result = item.run(model)
        seconds = time.perf_counter() - begun
        before = _check(item.name, before, model, result.removed)
        steps.append(
            PassStep(
                item.name,
                result.changed,
                nodes_before,
                len(model.graph),
                tuple(sorted(result.removed.items())),
                tuple(result.skipped),
                tuple(result.diagnostics),
                seconds,
            )
        )
    return PipelineRun(model, tuple(steps))


def _check(name: str, before: frozenset[str], model: ir.Model, removed: Mapping[str, str]) -> frozenset[str]:
    """Hold a pass to the origin law; returns the origins after it."""
    after = all_origins(model)
    lost = sorted(before - after - set(removed))
    invented = sorted(after - before)
    names = Counter(str(node.name) for node in model.graph)
    repeated = sorted(n for n, count in names.items() if count > 1) if len(names) < len(model.graph) else []
    for what, which in (("lost", lost), ("invented", invented)):
        if which:
            raise PassError(f"pass {name} {what} the origin of nodes", where=tuple(which), hint="this is a bug of h4hc")
    if repeated:
        raise PassError(f"pass {name} left nodes of one name", where=tuple(repeated), hint="this is a bug of h4hc")
    return after
