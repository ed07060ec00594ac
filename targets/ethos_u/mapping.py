"""From one operator of the plan to the passes of the NPU's hardware that carry it out."""

from __future__ import annotations

from dataclasses import replace

from h4hc.units import ceil_div
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
from targets.ethos_u.padding import needs_copy, read_padding
from targets.ethos_u.work import Activation, Arch, Format, Hwc, Output, Work

INT32 = 32
WIDEST_WINDOW = 256  # of a pooling pass
IMAGE_RANK = 4
RESCALED = frozenset({OpKind.VIEW, OpKind.MOVE, OpKind.POOL, OpKind.RESIZE, OpKind.REDUCE})
BATCHES_SPLIT = (3, 2)  # a product of activations is cut in so many parts along its longer side, if they stay wide
LEAST_PART = 4


def passes(arch: Arch, op: Op, workload: Workload) -> tuple[Work, ...]:
    """Hardware passes of an operator that the rules allow; () for a plain view and for softmax, which cost.py knows.

    A movement or pooling that changes the scale takes one more pass over each output: the copy itself keeps it.
    """
    works = _with_activation(_main(arch, op, workload), op.activation)
    if op.rescales and op.kind in RESCALED:
        works += tuple(requantised(physical(workload.tensor[name])) for name in op.outputs)
    return tuple(_placed(w, op, workload) for w in works)


def requantised(shape: Hwc) -> Work:
    """A pass that only brings values to another scale."""
    return Work("pool", "other", shape, shape)


def _main(arch: Arch, op: Op, workload: Workload) -> tuple[Work, ...]:
    """Passes of the operator itself, without a fused activation."""
    match op.params:
        case ConvParams() as p:
            return (_conv(op, p),)
        case FullyConnectedParams() as p:
            return (_vector(op, p),)
        case MatmulParams() as p:
            return _matmul(arch, p)
        case PoolParams() as p:
            return _pool(p)
        case ResizeParams() as p:
            return _resize(p)
        case VectorParams() as p if op.kind is not OpKind.SOFTMAX:
            return _vectors(op, p, workload)
        case ElementwiseParams() as p:
            return _elementwise(op, p, workload)
        case MoveParams() as p if op.kind is OpKind.MOVE:
            return (_move(op, p, workload),)
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


def _placed(work: Work, op: Op, workload: Workload) -> Work:
    if not op.inputs or not op.outputs or work.unit == "copy":
        return work
    return replace(work, ifm_format=_format(op.inputs[0], workload), ofm_format=_format(op.outputs[0], workload))


def _pair(dims: tuple[int, ...]) -> tuple[int, int]:
    """One-dimensional images are one row high."""
    return (1, dims[0]) if len(dims) == 1 else (dims[0], dims[1])


def _conv(op: Op, p: ConvParams) -> Work:
    h, w = _pair(p.in_spatial)
    oh, ow = _pair(p.out_spatial)
    kernel, stride, dilation = _pair(p.kernel), _pair(p.stride), _pair(p.dilation)
    taps = kernel[0] * kernel[1]
    if op.kind is OpKind.DEPTHWISE:
        weights = taps * p.out_channels
        shape = (h, w, p.out_channels)
        return Work("depthwise", "other", shape, (oh, ow, p.out_channels), kernel, stride, dilation, weights=weights)
    ins, outs = p.in_channels // p.groups, p.out_channels // p.groups
    work = Work("conv", "other", (h, w, ins), (oh, ow, outs), kernel, stride, dilation, weights=taps * ins * outs)
    if op.kind is OpKind.CONV_TRANSPOSE:  # zeros between the inputs, then a convolution of stride 1
        return replace(work, stride=(1, 1), upscale=max(stride))
    return replace(work, times=p.groups)


def _square(count: int) -> tuple[int, int]:
    """`count` vectors as the most nearly square image, at least as wide as high."""
    height = max(i for i in range(1, int(count**0.5) + 1) if count % i == 0)
    return height, count // height


def _vector(op: Op, p: FullyConnectedParams) -> Work:
    h, w = _square(p.positions)
    weights = p.in_features * p.out_features
    return Work("vector", "other", (h, w, p.in_features), (h, w, p.out_features), weights=weights)


def _matmul(arch: Arch, p: MatmulParams) -> tuple[Work, ...]:
    """Each of the n columns: a product with one row of the other operand to int32, then a sum over k."""
    shape = (p.batch, p.m, p.k)
    fit = _parts(arch, shape)
    product = Work("elementwise", "mul_int32", shape, shape, ifm2=shape, ofm_bits=INT32, times=p.n, fit=fit)
    total = Work("reduce_sum", "other", shape, (p.batch, p.m, 1), times=p.n, fit=fit)
    return product, total


def _parts(arch: Arch, shape: Hwc) -> Hwc:
    """The size for which blocks are chosen: several along one side, so that the two passes do not wait in turn."""
    axis = 0 if shape[0] > arch.ofm_block_max[0] else 1
    if shape[axis] <= arch.ofm_block_max[axis]:
        for parts in BATCHES_SPLIT:
            if shape[axis] >= LEAST_PART * parts:
                part = ceil_div(shape[axis], parts)
                return (part, shape[1], shape[2]) if axis == 0 else (shape[0], part, shape[2])
    return shape


