"""From one operator of the plan to the passes of the NPU's hardware that carry it out."""

from __future__ import annotations

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
from targets.ethos_u.axes import transposition
from targets.ethos_u.elementwise import elementwise_passes, with_activation
from targets.ethos_u.images import conv_passes, padded, pool_passes, resize_passes
from targets.ethos_u.maps import physical, place_of, reading, requantised, stored_format
from targets.ethos_u.norms import norm_passes, reduce_passes
from targets.ethos_u.softmax import softmax_passes
from targets.ethos_u.transposes import transpose_passes
from targets.ethos_u.work import Arch, Hwc, Work

RESCALED = frozenset({OpKind.VIEW, OpKind.MOVE, OpKind.POOL, OpKind.RESIZE, OpKind.REDUCE})


def passes(arch: Arch, op: Op, workload: Workload) -> tuple[Work, ...]:
    """Hardware passes of an operator that the rules allow; () for a plain view.

    A movement or pooling that changes the scale takes one more pass over each output: the copy itself keeps it.
    """
    works = with_activation(_main(op, workload), op.activation)
    if op.rescales and op.kind in RESCALED:
        works += tuple(requantised(physical(workload.tensor[name])) for name in op.outputs)
    return _placed(works, op, workload)


def _main(op: Op, workload: Workload) -> tuple[Work, ...]:
    """Passes of the operator itself, without a fused activation."""
    match op.params:
        case ConvParams() as p:
            return conv_passes(op, p)
        case FullyConnectedParams() as p:
            return (_vector(op, p),)
        case MatmulParams() as p:
            return _matmul(p)
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
    return tuple(chain)


def _square(count: int) -> tuple[int, int]:
    """`count` vectors as the most nearly square image, at least as wide as high."""
    height = max(i for i in range(1, int(count**0.5) + 1) if count % i == 0)
    return height, count // height


def _vector(op: Op, p: FullyConnectedParams) -> Work:
    h, w = _square(p.positions)
    weights = p.in_features * p.out_features
    return Work("vector", "other", (h, w, p.in_features), (h, w, p.out_features), weights=weights)


def _matmul(p: MatmulParams) -> tuple[Work, ...]:
    """The second operand is turned so that k lies innermost; then one compound pass."""
    turned = Work("copy", "other", (p.batch, p.k, p.n), (p.batch, p.n, p.k))
    left, right = (p.batch, p.m, p.k), (p.batch, p.n, p.k)
    return turned, Work("matmul", "other", left, (p.batch, p.m, p.n), ifm2=right)


def _vector_image(op: Op, p: VectorParams, workload: Workload) -> Hwc:
    """A map whose channels are the vectors: as it lies in memory, else one row a vector."""
    shape = physical(workload.tensor[op.inputs[0]])
    return shape if shape[2] == p.length else (1, max(1, p.rows), max(1, p.length))


def _move(op: Op, p: MoveParams, workload: Workload) -> tuple[Work, ...]:
    shape = physical(workload.tensor[op.outputs[0]])
    if p.function == "transpose":
        return transpose_passes(*transposition(op, p, workload))
    if p.function == "concat":
        return tuple(requantised(physical(workload.tensor[name])) for name in copied(op, workload))
    if p.function == "split":
        return tuple(requantised(physical(workload.tensor[name])) for name in op.outputs)
    source = physical(workload.tensor[op.inputs[0]])
    if p.function == "pad":
        grown = tuple((0, max(0, after - before)) for before, after in zip(source, shape, strict=True))
        return padded(source, grown)
    if p.function == "tile":
        return _tiled(source, shape)
    return (requantised(shape),)


def _tiled(source: Hwc, shape: Hwc) -> tuple[Work, ...]:
    """Axis by axis, outermost first, a copy of what is there for each repetition."""
    works: list[Work] = []
    for axis in range(len(shape)):
        times = max(1, shape[axis] // source[axis])
        if times > 1:
            works.append(requantised(source)._replace(times=times))
            source = (*source[:axis], shape[axis], *source[axis + 1 :])  # type: ignore[assignment]
    return tuple(works) or (requantised(shape),)


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
        return not copied(op, workload)
    return op.params.function == "transpose" and not transpose_passes(*transposition(op, op.params, workload))
