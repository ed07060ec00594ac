"""Convolutions, pooling and resizing as TFLite operators on NHWC images."""

from __future__ import annotations

from h4hc.workload import ConvParams, Layout, Op, OpKind, PoolParams, ResizeParams
from targets.ethos_u.padding import read_padding
from targets.ethos_u.vendor.network import Network, cannot
from targets.ethos_u.vendor.tflite import Option, Quant, Ref, Shape
from targets.ethos_u.vendor.values import activated, fusable

SAME, VALID = 0, 1
LOWEST = -128
Pair = tuple[int, int]


def pair(dims: tuple[int, ...], lead: int = 1) -> Pair:
    """A one-dimensional image is one row high."""
    return (lead, dims[0]) if len(dims) == 1 else (dims[0], dims[1])


def emit_conv(net: Network, op: Op, p: ConvParams) -> None:
    """CONV_2D (grouped too), DEPTHWISE_CONV_2D or TRANSPOSE_CONV, with a PAD in front where TFLite needs one."""
    image = net.read(op, op.inputs[0], (p.batch, *pair(p.in_spatial), p.in_channels), Layout.CHANNELS_LAST)
    if op.kind is OpKind.CONV_TRANSPOSE:
        made = _transpose_conv(net, op, p, image)
    else:
        image, padding = _padded(net, op, p, image)
        made = _conv(net, op, p, image, padding)
    net.finish(op, activated(net, op, made, op.activation))


def _conv(net: Network, op: Op, p: ConvParams, image: Ref, padding: int) -> Ref:
    depthwise = op.kind is OpKind.DEPTHWISE
    kernel, stride, dilation = pair(p.kernel), pair(p.stride), pair(p.dilation)
    shape: Shape = (1, *kernel, p.out_channels) if depthwise else (p.out_channels, *kernel, p.in_channels // p.groups)
    options: dict[str, Option] = {
        "Padding": padding,
        "StrideH": stride[0],
        "StrideW": stride[1],
        "DilationHFactor": dilation[0],
        "DilationWFactor": dilation[1],
        "FusedActivationFunction": fusable(net, op),
    }
    if depthwise:
        options["DepthMultiplier"] = p.out_channels // p.in_channels
    inputs = [image, *weights_and_bias(net, op, image, shape, 3 if depthwise else 0)]
    out = (p.batch, *pair(p.out_spatial), p.out_channels)
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return net.step(op, kind, inputs, out, net.result_quant(op), options)


def _transpose_conv(net: Network, op: Op, p: ConvParams, image: Ref) -> Ref:
    out = (p.batch, *pair(p.out_spatial), p.out_channels)
    same = all(o == i * s for i, o, s in zip(p.in_spatial, p.out_spatial, p.stride, strict=True))
    stride = pair(p.stride)
    weights, bias = weights_and_bias(net, op, image, (p.out_channels, *pair(p.kernel), p.in_channels), 0)
    inputs = [net.model.ints(out), weights, image, bias]
    options: dict[str, Option] = {"Padding": SAME if same else VALID, "StrideH": stride[0], "StrideW": stride[1]}
    return net.step(op, "TRANSPOSE_CONV", inputs, out, net.result_quant(op), options)


def weights_and_bias(net: Network, op: Op, data: Ref, shape: Shape, axis: int) -> tuple[Ref, Ref]:
    """Weights quantised by channel, and the bias with the scale of input times weight."""
    values, quant = net.numbers.weights(op, shape, axis)
    scale = data.quant.scales[0] if data.quant else 1.0
    channels = shape[axis]
    bias = Quant(tuple(scale * s for s in quant.scales), (0,) * len(quant.scales))
    return net.constant(op, values, quant), net.constant(op, net.numbers.bias(op, channels), bias)


def _padded(net: Network, op: Op, p: ConvParams, image: Ref) -> tuple[Ref, int]:
    """The image and TFLite's padding scheme. Padding behind that no window reads does not count."""
    sides: list[Pair] = []
    same = True
    for axis, kernel in enumerate(p.kernel):
        size, out, stride = p.in_spatial[axis], p.out_spatial[axis], p.stride[axis]
        reach = (kernel - 1) * p.dilation[axis] + 1
        total = (out - 1) * stride + reach - size
        before = p.pads[axis]
        sides.append((before, max(0, total - before)))
        halves = (max(0, total) // 2, max(0, total) - max(0, total) // 2)
        same &= out == -(-size // stride) and sides[-1] == halves
    if not any(map(any, sides)):
        return image, VALID
    if same:
        return image, SAME
    return pad(net, op, image, sides), VALID


def pad(net: Network, op: Op, image: Ref, sides: list[Pair], lowest: bool = False) -> Ref:
    """PAD with zeros, or with the lowest value (for a maximum)."""
    top, left = ((0, 0), sides[0]) if len(sides) == 1 else (sides[0], sides[1])
    n, h, w, c = image.shape
    table = [(0, 0), top, left, (0, 0)]
    out = (n, h + sum(top), w + sum(left), c)
    import numpy as np

    amounts = net.constant(op, np.array(table, np.int32), None)
    if not lowest:
        return net.step(op, "PAD", [image, amounts], out)
    value = net.constant(op, np.array([LOWEST], np.int8), image.quant)
    return net.step(op, "PADV2", [image, amounts, value], out)


def emit_pool(net: Network, op: Op, p: PoolParams) -> None:
    """AVERAGE_POOL_2D or MAX_POOL_2D; a maximum with other padding than SAME is padded before."""
    image = net.read(op, op.inputs[0], (p.batch, *pair(p.in_spatial), p.channels), Layout.CHANNELS_LAST)
    padding = VALID
    sides = list(read_padding(p))
    if any(map(any, sides)):
        from targets.ethos_u.padding import is_same

        if is_same(p):
            padding = SAME
        elif p.function == "max":
            image = pad(net, op, image, sides, lowest=True)
        else:
            raise cannot(op, "an average whose padding is not SAME")
    kernel, stride = pair(p.kernel), pair(p.stride)
    options: dict[str, Option] = {
        "Padding": padding,
        "StrideH": stride[0],
        "StrideW": stride[1],
        "FilterHeight": kernel[0],
        "FilterWidth": kernel[1],
        "FusedActivationFunction": fusable(net, op),
    }
    kind = {"max": "MAX_POOL_2D", "average": "AVERAGE_POOL_2D"}.get(p.function)
    if kind is None:
        raise cannot(op, f"pooling by {p.function}")
    made = net.step(op, kind, [image], (p.batch, *pair(p.out_spatial), p.channels), None, options)
    net.finish(op, activated(net, op, made, op.activation))


def emit_resize(net: Network, op: Op, p: ResizeParams) -> None:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR."""
    batch = net.workload.tensor[op.inputs[0]].shape[0]
    image = net.read(op, op.inputs[0], (batch, *pair(p.in_spatial), p.channels), Layout.CHANNELS_LAST)
    kind = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "linear": "RESIZE_BILINEAR"}.get(p.mode)
    if kind is None:
        raise cannot(op, f"resize mode {p.mode}")
    options: dict[str, Option] = {
        "AlignCorners": p.coordinates == "align_corners",
        "HalfPixelCenters": p.coordinates.endswith("half_pixel"),
    }
    size = pair(p.out_spatial)
    made = net.step(op, kind, [image, net.model.ints(size)], (batch, *size, p.channels), None, options)
    net.finish(op, made)
