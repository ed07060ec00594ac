"""savings: (trials, rows, correlated bounds) -> what each plan saves against each baseline [%], with its bounds.

saved = 100 * (1 - cost / baseline) [%]; negative where the plan is dearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from h4hc.costtypes import Interval
from h4hc.errors import InfeasibleError
from h4hc.planning.plan_cost import Pair
from h4hc.study.correlated import Bounds, Corners, Driver
from h4hc.study.design import FULL, Setting, Trial
from h4hc.sweep.derive import NPU_ONLY
from h4hc.sweep.row import PlanFigures, Row

Against = Literal["npu_only", "npu_host"]
Measure = Literal["latency", "energy"]
AGAINST: tuple[Against, ...] = ("npu_only", "npu_host")
MEASURES: tuple[Measure, ...] = ("latency", "energy")


@dataclass(frozen=True)
class Saving:
    """What a plan saves [%].

    inside: without the model's border on both sides (`border.py`), nominal. blind: bounds whatever the two sides'
    numbers are; correlated: with the same numbers on both. drivers: the numbers that move it most; empty where they
    were not sought, as are the correlated bounds.
    """

    nominal_pct: float
    inside_pct: float
    blind: Bounds
    correlated: Bounds | None
    drivers: tuple[Driver, ...] = ()


@dataclass(frozen=True)
class Baselines:
    """The system without a CIM: the NPU takes all it can; the best plan for NPU and host; the cost of the border."""

    npu_only: PlanFigures
    npu_host: PlanFigures
    border: Pair = (0, 0)

    def of(self, against: Against) -> PlanFigures:
        """One of the two."""
        return self.npu_only if against == "npu_only" else self.npu_host


@dataclass(frozen=True)
class Result:
    """A trial with a CIM, its answer, and its savings by (measure, baseline); empty where there is no plan."""

    trial: Trial
    row: Row
    baselines: Baselines
    savings: Mapping[tuple[Measure, Against], Saving]

    def saved(self, measure: Measure, against: Against = "npu_only") -> float:
        """Nominal saving [%]. KeyError where there is no plan."""
        return self.savings[measure, against].nominal_pct

    @property
    def in_grid(self) -> bool:
        """Whether nothing is taken away."""
        return self.trial.ablation == FULL


def cost(plan: PlanFigures, measure: Measure) -> Interval:
    """Latency [ps] or energy [pJ] of a plan."""
    return plan.latency_ps if measure == "latency" else plan.energy_pj


def saved_pct(ours: int, theirs: int) -> float:
    """100 * (1 - ours / theirs) [%]; 0 where both are 0."""
    return 100.0 * (1.0 - ours / theirs) if theirs else 0.0


def blind_bounds(ours: Interval, theirs: Interval) -> Bounds:
    """Bounds with nothing known about how the two move together."""
    return Bounds(saved_pct(ours.high, theirs.low), saved_pct(ours.low, theirs.high))


def results(
    trials: Sequence[Trial],
    rows: Sequence[Row],
    corners: Mapping[Setting, Corners],
    borders: Mapping[tuple[str, str], Pair],
) -> tuple[Result, ...]:
    """All trials that have a CIM, in order. `corners` holds those of the headline system, where they were sought.

    borders: of each model on the baseline of each residency, by their names.

    Raises: InfeasibleError when a baseline has no plan: there is nothing to compare with.
    """
    known: dict[Setting, Baselines] = {}
    found = []
    for trial, row in zip(trials, rows, strict=True):
        if trial.is_baseline:
            setting = trial.setting
            known[setting] = _baselines(row, borders[setting.model, setting.residency.name])
            continue
        own = corners.get(trial.setting) if row.plan is not None else None
        if own is not None and (own.macros, own.cus, FULL) != (trial.macros, trial.cus, trial.ablation):
            own = None
        found.append(Result(trial, row, known[trial.setting], _savings(row, known[trial.setting], own)))
    return tuple(found)


def _baselines(row: Row, border: Pair) -> Baselines:
    npu_only = row.baseline(NPU_ONLY)
    if row.plan is None or npu_only is None:
        why = row.reason or next((b.why for b in row.baselines if b.name == NPU_ONLY), "")
        where = (row.point.model, *row.point.sets)
        raise InfeasibleError("the system without a CIM has no plan, so nothing can be saved", where, why)
    return Baselines(npu_only, row.plan, border)


def _savings(row: Row, baselines: Baselines, corners: Corners | None) -> dict[tuple[Measure, Against], Saving]:
    if row.plan is None:
        return {}
    found = {}
    for measure, border in zip(MEASURES, baselines.border, strict=True):
        ours = cost(row.plan, measure)
        for against in AGAINST:
            theirs = cost(baselines.of(against), measure)
            nominal = saved_pct(ours.nominal, theirs.nominal)
            inside = saved_pct(ours.nominal - border, theirs.nominal - border)
            blind = blind_bounds(ours, theirs)
            if corners is None:
                found[measure, against] = Saving(nominal, inside, blind, None)
            else:
                corner = corners.of(measure, against)
                found[measure, against] = Saving(nominal, inside, blind, corner.bounds, corner.drivers)
    return found
