"""Operators beside plain layers, as cases of tests/data/ethos_u_other_ops.csv: long strides, resizes, moves, norms.

`python -m tests.targets.other_ops` asks the vendor's tool again and writes the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from math import prod

from h4hc.text import csv_text
from h4hc.workload import ElementwiseParams, Layout, MatmulParams, MoveParams, OpKind, Tensor, VectorParams, Workload
from targets.ethos_u.device import EthosU
from targets.ethos_u.vendor.estimates import operator_estimate
from tests.targets import samples
from tests.targets.vela_layers import DATA, conv_workload, fc_workload, inside, npu, one_op

OTHER_OPS = DATA / "ethos_u_other_ops.csv"
HEAD = (
    "# source: Vela 5.2.0 (ethos-u-vela, Apache-2.0), one int8 operator a row (tests/targets/other_ops.py), by itself"
    " (inner: between others); seeded weights\n"
)
COLUMNS = ("case", "accel", "sysconf", "memmode", "total_cycles")
MACHINES = (
    ("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
    ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Sram_Only"),
    ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
)
ROW_MAJOR, CHANNELS_LAST = Layout.ROW_MAJOR, Layout.CHANNELS_LAST
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


def _with_constants(workload: Workload, *shapes: Shape) -> Workload:
    """The same operator with constant operands behind its inputs."""
    layout = workload.tensors[0].layout
    constants = tuple(Tensor(f"k{i}", s, "int8", "int8", prod(s), layout) for i, s in enumerate(shapes))
    op = replace(workload.ops[0], weights=tuple(t.name for t in constants), weight_bytes=sum(map(prod, shapes)))
    return replace(workload, ops=(op,), tensors=(*workload.tensors, *constants))


def _with_constant(
    function: str, shape: Shape, constant: Shape, out: Shape | None = None, layout: Layout = CHANNELS_LAST
) -> Workload:
    """A function of a tensor and a constant, either repeated where `out` is larger."""
    out = out or shape
    spread = "none" if shape == constant == out else "general"
    params = ElementwiseParams("elementwise", function, prod(out), 2, spread)  # type: ignore[arg-type]
    return _with_constants(one_op(OpKind.ELEMENTWISE, params, shape, out, layout=layout), constant)


def _joined(out: Shape, *shapes: Shape, constant: Shape | None = None, layout: Layout = CHANNELS_LAST) -> Workload:
    """A concatenation of the model's own inputs, and of a constant behind them."""
    params = MoveParams("move", "concat", prod(out))
    workload = one_op(OpKind.MOVE, params, out, out, inputs=len(shapes), layout=layout)
    workload = _reshaped(workload, {f"x{i}": shape for i, shape in enumerate(shapes)})
    return _with_constants(workload, constant) if constant else workload


