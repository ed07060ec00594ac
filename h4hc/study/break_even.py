"""break_even: results of the grid -> for each setting where the CIM stops paying, in macros and compute units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.study.design import Setting
from h4hc.study.savings import Against, Measure, Result

WORTH_PCT = 1.0  # points of saving that twice the macros must bring to count as a gain


@dataclass(frozen=True)
class BreakEven:
    """Where the CIM pays for one setting and one number of CUs, measured against `against`.

    latency_from, energy_from: the least number of macros that saves latency or energy, None where none does.
    energy_lost_at: numbers of macros whose plan takes more energy than the baseline. enough: the number of macros
    beyond which the next size of the grid saves less than WORTH_PCT points more of what is minimised; for edp, of both.
    """

    setting: Setting
    against: Against
    cus: int
    latency_from: int | None
    energy_from: int | None
    energy_lost_at: tuple[int, ...]
    enough: int


def break_even(results: Sequence[Result], against: Against) -> tuple[BreakEven, ...]:
    """One for each setting and number of CUs of the grid, in order; points without a plan are no gain."""
    lines: dict[tuple[Setting, int], list[Result]] = {}
    for result in results:
        if result.in_grid and result.row.feasible:
            lines.setdefault((result.trial.setting, result.trial.cus), []).append(result)
    return tuple(_line(setting, cus, line, against) for (setting, cus), line in lines.items())


def _line(setting: Setting, cus: int, line: list[Result], against: Against) -> BreakEven:
    line = sorted(line, key=lambda result: result.trial.macros)
    lost = tuple(r.trial.macros for r in line if r.saved("energy", against) < 0)
    first = {m: _first(line, m, against) for m in ("latency", "energy")}
    return BreakEven(setting, against, cus, first["latency"], first["energy"], lost, _enough(line, against))


def _first(line: Sequence[Result], measure: Measure, against: Against) -> int | None:
    return next((r.trial.macros for r in line if r.saved(measure, against) > 0), None)


def _enough(line: Sequence[Result], against: Against) -> int:
    objective = str(line[0].trial.setting.objective)
    measures: tuple[Measure, ...] = ("latency",) if objective == "latency" else ("energy",)
    if objective == "edp":
        measures = ("latency", "energy")
    enough = line[0]
    for result in line[1:]:
        if any(result.saved(m, against) - enough.saved(m, against) >= WORTH_PCT for m in measures):
            enough = result
    return enough.trial.macros
