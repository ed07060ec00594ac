"""drop-no-ops: each rule, its neighbour that is not a no-op, and the places where a node has to stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from h4hc.annotations import origins
from passes.drop_no_ops import DropNoOps
from tests.passes.rewriting_support import apply, assert_same, load, ops, run_model, why

HEAD = "g (float[1, 4, 2, 3] x) => (float[p, q, r, s] y)"
CONSTANTS = (
    "float one = {1}, float zero = {0}, float[4] ones = {1,1,1,1}, int64[4] sizes = {1,4,2,3}, "
    "float[1,1,1,1] two = {2}, "
    "int64[4] none = {0,0,0,0}, int64[8] pads = {0,0,0,0,0,0,0,0}, int64[8] shift = {0,0,0,-1,0,0,0,1}, "
    "int64[1] three = {3}, int64[1] a3 = {3}, int64[1] start = {0}, int64[1] back = {-1}, int64[1] low = {-4}, "
    "int64[1] step = {1}, float[4] nearly = {1,1,1,1.2}, int64[1] all = {-1}, int64[4] reps = {1,1,1,1}"
)


def _model(body: str, opset: int = 17) -> ir.Model:
    return load(f"{HEAD} <{CONSTANTS}> {{ a = Neg(x) {body} y = Abs(b) }}", opset)


NO_OPS = [
    "b = Identity(a)",
    "b, m = Dropout(a)",
    "b = Cast<to = 1>(a)",
    "w = Cast<to = 11>(a) b = Cast<to = 1>(w)",
    "b = CastLike(a, x)",
    "b = Reshape(a, sizes)",
    "b = Expand(a, sizes)",
    "b = Tile(a, reps)",
    "b = Transpose<perm = [0,1,2,3]>(a)",
    "t = Transpose<perm = [0,2,3,1]>(a) b = Transpose<perm = [0,3,1,2]>(t)",
    "b = Slice(a, start, three, a3)",
    "b = Slice(a, start, three, a3, step)",
    "b = Pad(a, pads)",
    "b = Concat<axis = 1>(a)",
    "b = Sum(a)",
    "b = Max(a)",
    "b = Mean(a)",
    'b = Resize<mode = "linear">(a, , ones)',
    'b = Resize<mode = "nearest">(a, , , sizes)',
    "b = Mul(a, one)",
    "b = Mul(one, a)",
    "b = Div(a, one)",
    "b = Sub(a, zero)",
    "b = Pow(a, one)",
    "b = ReduceMax<axes = [0]>(a)",
    "b = Split<axis = 1>(a)",
    "b = DepthToSpace<blocksize = 1>(a)",
]


@pytest.mark.parametrize("body", NO_OPS)
def test_no_ops_go_with_a_reason_and_without_a_trace(body: str) -> None:
    model = _model(body)
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Abs"]
    assert len(result.removed) == len(model.graph) - 2
    assert all(result.removed.values())
    assert not out.graph.initializers
    for seed in range(2):
        assert_same(model, out, {"x": (1, 4, 2, 3)}, seed=seed)


def test_signed_zeros_infinities_and_nan_pass_unchanged() -> None:
    x = np.zeros((1, 4, 2, 3), np.float32)
    x.flat[:5] = [-0.0, np.inf, -np.inf, np.nan, 1e-45]
    for body in NO_OPS:
        model = load(f"{HEAD} <{CONSTANTS}> {{ a = Identity(x) {body} y = Identity(b) }}")
        (seen,), (expected,) = (
            run_model(apply(model, DropNoOps())[0], {"x": x}),
            run_model(model, {"x": x}),
        )
        assert seen.tobytes() == expected.tobytes(), body


LOOKALIKES = [
    "h = Cast<to = 10>(a) b = Cast<to = 1>(h)",  # a narrower type and back loses bits
    "b = Add(a, zero)",  # -0 + 0 is +0
    "b = Mul(a, two)",
    "b = Slice(a, back, low, a3, all)",  # reversed: the same shape
    "b = Pad(a, shift)",  # shifted: the same shape
    'b = Resize<mode = "linear">(a, , nearly)',  # 3 * 1.2 rounds down to 3
    'b = Resize<mode = "nearest", coordinate_transformation_mode = "tf_crop_and_resize">(a, crop, , sizes)',
    "t = Transpose<perm = [0,2,3,1]>(a) b = Transpose<perm = [0,2,3,1]>(t)",
    "b = Concat<axis = 1>(a, x)",
    "b = Max(a, zero)",
    "b = ReduceMean<axes = [0]>(a)",  # -0 becomes +0
    "b = ReduceMax<axes = [3]>(a)",
    "b, m = Dropout(a, , yes)",
]


@pytest.mark.parametrize("body", LOOKALIKES)
def test_lookalikes_stay(body: str) -> None:
    extra = ", float[8] crop = {0,0,0,0,1,1,0.5,0.5}, bool yes = {1}"
    model = load(f"{HEAD} <{CONSTANTS}{extra}> {{ a = Neg(x) {body} y = Abs(b) }}", 17)
    out, _ = apply(model, DropNoOps())
    assert ops(out) == ops(model)


def test_integers_plus_zero() -> None:
    model = load("g (int64[3] x) => (int64[3] y) <int64 zero = {0}> { a = Neg(x) b = Add(zero, a) y = Abs(b) }")
    out, _ = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Abs"]


def test_a_neutral_operand_that_widens_the_shape_is_no_no_op() -> None:
    model = load(
        "g (float[3] x) => (float[2, 3] y) <float[2, 1] one = {1, 1}> { a = Neg(x) b = Mul(a, one) y = Abs(b) }"
    )
    out, _ = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Mul", "Abs"]


def test_a_mask_that_is_read_keeps_its_dropout() -> None:
    model = load("g (float[3] x) => (float[3] y, bool[3] m) { y, m = Dropout(x) }")
    out, _ = apply(model, DropNoOps())
    assert ops(out) == ["Dropout"]


# ---------------------------------------------------------------- outputs, inputs and bodies


def test_a_model_output_keeps_its_name() -> None:
    model = load("g (float[3] x) => (float[3] y) { a = Neg(x) y = Identity(a) }")
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg"]
    assert out.graph.outputs[0].name == "y"
    assert result.removed == {"Identity_1": "Identity"}
    assert_same(model, out, {"x": (3,)})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[3] x) => (float[3] y) { [id] y = Identity(x) }", "out of an input or a constant"),
        (
            "g (float[3] x) => (float[3] y) <float[3] x1 = {1,2,3}> { [id] y = Identity(x1) }",
            "out of an input or a constant",
        ),
        (
            "g (float[3] x) => (float[3] y, float[3] z) { y = Neg(x) [id] z = Identity(y) }",
            "are both outputs of the model",
        ),
    ],
)
def test_outputs_that_need_their_node(text: str, reason: str) -> None:
    model = load(text)
    out, result = apply(model, DropNoOps())
    assert "Identity" in ops(out)
    assert reason in why(result, "id")
    assert_same(model, out, {"x": (3,)})


def test_a_body_of_control_flow_is_not_edited() -> None:
    model = load("""
        g (float[2] x, bool c) => (float[2] y) {
            [neg] n = Neg(x)
            [id] a = Identity(n)
            [if] y = If (c) < then_branch = g1 () => (float[2] p) { p = Add(x, a) },
                              else_branch = g2 () => (float[2] q) { q = Identity(a) } >
        }
    """)
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Identity", "If"]
    assert "body of a control flow operator" in why(result, "id")
    assert_same(model, out, {"x": (2,), "c": ()})


def test_unread_nodes_go_and_what_only_they_read() -> None:
    model = load("""
        g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> {
            [a] a = Exp(x) [b] b = Mul(a, w) [r] r = RandomNormalLike(b) [y] y = Neg(x)
        }
    """)
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg"]
    assert not out.graph.initializers
    assert result.removed["r"] == "nothing reads its output"
    assert result.removed["a"] == "nothing reads its output any more"


# ---------------------------------------------------------------- merging


def test_reshape_after_reshape_is_one() -> None:
    model = load("""
        g (float[2, 3, 4] x) => (float[a, b] y) <int64[2] s = {6, -1}, int64[3] t = {0, 2, 2}, int64[2] u = {-1, 8}> {
            n = Neg(x) [one] a = Reshape(n, s) [two] b = Reshape(a, t) [three] c = Reshape(b, u) y = Abs(c)
        }
    """)
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Reshape", "Abs"]
    assert origins(out.graph.node("three")) == ("one", "three", "two")
    assert result.removed == {}
    assert_same(model, out, {"x": (2, 3, 4)})


def test_reshapes_whose_middle_is_read_stay() -> None:
    model = load("""
        g (float[2, 3] x) => (float[a] y, float[b, c] z) <int64[2] s = {3, 2}, int64[1] t = {6}> {
            a = Reshape(x, s) b = Reshape(a, t) y = Abs(b) z = Neg(a)
        }
    """)
    out, _ = apply(model, DropNoOps())
    assert ops(out).count("Reshape") == 2


def test_the_same_transpose_twice_is_done_once() -> None:
    model = load("""
        g (float[2, 3] x) => (float[3, 2] y) {
            a = Neg(x) [t1] b = Transpose<perm = [1,0]>(a) [t2] c = Transpose(a) d = Exp(b) e = Abs(c) y = Add(d, e)
        }
    """)
    out, result = apply(model, DropNoOps())
    assert ops(out).count("Transpose") == 1
    assert result.removed == {"t2": "the same Transpose is there already"}
    assert_same(model, out, {"x": (2, 3)})


def test_a_transpose_that_went_is_not_taken_for_one_that_is_there() -> None:
    model = load("""
        g (float[2, 3] x) => (float[3, 2] y) {
            n = Neg(x) a = Transpose(n) b = Transpose(a) c = Transpose(b) y = Abs(c)
        }
    """)
    out, _ = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Transpose", "Abs"]
    assert_same(model, out, {"x": (2, 3)})


def test_chains_of_no_ops_collapse() -> None:
    body = " ".join(f"a{i + 1} = Identity(a{i})" for i in range(50))
    model = load(f"g (float[3] x) => (float[3] y) {{ a0 = Neg(x) {body} y = Abs(a50) }}")
    out, result = apply(model, DropNoOps())
    assert ops(out) == ["Neg", "Abs"]
    assert len(result.removed) == 50
