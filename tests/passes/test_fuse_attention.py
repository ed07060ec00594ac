"""fuse-attention: exported forms of attention become regions; nothing else does."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from h4hc import annotations as notes
from passes.absorb_qdq import AbsorbQdq
from passes.fuse_attention import FuseAttention
from passes.fuse_fully_connected import FuseFullyConnected
from tests.passes.grouping_support import apply, graph, groups, load, parse, reasons

PASS = [FuseAttention()]
QKV = "float[2,4,3] q, float[2,4,3] k, float[2,4,3] v"
OUT = "float[2,4,3] y"
CONSTANTS = (
    "float c = {0.5}, float d = {2}, float ninf = {-1000}, float[1,4,4] bias = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}"
)
KT = "kt = Transpose<perm=[0,2,1]>(k)"

RIGHT = (
    f"{KT} s = MatMul(q, kt) p = Softmax(s) o = Transpose<perm=[0,2,1]>(p) vt = Transpose<perm=[0,2,1]>(v)"
    " z = MatMul(vt, o) y = Transpose<perm=[0,2,1]>(z)"
)
FORMS = {
    "no scale": (f"{KT} s = MatMul(q, kt) p = Softmax<axis=-1>(s) y = MatMul(p, v)", 4),
    "scaled scores": (f"{KT} t = MatMul(q, kt) s = Div(t, d) p = Softmax<axis=2>(s) y = MatMul(p, v)", 5),
    "scaled scores by mul": (f"{KT} t = MatMul(q, kt) s = Mul(c, t) p = Softmax(s) y = MatMul(p, v)", 5),
    "scaled q": (f"qs = Mul(q, c) {KT} s = MatMul(qs, kt) p = Softmax(s) y = MatMul(p, v)", 5),
    "sqrt scale on both": (
        f"qs = Mul(q, c) {KT} ks = Mul(kt, c) s = MatMul(qs, ks) p = Softmax(s) y = MatMul(p, v)",
        6,
    ),
    "scale before transpose": (
        ("ks = Mul(k, c) kt = Transpose<perm=[0,2,1]>(ks) s = MatMul(q, kt) p = Softmax(s) y = MatMul(p, v)"),
        5,
    ),
    "additive mask": (f"{KT} t = MatMul(q, kt) u = Div(t, d) s = Add(u, bias) p = Softmax(s) y = MatMul(p, v)", 6),
    "mask first": (f"{KT} t = MatMul(q, kt) s = Add(bias, t) p = Softmax(s) y = MatMul(p, v)", 5),
    "where mask": (f"{KT} t = MatMul(q, kt) s = Where(m, t, ninf) p = Softmax(s) y = MatMul(p, v)", 5),
    "dropout and cast": (f"{KT} t = MatMul(q, kt) s = Cast<to=1>(t) p = Softmax(s) o = Dropout(p) y = MatMul(o, v)", 6),
    "guard against empty rows": (
        (f"{KT} s = MatMul(q, kt) p = Softmax(s) n = IsNaN(p) o = Where(n, c, p) y = MatMul(o, v)"),
        6,
    ),
    "window mask": (
        (
            f"{KT} t = MatMul(q, kt) r = Reshape(t, deep) u = Add(r, bias) s = Reshape(u, flat)"
            " p = Softmax(s) y = MatMul(p, v)"
        ),
        7,
    ),
    "soft cap": (f"{KT} t = MatMul(q, kt) a = Div(t, d) b = Tanh(a) s = Mul(b, d) p = Softmax(s) y = MatMul(p, v)", 7),
    "transposed weights on the right": (RIGHT, 5),
}


def region(model: ir.Model, name: str = "attention_0") -> list[ir.Node]:
    return [n for n in model.graph if notes.region(n) == name]


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    """The region holds both products, the softmax and all between; every operator stays on its own."""
    body, nodes = FORMS[form]
    constants = CONSTANTS + ", int64[4] deep = {1,2,4,4}, int64[3] flat = {2,4,4}"
    model, (result,) = apply(parse(graph(f"{QKV}, bool[1,4,4] m", OUT, constants, body)), PASS)
    assert (result.changed, result.skipped) == (1, [])
    members = region(model)
    assert len(members) == nodes
    assert [n.op_type for n in members].count("MatMul") == 2
    assert groups(model) == {}


def test_transpose_that_others_use_stays_outside() -> None:
    body = f"{KT} s = MatMul(q, kt) p = Softmax(s) y = MatMul(p, v) z = Neg(kt)"
    model, _ = apply(parse(graph(QKV, f"{OUT}, float[2,3,4] z", "", body)), PASS)
    assert [n.op_type for n in region(model)] == ["MatMul", "Softmax", "MatMul"]


def test_head_split_of_q_stays_outside() -> None:
    """Transposing (tokens, heads) of q is not part of the product; making the last axis of k another one is."""
    body = (
        "qh = Transpose<perm=[0,2,1,3]>(q) kh = Transpose<perm=[0,2,3,1]>(k) s = MatMul(qh, kh) p = Softmax(s)"
        " vh = Transpose<perm=[0,2,1,3]>(v) y = MatMul(p, vh)"
    )
    inputs = "float[1,4,2,3] q, float[1,4,2,3] k, float[1,4,2,3] v"
    model, _ = apply(parse(graph(inputs, "float[1,2,4,3] y", "", body)), PASS)
    assert [n.op_type for n in region(model)] == ["Transpose", "MatMul", "Softmax", "MatMul"]


def test_regions_are_numbered_in_graph_order() -> None:
    one = f"{KT} s = MatMul(q, kt) p = Softmax(s) h = MatMul(p, v)"
    two = "kt2 = Transpose<perm=[0,2,1]>(h) s2 = MatMul(h, kt2) p2 = Softmax(s2) y = MatMul(p2, h)"
    model, (result,) = apply(parse(graph(QKV, OUT, "", f"{one} {two}")), PASS)
    assert result.changed == 2
    assert [len(region(model, f"attention_{i}")) for i in (0, 1)] == [4, 4]


def test_quantised_form() -> None:
    """DQ -> op -> Q all the way: the nodes of each integer operator share the region."""
    constants = "float s = {0.1}, uint8 z = {3}, uint8 scale = {13}"
    body = (
        "qf = DequantizeLinear(q, s, z) kf = DequantizeLinear(k, s, z) cf = DequantizeLinear(scale, s, z)"
        " k1 = Transpose<perm=[0,2,1]>(kf) kq = QuantizeLinear(k1, s, z) k2 = DequantizeLinear(kq, s, z)"
        " t1 = MatMul(qf, k2) tq = QuantizeLinear(t1, s, z) t2 = DequantizeLinear(tq, s, z)"
        " s1 = Mul(t2, cf) sq = QuantizeLinear(s1, s, z) s2 = DequantizeLinear(sq, s, z)"
        " p1 = Softmax(s2) pq = QuantizeLinear(p1, s, z) p2 = DequantizeLinear(pq, s, z)"
        " vf = DequantizeLinear(v, s, z) y1 = MatMul(p2, vf) y = QuantizeLinear(y1, s, z)"
    )
    inputs = QKV.replace("float", "uint8")
    proto = parse(graph(inputs, OUT.replace("float", "uint8"), constants, body))
    model, (absorbed, found) = apply(proto, [AbsorbQdq(), FuseAttention()])
    assert absorbed.skipped == found.skipped == []
    assert {notes.region(n) for n in model.graph} == {"attention_0"}
    assert len(groups(model)) == 5
    alone, _ = apply(proto, PASS)  # without absorbing, the Q and DQ between the operators are in the region too
    assert {"MatMul", "Softmax", "Mul", "Transpose"} <= {n.op_type for n in region(alone)}


@pytest.mark.parametrize(
    ("opset", "text", "op_type"),
    [
        (23, graph(QKV, OUT, "", "y = Attention<q_num_heads=1, kv_num_heads=1>(q, k, v)"), "Attention"),
        (17, graph(QKV, OUT, "", "y = com.microsoft.MultiHeadAttention<num_heads=1>(q, k, v)"), "MultiHeadAttention"),
    ],
)
def test_fused_operators_are_regions(opset: int, text: str, op_type: str) -> None:
    model = load(parse(text, opset))
    assert FuseAttention().run(model).changed == 1
    assert [n.op_type for n in region(model)] == [op_type]


@pytest.mark.parametrize(
    ("inputs", "constants", "body", "why"),
    [
        (QKV, "", "s = Add(q, k) p = Softmax(s) vt = Transpose<perm=[0,2,1]>(v) y0 = MatMul(p, vt) y = MatMul(y0, v)",
         "its input is no product"),
        (QKV, "", f"{KT} s = MatMul(q, kt) p = Softmax(s) r = Neg(p) y = MatMul(r, v)", "is not multiplied by another"),
        (QKV, "", f"{KT} s = MatMul(q, kt) p = Softmax<axis=1>(s) y = MatMul(p, v)", "it runs over axis 1, but"),
    ],
)  # fmt: skip
def test_near_misses_say_why(inputs: str, constants: str, body: str, why: str) -> None:
    model, (result,) = apply(parse(graph(inputs, OUT, constants, body)), PASS)
    assert why in reasons(result)
    assert not region(model)


def test_classifier_is_no_attention() -> None:
    """Weights -> softmax -> weights: not a product of activations, and no reason to complain."""
    constants = "float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4,3] u = {1,2,3,4,5,6,7,8,9,10,11,12}"
    body = "s = MatMul(q, w) p = Softmax(s) y = MatMul(p, u)"
    model, results = apply(
        parse(graph("float[2,4,3] q", OUT, constants, body)), [FuseFullyConnected(), FuseAttention()]
    )
    assert results[1].skipped == []
    assert not region(model)
