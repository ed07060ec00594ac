"""replace-layout: Transposes cancel through what does not care, only when fewer are left, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from h4hc.annotations import origins
from passes.drop_no_ops import DropNoOps
from passes.replace_layout import ReplaceLayout
from tests.passes.rewriting_support import BIT_EQUAL, add_weights, apply, assert_same, load, ops

SUM_TOLERANCE = 1e-6  # reductions may add up in another order
NHWC, NCHW = "Transpose<perm = [0,2,3,1]>", "Transpose<perm = [0,3,1,2]>"
CONSTANTS = (
    "float[5] bias = {1,2,3,4,5}, float[1,1,1,5] slope = {0.1,0.2,0.3,0.4,0.5}, float low = {-1}, float high = {2}, "
    "int64[8] pads = {0,1,0,2,0,0,2,1}, int64[1] a1 = {1}, int64[1] a3 = {3}, int64[1] two = {2}, int64[1] zero = {0}, "
    "float scale = {0.05}, int8 point = {3}, float[5] scales = {0.1,0.2,0.3,0.4,0.5}, int8[5] points = {0,0,0,0,0}, "
    "int64[2] halves = {2,3}"
)


def _between(body: str, opset: int = 17, shape: str = "float[p, q, r, s] y") -> ir.Model:
    """x (NCHW) -> NHWC -> body (a to b) -> NCHW."""
    return load(
        f"g (float[2, 5, 4, 3] x) => ({shape}) <{CONSTANTS}> "
        f"{{ n = Neg(x) [first] a = {NHWC}(n) {body} [last] c = {NCHW}(b) y = Abs(c) }}",
        opset,
    )


def _transposes(model: ir.Model) -> int:
    return ops(model).count("Transpose")


MOVES = [
    ("b = Relu(a)", BIT_EQUAL),
    ("b = Add(a, bias)", BIT_EQUAL),
    ("b = PRelu(a, slope)", BIT_EQUAL),
    ("b = Clip(a, low, high)", BIT_EQUAL),
    ("t = Sigmoid(a) b = Mul(a, t)", BIT_EQUAL),
    ("b = Pad(a, pads, high)", BIT_EQUAL),
    ('b = Pad<mode = "reflect">(a, pads)', BIT_EQUAL),
    ("t = Exp(a) b = Concat<axis = 3>(a, t)", BIT_EQUAL),
    ("b = Softmax(a)", SUM_TOLERANCE),
    ("b = Softmax<axis = 1>(a)", SUM_TOLERANCE),
    ("b = ReduceMean<axes = [1, 2]>(a)", SUM_TOLERANCE),
    ("b = ReduceSum(a, a3)", SUM_TOLERANCE),
    ("b = Slice(a, a1, two, a3)", BIT_EQUAL),
    ("b = Slice(a, a1, two)", BIT_EQUAL),
    ("t, u = Split<axis = 3>(a, halves) v = Concat<axis = 3>(u, t) b = Neg(v)", BIT_EQUAL),
    ("q = QuantizeLinear(a, scale, point) b = DequantizeLinear(q, scale, point)", BIT_EQUAL),
    ("q = QuantizeLinear<axis = 3>(a, scales, points) b = DequantizeLinear<axis = -1>(q, scales, points)", BIT_EQUAL),
    ("t = Greater(a, low) b = Where(t, a, bias)", BIT_EQUAL),
]


@pytest.mark.parametrize(("body", "tolerance"), MOVES)
def test_both_transposes_go(body: str, tolerance: float) -> None:
    model = _between(body)
    out, result = apply(model, ReplaceLayout())
    assert ops(out) == [t for t in ops(model) if t != "Transpose"]
    assert result.removed == dict.fromkeys(("first", "last"), "cancelled against other Transposes")
    assert_same(model, out, {"x": (2, 5, 4, 3)}, tolerance)
    for node in out.graph:  # shapes were kept in step
        for value in node.outputs:
            assert value.shape is None or value.shape.is_static()


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 18, 21])
def test_axes_as_attribute_or_as_input(opset: int) -> None:
    reduction = "ReduceMean<axes = [1, 2]>(a)" if opset < 18 else "ReduceMean(a, halves12)"
    model = load(
        f"g (float[2, 5, 4, 3] x) => (float[p, q, r, s] y) <int64[2] halves12 = {{1, 2}}> "
        f"{{ n = Neg(x) [first] a = {NHWC}(n) b = {reduction} [last] c = {NCHW}(b) y = Abs(c) }}",
        opset,
    )
    out, _ = apply(model, ReplaceLayout())
    assert _transposes(out) == 0
    assert_same(model, out, {"x": (2, 5, 4, 3)}, SUM_TOLERANCE)


def test_a_pooling_mean_without_kept_axes_reads_either_order() -> None:
    model = load(
        f"g (float[2, 5, 4, 3] x) => (float[p, q] y) "
        f"{{ n = Neg(x) [first] a = {NHWC}(n) b = Relu(a) y = ReduceMean<axes = [1, 2], keepdims = 0>(b) }}"
    )
    out, _ = apply(model, ReplaceLayout())
    assert ops(out) == ["Neg", "Relu", "ReduceMean"]
    assert_same(model, out, {"x": (2, 5, 4, 3)}, SUM_TOLERANCE)


def test_a_network_from_an_nhwc_framework_keeps_only_its_border() -> None:
    """Conv, bias, activation and residual in NHWC, each Conv between its own two Transposes."""
    lines, last = [], "x"
    for i in range(4):
        lines.append(f"i{i} = {NCHW}({last}) c{i} = Conv<pads = [1,1,1,1]>(i{i}, w) o{i} = {NHWC}(c{i}) ")
        lines.append(f"d{i} = Add(o{i}, bias) r{i} = Relu(d{i}) s{i} = Add(r{i}, {last})")
        last = f"s{i}"
    model = load(
        f"g (float[1, 6, 6, 5] x, float[5, 5, 3, 3] w) => (float[p, q, r, s] y) "
        f"<float[5] bias = {{1,2,3,4,5}}> {{ {' '.join(lines)} y = Sigmoid({last}) }}"
    )
    add_weights(model, w=np.random.default_rng(0).standard_normal((5, 5, 3, 3)).astype(np.float32) / 10)
    assert _transposes(model) == 8
    out, _ = apply(model, ReplaceLayout(), DropNoOps())
    assert _transposes(out) == 2
    assert_same(model, out, {"x": (1, 6, 6, 5)})


def test_constants_that_another_node_reads_are_copied() -> None:
    model = load(
        f"g (float[1, 5, 2, 2] x) => (float[p, q, r, s] y, float[5] z) <float[5] bias = {{1,2,3,4,5}}> "
        f"{{ a = {NHWC}(x) b = Add(a, bias) c = {NCHW}(b) y = Abs(c) z = Neg(bias) }}"
    )
    out, _ = apply(model, ReplaceLayout())
    assert _transposes(out) == 0
    assert set(out.graph.initializers) == {"bias", "bias/moved"}
    assert_same(model, out, {"x": (1, 5, 2, 2)})


def test_consecutive_transposes_become_one() -> None:
    model = load(
        "g (float[2, 3, 4] x) => (float[p, q, r] y) "
        "{ [one] a = Transpose<perm = [1,2,0]>(x) [two] b = Transpose<perm = [0,2,1]>(a) y = Softmax(b) }"
    )
    out, result = apply(model, ReplaceLayout())
    assert ops(out) == ["Transpose", "Softmax"]
    assert origins(out.graph.node("two")) == ("one", "two")
    assert result.removed == {}
    assert_same(model, out, {"x": (2, 3, 4)})


def test_more_transposes_in_than_come_back() -> None:
    """Two inputs arrive by Transpose, the sum leaves without: moving saves one, and the result keeps its name."""
    model = load(
        f"g (float[1, 5, 2, 2] x, float[1, 5, 2, 2] z) => (float[p, q, r, s] y) "
        f"{{ [one] a = {NHWC}(x) [two] b = {NHWC}(z) y = Add(a, b) }}"
    )
    out, result = apply(model, ReplaceLayout())
    assert ops(out) == ["Add", "Transpose"]
    assert out.graph.outputs[0].name == "y"
    assert result.removed == {}
    assert origins(list(out.graph)[1]) == ("one", "two")
    assert_same(model, out, {"x": (1, 5, 2, 2), "z": (1, 5, 2, 2)})


def test_a_body_of_control_flow_reads_the_old_order() -> None:
    model = load(f"""
        g (float[1, 5, 2, 2] x, float[1, 5, 2, 2] z, float[1, 5, 2, 2] u, bool c) => (float[p, q, r, s] y) {{
            a = {NHWC}(x) b = {NHWC}(z) d = {NHWC}(u) e = Sum(a, b, d)
            y = If (c) < then_branch = g1 () => (float[1, 2, 2, 5] p) {{ p = Neg(e) }},
                         else_branch = g2 () => (float[1, 2, 2, 5] q) {{ q = Abs(e) }} >
        }}
    """)
    out, _ = apply(model, ReplaceLayout())
    assert ops(out) == ["Sum", "Transpose", "If"]
    assert_same(model, out, {"x": (1, 5, 2, 2), "z": (1, 5, 2, 2), "u": (1, 5, 2, 2), "c": ()})


@pytest.mark.parametrize(
    "text",
    [
        f"{{ a = {NHWC}(x) b = Relu(a) y = LayerNormalization(b, bias) }}",  # bound to the last axis
        f"{{ a = {NHWC}(x) b = Relu(a) y = Reshape(b, flat) }}",
        f"{{ a = {NHWC}(x) y = Add(a, z) }}",  # one goes, one comes
        f"{{ a = {NHWC}(x) b = Relu(a) y = ReduceMean<axes = [0], keepdims = 0>(b) }}",  # the rest changes order
        f"{{ a = {NHWC}(x) b = Softmax(a) c = MatMul(b, m) y = {NCHW}(c) }}",  # MatMul is bound to its axes
    ],
)
def test_what_does_not_pay_or_cannot_be_moved_stays(text: str) -> None:
    model = load(
        f"g (float[1, 5, 2, 2] x, float[1, 2, 2, 5] z) => (float y) "
        f"<float[5] bias = {{1,2,3,4,5}}, int64[2] flat = {{1, -1}}, float[5, 1] m = {{1,2,3,4,5}}> {text}".replace(
            "(float y)", "(float[...] y)"
        ).replace("[...]", "")
    )
    before = ir.to_proto(model).graph.node
    out, result = model.clone(), None
    result = ReplaceLayout().run(out)
    assert result.changed == 0
    assert list(ir.to_proto(out).graph.node) == list(before)


def test_softmax_before_opset_13_took_several_axes_together() -> None:
    model = _between("b = Softmax<axis = 3>(a)", opset=11)
    out, _ = apply(model, ReplaceLayout())
    assert _transposes(out) == 2


def test_the_number_of_regions_is_an_option() -> None:
    body = f"b1 = Relu(a) c1 = {NCHW}(b1) d1 = Conv(c1, w) a2 = {NHWC}(d1) b = Neg(a2)"
    model = load(
        f"g (float[1, 5, 4, 4] x, float[5, 5, 1, 1] w) => (float[p, q, r, s] y) "
        f"{{ n = Neg(x) a = {NHWC}(n) {body} c = {NCHW}(b) y = Abs(c) }}"
    )
    add_weights(model, w=np.eye(5, dtype=np.float32).reshape(5, 5, 1, 1))
    full, _ = apply(model, ReplaceLayout())
    assert _transposes(full) == 0
    once = model.clone()
    assert ReplaceLayout(max_regions=1).run(once).changed == 1
    assert _transposes(once) == 2
