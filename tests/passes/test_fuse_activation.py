"""fuse-activation: spellings are recognised for what they compute, and fused only where that is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from h4hc import annotations as notes
from passes.fuse_activation import FuseActivation
from passes.fuse_fully_connected import FuseFullyConnected
from passes.fuse_layer_norm import FuseLayerNorm
from tests.passes.grouping_support import apply, graph, groups, inputs_of, load, parse, reasons, run

PASS = [FuseActivation()]
CONSTANTS = (
    "float zero = {0}, float one = {1}, float[1] three = {3}, float six = {6}, float sixth = {0.16666667},"
    "float half = {0.5}, float two = {2}, float r2 = {1.4142135}, float ir2 = {0.70710678}, float cube = {0.044715},"
    "float k = {0.7978846}, float a = {1.702}, float p3 = {3}"
)


def erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf)(x))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(1.702 * x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}

GATE = "g0 = Div(x, r2) g1 = Erf(g0) g = Add(g1, one)"
CLIPPED = "c0 = Add(x, three) c = Clip(c0, zero, six)"
TANH_POW = (
    "p = Pow(x, p3) c = Mul(p, cube) s = Add(x, c) t = Mul(s, k) h = Tanh(t) g = Add(h, one)"
    " m = Mul(x, g) y = Mul(m, half)"
)
TANH_FAST = (
    "q = Mul(x, x) c = Mul(q, cube) s = Add(one, c) kx = Mul(x, k) t = Mul(kx, s) h = Tanh(t) g = Add(one, h)"
    " m = Mul(half, x) y = Mul(m, g)"
)
TANH_MUL = (
    "q = Mul(x, x) p = Mul(q, x) c = Mul(cube, p) s = Add(c, x) t = Mul(k, s) h = Tanh(t) g = Add(h, one)"
    " m = Mul(g, half) y = Mul(m, x)"
)
SPELLINGS = [
    ("gelu", f"{GATE} t = Mul(x, g) y = Mul(t, half)"),
    ("gelu", f"{GATE} t = Mul(g, half) y = Mul(x, t)"),
    ("gelu", f"{GATE} t = Mul(half, x) y = Mul(t, g)"),
    ("gelu", f"{GATE} t = Mul(x, g) y = Div(t, two)"),
    ("gelu", f"{GATE} t = Div(x, two) y = Mul(g, t)"),
    ("gelu", "g0 = Mul(ir2, x) g1 = Erf(g0) g = Sum(one, g1) t = Mul(half, x) y = Mul(t, g)"),
    ("gelu", "g0 = Mul(x, ir2) g1 = Erf(g0) g2 = Mul(g1, half) g = Add(half, g2) y = Mul(x, g)"),
    ("gelu_tanh", TANH_POW),
    ("gelu_tanh", TANH_FAST),
    ("gelu_tanh", TANH_MUL),
    ("silu", "s = Sigmoid(x) y = Mul(x, s)"),
    ("silu", "s = Sigmoid(x) y = Mul(s, x)"),
    ("swish", "t = Mul(x, a) s = Sigmoid(t) y = Mul(x, s)"),
    ("mish", "s = Softplus(x) t = Tanh(s) y = Mul(x, t)"),
    ("hard_swish", "s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, s)"),
    ("hard_swish", f"{CLIPPED} t = Mul(x, c) y = Div(t, six)"),
    ("hard_swish", f"{CLIPPED} t = Mul(x, c) y = Mul(t, sixth)"),
    ("hard_swish", f"{CLIPPED} t = Div(c, six) y = Mul(t, x)"),
    ("hard_swish", f"{CLIPPED} t = Mul(sixth, c) y = Mul(x, t)"),
    ("hard_swish", f"{CLIPPED} t = Div(x, six) y = Mul(t, c)"),
    ("hard_swish", "h0 = Mul(x, sixth) h1 = Add(h0, half) h = Clip(h1, zero, one) y = Mul(x, h)"),
    ("hard_sigmoid", f"{CLIPPED} y = Div(c, six)"),
    ("hard_sigmoid", f"{CLIPPED} y = Mul(sixth, c)"),
    ("hard_sigmoid", "h0 = Div(x, six) h1 = Add(half, h0) y = Clip(h1, zero, one)"),
]


def only_kind(model: ir.Model) -> ir.Node:
    (node,) = [n for n in model.graph if notes.kind(n)]
    return node


@pytest.mark.parametrize(("function", "body"), SPELLINGS)
def test_spelling_is_one_operator(function: str, body: str) -> None:
    """Recognised by name, all nodes in it, and the graph really computes the function of that name."""
    proto = parse(graph("float[3,40] x", "float[3,40] y", CONSTANTS, body))
    model, (result,) = apply(proto, PASS)
    assert result.changed == 1
    node = only_kind(model)
    assert (notes.kind(node), notes.activation(node), notes.params(node)["input"]) == ("activation", function, "x")
    assert [len(g) for g in groups(model).values()] == [len(list(model.graph))]
    feeds = inputs_of(proto)
    expected = FORMULAS[function](feeds["x"].astype(np.float64))
    np.testing.assert_allclose(run(proto, feeds)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "opset", "function", "params"),
    [
        ("Relu(c)", 17, "relu", {}),
        ("Clip <min = 0.0, max = 6.0> (c)", 10, "relu6", {}),
        ("Clip(c, zero, six)", 17, "relu6", {}),
        ("Clip(c, zero)", 17, "relu", {}),
        ("Clip(c, one, six)", 17, "clip", {"min": 1.0, "max": 6.0}),
        ("Clip(c, , six)", 17, "clip", {"min": None, "max": 6.0}),
        ("LeakyRelu <alpha = 0.25> (c)", 17, "leaky_relu", {"alpha": 0.25}),
        ("PRelu(c, half)", 17, "prelu", {"slope": "half"}),
        ("Elu <alpha = 2.0> (c)", 17, "elu", {"alpha": 2.0}),
        ("Sigmoid(c)", 17, "sigmoid", {}),
        ("Tanh(c)", 17, "tanh", {}),
        ("Softplus(c)", 17, "softplus", {}),
        ("Mish(c)", 18, "mish", {}),
        ("HardSigmoid <alpha = 0.25> (c)", 17, "hard_sigmoid", {"alpha": 0.25, "beta": 0.5}),
        ("HardSwish(c)", 17, "hard_swish", {}),
        ("Gelu(c)", 20, "gelu", {}),
        ('Gelu <approximate = "tanh"> (c)', 20, "gelu_tanh", {}),
        ("com.microsoft.Gelu(c)", 17, "gelu", {}),
        ("com.microsoft.QuickGelu <alpha = 2.0> (c)", 17, "swish", {"alpha": 2.0}),
    ],
)
def test_single_node_fuses_into_conv(op: str, opset: int, function: str, params: dict[str, object]) -> None:
    constants = f"{CONSTANTS}, float[1,1,1,1] w = {{2}}"
    proto = parse(graph("float[1,1,2,5] x", "float[1,1,2,5] y", constants, f"c = Conv(x, w) y = {op}"), opset=opset)
    model, _ = apply(proto, PASS)
    node = next(n for n in model.graph if n.op_type == "Conv")
    assert notes.activation(node) == function
    assert notes.params(node)["activation"] == params
    assert notes.kind(node) == ""
    assert len(groups(model)[str(node.name)]) == 2


def test_swish_operator_of_opset_24() -> None:
    """onnxruntime has no kernel for it yet, so only the annotation is looked at."""
    model = load(parse(graph("float[2,3] a, float[2,3] b", "float[2,3] y", "", "c = Add(a, b) y = Swish(c)"), opset=24))
    assert FuseActivation().run(model).changed == 1
    assert notes.activation(next(n for n in model.graph if n.op_type == "Add")) == "silu"


NORM = (
    "m = ReduceMean <axes = [1]> (x) d = Sub(x, m) q = Pow(d, p) v = ReduceMean <axes = [1]> (q) r = Sqrt(v)"
    " c = Div(d, r)"
)
PRODUCERS = {
    "Add": ("float[2,4] a, float[2,4] b", "", "c = Add(a, b)"),
    "Mul": ("float[2,4] a, float[2,4] b", "", "c = Mul(a, b)"),
    "MatMul": ("float[2,3] a, float[3,4] b", "", "c = MatMul(a, b)"),
    "Gemm": ("float[2,3] a", "float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}", "c = Gemm(a, w)"),
    "ReduceMean": ("float[2,4] x", "float p = {2}", NORM),
    "LayerNormalization": ("float[2,4] a", "float[4] w = {1,2,3,4}", "c = LayerNormalization(a, w)"),
}


@pytest.mark.parametrize(("producer", "spelled"), [(p, s) for p in PRODUCERS for s in (True, False)])
def test_fuses_into_every_computing_operator(producer: str, spelled: bool) -> None:
    """An activation of one node or two joins the operator before it, group or not; its own anchor is forgotten."""
    inputs, constants, body = PRODUCERS[producer]
    act = "s = Sigmoid(c) y = Mul(c, s)" if spelled else "y = Relu(c)"
    model, _ = apply(
        parse(graph(inputs, "float[2,4] y", constants, f"{body} {act}"), opset=17),
        [FuseLayerNorm(), FuseFullyConnected(), FuseActivation()],
    )
    (members,) = notes.group_members(model).values()
    node = next(n for n in members if notes.is_anchor(n))
    assert node.op_type == producer
    assert notes.activation(node) == ("silu" if spelled else "relu")
    others = [n for n in members if n is not node]
    assert not any(notes.kind(n) or notes.activation(n) or notes.params(n) for n in others)


def test_only_the_first_activation_is_fused() -> None:
    text = graph("float[2,4] a, float[2,4] b", "float[2,4] y", "", "c = Add(a, b) r = Relu(c) y = Tanh(r)")
    model, (result,) = apply(parse(text), PASS)
    assert list(groups(model).values()) == [["Add", "Relu"]]
    assert "already has the activation relu" in reasons(result)


def test_squeeze_and_excite_gate_is_not_hard_swish() -> None:
    """x * HardSigmoid(z) of another z is a product of two tensors."""
    text = graph("float[2,4] x, float[2,4] z", "float[2,4] y", CONSTANTS, "s = HardSigmoid(z) y = Mul(x, s)")
    model, _ = apply(parse(text), PASS)
    assert groups(model) == {}


def test_half_precision_constants_are_close_enough() -> None:
    body = "g0 = Div(x, r2) g1 = Erf(g0) g = Add(g1, one) t = Mul(x, g) y = Mul(t, half)"
    inputs = "float16[3,4] x, float16 r2, float16 one, float16 half"
    proto = parse(graph(inputs, "float16[3,4] y", "", body))
    del proto.graph.input[1:]
    for name, number in (("r2", math.sqrt(2)), ("one", 1), ("half", 0.5)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(number, np.float16), name))
    model = load(proto)
    assert FuseActivation().run(model).changed == 1
    assert notes.activation(only_kind(model)) == "gelu"


@pytest.mark.parametrize(
    ("body", "outputs", "why"),
    [
        (
            "g0 = Div(x, two) g1 = Erf(g0) g = Add(g1, one) t = Mul(x, g) y = Mul(t, half)",
            "",
            "factor inside erf is 0.5",
        ),
        (f"{GATE} t = Mul(x, g) y = Mul(t, sixth)", "", "factor of the product is"),
        ("g0 = Div(x, r2) y = Erf(g0)", "", "its erf is not part of"),
        (f"{CLIPPED} t = Mul(x, c) y = Mul(t, half)", "", "slope is 0.5, not 0.1666667"),
        (f"{GATE} t = Mul(x, g) y = Mul(t, half)", "float[3,4] g", "g (a model output)"),
        ("s = Sigmoid(x) y = Mul(x, s) z = Neg(s)", "float[3,4] z", "s (used by Neg"),
        ("p = Neg(x) y = PRelu(x, p)", "", "its slope is not a constant"),
        ("c = Add(x, x) y = Relu(c)", "float[3,4] c", "c (a model output)"),
    ],
)
def test_refusals_say_why(body: str, outputs: str, why: str) -> None:
    extra = f", {outputs}" if outputs else ""
    model, (result,) = apply(parse(graph("float[3,4] x", f"float[3,4] y{extra}", CONSTANTS, body)), PASS)
    assert why in reasons(result)
    assert not any(notes.kind(n) for n in model.graph)
    assert all("Relu" not in g for g in groups(model).values())


def test_bounds_computed_at_run_time() -> None:
    model, (result,) = apply(parse(graph("float[3] x, float lo", "float[3] y", "", "y = Clip(x, lo)")), PASS)
    assert "computed at run time" in reasons(result)
    assert groups(model) == {}


def test_value_used_by_a_subgraph_body_stays_outside() -> None:
    """The pre-activation value is read inside an If: fusing would hide it."""
    text = """g (float[2] x, bool f) => (float[2] y, float[2] z) {
        c = Add(x, x)
        y = Relu(c)
        z = If (f) <then_branch = t () => (float[2] o) { o = Neg(c) },
                    else_branch = e () => (float[2] p) { p = Identity(x) }>
    }"""
    model, (result,) = apply(parse(text), PASS)
    assert groups(model) == {}
    assert "more than one value would leave" in reasons(result)
