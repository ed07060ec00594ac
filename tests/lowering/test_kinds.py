"""Class and parameters of the operators that do not multiply matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from h4hc.workload import ElementwiseParams, Layout, MoveParams, Op, OpKind, PoolParams, ResizeParams, VectorParams
from tests.lowering.building import (
    MICROSOFT,
    Input,
    graph_model,
    lowered,
    node_model,
    only_op,
    session_outputs,
    weights,
)

IMAGE = ("float", (2, 8, 6, 5))


def op_of(op_type: str, inputs: dict[str, Input | None], **attributes: Any) -> Op:
    return only_op(node_model(op_type, inputs, **attributes))


# ---------------------------------------------------------------- elementwise


@pytest.mark.parametrize(
    ("other", "broadcast"),
    [
        (("float", (2, 8, 6, 5)), "none"),
        (weights(), "scalar"),
        (weights(1, 1, 1, 1), "scalar"),
        (weights(8, 1, 1), "channel"),
        (weights(1, 8, 1, 1), "channel"),
        (weights(5), "channel"),
        (weights(2, 8, 1, 1), "general"),
        (weights(6, 5), "general"),
        (("float", (1, 8, 1, 1)), "channel"),
    ],
)
def test_arithmetic_and_its_broadcast(other: Input, broadcast: str) -> None:
    op = op_of("Mul", {"a": IMAGE, "b": other})
    assert op.params == ElementwiseParams("elementwise", "mul", 480, 2, broadcast)  # type: ignore[arg-type]
    assert (op.kind, op.macs, op.layout) == (OpKind.ELEMENTWISE, 0, None)
    assert op.weight_bytes == (other.nbytes if isinstance(other, np.ndarray) else 0)


@pytest.mark.parametrize(
    ("low", "high", "function"),
    [(0.0, 6.0, "relu6"), (0.0, None, "relu"), (-1.0, 1.0, "relu_n1_to_1"), (0.1, 6.0, "clip"), (None, None, "clip")],
)
def test_clip_and_its_special_cases(low: float | None, high: float | None, function: str) -> None:
    bounds = {n: None if v is None else np.array(v, np.float32) for n, v in (("lo", low), ("hi", high))}
    op = op_of("Clip", {"x": IMAGE, **bounds})
    assert op.params == ElementwiseParams("elementwise", function, 480, 1)
    assert (op.kind, op.weights, op.weight_bytes) == (OpKind.ACTIVATION, (), 0)
    given: dict[str, Any] = {n: v for n, v in (("min", low), ("max", high)) if v is not None}
    assert only_op(node_model("Clip", {"x": IMAGE}, opset=10, **given)).params == op.params


def test_clip_with_computed_bounds_is_no_table() -> None:
    assert op_of("Clip", {"x": IMAGE, "lo": ("float", ())}).kind is OpKind.ELEMENTWISE


@pytest.mark.parametrize(
    ("op_type", "function", "opset"),
    [
        ("Relu", "relu", 20),
        ("HardSwish", "hard_swish", 20),
        ("Gelu", "gelu", 20),
        ("Swish", "silu", 24),
        ("Erf", "erf", 13),
    ],
)
def test_functions_of_one_value(op_type: str, function: str, opset: int) -> None:
    op = only_op(node_model(op_type, {"x": IMAGE}, opset=opset))
    assert op.params == ElementwiseParams("elementwise", function, 480, 1)
    assert (op.kind, op.layout) == (OpKind.ACTIVATION, None)


@pytest.mark.parametrize(
    ("op_type", "inputs", "kind"),
    [
        ("PRelu", {"x": IMAGE, "slope": weights(8, 1, 1)}, OpKind.ELEMENTWISE),
        ("Where", {"c": ("bool", (2, 8, 6, 5)), "x": IMAGE, "y": weights()}, OpKind.ELEMENTWISE),
        ("Sum", {"a": IMAGE, "b": IMAGE, "c": IMAGE}, OpKind.ELEMENTWISE),
        ("Not", {"x": ("bool", (3,))}, OpKind.ELEMENTWISE),
    ],
)
def test_operands_are_counted(op_type: str, inputs: dict[str, Input | None], kind: OpKind) -> None:
    op = op_of(op_type, {f"{n}0": v for n, v in inputs.items()})
    assert isinstance(op.params, ElementwiseParams)
    assert (op.kind, op.params.operands) == (kind, len(inputs))


def test_cast_keeps_its_types_out_of_a_float_plan() -> None:
    model = node_model("Cast", {"x": ("int64", (3, 4))}, to=6)
    op = only_op(model, "auto-int8")
    assert (op.dtype, op.input_bytes, op.output_bytes) == ("int64", 96, 48)


@pytest.mark.parametrize(("op_type", "function"), [("QLinearAdd", "add"), ("QLinearMul", "mul")])
def test_quantised_arithmetic(op_type: str, function: str) -> None:
    scale, zero = weights(), weights(dtype=np.int8)
    x = ("int8", (1, 8, 6, 5))
    inputs = {"a": x, "as": scale, "az": zero, "b": x, "bs": scale, "bz": zero, "ys": scale, "yz": zero}
    model = node_model(op_type, inputs, domain=MICROSOFT)
    model.graph.output[0].CopyFrom(node_model("Relu", {"y": x}).graph.input[0])
    op = only_op(model, "auto-int8")
    assert op.params == ElementwiseParams("elementwise", function, 240, 2)
    assert (op.kind, op.dtype, op.weight_bytes) == (OpKind.ELEMENTWISE, "int8", 15)


# ---------------------------------------------------------------- vectors


@pytest.mark.parametrize(
    ("opset", "axis", "rows", "length", "innermost"),
    [
        (13, None, 2 * 8 * 6, 5, True),
        (13, 1, 2 * 6 * 5, 8, True),  # channels-last
        (13, 2, 2 * 8 * 5, 6, False),
        (11, None, 2, 240, True),
        (11, 3, 96, 5, True),
        (11, -1, 96, 5, True),
        (13, 0, 240, 2, False),
    ],
)
def test_softmax_follows_the_rule_of_its_opset(
    opset: int, axis: int | None, rows: int, length: int, innermost: bool
) -> None:
    """The vectors it names must be those that onnxruntime makes sum to one."""
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    model = node_model("Softmax", {"x": IMAGE}, opset=opset, **attributes)
    (y,) = session_outputs(model, {"x": np.random.default_rng(0).normal(size=IMAGE[1]).astype(np.float32)})
    op = only_op(model)
    assert op.params == VectorParams("vector", "softmax", rows, length, innermost)
    assert y.sum() == pytest.approx(rows, rel=1e-4)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "params", "layout"),  # params: the last says whether vectors are innermost
    [
        ("LayerNormalization", {"s": weights(5)}, {}, ("layer_norm", 96, 5, True), Layout.ROW_MAJOR),
        ("LayerNormalization", {"s": weights(6, 5)}, {"axis": 2}, ("layer_norm", 16, 30, True), Layout.ROW_MAJOR),
        (
            "InstanceNormalization",
            {"s": weights(8), "b": weights(8)},
            {},
            ("instance_norm", 16, 30, False),
            Layout.CHANNELS_LAST,
        ),
        ("LRN", {}, {"size": 3}, ("local_response_norm", 60, 8, True), Layout.CHANNELS_LAST),
        ("LpNormalization", {}, {"axis": 1}, ("l2_norm", 60, 8, True), Layout.CHANNELS_LAST),
        ("MeanVarianceNormalization", {}, {}, ("mean_variance_norm", 8, 60, False), Layout.CHANNELS_LAST),
        (
            "BatchNormalization",
            {"s": weights(8), "b": weights(8), "m": weights(8), "v": weights(8)},
            {},
            ("batch_norm", 8, 60, False),
            Layout.CHANNELS_LAST,
        ),
    ],
)
def test_norms(
    op_type: str, inputs: dict[str, Any], attributes: dict[str, Any], params: tuple[str, int, int, bool], layout: Layout
) -> None:
    model = node_model(op_type, {"x": IMAGE, **inputs}, **attributes)
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)  # onnx infers no shape for some of them
    op = only_op(model)
    assert op.params == VectorParams("vector", *params)
    assert (op.kind, op.layout) == (OpKind.NORM, layout)
    assert op.weight_bytes == sum(w.nbytes for w in inputs.values())


@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])
@pytest.mark.parametrize(("axes", "rows", "length"), [([2, 3], 16, 30), ([-1], 96, 5), (None, 1, 480), ([1], 60, 8)])
@pytest.mark.parametrize("opset", [11, 18])
def test_reductions_in_both_spellings(op_type: str, axes: list[int] | None, rows: int, length: int, opset: int) -> None:
    as_input = opset >= 18 or (op_type == "ReduceSum" and opset >= 13)
    inputs: dict[str, Input | None] = {"x": IMAGE}
    attributes: dict[str, Any] = {}
    if axes is not None and as_input:
        inputs["axes"] = np.array(axes, np.int64)
    elif axes is not None:
        attributes["axes"] = axes
    op = only_op(node_model(op_type, inputs, opset=opset, **attributes))
    assert isinstance(op.params, VectorParams)
    assert (op.kind, op.params.rows, op.params.length, op.weights) == (OpKind.REDUCE, rows, length, ())
    assert op.output_bytes == rows * 4


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "innermost"),
    [
        ("Softmax", (4, 128, 64), {"axis": 1}, False),
        ("Softmax", (4, 128, 64), {"axis": 2}, True),
        ("Softmax", (4, 128, 1), {"axis": 1}, True),
        ("ReduceMean", (2, 8, 6, 5), {"axes": [1]}, False),
        ("ReduceMean", (2, 8, 6, 5), {"axes": [2, 3]}, True),
        ("ReduceMean", (2, 8, 6, 5), {"axes": [2, 3], "keepdims": 0}, True),
        ("ReduceMean", (2, 8, 6, 5), {"axes": [1, 3]}, False),
        ("ReduceMax", (4, 8), {"axes": [0]}, False),
        ("ArgMax", (4, 8), {"axis": 1}, True),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_vectors_are_innermost_if_their_elements_lie_together(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, Any], innermost: bool, last: bool
) -> None:
    """Judged by memory itself: in the order that the operator works in, a vector's addresses are consecutive."""
    nodes = [helper.make_node(op_type, ["t" if last else "x"], ["y"], name="n", **attributes)]
    given: dict[str, Any] = {"x": ("float", shape)}
    if last:
        if len(shape) == 2:
            return
        nodes.insert(0, helper.make_node("Conv", ["x", "w"], ["t"], name="conv"))
        given["w"] = weights(shape[1], shape[1], *([1] * (len(shape) - 2)))
    workload = lowered(graph_model(nodes, given, ["y"], opset=13))
    op = workload.ops[-1]
    order = op.layout or workload.tensor[op.inputs[0]].layout
    takes_any = (op_type, attributes) != ("Softmax", {"axis": 2})  # along the last axis it asks for row-major
    assert order is (Layout.CHANNELS_LAST if last and shape[2:] != (1,) and takes_any else Layout.ROW_MAJOR)
    flat = np.arange(np.prod(shape))
    rank = len(shape)
    axes = (0, *range(2, rank), 1) if order is Layout.CHANNELS_LAST else tuple(range(rank))
    address = flat.reshape([shape[a] for a in axes]).transpose(np.argsort(axes))
    along = [a % rank for a in attributes.get("axes", [attributes.get("axis")])]
    vectors = np.moveaxis(address, along, range(rank - len(along), rank)).reshape(
        -1, int(np.prod([shape[a] for a in along]))
    )
    consecutive = all(sorted(v) == list(range(min(v), min(v) + len(v))) for v in vectors.tolist())
    assert isinstance(op.params, VectorParams)
    assert op.params.innermost is consecutive
    if not last:
        assert consecutive is innermost


