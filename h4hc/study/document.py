"""document: a finished study -> one JSON value (study.json, and stdout with --json); every view is rendered from it.

It holds no time of day, path or run time: the same study gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h4hc
from h4hc.live_memory import peak_live_bytes
from h4hc.study.break_even import BreakEven, break_even
from h4hc.study.correlated import Bounds
from h4hc.study.design import FULL, Design, Residency
from h4hc.study.paper import paper
from h4hc.study.savings import AGAINST, MEASURES, Result, Saving
from h4hc.sweep.table import area_json, plan_json
from h4hc.system import System
from h4hc.workload import Workload

SCHEMA_VERSION = 1
DIGITS = 4  # of a saving in per cent


def document(
    design: Design, results: Sequence[Result], workloads: Mapping[str, Workload], systems: Mapping[str, System]
) -> dict[str, Any]:
    """The study. workloads by model; systems: the headline system of each residency, by its name."""
    texts = paper()["texts"]
    return {
        "schema_version": SCHEMA_VERSION,
        "h4hc_version": h4hc.__version__,
        "paper": {
            "claims": paper()["claims"],
            "not_stated": texts["not_stated"],
        },
        "assumptions": texts["assumptions"],
        "bounds": texts["bounds"],
        "design": _design(design),
        "systems": [_system(name, system) for name, system in systems.items()],
        "models": [_model(name, workload, systems) for name, workload in workloads.items()],
        "rows": [_row(result) for result in results],
        "break_even": [_break_even(line) for against in AGAINST for line in break_even(results, against)],
    }


def _design(design: Design) -> dict[str, Any]:
    macros, cus = design.headline
    return {
        "models": list(design.models),
        "objectives": [str(objective) for objective in design.objectives],
        "macros": list(design.macros),
        "cus": list(design.cus),
        "headline": {"macros": macros, "cus": cus},
        "residencies": [_residency(residency) for residency in design.residencies],
        "ablations": [
            {"name": a.name, "title": a.title, "sets": list(a.sets), "only": a.only and str(a.only)}
            for a in (FULL, *design.ablations)
        ],
    }


def _residency(residency: Residency) -> dict[str, Any]:
    return {
        "name": residency.name,
        "title": residency.title,
        "target": Path(residency.target).name,
        "baseline": Path(residency.baseline).name,
        "sets": list(residency.sets),
    }


def _system(residency: str, system: System) -> dict[str, Any]:
    from h4hc.target_show import describe

    rows = describe(system).rows
    numbers = [{"part": part, "name": name, "value": value} for part, name, value in rows]
    return {"residency": residency, "title": system.title, "sram_bytes": system.sram_bytes, "numbers": numbers}


def _model(name: str, workload: Workload, systems: Mapping[str, System]) -> dict[str, Any]:
    weights, live = sum(op.weight_bytes for op in workload.ops), peak_live_bytes(workload)[0]
    sram = min(system.sram_bytes for system in systems.values())
    return {
        "name": name,
        "operators": len(workload.ops),
        "macs": sum(op.macs for op in workload.ops),
        "weight_bytes": weights,
        "live_bytes": live,
        "fits_sram_with_weights": live + weights <= sram,
    }


def _row(result: Result) -> dict[str, Any]:
    row, trial, setting = result.row, result.trial, result.trial.setting
    return {
        "model": setting.model,
        "residency": setting.residency.name,
        "objective": str(setting.objective),
        "ablation": trial.ablation.name,
        "macros": trial.macros,
        "cus": trial.cus,
        "status": row.status,
        "reason": row.reason,
        "model_sha256": row.model_sha256,
        "system_sha256": row.system_sha256,
        "area_mm2": area_json(row),
        "plan": None if row.plan is None else plan_json(row.plan),
        "npu_only": plan_json(result.baselines.npu_only),
        "npu_host": plan_json(result.baselines.npu_host),
        "border": dict(zip(("latency_ps", "energy_pj"), result.baselines.border, strict=True)),
        "saved": {
            measure: {against: _saving(result.savings[measure, against]) for against in AGAINST}
            for measure in MEASURES
            if result.savings
        },
    }


def _saving(saving: Saving) -> dict[str, Any]:
    return {
        "nominal_pct": _pct(saving.nominal_pct),
        "inside_pct": _pct(saving.inside_pct),
        "blind": _bounds(saving.blind),
        "correlated": None if saving.correlated is None else _bounds(saving.correlated),
        "drivers": [{"key": driver.key, **_bounds(driver.bounds)} for driver in saving.drivers],
    }


def _bounds(bounds: Bounds) -> dict[str, float]:
    return {"low_pct": _pct(bounds.low_pct), "high_pct": _pct(bounds.high_pct)}


def _pct(value: float) -> float:
    return round(value, DIGITS) + 0.0  # no -0.0


def _break_even(line: BreakEven) -> dict[str, Any]:
    return {
        "model": line.setting.model,
        "residency": line.setting.residency.name,
        "objective": str(line.setting.objective),
        "against": line.against,
        "cus": line.cus,
        "latency_from_macros": line.latency_from,
        "energy_from_macros": line.energy_from,
        "energy_lost_at_macros": list(line.energy_lost_at),
        "enough_macros": line.enough,
    }
