"""Operators beside plain layers, as cases of tests/data/ethos_u_other_ops.csv: long strides, resizes, moves, norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from math import prod

from h4hc.workload import ElementwiseParams, Layout, MoveParams, OpKind, VectorParams, Workload
from tests.targets import samples
from tests.targets.vela_layers import DATA, conv_workload, one_op

OTHER_OPS = DATA / "ethos_u_other_ops.csv"
Shape = tuple[int, ...]
SMALL, LARGE = (1, 16, 14, 14), (1, 64, 28, 28)
ROW, COLUMN, CHANNEL = (1, 1, 1, 14), (1, 1, 14, 1), (1, 16, 1, 1)  # parts of SMALL
TURNED = ((5, 24), (3, 7, 20), (3, 5, 7, 11), (2, 12, 8, 24))


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


def _several(function: str, *shapes: Shape) -> Workload:
    """Operands of an image, each repeated along its axes of 1."""
    out = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    params = ElementwiseParams("elementwise", function, prod(out), len(shapes), "general")
    workload = one_op(OpKind.ELEMENTWISE, params, out, out, inputs=len(shapes))
    return _reshaped(workload, {f"x{i}": shape for i, shape in enumerate(shapes)})


def turned(shape: Shape, perm: Shape) -> Workload:
    """A transpose of a row-major tensor."""
    params = MoveParams("move", "transpose", prod(shape), perm)
    out = tuple(shape[axis] for axis in perm)
    return one_op(OpKind.MOVE, params, shape, out, layout=Layout.ROW_MAJOR)


def _row_major_norm(function: str, shape: Shape) -> Workload:
    """Norm over the positions of each channel of an image that lies channels first."""
    params = VectorParams("vector", function, shape[1], shape[2] * shape[3])
    return one_op(OpKind.NORM, params, shape, shape, layout=Layout.ROW_MAJOR)


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
            ("linear", "half_pixel", 7, 14),
            ("linear", "half_pixel", 14, 28),
            ("linear", "half_pixel", 1, 2),
            ("nearest", "asymmetric", 1, 8),
            ("linear", "half_pixel", 32, 64),
        )
    },
    "split_2": lambda: _moved("split", (1, 32, 28, 28), *[(1, 16, 28, 28)] * 2),
    "split_3": lambda: _moved("split", (1, 48, 28, 28), *[(1, 16, 28, 28)] * 3),
    "pad_positions": lambda: _moved("pad", (1, 16, 28, 28), (1, 16, 30, 30)),
    "pad_channels": lambda: _moved("pad", (1, 64, 28, 28), (1, 96, 28, 28)),
    "tile": lambda: _moved("tile", SMALL, (1, 16, 28, 42)),
    **{
        f"transpose_{'x'.join(map(str, shape))}_{''.join(map(str, perm))}": partial(turned, shape, perm)
        for shape in TURNED
        for perm in permutations(range(len(shape)))
        if perm != tuple(range(len(shape)))
    },
    "transpose_heads_197x3x64": lambda: turned((1, 197, 3, 64), (0, 2, 1, 3)),
    "transpose_heads_4x64x4x36": lambda: turned((4, 64, 4, 36), (0, 2, 1, 3)),
    "layer_norm_197x192": lambda: samples.vector(OpKind.NORM, "layer_norm", 197, 192),
    "layer_norm_49x256": lambda: samples.vector(OpKind.NORM, "layer_norm", 49, 256),
    "rms_norm_197x192": lambda: samples.vector(OpKind.NORM, "rms_norm", 197, 192),
    "batch_norm_small": lambda: samples.image_norm("batch_norm", SMALL),
    "batch_norm_large": lambda: samples.image_norm("batch_norm", LARGE),
    "instance_norm_small": lambda: samples.image_norm("instance_norm", SMALL),
    **{
        f"{function}_{order}_{channels}": partial(make, function, (1, channels, 14, 14))
        for function in ("instance_norm", "group_norm")
        for order, make in (("nchw", _row_major_norm), ("nhwc", samples.image_norm))
        for channels in (3, 8, 15, 20)
    },
    **{f"batch_norm_{c}": partial(samples.image_norm, "batch_norm", (1, c, 14, 14)) for c in (3, 8, 15)},
    **{
        f"{function}_{rows}x{length}": partial(samples.vector, OpKind.NORM, function, rows, length)
        for function in ("layer_norm", "rms_norm")
        for rows, length in ((8, 12), (16, 35), (56, 5), (49, 100))
    },
    "squared_difference_small": lambda: _two("squared_difference", SMALL),
    "squared_difference_large": lambda: _two("squared_difference", LARGE),
    **{
        f"{function}_{name}": partial(_several, function, *shapes)
        for function in ("add", "mul", "max")
        for name, shapes in (
            ("of_3", (SMALL, SMALL, SMALL)),
            ("of_3_one_repeated", (SMALL, CHANNEL, SMALL)),
            ("of_3_two_repeated", (SMALL, CHANNEL, COLUMN)),
            ("both_repeated", (CHANNEL, (1, 1, 14, 14))),
            ("row_and_column", ((1, 16, 1, 14), COLUMN)),
            ("of_3_all_repeated", (CHANNEL, ROW, COLUMN)),
        )
    },
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
