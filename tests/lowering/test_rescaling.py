"""Op.rescales: which operators have to requantise what they only hand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from h4hc.lower import lower
from h4hc.workload import Op, OpKind
from passes.absorb_qdq import AbsorbQdq
from tests.lowering.building import MICROSOFT, graph_model, node_model, only_op, weights
from tests.passes.grouping_support import graph, load, parse

# operator: (shape of x, shape of y, constants, body between f and o, class)
HANDS_ON: dict[str, tuple[str, str, str, str, OpKind]] = {
    "Reshape": ("2,3", "6", "int64[1] c = {6}", "o = Reshape(f, c)", OpKind.VIEW),
    "Transpose": ("2,3", "3,2", "", "o = Transpose(f)", OpKind.MOVE),
    "Transpose of a row": ("1,3", "3,1", "", "o = Transpose(f)", OpKind.VIEW),
    "Concat": ("2,3", "4,3", "", "o = Concat<axis=0>(f, f)", OpKind.MOVE),
    "Pad": ("2,3", "2,5", "int64[4] c = {0,1,0,1}", "o = Pad(f, c)", OpKind.MOVE),
    "MaxPool": ("1,1,4,4", "1,1,3,3", "", "o = MaxPool<kernel_shape=[2,2]>(f)", OpKind.POOL),
    "Resize": ("1,1,2,2", "1,1,4,4", "float[4] c = {1,1,2,2}", 'o = Resize<mode="nearest">(f, , c)', OpKind.RESIZE),
    "Max": ("2,3", "2,3", "", "o = Max(f, f)", OpKind.ELEMENTWISE),
    "Min": ("2,3", "2,3", "float[3] c = {1,2,3}", "o = Min(f, c)", OpKind.ELEMENTWISE),
    "Clip": ("2,3", "2,3", "float lo = {0.5}, float hi = {6}", "o = Clip(f, lo, hi)", OpKind.ACTIVATION),
    "ReduceMax": ("2,3", "2,1", "", "o = ReduceMax<axes=[1]>(f)", OpKind.REDUCE),
}  # fmt: skip
COMPUTES: dict[str, tuple[str, str, str, str, OpKind]] = {
    "AveragePool": ("1,1,4,4", "1,1,3,3", "", "o = AveragePool<kernel_shape=[2,2]>(f)", OpKind.POOL),
    "Resize": ("1,1,2,2", "1,1,4,4", "float[4] c = {1,1,2,2}", 'o = Resize<mode="linear">(f, , c)', OpKind.RESIZE),
    "Add": ("2,3", "2,3", "", "o = Add(f, f)", OpKind.ELEMENTWISE),
    "Sigmoid": ("2,3", "2,3", "", "o = Sigmoid(f)", OpKind.ACTIVATION),
    "ReduceMean": ("2,3", "2,1", "", "o = ReduceMean<axes=[1]>(f)", OpKind.REDUCE),
}  # fmt: skip


def absorbed(text: str) -> tuple[Op, ...]:
    model = load(parse(text))
    AbsorbQdq().run(model)
    return lower(model, "auto-int8").ops


def quantised(case: tuple[str, str, str, str, OpKind], scale: float, zero: int) -> Op:
    """The operator between a DequantizeLinear of (0.1, 3) and a QuantizeLinear with constants of its own."""
    before, after, constants, body, _ = case
    scales = f"float s = {{0.1}}, uint8 z = {{3}}, float t = {{{scale}}}, uint8 u = {{{zero}}}"
    text = graph(
        f"uint8[{before}] x",
        f"uint8[{after}] y",
        ", ".join(filter(None, (scales, constants))),
        f"f = DequantizeLinear(x, s, z) {body} y = QuantizeLinear(o, t, u)",
    )
    (op,) = absorbed(text)
    return op


@pytest.mark.parametrize("name", HANDS_ON)
@pytest.mark.parametrize(("scale", "zero", "expected"), [(0.1, 3, False), (0.2, 3, True), (0.1, 4, True)])
def test_values_decide_and_not_names(name: str, scale: float, zero: int, expected: bool) -> None:
    op = quantised(HANDS_ON[name], scale, zero)
    assert (op.kind, op.rescales) == (HANDS_ON[name][-1], expected)


@pytest.mark.parametrize("name", COMPUTES)
def test_arithmetic_takes_the_scales_in(name: str) -> None:
    op = quantised(COMPUTES[name], 0.2, 5)
    assert (op.kind, op.rescales) == (COMPUTES[name][-1], False)


@pytest.mark.parametrize(("second", "expected"), [(0.1, False), (0.3, True)])
def test_one_input_of_a_concat_that_differs_is_enough(second: float, expected: bool) -> None:
    constants = f"float s = {{0.1}}, uint8 z = {{3}}, float t = {{{second}}}"
    body = "a = DequantizeLinear(x, s, z) b = DequantizeLinear(v, t, z) c = Concat<axis=0>(a, b)"
    ops = absorbed(
        graph("uint8[2,3] x, uint8[2,3] v", "uint8[4,3] y", constants, body + " y = QuantizeLinear(c, s, z)")
    )
    assert [op.rescales for op in ops] == [expected]


def test_constants_of_a_concat_are_rescaled_at_compile_time() -> None:
    constants = "float s = {0.1}, uint8 z = {3}, float t = {0.3}, uint8[1,3] k = {1,2,3}"
    body = "a = DequantizeLinear(x, s, z) b = DequantizeLinear(k, t, z) c = Concat<axis=0>(a, b)"
    ops = absorbed(graph("uint8[2,3] x", "uint8[3,3] y", constants, body + " y = QuantizeLinear(c, s, z)"))
    assert [op.rescales for op in ops] == [False]


def test_what_writes_no_quantised_value_rescales_nothing() -> None:
    constants = "float s = {0.1}, uint8 z = {3}"
    assert [
        op.rescales
        for op in absorbed(graph("uint8[2,3] x", "int64[2] y", constants, "f = DequantizeLinear(x, s, z) y = Shape(f)"))
    ] == [False]
    table = "float s = {0.1}, uint8 z = {3}, uint8[4,3] k = {1,2,3,4,5,6,7,8,9,1,2,3}"
    ops = absorbed(graph("int64[2] x", "float[2,3] y", table, "f = DequantizeLinear(k, s, z) y = Gather(f, x)"))
    assert [op.rescales for op in ops] == [False]


def test_float_models_choose_one_scale() -> None:
    nodes = [helper.make_node("Concat", ["a", "b"], ["y"], name="c", axis=0)]
    model = graph_model(nodes, {"a": ("float", (2, 3)), "b": ("float", (2, 3))}, ["y"])
    assert only_op(model, "auto-int8").rescales is False


@pytest.mark.parametrize(("second", "zero", "expected"), [(0.1, 3, False), (0.3, 3, True), (0.1, 4, True)])
def test_quantised_concat_of_onnxruntime(second: float, zero: int, expected: bool) -> None:
    s, z = np.array(0.1, np.float32), np.array(3, np.uint8)
    inputs: dict[str, Any] = {
        "ys": s, "yz": z, "a": ("uint8", (2, 3)), "as": s, "az": z,
        "b": ("uint8", (2, 3)), "bs": np.array(second, np.float32), "bz": np.array(zero, np.uint8),
    }  # fmt: skip
    model = node_model("QLinearConcat", inputs, domain=MICROSOFT, axis=0)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.UINT8, (4, 3)))
    assert only_op(model).rescales is expected


@pytest.mark.parametrize(("scale", "expected"), [(1.0, False), (0.5, True)])
def test_quantised_selection_of_onnxruntime(scale: float, expected: bool) -> None:
    s, z, own = weights(), np.array(3, np.uint8), np.array(scale, np.float32)
    inputs: dict[str, Any] = {
        "c": ("bool", (2, 3)), "a": ("uint8", (2, 3)), "as": s, "az": z, "b": ("uint8", (2, 3)), "bs": s, "bz": z,
        "ys": own, "yz": z,
    }  # fmt: skip
    model = node_model("QLinearWhere", inputs, domain=MICROSOFT)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.UINT8, (2, 3)))
    assert only_op(model).rescales is expected
