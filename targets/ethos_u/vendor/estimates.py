"""The vendor's estimate for operators of a Workload: one as it lies there, or a whole network."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from h4hc.workload import Op, Workload
from targets.ethos_u.maps import place_of
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
    """One operator as the first of a network, its tensors where they lie in the Workload: steps and cycles are its own.

    Between inner tensors the other figures count its neighbours as well (see inside.py).
    Raises CostModelError where TFLite has no form of it, MissingToolError without the tool.
    """
    written = operator_model(op, workload, numbers)
    whole = estimate(written.tflite, machine(spec))
    own = tuple(step for step in whole.steps if written.owner(step.source) != "")
    return replace(whole, steps=own, cycles=functools.reduce(_plus, (step.cycles for step in own), NOTHING))


def network_estimate(
    spec: EthosUSpec, workload: Workload, ops: tuple[Op, ...] | None = None, numbers: Numbers | None = None
) -> NetworkEstimate:
    """Many operators (default: all of the workload) compiled as one network."""
    written = network_model(workload, ops, numbers)
    whole = estimate(written.tflite, machine(spec))
    sums: dict[str | None, Cycles] = {}
    for step in whole.steps:
        owner = written.owner(step.source)
        sums[owner] = _plus(sums.get(owner, NOTHING), step.cycles)
    made_up = sums.pop(None, NOTHING)
    return NetworkEstimate(whole, tuple((op, cycles) for op, cycles in sums.items() if op is not None), made_up)


def _plus(a: Cycles, b: Cycles) -> Cycles:
    return Cycles(a.total + b.total, a.npu + b.npu, a.sram + b.sram, a.dram + b.dram, a.flash + b.flash)


def likeness(op: Op, workload: Workload) -> tuple[object, ...]:
    """All that an operator's own estimate depends on: everything about it and its tensors but names.

    Of the workload: which tensors are its own, and how many operators read each.
    """
    names = (*op.inputs, *op.outputs, *op.weights)
    tensors = tuple(replace(workload.tensor[name], name="", stored_dtype="") for name in names)
    nameless = replace(op, id="", inputs=(), outputs=(), weights=(), origin=(), op_types=(), region="")
    same = tuple(names.index(name) for name in names)  # x * x reads one tensor twice
    places = tuple(place_of(name, workload) for name in names)
    shared = tuple(len(workload.readers.get(name, ())) > 1 for name in op.inputs)
    return nameless, len(op.inputs), len(op.outputs), same, tensors, places, shared
