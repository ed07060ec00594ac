"""Axes of a tensor in the order of memory, and the transposes between two orders with as few axes as can be."""

from __future__ import annotations

from math import prod

from h4hc.workload import ElementwiseParams, Layout, MoveParams, Op, Tensor, Workload

Shape = tuple[int, ...]


def order_of(rank: int, layout: Layout) -> tuple[int, ...]:
    """ONNX axes in the order of memory: channels last moves axis 1 to the end."""
    if layout is Layout.CHANNELS_LAST and rank > 2:
        return (0, *range(2, rank), 1)
    return tuple(range(rank))


def memory_shape(tensor: Tensor, layout: Layout | None = None) -> Shape:
    """Shape of a tensor in the order of memory; layout: as if it lay in that one."""
    return tuple(tensor.shape[a] for a in order_of(len(tensor.shape), layout or tensor.layout))


def working_layout(op: Op, workload: Workload) -> Layout:
    """The order of memory that an operator works in: its own, or that of its first input."""
    return op.layout or workload.tensor[(op.inputs or op.outputs)[0]].layout


def transposition(op: Op, p: MoveParams, workload: Workload) -> tuple[Shape, tuple[int, ...]]:
    """A transpose as the bytes see it: shape in memory, and which of its axes comes where; see `joined`."""
    source, target = workload.tensor[op.inputs[0]], workload.tensor[op.outputs[0]]
    layout = working_layout(op, workload)
    have = order_of(len(source.shape), layout)
    perm = tuple(have.index(p.perm[a]) for a in order_of(len(target.shape), target.layout))
    return joined(memory_shape(source, layout), perm)


def joined(shape: Shape, perm: tuple[int, ...]) -> tuple[Shape, tuple[int, ...]]:
    """The same transpose with fewer axes: those of length one dropped, neighbours that stay neighbours made one."""
    kept = [a for a in perm if shape[a] != 1]
    groups: list[list[int]] = []
    for axis in kept:
        follows = groups and all(shape[a] == 1 for a in range(groups[-1][-1] + 1, axis)) and axis > groups[-1][-1]
        if follows:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ordered = sorted(groups)
    sizes = tuple(prod(shape[a] for a in group) for group in ordered)
    return sizes, tuple(ordered.index(group) for group in groups)


def operand_constants(op: Op, workload: Workload) -> tuple[str, ...]:
    """The constants that are operands. The other ones of a quantised operator are scales and zero points.

    Of elementwise operators as many as there are operands without an activation, the largest first chosen, as large as
    the result where nothing is repeated; of the others those with as many axes as the result.
    """
    result = workload.tensor[op.outputs[0]].shape
    shape = {name: workload.tensor[name].shape for name in op.weights}
    p = op.params
    if not isinstance(p, ElementwiseParams):
        return tuple(name for name in op.weights if len(shape[name]) == len(result))
    known = [name for name in op.weights if p.broadcast != "none" or prod(shape[name]) == prod(result)]
    largest = sorted(known, key=lambda name: -prod(shape[name]))[: max(0, p.operands - len(op.inputs))]
    return tuple(name for name in known if name in largest)
