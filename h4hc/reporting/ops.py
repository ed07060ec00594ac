"""The rows of the report that speak of one operator each: where it runs, why, and what else was possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h4hc.assignment import Assignment, Placement
from h4hc.classify import OpClass, to_json
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable
from h4hc.costtypes import ZERO, Cost, Interval, Mode
from h4hc.reporting.alternatives import Alternative, WhatIf
from h4hc.schedule import Schedule
from h4hc.system import HOST
from h4hc.workload import Op, Workload

SHOWN_TENSORS = 3  # of each side in the shape summary


def op_rows(
    workload: Workload,
    table: CostTable,
    assignment: Assignment,
    schedule: Schedule,
    classes: tuple[OpClass, ...],
    allowed: Sequence[Sequence[Mode]],
) -> list[dict[str, Any]]:
    """One row an operator, in execution order. allowed: modes that the user's pins and forbids leave, by position."""
    part_of = {op: p.id for p in schedule.partitions for op in p.ops}
    placement_of = {p.op: p for p in assignment.placements}
    what_if = WhatIf(table, assignment, allowed)
    class_rows = to_json(classes)
    rows, device = [], ""
    for op, op_class in zip(workload.ops, class_rows, strict=True):
        placement = placement_of[op.id]
        before, device = device, placement.mode.device
        rows.append(
            {
                **_facts(op, workload),
                **_place(placement, part_of[op.id]),
                "cost": _cost(table.row[op.id].cost(placement.mode)),
                "hidden": _hidden(table, op.id, device) if device == before else NOTHING_HIDDEN,
                "alternatives": [_alternative(a) for a in what_if.others(op.id)],
                "rejections": op_class.pop("refusals"),
                "class": {k: op_class[k] for k in ("moved_bytes", "macs_per_byte", "devices")},
            }
        )
    return rows


def _facts(op: Op, workload: Workload) -> dict[str, Any]:
    return {
        "id": op.id,
        "origin": list(op.origin),
        "kind": str(op.kind),
        "op_types": list(op.op_types),
        "activation": op.activation,
        "region": op.region,
        "dtype": op.dtype,
        "shape": f"{_shapes(op.inputs, workload)} -> {_shapes(op.outputs, workload)}",
        "inputs": list(op.inputs),
        "outputs": list(op.outputs),
        "macs": op.macs,
        "weight_bytes": op.weight_bytes,
        "input_bytes": op.input_bytes,
        "output_bytes": op.output_bytes,
    }


def _shapes(names: tuple[str, ...], workload: Workload) -> str:
    texts = ["x".join(map(str, workload.tensor[n].shape)) or "scalar" for n in names[:SHOWN_TENSORS]]
    more = len(names) - SHOWN_TENSORS
    return ", ".join(texts + ([f"{more} more"] if more > 0 else [])) or "nothing"


def _place(placement: Placement, partition: str) -> dict[str, Any]:
    return {
        "device": placement.mode.device,
        "mode": placement.mode.name,
        "units": list(placement.units),
        "partition": partition,
    }


def interval(value: Interval) -> dict[str, int]:
    """An Interval as JSON."""
    return {"low": value.low, "nominal": value.nominal, "high": value.high}


def cost_intervals(latency: Interval, energy: Interval) -> dict[str, dict[str, int]]:
    """A latency [ps] and an energy [pJ] under the names that they have everywhere."""
    return {"latency_ps": interval(latency), "energy_pj": interval(energy)}


NOTHING_HIDDEN = cost_intervals(ZERO, ZERO)


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        **cost_intervals(cost.latency, cost.energy),
        "cycles": cost.cycles,
        "bound": str(cost.bound),
        "model": cost.model,
        "marks": list(cost.marks),
        "unit_weight_bytes": cost.unit_weight_bytes,
        "bytes_moved": [{"memory": memory, "size_bytes": count} for memory, count in cost.bytes_moved],
        "terms": [
            {
                "name": t.name,
                "role": t.role,
                "resource": t.resource,
                **cost_intervals(t.latency, t.energy),
            }
            for t in cost.terms
        ],
    }


def _hidden(table: CostTable, op: str, device: str) -> dict[str, Any]:
    """What of an operator's cost lies in the time of the one before it on the same device."""
    follow_up = table.follow_up.get((op, device))
    if follow_up is None:
        return NOTHING_HIDDEN
    return cost_intervals(follow_up.latency, follow_up.energy)


def _alternative(a: Alternative) -> dict[str, Any]:
    return {
        "device": a.cost.mode.device,
        "mode": a.cost.mode.name,
        **cost_intervals(a.cost.latency, a.cost.energy),
        "bound": str(a.cost.bound),
        "delta_latency_ps": a.delta_latency_ps,
        "delta_energy_pj": a.delta_energy_pj,
        "delta_value": a.delta_value,
        "misfit": a.misfit,
        "ruled_out": a.ruled_out,
    }


def move_marks(table: CostTable, assignment: Assignment) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Evidence marks of the moves a plan makes: (tensor, kind, engine) -> marks, sorted."""
    marks: dict[tuple[str, str, str], set[str]] = {}
    for port in table.ports:
        source = HOST if port.producer == MODEL_INPUT else assignment.mode[port.producer].device
        if port.consumers == (MODEL_OUTPUT,):
            wanted = [HOST]
        else:
            wanted = sorted({assignment.mode[c].device for c in port.consumers})
        for device in wanted:
            for step in port.move(source, device).steps:
                marks.setdefault((port.tensor, step.kind, step.engine), set()).update(step.marks)
    for border in (*table.arrivals, *table.departures):
        for step in border.steps:
            marks.setdefault((border.tensor, step.kind, step.engine), set()).update(step.marks)
    return {key: tuple(sorted(value)) for key, value in marks.items()}
