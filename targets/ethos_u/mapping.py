"""From one operator of the plan to the passes of the NPU's hardware that carry it out."""

from __future__ import annotations

from typing import Literal

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
from targets.ethos_u.axes import Shape, memory_shape, operand_constants, transposition, working_layout
from targets.ethos_u.elementwise import elementwise_passes, with_activation
from targets.ethos_u.images import conv_passes, padded, pool_passes, resize_passes
from targets.ethos_u.maps import (
    IMAGE_RANK,
    folded,
    image_copies,
    physical,
    place_of,
    reading,
    requantised,
    stored_format,
)
from targets.ethos_u.norms import norm_passes
from targets.ethos_u.reductions import reduce_passes
from targets.ethos_u.softmax import softmax_passes
from targets.ethos_u.transposes import transpose_passes
from targets.ethos_u.work import BRICK, Arch, Hwc, Work

RESCALED = frozenset({OpKind.VIEW, OpKind.MOVE, OpKind.POOL, OpKind.RESIZE, OpKind.REDUCE})


def passes(arch: Arch, op: Op, workload: Workload) -> tuple[Work, ...]:
    """Hardware passes of an operator that the rules allow; () for a plain view.

    A movement or pooling that changes the scale takes one more pass over each output: the copy itself keeps it.
    """
    whole = folded(memory_shape(workload.tensor[op.outputs[0]], working_layout(op, workload)))
    works = with_activation(_main(op, workload), op.activation, whole)
    if op.rescales and op.kind in RESCALED:
        works += tuple(image_copies(memory_shape(workload.tensor[name])) for name in op.outputs)
    return _placed(works, op, workload)


def _main(op: Op, workload: Workload) -> tuple[Work, ...]:
    """Passes of the operator itself, without a fused activation."""
    match op.params:
        case ConvParams() as p:
            return conv_passes(op, p)
        case FullyConnectedParams() as p:
            return (_vector(op, p),)
        case MatmulParams() as p:
            return _matmul(op, p, workload)
        case PoolParams() as p:
            return pool_passes(p)
        case ResizeParams() as p:
            return resize_passes(p)
        case VectorParams() as p if op.kind is OpKind.SOFTMAX:
            return softmax_passes(_vector_image(op, p, workload))
        case VectorParams() as p if op.kind is OpKind.REDUCE:
            return reduce_passes(op, p, workload)
        case VectorParams() as p:
            return norm_passes(op, p, workload)
        case ElementwiseParams() as p:
            return elementwise_passes(op, p, workload)
        case MoveParams() as p if op.kind is OpKind.MOVE:
            return _move(op, p, workload)
        case _:
            return ()


def _placed(works: tuple[Work, ...], op: Op, workload: Workload) -> tuple[Work, ...]:
    """Where the first pass reads and the last one writes; what passes hand on stays as they say."""
    if not works or not op.inputs or not op.outputs:
        return works
    first, last = op.inputs[0], op.outputs[0]
    second = op.inputs[1] if len(op.inputs) > 1 else first
    chain = list(works)
    if works[0].ifm_place == "constant":
        chain[0] = works[0]._replace(ifm2_format=stored_format(first, workload), ifm2_place=place_of(first, workload))
    elif op.kind is OpKind.MATMUL:  # it turns the second operand, then multiplies the first
        chain[0] = reading(chain[0], second, workload)
        chain[1] = reading(chain[1], first, workload)
    else:
        chain[0] = reading(chain[0], first, workload)
    if works[0].ifm2 is not None and "constant" not in (works[0].ifm_place, works[0].ifm2_place):
        chain[0] = chain[0]._replace(ifm2_format=stored_format(second, workload), ifm2_place=place_of(second, workload))
    if op.kind is OpKind.SOFTMAX:
        chain[1] = reading(chain[1], first, workload)
    chain[-1] = chain[-1]._replace(ofm_format=stored_format(last, workload), ofm_place=place_of(last, workload))
    if op.kind is OpKind.GROUPED_CONV:  # groups are slices of channels: of the input plainly, of the output by bricks
        chain[0] = chain[0]._replace(ifm_format="nhwc")
        if chain[0].ofm[2] % BRICK:
            chain[0] = chain[0]._replace(ofm_format="nhwc")
    return tuple(chain)


def _square(count: int) -> tuple[int, int]:
    """`count` vectors as the most nearly square image, at least as wide as high."""
    height = max(i for i in range(1, int(count**0.5) + 1) if count % i == 0)
    return height, count // height


