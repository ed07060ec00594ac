"""Op.weight_types: the element type, in the plan, of each constant that is multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from h4hc.lower import lower
from h4hc.workload import Op, OpKind
from passes.absorb_qdq import AbsorbQdq
from passes.fuse_fully_connected import FuseFullyConnected
from tests.lowering.building import node_model, only_op, weights
from tests.passes.grouping_support import graph, load, parse

FLOAT_CASES = [
    ("Conv", {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3), "b": weights(4)}),
    ("ConvTranspose", {"x": ("float", (1, 3, 8, 8)), "w": weights(3, 4, 3, 3)}),
    ("Gemm", {"x": ("float", (2, 8)), "w": weights(8, 4), "b": weights(4)}),
    ("MatMul", {"w": weights(4, 8), "x": ("float", (8, 5))}),
    ("MatMul", {"x": ("float", (3, 5, 8)), "w": weights(3, 8, 4)}),
]


@pytest.mark.parametrize(("op_type", "inputs"), FLOAT_CASES)
def test_float_weights_have_the_type_of_the_plan(op_type: str, inputs: dict[str, Any]) -> None:
    """One constant is multiplied; the bias is not."""
    model = node_model(op_type, inputs)
    assert only_op(model, "auto-int8").weight_types == ("int8",)
    assert only_op(model, "stored").weight_types == ("float32",)


def test_what_multiplies_no_constant_has_none() -> None:
    pair: dict[str, Any] = {"a": ("float", (2, 8)), "b": ("float", (8, 4))}
    assert only_op(node_model("MatMul", pair)).weight_types == ()
    assert only_op(node_model("Mul", {"a": ("float", (2, 8)), "b": weights(8)})).weight_types == ()


def quantised_product(dtype: str, zero: str, opset: int = 21) -> Op:
    """DequantizeLinear -> MatMul -> QuantizeLinear with its weights stored as `dtype` behind a Transpose."""
    constants = f"float s = {{0.1}}, int8 z = {{0}}, {dtype}[2,3] w = {{1,2,3,4,5,6}}, float ws = {{0.5}}" + (
        f", {dtype} wz = {{{zero}}}" if zero else ""
    )
    body = (
        f"f = DequantizeLinear(x, s, z) wf = DequantizeLinear(w, ws{', wz' if zero else ''})"
        " t = Transpose<perm=[1,0]>(wf) o = MatMul(f, t) y = QuantizeLinear(o, s, z)"
    )
    model = load(parse(graph("int8[4,3] x", "int8[4,2] y", constants, body), opset))
    FuseFullyConnected().run(model)
    AbsorbQdq().run(model)
    (op,) = lower(model, "auto-int8").ops
    return op


@pytest.mark.parametrize(
    ("dtype", "zero", "expected"),
    [
        ("int8", "0", "int8"),
        ("int8", "3", "int8 asymmetric"),
        ("int8", "", "int8"),
        ("uint8", "0", "uint8"),
        ("uint8", "128", "uint8 asymmetric"),
        ("int16", "0", "int16"),
        ("int4", "0", "int4"),
    ],
)
def test_dequantised_weights_have_the_type_they_are_stored_in(dtype: str, zero: str, expected: str) -> None:
    op = quantised_product(dtype, zero)
    assert (op.kind, op.dtype, op.weight_types) == (OpKind.FULLY_CONNECTED, "int8", (expected,))


@pytest.mark.parametrize("zeros", [[0, 0], [0, 5]])
def test_one_channel_with_a_zero_point_makes_it_asymmetric(zeros: list[int]) -> None:
    s, one = weights(), weights(2)
    inputs = {
        "x": ("uint8", (1, 3, 8, 8)), "xs": s, "xz": np.array(7, np.uint8), "w": weights(2, 3, 3, 3, dtype=np.int8),
        "ws": one, "wz": np.array(zeros, np.int8), "ys": s, "yz": np.array(7, np.uint8),
    }  # fmt: skip
    op = only_op(node_model("QLinearConv", inputs), "auto-int8")
    assert op.weight_types == ("int8 asymmetric" if any(zeros) else "int8",)


@pytest.mark.parametrize("zero", [None, 0, 128])
@pytest.mark.parametrize("op_type", ["MatMulInteger", "ConvInteger"])
def test_integer_products(op_type: str, zero: int | None) -> None:
    shapes = ((2, 8), (8, 4)) if op_type == "MatMulInteger" else ((1, 3, 8, 8), (4, 3, 3, 3))
    inputs = {"x": ("uint8", shapes[0]), "w": weights(*shapes[1], dtype=np.uint8), "xz": np.array(9, np.uint8)}
    if zero is not None:
        inputs["wz"] = np.array(zero, np.uint8)
    op = only_op(node_model(op_type, inputs))
    assert op.weight_types == ("uint8 asymmetric" if zero else "uint8",)


def test_linear_product_with_weights_on_the_left() -> None:
    s, z = weights(), np.array(0, np.int8)
    inputs = {"w": weights(4, 8, dtype=np.int8), "ws": s, "wz": np.array(1, np.int8), "x": ("int8", (8, 5))}
    inputs |= {"xs": s, "xz": z, "ys": s, "yz": z}
    op = only_op(node_model("QLinearMatMul", inputs))
    assert (op.kind, op.weight_types) == (OpKind.FULLY_CONNECTED, ("int8 asymmetric",))


def test_float_weights_between_quantised_activations_stay_float() -> None:
    constants = "float s = {0.1}, int8 z = {0}, float[3,2] w = {1,2,3,4,5,6}"
    body = "f = DequantizeLinear(x, s, z) o = MatMul(f, w) y = QuantizeLinear(o, s, z)"
    model = load(parse(graph("int8[4,3] x", "int8[4,2] y", constants, body), 17))
    FuseFullyConnected().run(model)
    AbsorbQdq().run(model)
    (product,) = (op for op in lower(model, "auto-int8").ops if op.kind is OpKind.FULLY_CONNECTED)
    assert (product.dtype, product.weight_types) == ("float32", ("float32",))
