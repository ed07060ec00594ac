"""Convolutions: Conv, ConvTranspose, DeformConv and their quantised and fused forms.

MACs (1 MAC = 1 multiply + 1 add, bias not counted):
    convolution            out elements x (Cin / groups) x product(kernel)
    transposed convolution in elements x (Cout / groups) x product(kernel)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.units import ceil_div
from h4hc.workload import ConvParams, OpKind


@dataclass(frozen=True)
class Slots:
    """Where an operator keeps its data and its weights."""

    data: int
    weights: int


SLOTS: dict[str, Slots] = {
    "Conv": Slots(0, 1),
    "ConvInteger": Slots(0, 1),
    "ConvTranspose": Slots(0, 1),
    "ConvTransposeWithDynamicPads": Slots(0, 1),
    "DeformConv": Slots(0, 1),
    "FusedConv": Slots(0, 1),
    "NhwcConv": Slots(0, 1),
    "NhwcFusedConv": Slots(0, 1),
    "QLinearConv": Slots(0, 3),
}


@dataclass(frozen=True)
class Window:
    """Attributes that all sliding windows share, one entry a spatial axis; pads: begins, then ends."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]


def window(
    site: Site, kernel: tuple[int, ...], in_spatial: tuple[int, ...], out_spatial: tuple[int, ...], transposed: bool
) -> Window:
    """Strides, dilations and explicit pads; `auto_pad` is resolved from the shapes as ONNX defines it."""
    count = len(kernel)
    stride = site.ints("strides") or (1,) * count
    dilation = site.ints("dilations") or (1,) * count
    pads = site.ints("pads") or (0,) * (2 * count)
    auto = site.text("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = (0,) * (2 * count)
    elif auto in ("SAME_UPPER", "SAME_LOWER") or (transposed and site.ints("output_shape")):
        extra = site.ints("output_padding") or (0,) * count
        totals = []
        for axis in range(count):
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            if transposed:
                total = stride[axis] * (in_spatial[axis] - 1) + extra[axis] + reach - out_spatial[axis]
            else:
                total = (out_spatial[axis] - 1) * stride[axis] + reach - in_spatial[axis]
            totals.append(max(0, total))
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        pads = small + large if auto == "SAME_UPPER" else large + small
    return Window(tuple(stride), tuple(dilation), tuple(pads))


def conv(site: Site) -> Lowered:
    """Conv, ConvInteger, QLinearConv, FusedConv: conv, depthwise or grouped_conv, by the number of groups."""
    if _channels_last(site):
        return generic(site, conv_macs(site))
    slots = SLOTS[site.node.op_type]
    x, w, y = site.shape(slots.data), site.shape(slots.weights), site.out()
    groups = site.integer("group", 1)
    _check(site, x, w, w[1] * groups if len(w) > 1 else -1, w[0] if w else -1, groups)
    params = _params(site, x, y, w[0], groups, w[2:], transposed=False)
    activation = site.text("activation", "").lower()
    return Lowered(conv_kind(params), params, conv_macs(site), Order.CHANNELS_LAST, activation=activation)


def conv_kind(params: ConvParams) -> OpKind:
    """conv, depthwise or grouped_conv, by the number of groups."""
    if params.groups == 1:
        return OpKind.CONV
    return OpKind.DEPTHWISE if params.groups == params.in_channels else OpKind.GROUPED_CONV


def conv_transpose(site: Site) -> Lowered:
    """ConvTranspose; weights are (Cin, Cout / groups, kernel)."""
    x, w, y = site.shape(0), site.shape(1), site.out()
    groups = site.integer("group", 1)
    out_channels = w[1] * groups if len(w) > 1 else -1
    _check(site, x, w, w[0] if w else -1, out_channels, groups)
    params = _params(site, x, y, out_channels, groups, w[2:], transposed=True)
    return Lowered(OpKind.CONV_TRANSPOSE, params, conv_transpose_macs(site), Order.CHANNELS_LAST)


def deform_conv(site: Site) -> Lowered:
    """DeformConv samples its input at computed positions: a host operator with the MACs of the convolution."""
    return generic(site, conv_macs(site))


def conv_macs(site: Site) -> int:
    """out elements x (Cin / groups) x product(kernel) = out elements x weights / Cout."""
    w = site.fact(SLOTS[site.node.op_type].weights)
    return math.prod(site.out()) * (w.elements // w.shape[0]) if w.elements else 0


def conv_transpose_macs(site: Site) -> int:
    """in elements x (Cout / groups) x product(kernel) = in elements x weights / Cin."""
    w = site.fact(1)
    return site.fact(0).elements * (w.elements // w.shape[0]) if w.elements else 0


def out_spatial(site: Site, kernel: tuple[int, ...], in_spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial shape of a convolution's or pool's result by ONNX's formula, for a value without a shape.

    floor((in + pad_begin + pad_end - (dilation (kernel - 1) + 1)) / stride) + 1; ceil(in / stride) with SAME pads.
    """
    count = len(kernel)
    stride = site.ints("strides") or (1,) * count
    if site.text("auto_pad", "NOTSET").startswith("SAME"):
        return tuple(ceil_div(i, s) for i, s in zip(in_spatial, stride, strict=True))
    win = window(site, kernel, in_spatial, in_spatial, transposed=False)
    round_up = site.integer("ceil_mode", 0)
    sizes = []
    for axis in range(count):
        room = in_spatial[axis] + win.pads[axis] + win.pads[count + axis]
        room -= win.dilation[axis] * (kernel[axis] - 1) + 1
        steps = ceil_div(room, stride[axis]) if round_up else room // stride[axis]
        sizes.append(max(0, steps + 1))
    return tuple(sizes)


def _channels_last(site: Site) -> bool:
    """onnxruntime's own operators may hold NHWC tensors in the ONNX shape itself."""
    return site.node.op_type.startswith("Nhwc") or bool(site.integer("channels_last", 0))


def _check(
    site: Site, x: tuple[int, ...], w: tuple[int, ...], in_channels: int, out_channels: int, groups: int
) -> None:
    what = f"{site.node.op_type} contradicts its own shapes"
    seen = f"input {list(x)}, weights {list(w)}, group {groups}"
    if len(x) < 3 or len(w) != len(x) or groups < 1:
        raise site.refuse(what, f"input and weights need the same rank, 3 or more: {seen}")
    if x[1] != in_channels:
        raise site.refuse(what, f"the weights want {in_channels} input channels: {seen}")
    if out_channels % groups or in_channels % groups:
        raise site.refuse(what, f"channels do not divide by the number of groups: {seen}")


def _params(
    site: Site,
    x: tuple[int, ...],
    y: tuple[int, ...],
    out_channels: int,
    groups: int,
    kernel: tuple[int, ...],
    transposed: bool,
) -> ConvParams:
    if len(y) != len(x) or y[:2] != (x[0], out_channels):
        raise site.refuse(
            f"{site.node.op_type} contradicts its own shapes",
            f"input {list(x)} and {out_channels} filters cannot give {list(y)}",
        )
    win = window(site, kernel, x[2:], y[2:], transposed)
    return ConvParams(
        "conv", x[0], x[1], out_channels, groups, kernel, win.stride, win.dilation, win.pads, x[2:], y[2:]
    )
