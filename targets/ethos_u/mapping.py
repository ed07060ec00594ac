"""From one operator of the plan to the passes of the NPU's hardware that carry it out."""

from __future__ import annotations

from dataclasses import replace

from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    FullyConnectedParams,
    Layout,
    MatmulParams,
    MoveParams,
    Op,
    OpKind,
    PoolParams,
    ResizeParams,
    Tensor,
    VectorParams,
    Workload,
)
from targets.ethos_u import functions
from targets.ethos_u.images import conv_passes, padded, pool_passes, resize_passes
from targets.ethos_u.softmax import CONSTANT, INT32, softmax_passes
from targets.ethos_u.work import Activation, Arch, Format, Hwc, Output, Place, Work, deepened, volume

IMAGE_RANK = 4
RESCALED = frozenset({OpKind.VIEW, OpKind.MOVE, OpKind.POOL, OpKind.RESIZE, OpKind.REDUCE})


def passes(arch: Arch, op: Op, workload: Workload) -> tuple[Work, ...]:
    """Hardware passes of an operator that the rules allow; () for a plain view.

    A movement or pooling that changes the scale takes one more pass over each output: the copy itself keeps it.
    """
    works = _with_activation(_main(op, workload), op.activation)
    if op.rescales and op.kind in RESCALED:
        works += tuple(requantised(physical(workload.tensor[name])) for name in op.outputs)
    return _placed(works, op, workload)


def requantised(shape: Hwc) -> Work:
    """A pass that only brings values to another scale."""
    return Work("pool", "other", shape, shape)


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
        case VectorParams() as p:
            return _vectors(op, p, workload)
        case ElementwiseParams() as p:
            return _elementwise(op, p, workload)
        case MoveParams() as p if op.kind is OpKind.MOVE:
            return _move(op, p, workload)
        case _:
            return ()


def physical(tensor: Tensor) -> Hwc:
    """Height, width, channels of a tensor in its physical order; leading axes fold into the height."""
    dims = list(tensor.shape)
    if tensor.layout is Layout.CHANNELS_LAST and len(dims) > 2:
        dims = [dims[0], *dims[2:], dims[1]]
    dims = [1, 1, 1, *(max(1, d) for d in dims)]
    height = 1
    for dim in dims[:-2]:
        height *= dim
    return height, dims[-2], dims[-1]


def _format(name: str, workload: Workload) -> Format:
    """Inner feature maps are stored in bricks of 16 channels, the model's own tensors and all others plainly."""
    tensor = workload.tensor[name]
    inner = name not in workload.inputs and name not in workload.outputs
    image = len(tensor.shape) == IMAGE_RANK and tensor.layout is Layout.CHANNELS_LAST
    return "brick" if inner and image else "nhwc"


def _place(name: str, workload: Workload) -> Place:
    return "outer" if name in workload.inputs or name in workload.outputs else "inner"


def _placed(works: tuple[Work, ...], op: Op, workload: Workload) -> tuple[Work, ...]:
    """Where the first pass reads and the last one writes; what passes hand on stays as they say."""
    if not works or not op.inputs or not op.outputs:
        return works
    first, last = op.inputs[0], op.outputs[0]
    second = op.inputs[1] if len(op.inputs) > 1 else first
    chain = list(works)
    head = {"ifm_format": _format(first, workload), "ifm_place": _place(first, workload)}
    if works[0].ifm2 is not None and works[0].ifm2_place != "constant":
        head |= {"ifm2_format": _format(second, workload), "ifm2_place": _place(second, workload)}
    chain[0] = replace(works[0], **head)  # type: ignore[arg-type]
    if op.kind is OpKind.SOFTMAX:
        chain[1] = replace(works[1], ifm_format=chain[0].ifm_format, ifm_place=chain[0].ifm_place)
    chain[-1] = replace(chain[-1], ofm_format=_format(last, workload), ofm_place=_place(last, workload))
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


