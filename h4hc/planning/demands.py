"""What the user demands of a plan (--pin, --forbid), turned into the modes each operator may use."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

from h4hc.cost import CostTable, OpRow
from h4hc.costtypes import Mode
from h4hc.errors import InfeasibleError, Problem, UserError
from h4hc.workload import Op, Workload


def allowed_modes(
    workload: Workload, table: CostTable, pins: Sequence[str], forbids: Sequence[str]
) -> tuple[tuple[Mode, ...], ...]:
    """Modes of each operator, by position, after pins (`NODE=npu`, `GLOB=cim*2`) and forbids (`OP=npu`).

    The left side matches, by glob, an operator's id, any of its origin nodes, its ONNX types or its kind. The
    right side is a device, or a mode of it (`cim*2`).

    Raises: UserError for a demand that cannot be read, names an unknown device or matches nothing; InfeasibleError
    listing every operator that is left without a mode, with the rule that refused the one pinned.
    """
    known = {c.mode.name for row in table.rows for c in row.costs} | {
        r.mode.name for row in table.rows for r in row.rejections
    }
    devices = {name.partition("*")[0] for name in known}
    problems: list[Problem] = []
    keep: dict[str, list[str]] = {}
    drop: dict[str, list[str]] = {}
    for flag, demands, into in (("--pin", pins, keep), ("--forbid", forbids, drop)):
        for demand in demands:
            pattern, equals, target = demand.rpartition("=")
            if not equals or not pattern:
                problems.append(
                    Problem(f"{flag} {demand!r} is not NODE=DEVICE", hint=f"for example {flag} '/head/*=npu'")
                )
                continue
            if target not in known | devices:
                problems.append(
                    Problem(
                        f"{flag} {demand!r}: no device or mode {target!r}", why=f"known: {_listed(known | devices)}"
                    )
                )
                continue
            matched = [op.id for op in workload.ops if matches(pattern, op)]
            if not matched:
                problems.append(
                    Problem(f"{flag} {demand!r} matches no operator", hint="`h4hc classify` lists the operators")
                )
            for op_id in matched:
                into.setdefault(op_id, []).append(target)
    if problems:
        raise UserError.of(tuple(problems))
    return _apply(workload, table, keep, drop)


def matched(workload: Workload, demand: str) -> tuple[str, ...]:
    """Operators that a pin or forbid is about."""
    pattern = demand.rpartition("=")[0]
    return tuple(op.id for op in workload.ops if matches(pattern, op))


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def matches(pattern: str, op: Op) -> bool:
    """Whether a user's pattern means this operator. Names may hold [ and *, so an exact match counts first."""
    names = (op.id, *op.origin, *op.op_types, op.kind.value)
    return pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _is(target: str) -> Callable[[Mode], bool]:
    return lambda mode: target in (mode.device, mode.name)


def _apply(
    workload: Workload, table: CostTable, keep: dict[str, list[str]], drop: dict[str, list[str]]
) -> tuple[tuple[Mode, ...], ...]:
    result: list[tuple[Mode, ...]] = []
    stuck: list[Problem] = []
    for op in workload.ops:
        row = table.row[op.id]
        modes = [c.mode for c in row.costs]
        for target in keep.get(op.id, ()):
            modes = [m for m in modes if _is(target)(m)]
        for target in drop.get(op.id, ()):
            modes = [m for m in modes if not _is(target)(m)]
        if not modes:
            stuck.append(_stuck(op, row, keep.get(op.id, []), drop.get(op.id, [])))
        result.append(tuple(modes))
    if stuck:
        raise InfeasibleError.of(tuple(stuck))
    return tuple(result)


def _stuck(op: Op, row: OpRow, keep: list[str], drop: list[str]) -> Problem:
    legal = ", ".join(c.mode.name for c in row.costs)
    refused = [r for r in row.rejections if any(_is(target)(r.mode) for target in keep)]
    reasons = [f"{r.mode.device}: {r.rule} (value {r.value}; limit {r.limit}) [{r.code}]" for r in refused]
    demand = " and ".join([*(f"pinned to {t}" for t in keep), *(f"forbidden on {t}" for t in drop)])
    return Problem(
        f"{op.kind.value} {op.id!r} has no device left: {demand}",
        op.origin,
        "; ".join(dict.fromkeys(reasons)) or f"legal modes before the demands: {legal}",
        f"take the demand back, or choose among: {legal}",
    )
