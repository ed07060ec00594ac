"""Convolutions: MACs against counting loops, parameters, refusals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.errors import GraphError
from h4hc.workload import ConvParams, Layout, OpKind
from tests.lowering.building import MICROSOFT, lowered, node_model, only_op, session_outputs, weights


def count_conv(x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Every multiplication of a direct convolution, padding included, counted one by one."""
    count = 0
    for _ in itertools.product(*(range(d) for d in out)):
        for _ in itertools.product(*(range(d) for d in w[1:])):
            count += 1
    return count


def count_conv_transpose(x: tuple[int, ...], w: tuple[int, ...]) -> int:
    """Every input element is multiplied with every weight of its channel."""
    count = 0
    for _ in itertools.product(*(range(d) for d in x)):
        for _ in itertools.product(*(range(d) for d in w[1:])):
            count += 1
    return count


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, m = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    k = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.tuples(st.integers(3, 6), st.integers(3, 6)))
    return {
        "x": (draw(st.integers(1, 2)), c, *size),
        "w": (m, c // groups, *k),
        "attributes": {
            "group": groups,
            "strides": draw(st.sampled_from([[1, 1], [2, 1], [2, 2]])),
            "pads": draw(st.sampled_from([[0, 0, 0, 0], [1, 0, 1, 2], [1, 1, 1, 1]])),
            "dilations": draw(st.sampled_from([[1, 1], [1, 1], [1, 2]])),
        },
    }


@settings(max_examples=30, deadline=None, derandomize=True)
@given(convolutions())
def test_macs_of_conv_are_counted_products(case: dict[str, Any]) -> None:
    x, w, attributes = case["x"], case["w"], case["attributes"]
    reach = [(k - 1) * d + 1 for k, d in zip(w[2:], attributes["dilations"], strict=True)]
    if any(r > s for r, s in zip(reach, x[2:], strict=True)):
        return
    model = node_model("Conv", {"x": ("float", x), "w": weights(*w)}, **attributes)
    (out,) = session_outputs(model, {"x": np.zeros(x, np.float32)})
    op = only_op(model)
    assert op.macs == count_conv(x, w, out.shape)
    assert isinstance(op.params, ConvParams)
    assert (op.params.batch, op.params.out_channels, *op.params.out_spatial) == out.shape
    assert op.output_bytes == out.nbytes
    assert op.weight_bytes == weights(*w).nbytes


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
def test_macs_of_conv_transpose_are_counted_products(cin: int, cout: int, groups: int, k: int, stride: int) -> None:
    x, w = (1, cin * groups, 3, 4), (cin * groups, cout, k, k)
    model = node_model("ConvTranspose", {"x": ("float", x), "w": weights(*w)}, group=groups, strides=[stride, stride])
    (out,) = session_outputs(model, {"x": np.zeros(x, np.float32)})
    op = only_op(model)
    assert op.kind is OpKind.CONV_TRANSPOSE
    assert op.macs == count_conv_transpose(x, w)
    assert op.output_bytes == out.nbytes


@pytest.mark.parametrize(
    ("channels", "groups", "filters", "kind"),
    [
        (8, 1, 4, OpKind.CONV),
        (1, 1, 4, OpKind.CONV),
        (8, 8, 8, OpKind.DEPTHWISE),
        (8, 8, 16, OpKind.DEPTHWISE),
        (8, 2, 8, OpKind.GROUPED_CONV),
    ],
)
def test_kind_follows_the_number_of_groups(channels: int, groups: int, filters: int, kind: OpKind) -> None:
    op = only_op(
        node_model(
            "Conv", {"x": ("float", (1, channels, 5, 5)), "w": weights(filters, channels // groups, 3, 3)}, group=groups
        )
    )
    assert op.kind is kind
    assert op.layout is Layout.CHANNELS_LAST


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 2, 1), (9, 4, 3), (6, 2, 2)])
@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_auto_pad_becomes_the_pads_that_give_the_same_numbers(
    op_type: str, auto_pad: str, size: int, kernel: int, stride: int
) -> None:
    """The pads resolved are right if the model with these pads written out computes the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, size, size)).astype(np.float32)
    w = rng.normal(size=(2, 2, kernel, kernel)).astype(np.float32)
    inputs = {"x": ("float", x.shape), "w": w}
    shared: dict[str, Any] = {"strides": [stride, stride]}
    automatic = node_model(op_type, inputs, auto_pad=auto_pad, **shared)
    params = only_op(automatic).params
    assert isinstance(params, ConvParams)
    explicit = node_model(op_type, inputs, pads=list(params.pads), **shared)
    (a,), (b,) = session_outputs(automatic, {"x": x}), session_outputs(explicit, {"x": x})
    if op_type == "ConvTranspose" and a.shape != b.shape:
        assert auto_pad.startswith("SAME")  # kernel < stride: nothing to pad, ONNX appends zeros instead
        assert kernel < stride
        return
    np.testing.assert_array_equal(a, b)


def test_one_and_three_spatial_axes() -> None:
    one = only_op(node_model("Conv", {"x": ("float", (1, 4, 9)), "w": weights(6, 4, 3)}))
    three = only_op(node_model("Conv", {"x": ("float", (1, 2, 4, 4, 4)), "w": weights(3, 2, 2, 2, 2)}))
    assert (one.macs, three.macs) == (6 * 7 * 4 * 3, 3 * 27 * 2 * 8)


def test_quantised_forms_keep_their_types() -> None:
    scale, zero = weights(), weights(dtype=np.uint8)
    inputs = {
        "x": ("uint8", (1, 3, 8, 8)), "xs": scale, "xz": zero, "w": weights(4, 3, 3, 3, dtype=np.uint8), "ws": scale,
        "wz": zero, "ys": scale, "yz": zero, "b": weights(4, dtype=np.int32),
    }  # fmt: skip
    op = only_op(node_model("QLinearConv", inputs), "auto-int8")
    assert (op.kind, op.dtype, op.macs) == (OpKind.CONV, "uint8", 4 * 36 * 27)
    assert op.weight_bytes == 4 * 27 + 4 * 4 + 3 * 4 + 3  # weights, bias, three scales, three zero points
    integer = only_op(
        node_model("ConvInteger", {"x": ("uint8", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3, dtype=np.uint8)})
    )
    assert (integer.kind, integer.dtype, integer.output_bytes) == (OpKind.CONV, "uint8", 4 * 36 * 4)


def test_deformable_and_channels_last_forms_are_host_work_with_the_same_macs() -> None:
    inputs = {"x": ("float", (1, 2, 5, 5)), "w": weights(4, 2, 3, 3), "o": ("float", (1, 18, 3, 3))}
    op = only_op(node_model("DeformConv", inputs, opset=19))
    assert (op.kind, op.macs) == (OpKind.GENERIC, 4 * 9 * 18)


def test_bias_is_planned_as_int32() -> None:
    model = node_model("Conv", {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3), "b": weights(4)})
    workload = lowered(model, "auto-int8")
    (op,) = workload.ops
    assert op.weight_bytes == 4 * 27 + 4 * 4
    assert (workload.tensor["w"].dtype, workload.tensor["b"].dtype) == ("int8", "int32")
    assert (op.input_bytes, op.output_bytes, op.dtype) == (192, 144, "int8")


def test_fused_activation_of_the_operator_itself() -> None:
    inputs = {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3)}
    model = node_model("FusedConv", inputs, domain=MICROSOFT, activation="Relu")
    model.graph.output[0].CopyFrom(node_model("Relu", {"y": ("float", (1, 4, 6, 6))}).graph.input[0])
    assert only_op(model).activation == "relu"


def test_contradictions_are_all_reported_at_once() -> None:
    import onnx
    import onnx_ir as ir
    from onnx import helper

    from h4hc.annotations import stamp_origins
    from h4hc.lower import lower
    from tests.lowering.building import graph_model

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="wrong_channels"),
        helper.make_node("Conv", ["x", "v"], ["b"], name="wrong_rank"),
    ]
    model = graph_model(
        nodes, {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 5, 3, 3), "v": weights(4, 3, 3)}, ["a", "b"]
    )
    for output in model.graph.output:
        output.CopyFrom(helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, (1, 4, 6, 6)))
    broken = ir.from_proto(model)
    stamp_origins(broken)
    with pytest.raises(GraphError) as caught:
        lower(broken, "stored")
    assert [p.where for p in caught.value.problems] == [("wrong_channels",), ("wrong_rank",)]
    assert "5 input channels" in caught.value.problems[0].why
