"""Softmax, norms and reductions: `rows` independent vectors of `length` elements."""

from __future__ import annotations

import math
from dataclasses import replace

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site, Vectors, canonical
from h4hc.units import ceil_div
from h4hc.workload import OpKind, VectorParams

SOFTMAX_AXIS_OPSET = 13  # before, softmax flattened all axes from `axis` on, and `axis` was 1 by default

REDUCTIONS: dict[str, str] = {
    "ArgMax": "argmax",
    "ArgMin": "argmin",
    "QLinearReduceMean": "mean",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "log_sum",
    "ReduceLogSumExp": "log_sum_exp",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sum_square",
}


def vector(kind: OpKind, function: str, shape: tuple[int, ...], axes: tuple[int, ...], order: Order) -> Lowered:
    """Vectors along `axes` (not negative) of a tensor of `shape`."""
    length = math.prod(shape[a] for a in axes)
    rows = math.prod(dim for a, dim in enumerate(shape) if a not in axes)
    return Lowered(kind, VectorParams("vector", function, rows, length), 0, order, vectors=Vectors(shape, axes))


def softmax(site: Site) -> Lowered:
    """Softmax, LogSoftmax, QLinearSoftmax.

    Along axis 1 of an image it reads channels-last, so that its vectors are innermost. Axis 1 of three may be channels
    or tokens: it takes the order that its input has. Else row-major.
    """
    shape = site.shape(0)
    function = "log_softmax" if site.node.op_type == "LogSoftmax" else "softmax"
    opset = site.integer("opset", site.opset)  # QLinearSoftmax names the opset whose rule it follows
    flattens = opset < SOFTMAX_AXIS_OPSET
    axis = canonical(site.integer("axis", 1 if flattens else -1), len(shape))
    axes = tuple(range(axis, len(shape))) if flattens else (axis,)
    wide = [a for a in axes if a < len(shape) and shape[a] != 1]
    order = Order.ROW_MAJOR
    if wide == [1] and 1 < axes[-1] + 1 < len(shape):
        order = Order.EITHER if len(shape) == 3 else Order.CHANNELS_LAST
    if flattens and len(wide) == 1:
        axes = (wide[0],)
    return vector(OpKind.SOFTMAX, function, shape, tuple(a for a in axes if a < len(shape)), order)


def layer_norm(site: Site) -> Lowered:
    """LayerNormalization, RMSNormalization: over all axes from `axis` on."""
    shape = site.shape(0)
    name = "rms_norm" if site.node.op_type in ("RMSNormalization", "SimplifiedLayerNormalization") else "layer_norm"
    first = canonical(site.integer("axis", -1), len(shape))
    return vector(OpKind.NORM, name, shape, tuple(range(first, len(shape))), Order.ROW_MAJOR)


def norm_of_parts(function: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> Lowered:
    """A layer norm or RMS norm recognised from its parts; over axis 1 of an image it works channels-last."""
    found = tuple(sorted({canonical(a, len(shape)) for a in axes}))
    order = Order.CHANNELS_LAST if found == (1,) and len(shape) > 2 and len(shape) - 1 not in found else Order.ROW_MAJOR
    return vector(OpKind.NORM, function, shape, found, order)


def batch_norm(site: Site) -> Lowered:
    """BatchNormalization that was not folded: one scale and offset a channel. In training mode a host operator."""
    shape = site.shape(0)
    if site.integer("training_mode", 0) or len(shape) < 2:
        return generic(site)
    axes = tuple(a for a in range(len(shape)) if a != 1)
    return vector(OpKind.NORM, "batch_norm", shape, axes, _image_order(shape))


def instance_norm(site: Site) -> Lowered:
    """InstanceNormalization: over the spatial axes of each channel."""
    shape = site.shape(0)
    return vector(OpKind.NORM, "instance_norm", shape, tuple(range(2, len(shape))), _image_order(shape))


def group_norm(site: Site) -> Lowered:
    """GroupNormalization: over Cin / groups channels and all positions."""
    shape, groups = site.shape(0), max(1, site.integer("num_groups", 1))
    rows = shape[0] * groups
    params = VectorParams("vector", "group_norm", rows, ceil_div(math.prod(shape), max(1, rows)))
    first = 1 if groups == 1 else 2  # of several groups no axis alone holds the channels: its positions lie apart
    vectors = Vectors(shape, tuple(range(first, len(shape))))
    return Lowered(OpKind.NORM, params, 0, _image_order(shape), vectors=vectors)


def local_response_norm(site: Site) -> Lowered:
    """LRN: each element is scaled by the `size` channels around it."""
    shape = site.shape(0)
    return vector(OpKind.NORM, "local_response_norm", shape, (1,), _image_order(shape))


def lp_norm(site: Site) -> Lowered:
    """LpNormalization along one axis."""
    shape = site.shape(0)
    axis = canonical(site.integer("axis", -1), len(shape))
    order = Order.CHANNELS_LAST if axis == 1 and len(shape) > 2 else Order.ROW_MAJOR
    return vector(OpKind.NORM, f"l{site.integer('p', 2)}_norm", shape, (axis,), order)


def mean_variance_norm(site: Site) -> Lowered:
    """MeanVarianceNormalization over `axes`, by default all but the channels."""
    shape = site.shape(0)
    axes = tuple(sorted({canonical(a, len(shape)) for a in site.ints("axes") or (0, 2, 3)}))
    return vector(OpKind.NORM, "mean_variance_norm", shape, axes, _image_order(shape))


def reduce(site: Site) -> Lowered:
    """Reduce*, ArgMax, ArgMin: any order; with keepdims=0 the axes that go decide about the order of the result."""
    shape, out, name = site.shape(0), site.out(), site.node.op_type
    single = name.startswith("Arg")
    if single:
        axes: tuple[int, ...] | None = (site.integer("axis", 0),)
    elif name == "QLinearReduceMean":
        axes = site.ints("axes")
    else:
        axes = site.axes(1)
    if not single and not axes:
        if site.has(1) and axes is None:  # axes that only running the model tells
            return generic(site)
        axes = () if site.integer("noop_with_empty_axes", 0) else tuple(range(len(shape)))
    assert axes is not None
    found = tuple(sorted({canonical(a, len(shape)) for a in axes})) if shape else ()
    lowered = vector(OpKind.REDUCE, REDUCTIONS[name], shape, found, Order.EITHER)
    if len(out) == len(shape):
        return lowered
    return replace(lowered, order=Order.REDUCE, axes=found)


def _image_order(shape: tuple[int, ...]) -> Order:
    return Order.CHANNELS_LAST if len(shape) > 2 else Order.ROW_MAJOR