def _reduced(function: str, shape: Shape, axes: Shape, layout: Layout) -> Workload:
    """A reduction over axes of ONNX, which stay as ones."""
    length = prod(shape[axis] for axis in axes)
    order = (0, *range(2, len(shape)), 1) if layout is CHANNELS_LAST else tuple(range(len(shape)))
    innermost = set(order[len(order) - len(axes) :]) == set(axes)
    params = VectorParams("vector", function, prod(shape) // length, length, innermost)
    out = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return one_op(OpKind.REDUCE, params, shape, out, layout=layout)


def _product(batch: int, m: int, k: int, n: int, left: Shape, right: Shape) -> Workload:
    """Products of activations with operands of these shapes."""
    params = MatmulParams("matmul", batch, m, k, n)
    macs = batch * m * k * n
    return one_op(OpKind.MATMUL, params, left, (batch, m, n), second_shape=right, macs=macs, inputs=2, layout=ROW_MAJOR)


def _batch_norm_of(shape: Shape, stored: Layout) -> Workload:
    """A scale and a shift a channel, along axis 1; stored: the order that its input comes in."""
    rows = prod(shape) // shape[1]
    work = CHANNELS_LAST if len(shape) > 2 else ROW_MAJOR
    params = VectorParams("vector", "batch_norm", shape[1], rows, innermost=False)
    workload = one_op(OpKind.NORM, params, shape, shape, layout=stored)
    return replace(workload, ops=(replace(workload.ops[0], layout=work),))


def _batched_norm(function: str, shape: Shape) -> Workload:
    """Over the positions of each channel of each image."""
    params = VectorParams("vector", function, shape[0] * shape[1], prod(shape[2:]), innermost=False)
    return one_op(OpKind.NORM, params, shape, shape)


def _groups(ins: int, outs: int, groups: int, size: int, kernel: int, stride: int = 1) -> Workload:
    """A grouped convolution between other operators."""
    return inside(conv_workload(ins, outs, (size, size), (kernel, kernel), stride, groups=groups))


def _active(workload: Workload, activation: str) -> Workload:
    """The same operator with a fused activation."""
    return replace(workload, ops=(replace(workload.ops[0], activation=activation),))


def _single(function: str, shape: Shape, layout: Layout = CHANNELS_LAST, kind: OpKind = OpKind.ACTIVATION) -> Workload:
    return one_op(kind, ElementwiseParams("elementwise", function, prod(shape), 1), shape, shape, layout=layout)


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
    **{
        f"{function}_constant_{'x'.join(map(str, shape))}": partial(
            _with_constant, function, shape, shape, None, layout
        )
        for function in ("add", "mul", "max")
        for shape, layout in (
            ((1, 197, 192), ROW_MAJOR),
            (SMALL, CHANNELS_LAST),
            ((1, 3, 14, 14), CHANNELS_LAST),
            ((2, 16, 14, 14), CHANNELS_LAST),
        )
    },
    **{
        f"{function}_constant_{name}": partial(_with_constant, function, shape, constant, out, layout)
        for function in ("add", "mul")
        for name, shape, constant, out, layout in (
            ("batched", (2, 16, 14, 14), SMALL, None, CHANNELS_LAST),
            ("of_each_image", (3, 15, 16, 2), (15, 16, 2), None, ROW_MAJOR),
            ("without_batch", (1, 197, 192), (197, 192), None, ROW_MAJOR),
            ("map_channel", CHANNEL, SMALL, SMALL, CHANNELS_LAST),
            ("map_row", (1, 1, 192), (1, 197, 192), (1, 197, 192), ROW_MAJOR),
            ("map_scalar", (1, 1, 1, 1), SMALL, SMALL, CHANNELS_LAST),
            ("scalar", SMALL, (1,), SMALL, CHANNELS_LAST),
        )
    },
    "max_constant_channels_of_each": lambda: _with_constant("max", (3, 100, 16, 30), (3, 100, 1, 1)),
    "concat_class_token": lambda: _joined((1, 197, 192), (1, 196, 192), constant=(1, 1, 192), layout=ROW_MAJOR),
    "concat_constant_map": lambda: _joined((1, 384, 14, 14), (1, 192, 14, 14), constant=(1, 192, 14, 14)),
    "concat_constant_rows": lambda: _joined((1, 12, 15, 14), (1, 12, 14, 14), constant=(1, 12, 1, 14)),
    "concat_batch_2": lambda: _joined((2, 32, 14, 14), (2, 16, 14, 14), (2, 16, 14, 14)),
    "concat_constant_batch_2": lambda: _joined((2, 384, 14, 14), (2, 192, 14, 14), constant=(2, 192, 14, 14)),
    "split_batch_3": lambda: _moved("split", (3, 32, 14, 14), *[(3, 16, 14, 14)] * 2),
    "slice_batch_3": lambda: _moved("slice", (3, 32, 14, 14), (3, 16, 14, 14)),
    "tile_batch_2": lambda: _moved("tile", (2, 16, 14, 14), (2, 16, 14, 42)),
    "pad_batch_2": lambda: _moved("pad", (2, 8, 5, 5), (2, 10, 6, 7)),
    "pad_batch_3": lambda: _moved("pad", (3, 16, 14, 14), (3, 16, 16, 16)),
    "pad_all_axes": lambda: _moved("pad", (1, 20, 14, 9), (1, 24, 16, 11)),
    **{
        f"reduce_{function}_{'x'.join(map(str, shape))}_over_{''.join(map(str, axes))}_{layout.value[:3]}": partial(
            _reduced, function, shape, axes, layout
        )
        for function, shape, layout, choices in (
            ("mean", (1, 16, 14, 12), ROW_MAJOR, ((1,), (2,), (1, 2))),
            ("mean", (1, 16, 14, 12), CHANNELS_LAST, ((2,), (3,), (2, 3))),
            ("mean", (1, 1, 14, 12), ROW_MAJOR, ((2,), (3,), (2, 3))),
            ("mean", (1, 16, 1, 12), ROW_MAJOR, ((1,), (3,), (1, 3))),
            ("mean", (1, 16, 14, 1), ROW_MAJOR, ((1,), (1, 2))),
            ("mean", (3, 14, 12), ROW_MAJOR, ((0,), (1,), (0, 1))),
            ("max", (1, 16, 14, 12), ROW_MAJOR, ((1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))),
            ("max", (2, 16, 14, 12), CHANNELS_LAST, ((0,), (1,), (2,), (3,), (0, 1), (2, 3), (1, 2, 3))),
            ("min", (1, 16, 14, 12), CHANNELS_LAST, ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3))),
            ("min", (3, 16, 14, 12), ROW_MAJOR, ((0,), (2,), (0, 3), (1, 2))),
            ("sum", (1, 16, 14, 12), ROW_MAJOR, ((3,),)),
            ("sum", (2, 16, 14, 12), CHANNELS_LAST, ((1,),)),
            ("sum", (2, 14, 12), ROW_MAJOR, ((2,),)),
        )
        for axes in choices
    },
    "product_392_rows": lambda: _product(1, 392, 32, 49, (392, 32), (32, 49)),
    "product_197_rows": lambda: _product(1, 197, 32, 24, (197, 32), (32, 24)),
    "slice_28x30x16": lambda: _moved("slice", (1, 32, 28, 30), (1, 16, 28, 30)),
    "slice_7x7x17": lambda: _moved("slice", (1, 32, 7, 7), (1, 17, 7, 7)),
    "concat_constant_map_of_32": lambda: _joined((1, 64, 14, 14), (1, 32, 14, 14), constant=(1, 32, 14, 14)),
    "product_shared_second": lambda: _product(4, 16, 32, 24, (4, 16, 32), (32, 24)),
    "product_shared_second_of_12": lambda: _product(12, 64, 64, 64, (12, 64, 64), (1, 64, 64)),
    "product_shared_first": lambda: _product(4, 16, 32, 24, (16, 32), (4, 32, 24)),
    "product_shared_vector": lambda: _product(4, 1, 32, 24, (32,), (4, 32, 24)),
    "product_each_its_own": lambda: _product(6, 16, 32, 24, (2, 3, 16, 32), (2, 3, 32, 24)),
    "batch_norm_row_major": lambda: _batch_norm_of((1, 20, 14, 9), ROW_MAJOR),
    "batch_norm_row_major_batch_2": lambda: _batch_norm_of((2, 20, 14, 9), ROW_MAJOR),
    "batch_norm_of_vectors": lambda: _batch_norm_of((1, 24, 196), ROW_MAJOR),
    "batch_norm_of_features": lambda: _batch_norm_of((49, 24), ROW_MAJOR),
    "batch_norm_1_channel": lambda: _batch_norm_of((2, 1, 16, 30), CHANNELS_LAST),
    **{
        f"instance_norm_batch_{'x'.join(map(str, shape))}": partial(_batched_norm, "instance_norm", shape)
        for shape in ((2, 24, 14, 9), (3, 4, 7, 7), (3, 12, 14, 2))
    },
    **{
        f"{function}_{'x'.join(map(str, shape))}": partial(_single, function, shape)
        for function in ("silu", "quick_gelu", "hard_sigmoid", "prelu")
        for shape in ((2, 9, 16, 16), (1, 20, 14, 14))
    },
    **{
        f"squared_difference_{'x'.join(map(str, shape))}": partial(
            lambda shape: one_op(
                OpKind.ELEMENTWISE,
                ElementwiseParams("elementwise", "squared_difference", prod(shape), 2),
                shape,
                shape,
                inputs=2,
                layout=ROW_MAJOR,
            ),
            shape,
        )
        for shape in ((196, 8), (1, 12, 240))
    },
    **{
        f"{name}_{activation}": partial(lambda make, activation: _active(make(), activation), make, activation)
        for activation in ("relu", "sigmoid", "silu")
        for name, make in (
            ("conv_3_channels", lambda: conv_workload(16, 3, (14, 14), (3, 3))),
            ("conv_groups", lambda: conv_workload(16, 16, (7, 7), (3, 3), groups=2)),
            ("conv_s4", lambda: conv_workload(32, 32, (14, 14), (3, 3), 4, same=False)),
            ("conv_20_channels", lambda: conv_workload(16, 20, (14, 14), (3, 3))),
            ("avgpool_3_channels", lambda: samples.pool("average", 2, 2, 14, 3)),
            ("fc_3_channels", lambda: fc_workload(16, 32, 3)),
            ("product", lambda: _product(1, 16, 32, 24, (1, 16, 32), (1, 32, 24))),
            ("fc_196_vectors", lambda: fc_workload(196, 64, 128)),
            ("fc_197_vectors", lambda: fc_workload(197, 64, 128)),
            ("inner_groups_of_8", lambda: _groups(64, 64, 8, 28, 3)),
            ("inner_groups_of_16", lambda: _groups(24, 48, 3, 20, 3, 2)),
        )
    },
    "slice_all_batch_3": lambda: _moved("slice", (3, 16, 14, 14), (3, 16, 14, 14)),
    "prelu_1_slope": lambda: _with_constants(_single("prelu", (1, 20, 14, 14)), (1,)),
    "prelu_1_value": lambda: _single("prelu", (1, 1, 1, 1)),
    "prelu_1_channel": lambda: _single("prelu", (1, 1, 28, 28)),
    "mul_constant_1_of_each_image": lambda: _with_constant("mul", (3, 16, 14, 14), (3, 1, 1, 1)),
    "inner_groups_of_2": lambda: _groups(96, 24, 12, 14, 3),
    "inner_groups_of_4": lambda: _groups(128, 128, 32, 28, 3),
    "inner_groups_of_5": lambda: _groups(64, 20, 4, 16, 5, 2),
    "inner_groups_of_8": lambda: _groups(256, 256, 32, 14, 3),
    "inner_groups_of_48": lambda: _groups(32, 96, 2, 14, 3),
}


def main() -> None:
    """Ask the vendor's tool for every case on every machine."""
    table = []
    for case, make in CASES.items():
        workload = make()
        for accel, sysconf, memmode in MACHINES:
            device = npu(accel, sysconf, memmode)
            assert isinstance(device, EthosU)
            told = operator_estimate(device.spec, workload.ops[0], workload)
            table.append((case, accel, sysconf, memmode, told.cycles.total))
    OTHER_OPS.write_text(HEAD + csv_text(COLUMNS, table), encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
