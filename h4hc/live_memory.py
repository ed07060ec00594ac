"""How much SRAM a plan needs at least: the tensors that are alive at once, and the weights that live beside them."""

from __future__ import annotations

from h4hc.assignment import Assignment
from h4hc.diagnostics import Diagnostic
from h4hc.system import System
from h4hc.units import format_bytes
from h4hc.workload import OpKind, Workload

SRAM_EXCEEDED = "H4W120"


def peak_live_bytes(workload: Workload) -> tuple[int, str]:
    """Largest sum of bytes of tensors alive during one operator, and that operator's id.

    A tensor lives from the operator that makes it (the start, for a model input) to its last reader (the end, for
    a model output). A view shares its input's bytes. No allocator can do with less, whatever the placement.
    """
    holder: dict[str, str] = {name: name for name in workload.inputs}
    last: dict[str, int] = {}
    born: dict[str, int] = dict.fromkeys(workload.inputs, 0)
    for at, op in enumerate(workload.ops):
        for name in op.inputs:
            last[holder.get(name, name)] = at
        for name in op.outputs:
            shares = op.kind is OpKind.VIEW and bool(op.inputs)
            holder[name] = holder.get(op.inputs[0], op.inputs[0]) if shares else name
            born.setdefault(holder[name], at)
            last[holder[name]] = at
    for name in workload.outputs:
        last[holder.get(name, name)] = len(workload.ops) - 1
    change = [0] * (len(workload.ops) + 1)
    for name, start in born.items():
        change[start] += workload.tensor[name].size_bytes
        change[last.get(name, start) + 1] -= workload.tensor[name].size_bytes
    best, where, live = 0, "", 0
    for at, op in enumerate(workload.ops):
        live += change[at]
        if live > best:
            best, where = live, op.id
    return best, where


def sram_remark(workload: Workload, assignment: Assignment, system: System) -> tuple[Diagnostic, ...]:
    """A warning when the plan cannot fit the system's SRAM; the plan itself is not constrained by it.

    Needed = peak of live tensors + weights of operators on devices that read them from SRAM.
    """
    resident = {d.name for d in system.devices if d.weights_in_sram()}
    weights = sum(op.weight_bytes for op in workload.ops if assignment.mode[op.id].device in resident)
    live, where = peak_live_bytes(workload)
    if live + weights <= system.sram_bytes:
        return ()
    parts = f"{format_bytes(live)} of live tensors" + (f" and {format_bytes(weights)} of weights" if weights else "")
    return (
        Diagnostic(
            SRAM_EXCEEDED,
            "warning",
            f"the plan does not fit the SRAM: {parts} at the peak, {format_bytes(system.sram_bytes)} there; SRAM is "
            "not a constraint of the placement yet",
            (where,),
            "reduce the resolution, or raise the memory of the target (--set sram.size_bytes=N)",
        ),
    )
