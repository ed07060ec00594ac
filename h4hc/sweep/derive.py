"""What is derived from the rows of a sweep: which are on the Pareto front, and where partitioning stops paying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from h4hc.sweep.row import PlanFigures, Row

NPU_ONLY = "npu-only"
Measure = Literal["latency", "energy"]


def pareto(rows: Sequence[Row]) -> tuple[bool, ...]:
    """Whether each row is on the front of (latency, energy, area), nominal values, less is better.

    A row is off the front when another is at most as large in all three and smaller in one; equal rows are all on
    it. Rows without a plan are off. Compare rows of one model only.
    """
    triples = [_triple(row) for row in rows]
    known = sorted({t for t in triples if t is not None})  # what dominates a triple sorts before it
    front: set[tuple[int, int, float]] = set()
    for triple in known:
        if not any(all(a <= b for a, b in zip(other, triple, strict=True)) for other in front):
            front.add(triple)
    return tuple(t in front for t in triples)


def _triple(row: Row) -> tuple[int, int, float] | None:
    if row.plan is None:
        return None
    return row.plan.latency_ps.nominal, row.plan.energy_pj.nominal, row.area_mm2[1]


@dataclass(frozen=True)
class Balance:
    """A plan against npu-only, nominal, in ps or pJ.

    saved: what operators take less than in npu-only. overhead: what switches, copies, cache maintenance and layout
    changes take more. The plan pays while saved > overhead; the break-even line is saved = overhead.
    """

    saved: int
    overhead: int

    @property
    def break_even_ratio(self) -> float | None:
        """saved / overhead: how many times dearer its extra overhead could be before the plan only equals npu-only.

        Of this plan: one planned anew for dearer overhead can only be better. None without extra overhead.
        """
        return round(self.saved / self.overhead, 6) if self.overhead > 0 else None


def balance(row: Row, plan: PlanFigures | None, measure: Measure) -> Balance | None:
    """A plan of the row against its npu-only plan; None where one of the two is missing."""
    npu = row.baseline(NPU_ONLY)
    if plan is None or npu is None:
        return None
    (ours, extra), (theirs, base) = _parts(plan, measure), _parts(npu, measure)
    return Balance(saved=theirs - ours, overhead=extra - base)


def _parts(plan: PlanFigures, measure: Measure) -> tuple[int, int]:
    """(operators and border, overhead)."""
    latency = measure == "latency"
    whole, overhead = (plan.latency_ps, plan.overhead_ps) if latency else (plan.energy_pj, plan.overhead_pj)
    return whole.nominal - overhead.nominal, overhead.nominal
