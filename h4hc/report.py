"""make_report: a finished Compilation -> one JSON object that holds all there is to say, valid against its schema.

The terminal view, report.md and `h4hc explain` read this object and nothing else. It holds no time of day, no
path and no run time, so the same compile gives the same bytes. Units are in the names; `_ps` and `_pj` are
whole numbers and the ledger sums to the totals exactly.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h4hc
from h4hc.assignment import Assignment, Case
from h4hc.classify import classify
from h4hc.cost import CostTable
from h4hc.costtypes import ZERO
from h4hc.errors import InternalError
from h4hc.goals import Budget
from h4hc.planning.demands import allowed_modes
from h4hc.reporting.alternatives import used_bytes
from h4hc.reporting.memory import memory_rows
from h4hc.reporting.ops import cost_intervals, interval, move_marks, op_rows
from h4hc.reporting.trust import baseline_rows, robustness_rows, stability_section
from h4hc.schedule import Partition, Schedule, Step
from h4hc.workload import Tensor, Workload

if TYPE_CHECKING:
    from h4hc.compilation import Compilation
    from h4hc.diagnostics import Diagnostic
    from h4hc.pipeline import PassStep
    from h4hc.system import System

SCHEMA_VERSION = 1
PARALLEL = (
    "each engine (device, host, DMA) takes its steps in their order, one at a time; engines run beside each other "
    "without slowing each other down at the memories they share"
)
LEDGER_KINDS = ("op", "switch", "transfer", "cache", "layout", "quantize", "dequantize", "wake_up", "leakage")


def make_report(compilation: Compilation) -> dict[str, Any]:
    """The report of a compilation that ran to its end.

    Raises: InternalError when it stopped before the memory plan.
    """
    c = compilation
    if c.workload is None or c.system is None or c.table is None or c.assignment is None or c.schedule is None:
        raise InternalError("a report needs a compilation that ran to its schedule")
    if c.memory is None:
        raise InternalError("a report needs a compilation that ran to its memory plan")
    classes = classify(c.workload, c.table, c.system)
    allowed = allowed_modes(c.workload, c.table, c.options.pins, c.options.forbids)
    return {
        "schema_version": SCHEMA_VERSION,
        "h4hc_version": h4hc.__version__,
        "model": _model(c, c.workload),
        "target": _target(c.system),
        "precision": c.workload.precision,
        "options": _options(c),
        "solver": _solver(c.assignment),
        "totals": {**cost_intervals(c.schedule.latency, c.schedule.energy), "work_ps": interval(c.schedule.work)},
        "ledger": ledger(c.schedule),
        "steps": [_step(s) for s in c.schedule.steps],
        "partitions": [_partition(p, c.workload) for p in c.schedule.partitions],
        "ops": op_rows(c.workload, c.table, c.assignment, c.schedule, classes, allowed),
        "capacity": _capacity(c.table, c.assignment),
        "memory": memory_rows(c.memory, c.schedule),
        "baselines": baseline_rows(c.workload, c.table, c.baselines, c.assignment, c.schedule),
        "robustness": robustness_rows(c.workload, c.table, c.assignment, c.schedule, c.nominal_optimum),
        "stability": stability_section(c.stability),
        "passes": [pass_row(s) for s in c.run.steps] if c.run is not None else [],
        "diagnostics": [_diagnostic(d) for d in c.diagnostics],
        "basis": _basis(c.schedule, c.table, c.assignment),
        "assumptions": _assumptions(c.workload, c.table, c.assignment),
    }


def report_bytes(report: dict[str, Any]) -> bytes:
    """Canonical form: keys sorted, each row of a list on a line of its own so that reports can be compared line by
    line, LF, ASCII only."""
    fields = ",\n".join(f" {json.dumps(key)}: {_field(report[key])}" for key in sorted(report))
    return f"{{\n{fields}\n}}\n".encode("ascii")


def _field(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_compact(row)}" for row in value) + "\n ]"
    return _compact(value)


_compact = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False).encode


def _model(c: Compilation, workload: Workload) -> dict[str, Any]:
    weights = _constants(workload)
    return {
        "name": c.loaded.name,
        "sha256": c.loaded.sha256,
        "opset": [{"domain": d, "version": v} for d, v in sorted(c.loaded.model.opset_imports.items())],
        "inputs": [_tensor(workload.tensor[n]) for n in workload.inputs],
        "outputs": [_tensor(workload.tensor[n]) for n in workload.outputs],
        "nodes": len(c.loaded.model.graph),
        "ops": len(workload.ops),
        "macs": sum(op.macs for op in workload.ops),
        "parameters": sum(t.elements for t in weights),
        "parameter_bytes": sum(t.size_bytes for t in weights),
    }


def _constants(workload: Workload) -> list[Tensor]:
    names = dict.fromkeys(name for op in workload.ops for name in op.weights)
    return [workload.tensor[n] for n in names if n in workload.tensor]


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "stored_dtype": tensor.stored_dtype,
        "size_bytes": tensor.size_bytes,
    }


def _target(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "title": system.title,
        "sha256": system.sha256,
        "overrides": [{"key": k, "value": v} for k, v in system.overrides],
        "devices": [
            {
                "name": d.name,
                "family": d.family,
                "summary": [{"name": k, "value": v} for k, v in d.summary()],
                "ridge_points": [{"memory": r.memory, "macs_per_byte": r.macs_per_byte} for r in d.ridge_points()],
            }
            for d in system.devices
        ],
    }


def _options(c: Compilation) -> dict[str, Any]:
    o = c.options
    return {
        "objective": str(o.objective),
        "goals": [str(goal) for goal in o.goals],
        "budget": _limits(o.budget),
        "pins": list(o.pins),
        "forbids": list(o.forbids),
        "gap": o.gap,
        "schema": str(o.schema),
        "time_limit_s": o.time_limit_s,
        "case": str(Case.WORST if o.robust else Case.NOMINAL),
        "precision": o.precision,
        "input_shapes": list(o.input_shapes),
        "fix_dims": list(o.fix_dims),
        "passes": o.passes,
        "limits": list(o.limits),
    }


def _solver(a: Assignment) -> dict[str, Any]:
    return {
        "name": a.solver,
        "schema": str(a.schema),
        "objective": str(a.objective),
        "case": str(a.case),
        "status": str(a.status),
        "value": a.value,
        "bound": a.bound,
        "gap": a.gap,
        "stages": [
            {"goal": str(s.goal), "value": s.value, "bound": s.bound, "gap": s.gap, "status": str(s.status)}
            for s in a.stages
        ],
        "budget": _limits(a.budget),
    }


def _limits(budget: Budget) -> list[dict[str, Any]]:
    return [{"goal": str(goal), "limit": limit} for goal, limit in budget.limits]


def ledger(schedule: Schedule) -> list[dict[str, Any]]:
    """Steps summed by kind and device: operators first, then what lies between them. Sums exactly to the totals."""
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in schedule.steps:
        groups.setdefault((step.kind, step.device), []).append(step)
    rows = []
    for kind, device in sorted(groups, key=lambda key: (LEDGER_KINDS.index(key[0]), key[1])):
        steps = groups[kind, device]
        latency = energy = ZERO
        for step in steps:
            latency, energy = latency + step.latency, energy + step.energy
        rows.append(
            {
                "kind": kind,
                "device": device,
                "steps": len(steps),
                "size_bytes": sum(s.size_bytes for s in steps),
                **cost_intervals(latency, energy),
            }
        )
    return rows


def _step(s: Step) -> dict[str, Any]:
    return {
        "index": s.index,
        "kind": s.kind,
        "device": s.device,
        "subject": s.subject,
        "partition": s.partition,
        "origin": list(s.origin),
        "start_ps": s.start_ps,
        "after": list(s.after),
        "size_bytes": s.size_bytes,
        **cost_intervals(s.latency, s.energy),
    }


def _partition(part: Partition, workload: Workload) -> dict[str, Any]:
    inside = set(part.ops)
    ops = [workload.op[name] for name in part.ops]
    made = {name for op in ops for name in op.outputs}
    reads = sorted({name for op in ops for name in op.inputs} - made)
    writes = sorted(
        name
        for name in made
        if name in workload.outputs or any(reader not in inside for reader in workload.readers.get(name, ()))
    )
    return {
        "id": part.id,
        "device": part.device,
        "ops": list(part.ops),
        "macs": sum(op.macs for op in ops),
        "weight_bytes": sum(op.weight_bytes for op in ops),
        "inputs": reads,
        "outputs": writes,
        "input_bytes": sum(workload.tensor[n].size_bytes for n in reads),
        "output_bytes": sum(workload.tensor[n].size_bytes for n in writes),
    }


def _capacity(table: CostTable, assignment: Assignment) -> list[dict[str, Any]]:
    holders: dict[tuple[str, int], list[str]] = {}
    for placement in assignment.placements:
        if table.row[placement.op].cost(placement.mode).unit_weight_bytes:
            for unit in placement.units:
                holders.setdefault((placement.mode.device, unit), []).append(placement.op)
    limits = {c.device: c.unit_bytes for c in table.capacities}
    return [
        {
            "device": device,
            "unit_bytes": limits[device],
            "units": [
                {"unit": unit, "used_bytes": count, "ops": holders.get((device, unit), [])}
                for unit, count in enumerate(counts)
            ],
        }
        for device, counts in used_bytes(table, assignment).items()
    ]


def pass_row(step: PassStep) -> dict[str, Any]:
    """What one pass did, as JSON."""
    return {
        "name": step.name,
        "changed": step.changed,
        "nodes_before": step.nodes_before,
        "nodes_after": step.nodes_after,
        "removed": [{"origin": origin, "why": why} for origin, why in step.removed],
        "skipped": [{"node": s.node, "why": s.why} for s in step.skipped],
    }


def _diagnostic(d: Diagnostic) -> dict[str, Any]:
    return {"code": d.code, "severity": d.severity, "what": d.what, "where": list(d.where), "hint": d.hint}


def _basis(schedule: Schedule, table: CostTable, assignment: Assignment) -> list[dict[str, Any]]:
    """Evidence marks with the steps that rest on each; a step may rest on several, so shares overlap."""
    moves = move_marks(table, assignment)
    found: dict[str, list[Step]] = {}
    for step in schedule.steps:
        if step.kind == "op":
            marks = table.row[step.subject].cost(assignment.mode[step.subject]).marks
        elif step.kind == "switch":
            marks = table.switch(step.subject).marks
        elif step.kind == "leakage":
            continue  # energy alone
        else:
            marks = moves[step.subject, step.kind, step.device]
        for mark in marks:
            found.setdefault(mark, []).append(step)
    return [
        {"mark": mark, "steps": len(steps), "latency_ps": sum(s.latency.nominal for s in steps)}
        for mark, steps in sorted(found.items())
    ]


def _assumptions(workload: Workload, table: CostTable, assignment: Assignment) -> list[str]:
    overlap = "nothing overlaps between operators"
    if table.follow_ups:
        overlap = "of two on one device the second may fetch its weights during the first, as far as it says `hidden`"
    said = [
        PARALLEL
        if assignment.schema == "parallel"
        else f"operators run one at a time, in the order of the steps; {overlap}",
        "'proved optimal' speaks of this cost model and this order, not of measured hardware",
        "low and high add up the bounds of all steps, as if all sources erred in the same direction",
        "memory is that of tensors, their copies in another layout, and weights that a device reads from the SRAM",
        "scratch memory of drivers and kernels, the stack and the caller's data in the model's own types are not in it",
    ]
    if workload.precision == "planned int8":
        said.append(
            "the float model is planned as int8: one byte for each weight and activation, int32 bias; "
            "quantised numbers are not checked here"
        )
    if any(sum(units) for units in used_bytes(table, assignment).values()):
        said.append("weights that stay are in place before the inference: loading them once is not in the totals")
    codes = {d.code for d in workload.diagnostics}
    if "H4W111" in codes:
        said.append("some shapes depend on data: the sizes named in H4W111 are upper bounds")
    if "H4W112" in codes:
        said.append("some shapes depend on data: the sizes named in H4W112 are estimates, no bound is known")
    return said
