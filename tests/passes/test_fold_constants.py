"""fold-constants: what it computes is bit-equal to onnxruntime; what it leaves, it leaves for a stated reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from h4hc.annotations import CONSTANT
from passes.fold_constants import FoldConstants
from tests.passes.rewriting_support import add_weights, apply, assert_same, load, ops, run_model, why

RNG = np.random.default_rng(5)


def _floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_shape_arithmetic_becomes_one_constant() -> None:
    model = load("""
        g (float[2, 3, 4] x) => (float[a, b] y) <int64[1] rest = {-1}, int64 zero = {0}, int64[1] axis = {0}> {
            [shape] s = Shape(x)
            [gather] n = Gather<axis=0>(s, zero)
            [unsqueeze] n1 = Unsqueeze(n, axis)
            [concat] t = Concat<axis=0>(n1, rest)
            [reshape] y = Reshape(x, t)
        }
    """)
    out, result = apply(model, FoldConstants())
    assert ops(out) == ["Reshape"]
    assert set(result.removed) == {"shape", "gather", "unsqueeze", "concat"}
    assert result.removed["shape"] == "the shape of 'x' is static"
    assert list(out.graph.initializers) == ["t"]
    assert_same(model, out, {"x": (2, 3, 4)})


def test_shape_and_size_of_a_part() -> None:
    model = load("""
        g (float[2, 3, 4] x) => (int64[2] y, int64 z) {
            s = Shape<start=-2>(x) e = Shape<start=0, end=2>(x) y = Add(s, e) n = Size(x) z = Neg(n)
        }
    """)
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Add", "Neg"]  # they make outputs of the model
    assert_same(model, out, {"x": (2, 3, 4)})


def test_float_arithmetic_on_weights_is_bit_equal() -> None:
    model = load("""
        g (float[3, 8] x, float[8, 8] w, float[8] v) => (float[3, 8] y) <float half = {0.3}> {
            a = MatMul(w, w) b = Exp(v) c = Sqrt(b) d = Mul(a, c) e = Transpose<perm=[1,0]>(d)
            f = Softmax<axis=1>(e) h = ReduceMean<axes=[0]>(f) i = Erf(h) j = Pow(b, half) k = Add(i, j)
            t = MatMul(x, e) y = Add(t, k)
        }
    """)
    add_weights(model, w=_floats(8, 8), v=_floats(8))
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["MatMul", "Add"]
    assert_same(model, out, {"x": (3, 8)})


def test_every_spelling_of_constant_is_stored() -> None:
    model = load("""
        g (float[2] x) => (float[2] y, int64[2] z, string[3] s, string[3] u) {
            a = Constant<value = float[2] {1.5, 2.5}>() b = Constant<value_float = 2.0>()
            c = Constant<value_floats = [1.0, 2.0]>() d = Constant<value_int = 3>() e = Constant<value_ints = [4, 5]>()
            p = Constant<value_string = "p">() q = Constant<value_strings = ["q", "r"]>()
            n = Cast<to=7>(x) z1 = Add(n, d) z = Add(z1, e)
            y1 = Add(x, a) y2 = Mul(y1, b) y = Add(y2, c)
            axis = Constant<value_ints = [0]>() p1 = Unsqueeze(p, axis) s = Concat<axis=0>(p1, q) u = Identity(s)
        }
    """)
    out, _ = apply(model, FoldConstants())
    assert "Constant" not in ops(out)
    assert out.graph.initializers["q"].dtype == ir.DataType.STRING
    assert set(out.graph.initializers) >= {"a", "b", "c", "d", "e", "p", "q"}
    x = np.asarray([0.25, -3.5], np.float32)
    for old, new in zip(run_model(model, {"x": x}), run_model(out, {"x": x}), strict=True):
        assert old.tolist() == new.tolist()


def test_constant_that_is_an_output_stays_a_node() -> None:
    model = load(
        "g (float[2] x) => (float[2] y, float[2] k) { k = Constant<value = float[2] {1.0, 2.0}>() y = Add(x, k) }"
    )
    out, result = apply(model, FoldConstants())
    assert ops(out) == ["Constant", "Add"]
    assert result.removed == {}
    assert_same(model, out, {"x": (2,)})


def test_what_follows_a_constant_output_is_folded_all_the_same() -> None:
    model = load("""
        g (float[2] x) => (float[2] y, float[2] k) <float[2] w = {1.0, 2.0}> { k = Neg(w) e = Exp(k) y = Add(x, e) }
    """)
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Neg", "Add"]
    assert_same(model, out, {"x": (2,)})


def test_a_body_of_control_flow_still_finds_the_value() -> None:
    model = load("""
        g (float[2] x, bool[1] c) => (float[2] y) <float[2] w = {1.0, 2.0}> {
            [k] k = Neg(w)
            [cond] b = Squeeze(c)
            [if] y = If (b) < then_branch = g1 () => (float[2] p) { p = Add(x, k) },
                              else_branch = g2 () => (float[2] q) { q = Sub(x, k) } >
        }
    """)
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Squeeze", "If"]
    assert_same(model, out, {"x": (2,), "c": (1,)})


def test_cast_like_is_a_cast_to_a_known_type() -> None:
    model = load("g (float16[2] x) => (float16[2] y) <float k = {2.0}> { c = CastLike(k, x) y = Mul(x, c) }")
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Mul"]
    assert_same(model, out, {"x": (2,)})


def test_weights_listed_as_inputs_before_ir_4_are_constants() -> None:
    model = load(
        "g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1.0, 2.0}> { k = Neg(w) y = Add(x, k) }",
        opset=9,
        ir_version=3,
    )
    assert [v.name for v in model.graph.inputs] == ["x", "w"]
    out, _ = apply(model, FoldConstants())
    assert [v.name for v in out.graph.inputs] == ["x"]
    assert ops(out) == ["Add"]
    assert_same(model, out, {"x": (2,)})


def test_weights_that_the_caller_may_override_are_not() -> None:
    model = load("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1.0, 2.0}> { k = Neg(w) y = Add(x, k) }")
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Neg", "Add"]


# ---------------------------------------------------------------- size


LARGE = """
g (float[1, 64] x) => (float[1, 64] y) <int64[2] n = {64, 64}> {
    [make] w = ConstantOfShape<value = float[1] {0.5}>(n)
    [turn] t = Transpose<perm=[1,0]>(w)
    [size] s = Shape(t)
    [use] y = MatMul(x, t)
}
"""


def test_growth_at_the_limit_is_folded_and_above_it_is_marked() -> None:
    grows = 64 * 64 * 4 - 16  # the tensor, less the shape that goes
    out, _ = apply(load(LARGE), FoldConstants(max_growth_bytes=grows))
    assert ops(out) == ["MatMul"]
    assert_same(load(LARGE), out, {"x": (1, 64)}, tolerance=1e-6)  # onnxruntime packs a stored operand
    out, result = apply(load(LARGE), FoldConstants(max_growth_bytes=grows - 1))
    assert ops(out) == ["ConstantOfShape", "Transpose", "MatMul"]
    assert [n.metadata_props.get(CONSTANT) for n in out.graph] == ["1", "1", None]
    assert (
        why(result, "make")
        == f"its value is constant, but storing it adds {grows} bytes (max-growth-bytes is {grows - 1})"
    )
    assert "too large" in why(result, "turn")


def test_growth_of_the_whole_file_is_bounded() -> None:
    model = load("""
        g (float[64] x) => (float[64] y) <int64[1] n = {64}> {
            [one] a = ConstantOfShape(n) [two] b = ConstantOfShape(n) c = Add(x, a) y = Add(c, b)
        }
    """)
    out, result = apply(model, FoldConstants(max_total_growth_bytes=300))
    assert ops(out) == ["ConstantOfShape", "Add", "Add"]
    assert "max-total-growth-bytes is 300" in why(result, "two")


def test_a_tensor_of_two_terabytes_is_never_made() -> None:
    model = load(
        "g (float[1] x) => (float[a, b] y) <int64[2] n = {1048576, 524288}> "
        "{ [bomb] w = ConstantOfShape(n) [tile] t = Tile(w, n) y = Add(t, x) }"
    )
    out, result = apply(model, FoldConstants())
    assert ops(out) == ["ConstantOfShape", "Tile", "Add"]
    assert why(result, "bomb")
    assert out.graph.node("bomb").metadata_props[CONSTANT] == "1"


def test_values_of_a_size_only_known_after_computing_are_folded_within_a_bound() -> None:
    model = load(
        "g (float[2] x) => (float[n] y) <float[6] w = {0,1,0,2,3,0}> "
        "{ i = NonZero(w) t = Transpose<perm=[1,0]>(i) f = Cast<to=1>(t) s = ReduceSum<keepdims=0>(f) y = Add(x, s) }"
    )
    out, _ = apply(model, FoldConstants())
    assert ops(out) == ["Add"]
    assert_same(model, out, {"x": (2,)})


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[n] k = DequantizeLinear(q, s)", "quantised constants stay quantised"),
        ("[n] k = RandomNormalLike(w)", "its value is random"),
        ('[n] k = Einsum<equation = "i,i->i">(w, w)', "the work it takes is not bounded by the size of its tensors"),
        ("[n] k = com.microsoft.Gelu(w)", "operators of domain 'com.microsoft' are not computed at compile time"),
        (
            "h = Cast<to=16>(w) [n] j = Neg(h) k = Cast<to=1>(j)",
            "values of type BFLOAT16 are not computed at compile time",
        ),
        (
            "[n] l = SequenceConstruct(w, w) k = SequenceAt(l, zero)",
            "sequences and optionals cannot be stored as constants",
        ),
    ],
)
def test_refusals(body: str, reason: str) -> None:
    model = load(
        f"g (float[2] x) => (float[2] y) <float[2] w = {{1, 2}}, int8[2] q = {{1, 2}}, float s = {{0.5}}, "
        f"int64 zero = {{0}}> {{ {body} y = Add(x, k) }}"
    )
    out, result = apply(model, FoldConstants())
    assert "Add" in ops(out)
    assert len(out.graph) > 1
    if "BFLOAT16" in reason:
        assert any(s.why == reason for s in result.skipped)
    else:
        assert why(result, "n") == reason


def test_control_flow_is_not_computed() -> None:
    model = load("""
        g (float[2] x) => (float[2] y) <bool c = {1}, float[2] w = {1, 2}> {
            [if] k = If (c) < then_branch = g1 () => (float[2] p) { p = Neg(w) },
                              else_branch = g2 () => (float[2] q) { q = Abs(w) } >
            y = Add(x, k)
        }
    """)
    out, result = apply(model, FoldConstants())
    assert ops(out) == ["If", "Add"]
    assert why(result, "if") == "control flow is not computed at compile time"


def test_what_onnxruntime_refuses_is_left_with_its_reason_and_does_not_hold_up_others() -> None:
    model = load(
        "g (float[2] x) => (float[2] y) <float[4] w = {1, 2, 3, 4}, int64[1] bad = {9}, float[2] v = {1, 2}> "
        "{ [ok] k = Neg(v) [gather] j = Gather<axis=0>(w, bad) [after] i = Neg(j) t = Add(x, k) y = Add(t, i) }"
    )
    result = FoldConstants().run(model)
    assert "onnxruntime cannot compute it" in why(result, "gather")
    assert why(result, "after") == "one of its inputs could not be computed"
    assert set(result.removed) == {"ok"}
