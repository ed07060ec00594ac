"""Operators of a Workload as TFLite files: one operator as it lies in a network, or a whole one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.errors import CostModelError, H4hcError, Problem
from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    FullyConnectedParams,
    MatmulParams,
    MoveParams,
    Op,
    OpKind,
    PoolParams,
    ResizeParams,
    VectorParams,
    Workload,
)
from targets.ethos_u.vendor.images import emit_conv, emit_pool, emit_resize
from targets.ethos_u.vendor.inside import Inside
from targets.ethos_u.vendor.moves import emit_move, emit_view
from targets.ethos_u.vendor.network import Network, cannot
from targets.ethos_u.vendor.numbers import Numbers, SeededNumbers
from targets.ethos_u.vendor.tflite import TfliteModel
from targets.ethos_u.vendor.values import emit_elementwise
from targets.ethos_u.vendor.vectors import emit_fully_connected, emit_matmul, emit_softmax, emit_vector


@dataclass(frozen=True)
class Written:
    """A TFLite file; owners: for each of its operators, in order, the id of the Workload's operator it is a part of.

    A neighbour (see inside.py) is a part of none: "".
    """

    tflite: bytes
    owners: tuple[str, ...]

    def owner(self, source: int) -> str | None:
        """Of the file's operator `source`; None where there is no such operator."""
        return self.owners[source] if 0 <= source < len(self.owners) else None


def operator_model(op: Op, workload: Workload, numbers: Numbers | None = None) -> Written:
    """One operator as an int8 TFLite file, between neighbours where its tensors are inner ones (see inside.py).

    Inputs: its activations, in the order it wants them. Raises CostModelError for an operator TFLite has no form of.
    """
    net = Inside(workload, numbers or SeededNumbers(), TfliteModel(op.id), alone=True)
    emit(net, op)
    packed = net.model.pack(*net.tensors(op))
    return Written(packed, tuple("" if i in net.ours else op.id for i in range(net.model.operator_count)))


def network_model(workload: Workload, ops: Sequence[Op] | None = None, numbers: Numbers | None = None) -> Written:
    """Operators in execution order (default: all) as one TFLite file. uint8 is written as int8, zero point less 128.

    Inputs: tensors that no operator among them makes, by first use; outputs: those that leave, in execution order.
    Raises CostModelError naming every operator TFLite has no form of.
    """
    chosen = tuple(workload.ops if ops is None else ops)
    net = Network(workload, numbers or SeededNumbers(), TfliteModel(workload.name), alone=False)
    problems: list[Problem] = []
    owners: list[str] = []
    for op in chosen:
        try:
            emit(net, op)
        except H4hcError as error:
            problems += error.problems
        owners += [op.id] * (net.model.operator_count - len(owners))
    if problems:
        raise CostModelError.of(tuple(problems))
    outputs = [net.values[name] for name in leaving(workload, chosen)]
    return Written(net.model.pack(list(net.inputs.values()), outputs), tuple(owners))


def leaving(workload: Workload, ops: Sequence[Op]) -> list[str]:
    """Tensors made by `ops` that the model gives out or another operator reads; at least the last one's."""
    inside = {op.id for op in ops}
    names = [
        name
        for op in ops
        for name in op.outputs
        if name in workload.outputs or any(reader not in inside for reader in workload.readers.get(name, ()))
    ]
    return names or list(ops[-1].outputs)


def emit(net: Network, op: Op) -> None:
    """Write one operator into the network."""
    match op.params:
        case ConvParams() as p:
            emit_conv(net, op, p)
        case FullyConnectedParams() as p:
            emit_fully_connected(net, op, p)
        case MatmulParams() as p:
            emit_matmul(net, op, p)
        case PoolParams() as p:
            emit_pool(net, op, p)
        case ResizeParams() as p:
            emit_resize(net, op, p)
        case VectorParams() as p if op.kind is OpKind.SOFTMAX:
            emit_softmax(net, op, p)
        case VectorParams() as p:
            emit_vector(net, op, p)
        case ElementwiseParams() as p:
            emit_elementwise(net, op, p)
        case MoveParams() as p if op.kind is OpKind.VIEW:
            emit_view(net, op, p)
        case MoveParams() as p:
            emit_move(net, op, p)
        case _:
            raise cannot(op, f"kind {op.kind.value}")
