"""The vendor's estimate for operators of a Workload: one by itself, or many in one network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from h4hc.workload import Op, Workload
from targets.ethos_u.spec import EthosUSpec
from targets.ethos_u.vendor.layers import network_model, operator_model
from targets.ethos_u.vendor.machine import machine
from targets.ethos_u.vendor.numbers import Numbers
from targets.ethos_u.vendor.oracle import Cycles, Estimate, estimate

NOTHING = Cycles(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class NetworkEstimate:
    """A network as the vendor's compiler estimates it, weights fetched ahead and operators fused as it sees fit.

    by_op: cycles by operator id; what was fused into another operator has none. made_up: steps that stand for no
    operator of the file.
    """

    whole: Estimate
    by_op: tuple[tuple[str, Cycles], ...]
    made_up: Cycles


def operator_estimate(spec: EthosUSpec, op: Op, workload: Workload, numbers: Numbers | None = None) -> Estimate:
    """One operator by itself: its activations lie in SRAM as the model's own, no operator before hides its weights.

    Raises CostModelError where TFLite has no form of it, MissingToolError without the tool.
    """
    return estimate(operator_model(op, workload, numbers), machine(spec))


def network_estimate(
    spec: EthosUSpec, workload: Workload, ops: tuple[Op, ...] | None = None, numbers: Numbers | None = None
) -> NetworkEstimate:
    """Many operators (default: all of the workload) compiled as one network."""
    written = network_model(workload, ops, numbers)
    whole = estimate(written.tflite, machine(spec))
    sums: dict[str, Cycles] = {}
    for step in whole.steps:
        owner = written.owners[step.source] if 0 <= step.source < len(written.owners) else ""
        sums[owner] = _plus(sums.get(owner, NOTHING), step.cycles)
    made_up = sums.pop("", NOTHING)
    return NetworkEstimate(whole, tuple(sums.items()), made_up)


def _plus(a: Cycles, b: Cycles) -> Cycles:
    return Cycles(a.total + b.total, a.npu + b.npu, a.sram + b.sram, a.dram + b.dram, a.flash + b.flash)


def likeness(op: Op, workload: Workload) -> tuple[object, ...]:
    """All that an operator's own estimate depends on: everything about it and its tensors but names."""
    names = (*op.inputs, *op.outputs, *op.weights)
    tensors = tuple(replace(workload.tensor[name], name="", stored_dtype="") for name in names)
    nameless = replace(op, id="", inputs=(), outputs=(), weights=(), origin=(), op_types=(), region="")
    same = tuple(names.index(name) for name in names)  # x * x reads one tensor twice
    return nameless, len(op.inputs), len(op.outputs), same, tensors