def _pool(p: PoolParams) -> tuple[Work, ...]:
    """One pass; a maximum with other padding than SAME first copies the image into a padded one."""
    output: Output = "maxpool" if p.function == "max" else "other"
    ofm = (*_pair(p.out_spatial), p.channels)
    size, copies = p.in_spatial, needs_copy(p)
    if copies:
        size = tuple(s + before + behind for s, (before, behind) in zip(size, read_padding(p), strict=True))
    ifm = (*_pair(size), p.channels)
    pooling = Work("pool", output, ifm, ofm, _pair(p.kernel), _pair(p.stride))
    return (Work("pool", "other", ifm, ifm), pooling) if copies else (pooling,)


def _resize(p: ResizeParams) -> tuple[Work, ...]:
    """Doubled step by step: nearest copies each pixel, linear runs a 2 x 2 filter over the doubled image."""
    (h, w), (oh, ow) = _pair(p.in_spatial), _pair(p.out_spatial)
    works: list[Work] = []
    while (h, w) != (oh, ow) or not works:
        nh, nw = min(2 * h, oh), min(2 * w, ow)
        ifm, ofm = (h, w, p.channels), (nh, nw, p.channels)
        grow = 2 if (nh, nw) != (h, w) else 1
        if p.mode == "nearest" or grow == 1:
            works.append(Work("pool", "other", ifm, ofm, upscale=grow))
        else:
            works.append(Work("depthwise", "other", ifm, ofm, (2, 2), upscale=grow, weights=4 * p.channels))
        if (h, w) == (nh, nw):
            break
        h, w = nh, nw
    return tuple(works)


def _vectors(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    if op.kind is OpKind.REDUCE:
        return _reduce(p.function, p, _reduced_image(op, p, workload))
    sums, products = functions.NORMS[p.function]
    shape = _norm_shape(p)
    image = None if p.innermost else physical(workload.tensor[op.inputs[0]])
    means = _reduce("mean", p, image) * functions.NORM_MEANS[p.function]
    add = Work("elementwise", "add", shape, shape, ifm2=shape)
    return (*means, *(add,) * sums, *(replace(add, output="mul"),) * products)


def _norm_shape(p: VectorParams) -> Hwc:
    return 1, max(1, p.rows), max(1, p.length)


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
        return _extreme(p)
    if image is not None:
        h, w, c = image
        main = Work("depthwise", "other", image, (1, 1, c), (h, w), weights=h * w * c)
        return main, Work("elementwise", "mul", (1, 1, c), (1, 1, c), ifm2=(1, 1, c), ifm_bits=INT32)
    main = Work("depthwise", "other", (p.rows, p.length, 1), (p.rows, 1, 1), (1, p.length), weights=p.length)
    return main, Work("elementwise", "mul", (p.rows, 1, 1), (p.rows, 1, 1), ifm2=(p.rows, 1, 1), ifm_bits=INT32)


def _extreme(p: VectorParams) -> tuple[Work, ...]:
    """Pooling along the vectors, in steps where they are longer than a window; outer axes lie across the channels."""
    height, depth = (p.rows, 1) if p.innermost else (1, p.rows)
    works: list[Work] = []
    length = p.length
    while length > 1 or not works:
        window = min(length, WIDEST_WINDOW)
        left = ceil_div(length, window)
        ifm, ofm = (height, length, depth), (height, left, depth)
        works.append(Work("pool", "maxpool", ifm, ofm, (1, window), (1, window)))
        length = left
    return tuple(works)


def _elementwise(op: Op, p: ElementwiseParams, workload: Workload) -> tuple[Work, ...]:
    shape = physical(workload.tensor[op.outputs[0]])
    if op.kind is OpKind.ACTIVATION:
        return _activation(p.function, shape)
    if op.kind is OpKind.QUANTIZE:
        return (requantised(shape),)
    if p.function in functions.SCALAR_STEPS:
        return _activation(p.function, shape)
    output: Output = "mul" if p.function in functions.PRODUCTS else "add"
    if p.function in functions.SELECTIONS:
        output = "other"
    scalar = p.broadcast == "scalar"
    work = Work("elementwise", output, shape, shape, ifm2=(1, 1, 1) if scalar else shape)
    if p.function == "squared_difference":
        return (work,) * functions.SQUARED_DIFFERENCE_PASSES
    return (work,) * max(1, p.operands - 1)


def _activation(function: str, shape: Hwc) -> tuple[Work, ...]:
    """A function of one value as an operator of its own."""
    if function in functions.CLAMPS:
        return (Work("pool", "other", shape, shape, activation="relu"),)
    if function in functions.TABLES:
        return (Work("pool", "other", shape, shape, activation="lut"),)
    if function in functions.GATED:
        table = Work("pool", "other", shape, shape, activation="lut")
        return table, Work("elementwise", "mul", shape, shape, ifm2=shape)
    step = Work("elementwise", "add", shape, shape, ifm2=(1, 1, 1))
    return (step,) * functions.SCALAR_STEPS[function]


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


def _move(op: Op, p: MoveParams, workload: Workload) -> Work:
    shape = physical(workload.tensor[op.outputs[0]])
    if p.function == "transpose":
        return Work("copy", "other", shape, shape)
    return Work("pool", "other", shape, shape)
