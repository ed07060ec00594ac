"""Data movement and views as TFLite operators."""

from __future__ import annotations

import numpy as np

from h4hc.workload import MoveParams, Op
from targets.ethos_u.axes import memory_shape, operand_constants, order_of, transposition
from targets.ethos_u.vendor.network import Network, cannot
from targets.ethos_u.vendor.tflite import Ref


def emit_move(net: Network, op: Op, p: MoveParams) -> None:
    """TRANSPOSE, CONCATENATION, SLICE, STRIDED_SLICE, SPLIT_V, PAD, TILE."""
    emitters = {
        "transpose": _transpose,
        "concat": _concat,
        "slice": _slice,
        "split": _split,
        "pad": _pad,
        "tile": _tile,
    }
    if p.function not in emitters:
        raise cannot(op, f"no operator for {p.function}")
    emitters[p.function](net, op, p)


def emit_view(net: Network, op: Op, p: MoveParams) -> None:
    """RESHAPE: the bytes stay where they are."""
    source = memory_shape(net.workload.tensor[op.inputs[0]], net.order(op))
    shape = memory_shape(net.workload.tensor[op.outputs[0]])
    data = net.read(op, op.inputs[0], source)
    net.finish(op, net.step(op, "RESHAPE", [data, net.model.ints(shape)], shape))


def _transpose(net: Network, op: Op, p: MoveParams) -> None:
    target = net.workload.tensor[op.outputs[0]]
    shape, perm = transposition(op, p, net.workload)
    data = net.read(op, op.inputs[0], shape)
    if perm == tuple(range(len(perm))):  # only axes of length one change places
        made = net.step(op, "RESHAPE", [data, net.model.ints(memory_shape(target))], memory_shape(target))
    else:
        made = net.transposed(op, data, perm)
    net.finish(op, made)


def _changed(net: Network, op: Op, names: tuple[str, ...]) -> int:
    """The axis in memory order along which the tensors differ from the operator's other side."""
    whole = net.workload.tensor[op.inputs[0] if names == op.outputs else op.outputs[0]].shape
    parts = [net.workload.tensor[name].shape for name in names]
    differing = [a for a in range(len(whole)) if any(part[a] != whole[a] for part in parts)]
    if len(differing) > 1:
        raise cannot(op, f"{parts} and {whole} differ in axes")
    given = net.numbers.attribute(op, "axes")
    axis = differing[0] if differing else (given[0] if given else 0)
    return order_of(len(whole), net.order(op)).index(axis)


def _concat(net: Network, op: Op, p: MoveParams) -> None:
    """Operands in order; a constant behind the others unless numbers know the order. All are brought to one scale."""
    constants = operand_constants(op, net.workload)
    axis = _changed(net, op, (*op.inputs, *constants) if constants else op.inputs)
    quant = net.result_quant(op) if net.numbers.quant(op.outputs[0]) else None
    operands: list[Ref] = []
    for name in op.inputs:
        operands.append(net.read(op, name))
    for name in constants:
        values, scale = net.numbers.constant(op, name, memory_shape(net.workload.tensor[name], net.order(op)))
        operands.append(net.constant(op, values, scale))
    quant = quant or operands[0].quant
    same = [ref if ref.quant == quant else net.step(op, "QUANTIZE", [ref], ref.shape, quant) for ref in operands]
    order = net.numbers.attribute(op, "order")
    same = [same[i] for i in order] if order else same
    shape = memory_shape(net.workload.tensor[op.outputs[0]], net.order(op))
    net.finish(op, net.step(op, "CONCATENATION", same, shape, quant, {"Axis": axis}))


def _slice(net: Network, op: Op, p: MoveParams) -> None:
    """SLICE, or STRIDED_SLICE where numbers know of steps. Begins are 0 where nobody knows: the cost is the same."""
    layout = net.order(op)
    data = net.read(op, op.inputs[0])
    shape = memory_shape(net.workload.tensor[op.outputs[0]], layout)
    rank = len(shape)
    order = order_of(rank, layout)
    begins = net.numbers.attribute(op, "begins") or (0,) * rank
    steps = net.numbers.attribute(op, "steps") or (1,) * rank
    begin = tuple(begins[a] for a in order)
    step = tuple(steps[a] for a in order)
    if all(s == 1 for s in step):
        made = net.step(op, "SLICE", [data, net.model.ints(begin), net.model.ints(shape)], shape)
    else:
        ends = tuple(b + (n - 1) * s + 1 for b, n, s in zip(begin, shape, step, strict=True))
        places = [net.model.ints(begin), net.model.ints(ends), net.model.ints(step)]
        made = net.step(op, "STRIDED_SLICE", [data, *places], shape)
    net.finish(op, made)


def _split(net: Network, op: Op, p: MoveParams) -> None:
    layout = net.order(op)
    axis = _changed(net, op, op.outputs)
    data = net.read(op, op.inputs[0])
    assert data.quant is not None, op.id
    shapes = [memory_shape(net.workload.tensor[name], layout) for name in op.outputs]
    parts = [net.fresh(op, shape, data.quant) for shape in shapes]
    sizes = net.model.ints([shape[axis] for shape in shapes])
    where = net.constant(op, np.array(axis, np.int32), None)
    net.model.operator("SPLIT_V", [data, sizes, where], parts, {"NumSplits": len(parts)})
    for i, part in enumerate(parts):
        net.finish(op, part, i)


def _pad(net: Network, op: Op, p: MoveParams) -> None:
    """PAD; behind each axis where nobody knows how it is shared out: the cost is the same."""
    layout = net.order(op)
    data = net.read(op, op.inputs[0])
    shape = memory_shape(net.workload.tensor[op.outputs[0]], layout)
    given = net.numbers.attribute(op, "pads")
    order = order_of(len(shape), layout)
    if given:
        table = [(given[a], given[a + len(shape)]) for a in order]
    else:
        table = [(0, after - before) for before, after in zip(data.shape, shape, strict=True)]
    amounts = net.constant(op, np.array(table, np.int32), None)
    net.finish(op, net.step(op, "PAD", [data, amounts], shape))


def _tile(net: Network, op: Op, p: MoveParams) -> None:
    layout = net.order(op)
    data = net.read(op, op.inputs[0])
    shape = memory_shape(net.workload.tensor[op.outputs[0]], layout)
    rank = len(shape)
    lead = (1,) * (rank - len(data.shape)) + data.shape
    times = tuple(after // before for before, after in zip(lead, shape, strict=True))
    made = net.step(op, "TILE", [net.reshaped(op, data, lead), net.model.ints(times)], shape)
    net.finish(op, made)