def _vector(op: Op, p: FullyConnectedParams) -> Work:
    h, w = _square(p.positions)
    weights = p.in_features * p.out_features
    return Work("vector", "other", (h, w, p.in_features), (h, w, p.out_features), weights=weights)


def _matmul(op: Op, p: MatmulParams, workload: Workload) -> tuple[Work, ...]:
    """The second operand is turned so that k lies innermost; then one compound pass.

    Products that share the second operand are one taller product; for those that share the first it is repeated.
    """
    batch, rows = p.batch, p.m
    shared = shared_operand(op, p, workload)
    if shared == "second":
        batch, rows = 1, p.batch * p.m
    copies = _tiled((1, rows, p.k), (batch, rows, p.k)) if shared == "first" else ()
    turned = Work("copy", "other", (batch, p.k, p.n), (batch, p.n, p.k))
    left, right = (batch, rows, p.k), (batch, p.n, p.k)
    return turned, *copies, Work("matmul", "other", left, (batch, rows, p.n), ifm2=right)


def shared_operand(op: Op, p: MatmulParams, workload: Workload) -> Literal["none", "first", "second", "partly"]:
    """Which operand all products of a batch share; partly: one is shared along some axes of the batch."""
    first, second = (workload.tensor[name].elements for name in (op.inputs[0], op.inputs[-1]))
    each, whole = (p.m * p.k, p.k * p.n), (p.batch * p.m * p.k, p.batch * p.k * p.n)
    if (first, second) == whole:
        return "none"
    if (first, second) == (whole[0], each[1]):
        return "second"
    return "first" if (first, second) == (each[0], whole[1]) else "partly"


def _vector_image(op: Op, p: VectorParams, workload: Workload) -> Hwc:
    """A map whose channels are the vectors: as it lies in memory, else one row a vector."""
    shape = physical(workload.tensor[op.inputs[0]])
    return shape if shape[2] == p.length else (1, max(1, p.rows), max(1, p.length))


def _move(op: Op, p: MoveParams, workload: Workload) -> tuple[Work, ...]:
    layout = working_layout(op, workload)
    if p.function == "transpose":
        return transpose_passes(*transposition(op, p, workload))
    if p.function == "concat":
        copies = (image_copies(memory_shape(workload.tensor[name], layout)) for name in copied(op, workload))
        parts = (image_copies(memory_shape(workload.tensor[n], layout)) for n in operand_constants(op, workload))
        return (*copies, *(part._replace(ifm_place="constant") for part in parts))
    if p.function == "split":
        return tuple(image_copies(memory_shape(workload.tensor[name], layout)) for name in op.outputs)
    source = memory_shape(workload.tensor[op.inputs[0]], layout)
    shape = memory_shape(workload.tensor[op.outputs[0]], layout)
    if p.function == "pad":
        batch = source[0] if len(shape) == IMAGE_RANK and source[0] == shape[0] else 1
        image, whole = (folded(sizes[1:] if batch > 1 else sizes) for sizes in (source, shape))
        grown = tuple((0, max(0, after - before)) for before, after in zip(image, whole, strict=True))
        return padded(image, grown, batch=batch)
    if p.function == "tile":
        return _tiled(source, shape)
    return (requantised(folded(shape)) if source == shape else image_copies(shape),)  # all of it is copied at once


def _tiled(source: Shape, shape: Shape) -> tuple[Work, ...]:
    """Axis by axis, outermost first, a copy of what is there for each repetition."""
    works: list[Work] = []
    sizes = [1] * (len(shape) - len(source)) + list(source)
    for axis, size in enumerate(shape):
        times = max(1, size // sizes[axis])
        if times > 1:
            copy = image_copies(tuple(sizes))
            works.append(copy._replace(times=copy.times * times))
            sizes[axis] = size
    return tuple(works) or (image_copies(shape),)


def copied(op: Op, workload: Workload) -> tuple[str, ...]:
    """Inputs of a concatenation that are copied; one that no other operator reads is made in its place."""
    return tuple(n for n in op.inputs if n in workload.inputs or len(workload.readers.get(n, ())) > 1)


def is_free(op: Op, workload: Workload) -> bool:
    """Whether nothing moves: a view, a concatenation of parts made in their places, a transpose of axes of length 1."""
    if op.rescales or op.activation:
        return False
    if not isinstance(op.params, MoveParams) or op.kind is OpKind.VIEW:
        return op.kind is OpKind.VIEW
    if op.params.function == "concat":
        return not copied(op, workload) and not operand_constants(op, workload)
    return op.params.function == "transpose" and not transpose_passes(*transposition(op, op.params, workload))
