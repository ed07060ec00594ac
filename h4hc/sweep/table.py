"""table: a finished sweep -> the JSON document (sweep.json, and stdout with --json) and the CSV table.

Neither holds a time of day, a path or a run time: the same sweep gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h4hc
from h4hc.diagnostics import Diagnostic
from h4hc.load import sanitized_name
from h4hc.reporting.ops import cost_intervals, interval
from h4hc.sweep.derive import NPU_ONLY, balance, pareto
from h4hc.sweep.evaluate import zoo_name
from h4hc.sweep.grid import Axis, coordinates
from h4hc.sweep.row import PlanFigures, Row
from h4hc.text import csv_text, plural, table
from h4hc.units import format_energy, format_time

SCHEMA_VERSION = 2
AGAINST = "to npu-only"  # head of a column: the change in per cent


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its models, its axes and its rows in the order of the grid."""

    models: tuple[str, ...]
    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]

    def of_model(self, model: str) -> tuple[Row, ...]:
        """Rows of one model, in order."""
        return tuple(row for row in self.rows if row.point.model == model)

    def labels(self) -> dict[str, str]:
        """A short name for each model, fit for a file: the zoo's, or made of the file's; numbered where two agree."""
        labels: dict[str, str] = {}
        seen: Counter[str] = Counter()
        for model in self.models:
            name = model if zoo_name(model) else sanitized_name(Path(model).stem)
            seen[name] += 1
            labels[model] = name if seen[name] == 1 else f"{name}-{seen[name]}"
        return labels


def document(sweep: Sweep) -> dict[str, Any]:
    """The sweep as one JSON value, valid against `schemas/sweep.schema.json`."""
    labels = sweep.labels()
    fronts = _fronts(sweep)
    first = sweep.rows[0].point
    return {
        "schema_version": SCHEMA_VERSION,
        "h4hc_version": h4hc.__version__,
        "target": Path(first.target).name,
        "sets": list(first.sets[: len(first.sets) - len(sweep.axes)]),
        "over": [{"key": axis.key, "values": list(axis.values)} for axis in sweep.axes],
        "options": {
            "objective": str(first.objective),
            "pins": list(first.pins),
            "forbids": list(first.forbids),
            "gap": first.gap,
            "time_limit_s": first.time_limit_s,
            "npu_cost": Path(first.npu_cost).name,
            "robust": "yes" if first.robust else "no",
            "precision": first.precision,
            "passes": first.passes,
        },
        "rows": [_row(row, sweep, labels, on) for row, on in zip(sweep.rows, fronts, strict=True)],
    }


def diagnostics(sweep: Sweep) -> tuple[Diagnostic, ...]:
    """Remarks on the plans, each once for a model, with the model and the first system that it holds for in front."""
    labels = sweep.labels()
    found: dict[tuple[str, Diagnostic], dict[str, str]] = {}  # the name of each system that a remark holds for
    for row in sweep.rows:
        at = coordinates(row.point, sweep.axes)
        name = ", ".join((labels[row.point.model], *(f"{key}={value}" for key, value in at.items())))
        for remark in row.diagnostics:
            found.setdefault((row.point.model, remark), {}).setdefault(row.system_sha256, name)
    return tuple(
        dataclasses.replace(remark, what=f"{_first_of(list(names.values()))}: {remark.what}")
        for (_, remark), names in found.items()
    )


def _first_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {plural(len(names) - 1, 'system')} more"


def _fronts(sweep: Sweep) -> list[str]:
    """`yes` or `no` a row: whether it is on its model's Pareto front."""
    on = {}
    for model in sweep.models:
        rows = sweep.of_model(model)
        on.update({id(row): "yes" if is_on else "no" for row, is_on in zip(rows, pareto(rows), strict=True)})
    return [on[id(row)] for row in sweep.rows]


def _row(row: Row, sweep: Sweep, labels: dict[str, str], on_front: str) -> dict[str, Any]:
    return {
        "model": labels[row.point.model],
        "model_sha256": row.model_sha256,
        "system_sha256": row.system_sha256,
        "over": [{"key": key, "value": value} for key, value in coordinates(row.point, sweep.axes).items()],
        "area_mm2": area_json(row),
        "code": row.code,
        "reason": row.reason,
        "status": row.status,
        "gap": row.gap,
        "bound": row.bound,
        "plan": _plan(row.plan, row),
        "baselines": [{"name": b.name, "why": b.why, "plan": _plan(b.plan, row)} for b in row.baselines],
        "pareto": on_front,
        "diagnostics": [{**dataclasses.asdict(d), "where": list(d.where)} for d in row.diagnostics],
    }


def area_json(row: Row) -> dict[str, float]:
    """Bounds and nominal value of the silicon area [mm2]."""
    low, nominal, high = (round(value, 6) for value in row.area_mm2)
    return {"low": low, "nominal": nominal, "high": high}


