"""The rows of the report that say how far a plan can be trusted: robustness over the intervals, stability in a device.

Factors are rounded to 9 significant digits; the ledger's numbers are whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from h4hc.assignment import Assignment, Objective, Placement, Schema
from h4hc.cost import CostTable
from h4hc.costtypes import Interval
from h4hc.planning.baselines import Baseline
from h4hc.reporting.ops import cost_intervals
from h4hc.schedule import Schedule, schedule
from h4hc.stability import LARGEST, End, Stability
from h4hc.workload import Workload

Json = dict[str, Any]
THIS, OTHER = "this plan", "nominal optimum"


def baseline_rows(
    workload: Workload, table: CostTable, simple: Sequence[Baseline], chosen: Assignment, own: Schedule
) -> list[Json]:
    """Baselines, run one operator at a time; value_ratio is in the case that was minimised."""
    value = objective_value(chosen.objective, own, chosen.case)
    rows = []
    for plan in simple:
        row: Json = {"name": plan.name, "latency_ps": None, "energy_pj": None, "value_ratio": None, "why": plan.why}
        if plan.modes:
            laid = schedule(workload, _elsewhere(chosen, plan), table)
            theirs = objective_value(chosen.objective, laid, chosen.case)
            row |= cost_intervals(laid.latency, laid.energy)
            row["value_ratio"] = float(f"{theirs / value:.6g}") if value else None
        rows.append(row)
    return rows


def _elsewhere(chosen: Assignment, plan: Baseline) -> Assignment:
    modes = zip(chosen.placements, plan.modes, strict=True)
    placements = tuple(Placement(p.op, mode) for p, mode in modes)
    return replace(chosen, placements=placements, schema=Schema.SEQUENTIAL, breaks=())


def objective_value(objective: Objective, laid: Schedule, case: str) -> int:
    """Objective of a plan in one case, out of its ledger."""

    def pick(sum_of_steps: Interval) -> int:
        return sum_of_steps.nominal if case == "nominal" else sum_of_steps.high

    latency, energy = pick(laid.latency), pick(laid.energy)
    return {Objective.LATENCY: latency, Objective.ENERGY: energy, Objective.EDP: latency * energy}[objective]


def robustness_rows(
    workload: Workload, table: CostTable, chosen: Assignment, own: Schedule, nominal: Assignment | None
) -> list[Json]:
    """The robust plan beside the nominal optimum, each in both cases; nothing for a plan that is not robust."""
    if nominal is None:
        return []
    rows = []
    for name, plan, laid in ((THIS, chosen, own), (OTHER, nominal, schedule(workload, nominal, table))):
        differ = sum(p != q for p, q in zip(plan.mode.values(), chosen.mode.values(), strict=True))
        rows.append(
            {
                "plan": name,
                "status": str(plan.status),
                **cost_intervals(laid.latency, laid.energy),
                "nominal_value": objective_value(chosen.objective, laid, "nominal"),
                "worst_value": objective_value(chosen.objective, laid, "worst"),
                "ops_elsewhere": differ,
            }
        )
    return rows


def stability_section(found: Stability | None) -> Json:
    """Radii and break-evens; both lists are empty when they were not asked for."""
    if found is None:
        return {"largest_factor": int(LARGEST), "radii": [], "break_evens": []}
    return {
        "largest_factor": int(LARGEST),
        "radii": [
            {"device": r.device, "quantity": r.quantity, "low": _end(r.low), "high": _end(r.high)} for r in found.radii
        ],
        "break_evens": [
            {
                "device": b.device,
                "quantity": b.quantity,
                "baseline": b.baseline,
                "objective": str(b.objective),
                "wins": b.wins,
                "factor": _number(b.factor),
            }
            for b in found.break_evens
        ],
    }


def _end(end: End) -> Json:
    return {
        "factor": _number(end.factor),
        "proof": "proved" if end.proved else "time limit",
        "flips": [{"op": f.op, "before": f.before.name, "after": f.after.name} for f in end.flips],
    }


def _number(factor: Fraction | None) -> float | None:
    return None if factor is None else float(f"{float(factor):.9g}")