def _vectors(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    if op.kind is OpKind.REDUCE:
        return _reduce(p.function, p, _reduced_image(op, p, workload))
    return _norm(op, p, workload)


def _norm(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    """x - mean, its square, the mean of that, + eps with a table of 1 / root behind; times it, scale; + shift."""
    if p.function == "batch_norm":  # folded to scale and shift
        return _scaled(physical(workload.tensor[op.inputs[0]]), ("mul", "add"))
    image = None if p.innermost else physical(workload.tensor[op.inputs[0]])
    across = image is not None and image[0] * image[1] == p.length
    shape: Hwc = (1, p.length, p.rows) if across else (1, max(1, p.rows), max(1, p.length))
    row: Hwc = (1, 1, p.rows) if across else (1, shape[1], 1)
    mean = _reduce("mean", p, image)
    binary = Work("elementwise", "mul", shape, shape, ifm2=shape)
    flat = deepened(row)
    eps = Work("elementwise", "add", flat, flat, ifm2=CONSTANT, ifm2_place="constant")
    spread = (binary, *mean, eps, replace(binary, ifm2=row))
    if p.function == "rms_norm":
        return (*spread, *_scaled(shape, ("mul",)))
    centred = replace(binary, output="add", ifm2=row)
    return (*mean, centred, *spread, *_scaled(shape, ("mul", "add")))


def _scaled(shape: Hwc, steps: tuple[Output, ...]) -> tuple[Work, ...]:
    """Products and sums with constants of each channel."""
    work = Work("elementwise", "mul", shape, shape, ifm2=(1, 1, shape[2]), ifm2_place="constant")
    return tuple(replace(work, output=step) for step in steps)


def _vector_image(op: Op, p: VectorParams, workload: Workload) -> Hwc:
    """A map whose channels are the vectors: as it lies in memory, else one row a vector."""
    shape = physical(workload.tensor[op.inputs[0]])
    return shape if shape[2] == p.length else (1, max(1, p.rows), max(1, p.length))


def _reduced_image(op: Op, p: VectorParams, workload: Workload) -> Hwc | None:
    """The input as an image if the reduction runs over all its positions, or over another axis than the innermost."""
    shape = physical(workload.tensor[op.inputs[0]])
    if shape[0] * shape[1] == p.length and shape[2] == p.rows:
        return shape
    return None if p.innermost else (1, p.length, p.rows)


def _reduce(function: str, p: VectorParams, image: Hwc | None) -> tuple[Work, ...]:
    if function == "sum":
        return (Work("reduce_sum", "other", (1, p.rows, p.length), (1, p.rows, 1)),)
    if function in ("max", "min"):
        return _extreme(function, p)
    if image is not None:
        h, w, c = image
        main = Work("depthwise", "other", image, (1, 1, c), (h, w), weights=h * w * c)
        return _mean(main)
    return _mean(Work("depthwise", "other", (p.rows, p.length, 1), (p.rows, 1, 1), (1, p.length), weights=p.length))


def _mean(total: Work) -> tuple[Work, Work]:
    """A sum to int32 by weights of 1, then times 1 / n."""
    shape = deepened(total.ofm)
    form: Format = "brick" if shape == total.ofm else "nhwc"
    total = replace(total, ofm_bits=INT32, ofm_format=form, even_weights=True)
    scaled = Work("elementwise", "mul", shape, shape, ifm2=CONSTANT, ifm_bits=INT32, ifm_format=form)
    return total, replace(scaled, ifm2_place="constant")


def _extreme(function: str, p: VectorParams) -> tuple[Work, ...]:
    """Pooling along the vectors, all in one window; outer axes lie across the channels.

    A minimum is the maximum of what is subtracted from a constant, subtracted once more.
    """
    height, depth = (p.rows, 1) if p.innermost else (1, p.rows)
    work = Work("pool", "maxpool", (height, p.length, depth), (height, 1, depth), (1, p.length))
    if function == "max":
        return (work,)
    shape = deepened(work.ifm)
    form: Format = "brick" if shape == work.ifm else "nhwc"
    less = Work("elementwise", "add", shape, shape, ifm2=CONSTANT, ifm2_place="constant", ofm_format=form)
    rest = deepened(work.ofm)
    return less, replace(work, ifm_format=form), replace(less, ifm=rest, ofm=rest, ofm_format="nhwc")


def _squared_difference(shape: Hwc) -> tuple[Work, ...]:
    """In int32: each operand widened and scaled; difference, square, and the scale of the result."""
    form: Format = "brick"
    copy = Work("pool", "other", shape, shape, ofm_bits=INT32, ofm_format=form)
    wide = Work("elementwise", "mul", shape, shape, ifm_bits=INT32, ofm_bits=INT32, ifm_format=form, ofm_format=form)
    scaled = replace(wide, ifm2=CONSTANT, ifm2_place="constant")
    both = replace(wide, ifm2=shape, ifm2_format=form)
    return copy, scaled, copy, scaled, both, both, replace(scaled, ofm_bits=8)


def _elementwise(op: Op, p: ElementwiseParams, workload: Workload) -> tuple[Work, ...]:
    shape = physical(workload.tensor[op.outputs[0]])
    if p.broadcast in ("none", "scalar"):
        shape = deepened(shape)
    if op.kind is OpKind.ACTIVATION:
        return _activation(p.function, shape)
    if op.kind is OpKind.QUANTIZE:
        return (requantised(shape),)
    if p.function in functions.SINGLE:
        return _activation(p.function, shape)
    output: Output = "mul" if p.function in functions.PRODUCTS else "add"
    if p.function in functions.SELECTIONS:
        output = "other"
    work = _second_operand(Work("elementwise", output, shape, shape, ifm2=shape), op, p, workload)
    if p.function == "squared_difference":
        return _squared_difference(shape)
    return (work,) * max(1, p.operands - 1)


def _second_operand(work: Work, op: Op, p: ElementwiseParams, workload: Workload) -> Work:
    """The second operand as it is: a scalar, a map that is repeated, or a constant in the memory of the weights."""
    if p.broadcast == "scalar":
        return replace(work, ifm2=CONSTANT)
    names = (*op.inputs, *op.weights)
    if p.broadcast == "none" or len(names) < 2:
        return work
    shapes = [physical(workload.tensor[name]) for name in names[:2]]
    smallest = min(shapes, key=volume)
    if volume(smallest) == 1:
        return replace(work, ifm2=CONSTANT)
    return replace(work, ifm2=smallest, ifm2_place="constant" if len(op.inputs) == 1 else "inner")


def _activation(function: str, shape: Hwc) -> tuple[Work, ...]:
    """A function of one value as an operator of its own."""
    if function in functions.CLAMPS:
        return (Work("pool", "other", shape, shape, activation="relu"),)
    if function in functions.TABLES:
        return (Work("pool", "other", shape, shape, activation="lut"),)
    sides = Work("elementwise", "mul", shape, shape, ifm2=shape)
    table = Work("pool", "other", shape, shape, activation="lut")
    step = Work("elementwise", "add", shape, shape, ifm2=CONSTANT)
    match function:
        case "abs":
            return (Work("elementwise", "other", shape, shape),)
        case "neg":
            return (step,)
        case "hard_sigmoid":
            return replace(step, output="mul"), step
        case "prelu":  # max(x, 0) + slope * min(x, 0), a slope a channel
            positive = Work("pool", "other", shape, shape, activation="relu")
            return positive, replace(step, output="other"), *_scaled(shape, ("mul",)), replace(step, ifm2=shape)
        case "quick_gelu":
            return replace(step, output="mul", activation="lut"), sides
        case _:
            return table, sides


def _with_activation(works: tuple[Work, ...], function: str) -> tuple[Work, ...]:
    """A fused activation: clamp or table in the last pass, further passes for the others."""
    if not function or not works:
        return works
    last = works[-1]
    if function in functions.CLAMPS or function in functions.TABLES:
        kind: Activation = "relu" if function in functions.CLAMPS else "lut"
        return (*works[:-1], replace(last, activation=kind))
    extra = tuple(replace(w, times=last.times) for w in _activation(function, last.ofm))
    return (*works, *extra)


def _move(op: Op, p: MoveParams, workload: Workload) -> tuple[Work, ...]:
    shape = physical(workload.tensor[op.outputs[0]])
    if p.function == "transpose":
        return (Work("copy", "other", physical(workload.tensor[op.inputs[0]]), shape),)
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
            works.append(replace(requantised(source), times=times))
            source = (*source[:axis], shape[axis], *source[axis + 1 :])  # type: ignore[assignment]
    return tuple(works) or (requantised(shape),)


def copied(op: Op, workload: Workload) -> tuple[str, ...]:
    """Inputs of a concatenation that are copied; one that no other operator reads is made in its place."""
    return tuple(n for n in op.inputs if n in workload.inputs or len(workload.readers.get(n, ())) > 1)


def is_free(op: Op, workload: Workload) -> bool:
    """Whether nothing moves: a view, or a concatenation of parts that are made in their places."""
    if op.rescales or op.activation:
        return False
    joins = isinstance(op.params, MoveParams) and op.params.function == "concat" and op.kind is OpKind.MOVE
    return op.kind is OpKind.VIEW or (joins and not copied(op, workload))