def plan_json(plan: PlanFigures) -> dict[str, Any]:
    """What a plan costs, and how many operators each device has."""
    return {
        **cost_intervals(plan.latency_ps, plan.energy_pj),
        "overhead_ps": interval(plan.overhead_ps),
        "overhead_pj": interval(plan.overhead_pj),
        "switches": plan.switches,
        "ops": [{"device": device, "count": count} for device, count in plan.placements],
    }


def _plan(plan: PlanFigures | None, row: Row) -> dict[str, Any] | None:
    if plan is None:
        return None
    time, energy = balance(row, plan, "latency"), balance(row, plan, "energy")
    return plan_json(plan) | {
        "moved_bytes": plan.moved_bytes,
        "break_even_latency_ratio": time.break_even_ratio if time else None,
        "break_even_energy_ratio": energy.break_even_ratio if energy else None,
    }


def json_bytes(tree: dict[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, ASCII, one trailing line feed."""
    return (json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode()


def csv_bytes(tree: dict[str, Any]) -> bytes:
    """The rows of `document` as a table: one line a point, each value with its bounds, empty where there is none."""
    plans = [row["plan"] for row in tree["rows"] if row["plan"] is not None]
    devices = sorted({item["device"] for plan in plans for item in plan["ops"]})
    baselines = sorted({item["name"] for row in tree["rows"] for item in row["baselines"]})
    records = [_record(row, devices, baselines) for row in tree["rows"]]
    head = max(records, key=len)  # a row without a plan lacks the columns of one, the others have all
    return csv_text(list(head), ([record.get(key) for key in head] for record in records)).encode()


def _record(row: dict[str, Any], devices: Sequence[str], baselines: Sequence[str]) -> dict[str, Any]:
    record = {"model": row["model"], **{item["key"]: item["value"] for item in row["over"]}}
    record |= {"status": row["status"] or "no plan", "pareto": row["pareto"], **_bounds("area", "mm2", row["area_mm2"])}
    if row["plan"] is not None:
        record |= _plan_record(row["plan"], devices)
        record |= {"gap": row["gap"], "bound": row["bound"]}
        simple = {item["name"]: item["plan"] for item in row["baselines"]}
        for baseline in baselines:
            for name in ("latency_ps", "energy_pj"):
                plan = simple.get(baseline)
                record[f"{baseline}_{name}"] = plan[name]["nominal"] if plan else None
    record |= {"code": row["code"], "reason": row["reason"]}
    return record | {key: row[key] for key in ("model_sha256", "system_sha256")}


def _plan_record(plan: dict[str, Any], devices: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name in ("latency_ps", "energy_pj", "overhead_ps", "overhead_pj"):
        stem, unit = name.rsplit("_", 1)
        record |= _bounds(stem, unit, plan[name])
    plain = ("switches", "moved_bytes", "break_even_latency_ratio", "break_even_energy_ratio")
    record |= {key: plan[key] for key in plain}
    counts = {item["device"]: item["count"] for item in plan["ops"]}
    return record | {f"ops_{device}": counts.get(device, 0) for device in devices}


def _bounds(stem: str, unit: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{stem}_{unit}": value["nominal"],
        f"{stem}_low_{unit}": value["low"],
        f"{stem}_high_{unit}": value["high"],
    }


def summary(tree: dict[str, Any], width: int) -> list[str]:
    """For people: each model's Pareto front, and how many points there were."""
    lines: list[str] = []
    keys = [axis["key"] for axis in tree["over"]]
    head = (*keys, "latency", AGAINST, "energy", AGAINST, "area")
    for model in dict.fromkeys(row["model"] for row in tree["rows"]):
        rows = [row for row in tree["rows"] if row["model"] == model]
        stuck = sum(row["plan"] is None for row in rows)
        lines.append(f"{model} for {tree['target']}: {plural(len(rows), 'point')}, {stuck} without a plan")
        cells = [_cells(row) for row in rows if row["pareto"] == "yes"]
        if cells:
            lines.append("on the Pareto front of latency, energy and area:")
            lines += table(head, cells, width, drop=(len(keys) + 3, len(keys) + 1))
        lines.append("")
    return lines[:-1]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    plan = row["plan"]
    return (
        *(item["value"] for item in row["over"]),
        format_time(plan["latency_ps"]["nominal"]),
        _against(row, "latency_ps"),
        format_energy(plan["energy_pj"]["nominal"]),
        _against(row, "energy_pj"),
        f"{row['area_mm2']['nominal']:.4g} mm2",
    )


def _against(row: dict[str, Any], name: str) -> str:
    """Change against npu-only in per cent."""
    npu = next((b["plan"] for b in row["baselines"] if b["name"] == NPU_ONLY), None)
    if npu is None or npu[name]["nominal"] == 0:
        return "-"
    return f"{100 * (row['plan'][name]['nominal'] / npu[name]['nominal'] - 1):+.1f} %"
