"""Pools and resizes: work on the spatial axes of an image, channel by channel."""

from __future__ import annotations

from h4hc.lowering.conv import Window, window
from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import OpKind, PoolParams, ResizeParams

FUNCTIONS: dict[str, str] = {
    "AveragePool": "average",
    "GlobalAveragePool": "average",
    "GlobalLpPool": "lp",
    "GlobalMaxPool": "max",
    "LpPool": "lp",
    "MaxPool": "max",
    "QLinearAveragePool": "average",
    "QLinearGlobalAveragePool": "average",
}


def pool(site: Site) -> Lowered:
    """MaxPool, AveragePool, LpPool; a host operator when it is dilated or gives the places of the maxima."""
    x, y, kernel = site.shape(0), site.out(), site.ints("kernel_shape") or ()
    if site.integer("channels_last", 0):
        return generic(site)
    if len(x) < 3 or len(kernel) != len(x) - 2 or len(y) != len(x):
        raise site.refuse(
            f"{site.node.op_type} contradicts its own shapes",
            f"input {list(x)}, window {list(kernel)}, result {list(y)}",
        )
    win = window(site, kernel, x[2:], y[2:], transposed=False)
    if any(d != 1 for d in win.dilation) or len(site.group.outputs) > 1:
        return generic(site)
    pads = tuple(p for axis in range(len(kernel)) for p in _padding(site, axis, kernel, win, x[2:], y[2:]))
    begins, ends = pads[::2], pads[1::2]
    counts = site.integer("count_include_pad", 0) and FUNCTIONS[site.node.op_type] == "average" and any(win.pads)
    if counts and (*begins, *ends) != win.pads:
        return generic(site)  # ONNX counts the padding it names, but not what ceil_mode appends: no device does that
    return _pool(site, x, y, kernel, win.stride, (*begins, *ends), bool(counts))


def global_pool(site: Site) -> Lowered:
    """GlobalAveragePool, GlobalMaxPool, GlobalLpPool: the window is the whole image."""
    x, y = site.shape(0), site.out()
    if site.integer("channels_last", 0) or len(x) < 3:
        return generic(site)
    count = len(x) - 2
    return _pool(site, x, y, x[2:], (1,) * count, (0,) * (2 * count))


def resize(site: Site) -> Lowered:
    """Resize, Upsample of an image; a host operator when it also scales batch or channels."""
    x, y = site.shape(0), site.out()
    if len(x) < 3 or x[:2] != y[:2]:
        return generic(site)
    default = "asymmetric" if site.node.op_type == "Upsample" or site.opset < 11 else "half_pixel"
    coordinates = site.text("coordinate_transformation_mode", default)
    params = ResizeParams("resize", site.text("mode", "nearest"), coordinates, x[1], x[2:], y[2:])
    return Lowered(OpKind.RESIZE, params, 0, Order.CHANNELS_LAST)


def _padding(
    site: Site,
    axis: int,
    kernel: tuple[int, ...],
    win: Window,
    in_spatial: tuple[int, ...],
    out_spatial: tuple[int, ...],
) -> tuple[int, int]:
    """(begin, end) of one axis such that out = floor((in + begin + end - kernel) / stride) + 1 holds.

    With ceil_mode a last window may reach past the padding that the operator names (the end grows), or ONNX drops
    the window that would start behind the image (the end shrinks). Raises Refused where no end gives `out` windows.
    """
    begin, end = win.pads[axis], win.pads[len(kernel) + axis]
    size, stride, out = in_spatial[axis], win.stride[axis], out_spatial[axis]
    if (size + begin + end - kernel[axis]) // stride + 1 != out:
        end = max(0, (out - 1) * stride + kernel[axis] - size - begin)
    if (size + begin + end - kernel[axis]) // stride + 1 != out:
        raise site.refuse(
            f"{site.node.op_type} contradicts its own shapes",
            f"a window of {kernel[axis]} with stride {stride} and {begin} of padding before {size} elements cannot "
            f"stop after {out} places",
        )
    return begin, end


def _pool(
    site: Site,
    x: tuple[int, ...],
    y: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    count_include_pad: bool = False,
) -> Lowered:
    function = FUNCTIONS[site.node.op_type]
    params = PoolParams("pool", function, x[0], x[1], kernel, stride, pads, x[2:], y[2:], count_include_pad)
    return Lowered(OpKind.POOL, params, 0, Order.CHANNELS_LAST)
