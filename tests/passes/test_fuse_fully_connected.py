"""fuse-fully-connected: which products are read as fully connected, and that their parameters mean what they say."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from h4hc import annotations as notes
from passes.fuse_fully_connected import FuseFullyConnected
from tests.passes.grouping_support import anchor, apply, graph, groups, inputs_of, load, parse, reasons, run, stored

PASS = [FuseFullyConnected()]
W34 = "float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
W43 = "float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
W134 = "float[1,3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
W8 = "int8[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float s = {0.5}, int8 z = {1}"
B4 = "float[4] b = {1,-2,3,-4}"
B114 = "float[1,1,4] b = {1,-2,3,-4}"
B31 = "float[3,1] b = {1,-2,3}"
SCALED = "alpha = 0.5, beta = 2.0, transA = 1, transB = 1"
TURN = "t = Transpose <perm = [1,0]> (w)"

FORMS = {
    "matmul": (graph("float[2,3] x", "float[2,4] y", W34, "y = MatMul(x, w)"), 1),
    "tokens": (graph("float[2,5,3] x", "float[2,5,4] y", f"{W34}, {B4}", "t = MatMul(x, w) y = Add(b, t)"), 2),
    "wide bias": (graph("float[2,5,3] x", "float[2,5,4] y", f"{W34}, {B114}", "t = MatMul(x, w) y = Add(t, b)"), 2),
    "leading one": (graph("float[2,3] x", "float[1,2,4] y", W134, "y = MatMul(x, w)"), 1),
    "vector": (graph("float[2,3] x", "float[2] y", "float[3] w = {1,2,3}", "y = MatMul(x, w)"), 1),
    "gemm": (graph("float[2,3] x", "float[2,4] y", f"{W34}, {B4}", "y = Gemm(x, w, b)"), 1),
    "gemm transB": (graph("float[2,3] x", "float[2,4] y", f"{W43}, {B4}", "y = Gemm <transB = 1> (x, w, b)"), 1),
    "gemm transA": (graph("float[3,2] x", "float[2,4] y", W34, "y = Gemm <transA = 1> (x, w)"), 1),
    "gemm scaled": (graph("float[3,2] x", "float[2,4] y", f"{W43}, {B4}", f"y = Gemm <{SCALED}> (x, w, b)"), 1),
    "gemm left": (graph("float[4,5] x", "float[3,5] y", W34, "y = Gemm (w, x)"), 1),
    "gemm left transA": (graph("float[3,5] x", "float[4,5] y", W34, "y = Gemm <transA = 1> (w, x)"), 1),
    "matmul left": (graph("float[2,4,5] x", "float[2,3,5] y", f"{W34}, {B31}", "t = MatMul(w, x) y = Add(t, b)"), 2),
    "vector left": (graph("float[3,5] x", "float[5] y", "float[3] w = {1,2,3}", "y = MatMul(w, x)"), 1),
    "transpose": (graph("float[2,3] x", "float[2,4] y", W43, f"{TURN} y = MatMul(x, t)"), 2),
    "dequantized": (graph("float[2,3] x", "float[2,4] y", W8, "t = DequantizeLinear(w, s, z) y = MatMul(x, t)"), 1),
}


def stored_weight(model: ir.Model, name: str) -> np.ndarray:
    array = stored(model, name).astype(np.float32)
    return (array - 1) * np.float32(0.5) if model.graph.initializers[name].dtype == ir.DataType.INT8 else array


@pytest.mark.parametrize("form", FORMS)
def test_parameters_recompute_the_output(form: str) -> None:
    """A plain formula with nothing but the annotated parameters gives the operator's output."""
    text, nodes = FORMS[form]
    proto = parse(text)
    model, _ = apply(proto, PASS)
    node = next(n for n in model.graph if n.op_type in ("MatMul", "Gemm"))
    assert notes.kind(node) == "fully_connected"
    assert sum(notes.group_id(n) == node.name for n in model.graph) == nodes
    p = notes.params(node)
    w = stored_weight(model, str(p["weight"]))
    w = w.reshape(w.shape[-2:]) if w.ndim > 1 else w.reshape(-1, 1) if p["weight_side"] == "right" else w.reshape(1, -1)
    w = w.T if p["weight_transposed"] else w
    assert w.shape == (p["in_features"], p["out_features"])
    feeds = inputs_of(proto)
    x = feeds["x"]
    if bool(p["input_transposed"]) != (p["weight_side"] == "left"):  # the columns of x are the positions
        x = np.swapaxes(x, -1, -2)
    y = p.get("alpha", 1.0) * (x @ w)
    if p["bias"]:
        y = y + p.get("beta", 1.0) * stored(model, p["bias"]).reshape(-1)
    if p["weight_side"] == "left":
        y = np.swapaxes(y, -1, -2)
    (expected,) = run(proto, feeds)
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("bias", "outputs"),
    [
        ("float[2,4] b = {1,2,3,4,5,6,7,8}", "float[2,4] y"),  # a value each position, not each feature
        (B4, "float[2,4] y, float[2,4] t"),  # the product without bias is used too
        (B114, "float[1,2,4] y"),  # the addition makes an axis
    ],
)
def test_addition_that_is_no_bias_stays(bias: str, outputs: str) -> None:
    model, _ = apply(parse(graph("float[2,3] x", outputs, f"{W34}, {bias}", "t = MatMul(x, w) y = Add(t, b)")), PASS)
    assert groups(model) == {}
    assert notes.params(anchor(model, "MatMul"))["bias"] == ""


STACK = "float[2,3,2] w = {1,2,3,4,5,6,7,8,9,10,11,12}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (graph("float[2,1,3] x", "float[2,1,2] y", STACK, "y = MatMul(x, w)"), "a stack of matrices, shape [2, 3, 2]"),
        (graph("float[2,3] x, float[2,4] c", "float[2,4] y", W34, "y = Gemm(x, w, c)"), "third input 'c'"),
        (graph("float[2,3] x", "float[2,4] y, float[3,4] t", W43, f"{TURN} y = MatMul(x, t)"), "a model output"),
    ],
)
def test_refusals_say_why(text: str, why: str) -> None:
    model, (result,) = apply(parse(text), PASS)
    assert why in reasons(result)
    assert all(notes.kind(n) == "" for n in model.graph)


def test_product_of_activations_is_left_alone() -> None:
    model, (result,) = apply(parse(graph("float[2,3] a, float[3,4] b", "float[2,4] y", "", "y = MatMul(a, b)")), PASS)
    assert result.skipped == []
    assert notes.kind(anchor(model, "MatMul")) == ""


def test_marked_constant_counts_as_constant() -> None:
    model = load(parse(graph("float[2,3] x", "float[2,4] y", W43, f"{TURN} y = MatMul(x, t)")))
    next(iter(model.graph)).metadata_props[notes.CONSTANT] = "1"
    assert FuseFullyConnected().run(model).changed == 1
    p = notes.params(anchor(model, "MatMul"))
    assert (p["weight"], p["in_features"], p["out_features"], p["weight_transposed"]) == ("t", 3, 4, False)
    assert groups(model) == {}