@pytest.mark.parametrize(("groups", "innermost"), [(1, True), (2, False), (8, False)])
def test_group_norm_of_one_group_alone_is_innermost(groups: int, innermost: bool) -> None:
    inputs = {"x": IMAGE, "s": weights(8), "b": weights(8)}
    model = node_model("GroupNormalization", inputs, opset=21, num_groups=groups)
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)  # onnx infers no shape for it
    op = only_op(model)
    assert op.params == VectorParams("vector", "group_norm", 2 * groups, 240 // groups, innermost)


# ---------------------------------------------------------------- images


def test_pools() -> None:
    op = op_of("MaxPool", {"x": IMAGE}, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    assert op.params == PoolParams("pool", "max", 2, 8, (3, 2), (2, 1), (1, 0, 1, 1), (6, 5), (3, 5))
    whole = op_of("GlobalAveragePool", {"x": IMAGE})
    assert whole.params == PoolParams("pool", "average", 2, 8, (6, 5), (1, 1), (0, 0, 0, 0), (6, 5), (1, 1))
    assert {op.kind, whole.kind} == {OpKind.POOL}
    assert op_of("MaxPool", {"x": IMAGE}, kernel_shape=[2, 2], dilations=[2, 2]).kind is OpKind.GENERIC
    assert only_op(node_model("MaxPool", {"x": IMAGE}, ("y", "places"), kernel_shape=[2, 2])).kind is OpKind.GENERIC


def test_resize_in_its_spellings() -> None:
    roi, scales = np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)
    expected = ResizeParams("resize", "nearest", "asymmetric", 8, (6, 5), (12, 10))
    new = op_of("Resize", {"x": IMAGE, "r": None, "s": scales}, coordinate_transformation_mode="asymmetric")
    old = only_op(
        node_model("Resize", {"x": IMAGE, "r": roi, "s": scales}, opset=11, coordinate_transformation_mode="asymmetric")
    )
    ten = only_op(node_model("Resize", {"x": IMAGE, "s": scales}, opset=10))
    nine = only_op(node_model("Upsample", {"x": IMAGE, "s": scales}, opset=9))
    for op in (new, old, ten, nine):
        assert op.params == expected
        assert (op.kind, op.weights) == (OpKind.RESIZE, ())
    batch = op_of("Resize", {"x": IMAGE, "r": None, "s": np.array([2, 1, 1, 1], np.float32)})
    assert batch.kind is OpKind.GENERIC


# ---------------------------------------------------------------- movement


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "function", "elements"),
    [
        ("Concat", {"a": IMAGE, "b": IMAGE}, {"axis": 1}, "concat", 960),
        ("Pad", {"x": IMAGE, "p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}, {}, "pad", 2 * 8 * 8 * 7),
        ("Slice", {"x": IMAGE, "s": np.array([1], np.int64), "e": np.array([4], np.int64)}, {}, "slice", 240),
        ("Gather", {"x": IMAGE, "i": np.array([1, 3], np.int64)}, {"axis": 1}, "gather", 120),
        ("Gather", {"t": weights(100, 16), "i": ("int64", (2, 7))}, {}, "gather", 224),
        ("DepthToSpace", {"x": IMAGE}, {"blocksize": 2}, "depth_to_space", 480),
        ("Expand", {"x": ("float", (1, 8, 1, 1)), "s": np.array([2, 8, 6, 5], np.int64)}, {}, "expand", 480),
        ("Tile", {"x": IMAGE, "r": np.array([1, 1, 2, 1], np.int64)}, {}, "tile", 960),
        ("OneHot", {"i": ("int64", (4,)), "d": np.array(6, np.int64), "v": weights(2)}, {}, "one_hot", 24),
    ],
)
def test_moves(op_type: str, inputs: dict[str, Any], attributes: dict[str, Any], function: str, elements: int) -> None:
    op = op_of(op_type, inputs, **attributes)
    assert op.params == MoveParams("move", function, elements)
    assert op.kind is OpKind.MOVE


@pytest.mark.parametrize(
    ("op_type", "extra", "attributes", "opset"),
    [
        ("Reshape", {"s": np.array([2, 240], np.int64)}, {}, 20),
        ("Flatten", {}, {"axis": 2}, 20),
        ("Squeeze", {}, {}, 20),
        ("Unsqueeze", {"a": np.array([0], np.int64)}, {}, 20),
        ("Unsqueeze", {}, {"axes": [0]}, 11),
        ("Identity", {}, {}, 20),
        ("Dropout", {}, {}, 20),
    ],
)
def test_views(op_type: str, extra: dict[str, Any], attributes: dict[str, Any], opset: int) -> None:
    op = only_op(node_model(op_type, {"x": IMAGE, **extra}, opset=opset, **attributes))
    assert (op.kind, op.weights, op.input_bytes, op.output_bytes) == (OpKind.VIEW, (), 1920, 1920)


def test_dropout_that_hands_out_its_mask_is_host_work() -> None:
    assert only_op(node_model("Dropout", {"x": IMAGE}, ("y", "mask"))).kind is OpKind.GENERIC


@pytest.mark.parametrize(("op_type", "function"), [("QuantizeLinear", "quantize"), ("DequantizeLinear", "dequantize")])
def test_conversions_compute_in_float(op_type: str, function: str) -> None:
    kind = "float" if op_type == "QuantizeLinear" else "int8"
    inputs = {"x": (kind, (1, 8, 6, 5)), "s": weights(), "z": weights(dtype=np.int8)}
    op = only_op(node_model(op_type, inputs), "auto-int8")
    assert op.params == ElementwiseParams("elementwise", function, 240, 1)
    assert (op.kind, op.dtype, op.weight_bytes) == (OpKind.QUANTIZE, "float32", 5)


def test_an_integer_divided_by_a_constant_is_a_product() -> None:
    x, c = ("float", (1, 8, 4)), np.array(8.0, np.float32)
    planned = only_op(node_model("Div", {"x": x, "c": c}), "auto-int8").params
    assert isinstance(planned, ElementwiseParams)
    assert planned.function == "mul"
    kept_forms = [
        only_op(node_model("Div", {"x": x, "c": c}), "stored"),
        only_op(node_model("Div", {"c": c, "x": x}), "auto-int8"),
        only_op(node_model("Div", {"x": x, "y": x}, outputs=("z",)), "auto-int8"),
    ]
    for kept in (op.params for op in kept_forms):
        assert isinstance(kept, ElementwiseParams)
        assert kept.function == "div"


def test_an_operator_nobody_defines_is_named() -> None:
    model = node_model("Magic", {"x": ("float", (1, 4))}, domain="com.acme")
    model.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4]))
    (warning,) = [d for d in lowered(model).diagnostics if d.code == "H4W116"]
    assert warning.where == ("n",)
    assert [d for d in lowered(node_model("Relu", {"x": ("float", (1, 4))})).diagnostics if d.code == "H4W116"] == []
