"""Operators beside plain layers, as cases of tests/data/ethos_u_other_ops.csv: long strides, resizes, moves, norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod

from h4hc.workload import ElementwiseParams, Layout, MoveParams, OpKind, Workload
from tests.targets import samples
from tests.targets.vela_layers import DATA, conv_workload, one_op

OTHER_OPS = DATA / "ethos_u_other_ops.csv"
Shape = tuple[int, ...]
SMALL, LARGE = (1, 16, 14, 14), (1, 64, 28, 28)


def _patches(kernel: int, stride: int, size: int, ins: int, outs: int) -> Workload:
    return conv_workload(ins, outs, (size, size), (kernel, kernel), stride, same=False)


def _reshaped(workload: Workload, shapes: dict[str, Shape]) -> Workload:
    """The same operator with other tensor shapes."""
    tensors = (
        replace(t, shape=shapes[t.name], size_bytes=prod(shapes[t.name])) if t.name in shapes else t
        for t in workload.tensors
    )
    return replace(workload, tensors=tuple(tensors))


def _moved(function: str, source: Shape, *outs: Shape) -> Workload:
    params = MoveParams("move", function, sum(map(prod, outs)), ())
    workload = one_op(OpKind.MOVE, params, source, outs[0], layout=Layout.CHANNELS_LAST)
    names = tuple(f"y{i}" for i in range(len(outs)))
    made = (
        replace(workload.tensor["y"], name=name, shape=shape, size_bytes=prod(shape))
        for name, shape in zip(names, outs, strict=True)
    )
    op = replace(workload.ops[0], outputs=names)
    return replace(workload, ops=(op,), tensors=(workload.tensor["x0"], *made), outputs=names)


def _stretched(function: str, whole: Shape, part: Shape) -> Workload:
    """Two operands, the second repeated."""
    params = ElementwiseParams("elementwise", function, prod(whole), 2, "general")
    return _reshaped(one_op(OpKind.ELEMENTWISE, params, whole, whole, inputs=2), {"x1": part})


def _two(function: str, shape: tuple[int, ...]) -> Workload:
    return samples.elementwise(OpKind.ELEMENTWISE, function, shape, 2)


def _one(function: str, shape: Shape) -> Workload:
    return samples.elementwise(OpKind.ACTIVATION, function, shape)


CASES: dict[str, Callable[[], Workload]] = {
    "conv_4x4_s4_32_3_32": lambda: _patches(4, 4, 32, 3, 32),
    "conv_8x8_s8_64_3_64": lambda: _patches(8, 8, 64, 3, 64),
    "conv_7x7_s4_56_16_32": lambda: _patches(7, 4, 56, 16, 32),
    "conv_1x1_s4_32_64_128": lambda: _patches(1, 4, 32, 64, 128),
    "conv_16x16_s16_224_3_192": lambda: _patches(16, 16, 224, 3, 192),
    "maxpool_4_s4_28": lambda: samples.pool("max", 4, 4, 28, 16),
    "avgpool_7_s7_28": lambda: samples.pool("average", 7, 7, 28, 32),
    "maxpool_2_s4_28": lambda: samples.pool("max", 2, 4, 28, 16),
    "avgpool_global_14": lambda: samples.pool("average", 14, 14, 14, 320),
    "maxpool_3_s2_pad_14": lambda: samples.pool("max", 3, 2, 14, 16, (1, 1)),
    "maxpool_2_s2_pad_15": lambda: samples.pool("max", 2, 2, 15, 16, (1, 1)),
    "maxpool_3_s2_pad_112": lambda: samples.pool("max", 3, 2, 112, 64, (1, 0)),
    **{
        f"resize_{mode}_{where}_{size}_{out}": partial(samples.resize, mode, where, size, out)
        for mode, where, size, out in (
            ("nearest", "asymmetric", 14, 28),
            ("nearest", "half_pixel", 7, 56),
            ("nearest", "align_corners", 7, 49),
            ("linear", "asymmetric", 14, 28),
            ("linear", "asymmetric", 7, 56),
            ("linear", "align_corners", 7, 25),
            ("linear", "half_pixel", 14, 28),
            ("linear", "half_pixel", 32, 64),
        )
    },
    "split_2": lambda: _moved("split", (1, 32, 28, 28), *[(1, 16, 28, 28)] * 2),
    "split_3": lambda: _moved("split", (1, 48, 28, 28), *[(1, 16, 28, 28)] * 3),
    "pad_positions": lambda: _moved("pad", (1, 16, 28, 28), (1, 16, 30, 30)),
    "pad_channels": lambda: _moved("pad", (1, 64, 28, 28), (1, 96, 28, 28)),
    "tile": lambda: _moved("tile", SMALL, (1, 16, 28, 42)),
    "layer_norm_197x192": lambda: samples.vector(OpKind.NORM, "layer_norm", 197, 192),
    "layer_norm_49x256": lambda: samples.vector(OpKind.NORM, "layer_norm", 49, 256),
    "rms_norm_197x192": lambda: samples.vector(OpKind.NORM, "rms_norm", 197, 192),
    "batch_norm_small": lambda: samples.image_norm("batch_norm", SMALL),
    "batch_norm_large": lambda: samples.image_norm("batch_norm", LARGE),
    "instance_norm_small": lambda: samples.image_norm("instance_norm", SMALL),
    "squared_difference_small": lambda: _two("squared_difference", SMALL),
    "squared_difference_large": lambda: _two("squared_difference", LARGE),
    "abs": lambda: _one("abs", SMALL),
    "hard_sigmoid": lambda: _one("hard_sigmoid", LARGE),
    "prelu": lambda: _one("prelu", LARGE),
    "quick_gelu": lambda: _one("quick_gelu", LARGE),
    "mul_stretched": lambda: _stretched("mul", SMALL, (1, 1, 14, 14)),
    "max_stretched": lambda: _stretched("max", SMALL, (1, 1, 14, 14)),
    **{
        f"reduce_{f}_{rows}x{length}": partial(samples.vector, OpKind.REDUCE, f, rows, length)
        for f in ("max", "min")
        for rows, length in ((8, 64), (64, 196), (16, 1000))
    },
    "reduce_outer_max_64x196": lambda: samples.outer_vector(OpKind.REDUCE, "max", 64, 196),
    "reduce_outer_min_8x64": lambda: samples.outer_vector(OpKind.REDUCE, "min", 8, 64),
}
