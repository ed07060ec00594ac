"""fuse-layer-norm: exported spellings are found, and the parameters recompute the output."""

from __future__ import annotations

import numpy as np
import pytest

from h4hc import annotations as notes
from passes.fuse_layer_norm import FuseLayerNorm
from tests.passes.grouping_support import apply, graph, groups, inputs_of, parse, reasons, run, stored

PASS = [FuseLayerNorm()]
CONSTANTS = (
    "float two = {2}, float half = {0.5}, float mhalf = {-0.5}, float one = {1}, float eps = {0.001},"
    "float[4] s = {1,2,-3,4}, float[4] b = {0.5,-1,2,3}"
)
MEAN = "m = ReduceMean <axes = [-1]> (x) d = Sub(x, m)"
VARIANCE = f"{MEAN} q = Pow(d, two) v = ReduceMean <axes = [-1]> (q) e = Add(v, eps)"
AFFINE = "t = Mul(n, s) y = Add(t, b)"

LAYER_NORMS = {
    "torch": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) {AFFINE}",
    "no affine": f"{VARIANCE} r = Sqrt(e) y = Div(d, r)",
    "scale only": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) y = Mul(s, n)",
    "bias only": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) y = Add(b, n)",
    "square by mul": f"{MEAN} q = Mul(d, d) v = ReduceMean <axes = [-1]> (q) e = Add(eps, v) r = Sqrt(e)"
    f" n = Div(d, r) {AFFINE}",
    "pow one half": f"{VARIANCE} r = Pow(e, half) n = Div(d, r) {AFFINE}",
    "pow minus one half": f"{VARIANCE} r = Pow(e, mhalf) n = Mul(d, r) {AFFINE}",
    "reciprocal": f"{VARIANCE} r = Sqrt(e) i = Reciprocal(r) n = Mul(i, d) {AFFINE}",
    "one over": f"{VARIANCE} r = Sqrt(e) i = Div(one, r) n = Mul(d, i) {AFFINE}",
    "two subs": f"{VARIANCE} d2 = Sub(x, m) r = Sqrt(e) n = Div(d2, r) {AFFINE}",
    "two means": f"{VARIANCE} m2 = ReduceMean <axes = [1]> (x) d2 = Sub(x, m2) r = Sqrt(e) n = Div(d2, r) {AFFINE}",
    "difference of squares": "q = Mul(x, x) w = ReduceMean <axes = [-1]> (q) m = ReduceMean <axes = [-1]> (x)"
    " mm = Mul(m, m) v = Sub(w, mm) e = Add(v, eps) r = Sqrt(e) d = Sub(x, m) n = Div(d, r) " + AFFINE,
    "tensorflow": f"{VARIANCE} r = Sqrt(e) i = Reciprocal(r) k = Mul(i, s) xk = Mul(x, k) mk = Mul(m, k)"
    " o = Sub(b, mk) y = Add(xk, o)",
}
RMS_NORMS = {
    "pow": "q = Pow(x, two) v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e) n = Div(x, r) y = Mul(n, s)",
    "llama": "q = Pow(x, two) v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r)"
    " n = Mul(x, i) y = Mul(s, n)",
    "mul": "q = Mul(x, x) v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e) i = Div(one, r) y = Mul(x, i)",
}


def recompute(
    model_params: dict[str, object], kind: str, x: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The norm of the annotation, in double precision."""
    axes = tuple(int(str(a)) for a in list(model_params["axes"]))  # type: ignore[call-overload]
    x = x.astype(np.float64)
    if kind == "layer_norm":
        x = x - x.mean(axes, keepdims=True)
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + float(str(model_params["epsilon"])))
    return np.asarray(y * scale + bias)


@pytest.mark.parametrize(
    ("kind", "name"), [("layer_norm", n) for n in LAYER_NORMS] + [("rms_norm", n) for n in RMS_NORMS]
)
def test_spellings(kind: str, name: str) -> None:
    body = (LAYER_NORMS if kind == "layer_norm" else RMS_NORMS)[name]
    proto = parse(graph("float[3,4] x", "float[3,4] y", CONSTANTS, body), opset=13)
    model, (result,) = apply(proto, PASS)
    assert result.changed == 1
    assert [len(g) for g in groups(model).values()] == [len(list(model.graph))]
    anchor = next(n for n in model.graph if notes.kind(n))
    assert notes.kind(anchor) == kind
    params = notes.params(anchor)
    assert params["input"] == "x"
    scale = stored(model, params["scale"]) if params["scale"] else np.array(1.0)
    bias = stored(model, params["bias"]) if params["bias"] else np.array(0.0)
    feeds = inputs_of(proto)
    expected = run(proto, feeds)[0]
    np.testing.assert_allclose(recompute(params, kind, feeds["x"], scale, bias), expected, rtol=2e-4, atol=2e-4)


def test_axes_as_input_and_channel_axis() -> None:
    """Opset 18 gives axes as an input; a channels-first norm runs over axis 1 with a (C,1,1) scale."""
    body = (
        "m = ReduceMean(x, ax) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, ax) e = Add(v, eps) r = Sqrt(e)"
        " n = Div(d, r) t = Mul(n, s) y = Add(t, b)"
    )
    constants = (
        "int64[1] ax = {1}, float two = {2}, float eps = {0.001}, float[2,1,1] s = {1,2}, float[1,2,1,1] b = {3,4}"
    )
    model, _ = apply(parse(graph("float[1,2,3,3] x", "float[1,2,3,3] y", constants, body), opset=18), PASS)
    anchor = next(n for n in model.graph if notes.kind(n))
    params = notes.params(anchor)
    assert (params["axes"], params["scale"], params["bias"]) == ([1], "s", "b")
    assert len(groups(model)[str(anchor.name)]) == 9


def test_half_precision_cast_island() -> None:
    """float16 -> float32 -> norm -> float16 -> scale, bias: the Casts belong to the operator."""
    body = (
        "x = Cast <to = 1> (h) m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) q = Pow(d, two)"
        " v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e) n = Div(d, r)"
        " c = Cast <to = 10> (n) t = Mul(c, s) y = Add(t, b)"
    )
    constants = "float two = {2}, float eps = {0.001}, float16[4] s = {1,2,3,4}, float16[4] b = {1,2,3,4}"
    model, _ = apply(parse(graph("float16[3,4] h", "float16[3,4] y", constants, body), opset=13), PASS)
    (members,) = groups(model).values()
    assert members.count("Cast") == 2
    anchor = next(n for n in model.graph if notes.kind(n))
    assert notes.params(anchor)["input"] == "h"
    assert notes.params(anchor)["scale"] == "s"


def test_rms_norm_that_casts_one_operand_only() -> None:
    """T5: the square is taken of Cast(x), the product of another Cast(x)."""
    body = (
        "f = Cast <to = 1> (h) q = Pow(f, two) v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e)"
        " g = Cast <to = 1> (h) n = Div(g, r) y = Cast <to = 10> (n)"
    )
    constants = "float two = {2}, float eps = {0.001}"
    model, _ = apply(parse(graph("float16[3,4] h", "float16[3,4] y", constants, body), opset=13), PASS)
    anchor = next(n for n in model.graph if notes.kind(n))
    assert notes.kind(anchor) == "rms_norm"
    assert notes.params(anchor)["input"] == "h"


def test_fused_operator_takes_the_bias_it_lacks() -> None:
    body = "n = LayerNormalization <axis = -1, epsilon = 0.01> (x, s) y = Add(n, b)"
    constants = "float[4] s = {1,2,3,4}, float[4] b = {1,2,3,4}"
    model, _ = apply(parse(graph("float[3,4] x", "float[3,4] y", constants, body)), PASS)
    anchor = next(n for n in model.graph if notes.kind(n))
    params = notes.params(anchor)
    assert anchor.op_type == "LayerNormalization"
    assert (params["scale"], params["bias"], params["axes"]) == ("s", "b", [1])
    assert params["epsilon"] == pytest.approx(0.01)


def test_second_scale_stays_outside() -> None:
    """A norm that scales already does not swallow another scale: one name could not say both."""
    body = "n = LayerNormalization (x, s) y = Mul(n, b)"
    constants = "float[4] s = {1,2,3,4}, float[4] b = {1,2,3,4}"
    model, _ = apply(parse(graph("float[3,4] x", "float[3,4] y", constants, body)), PASS)
    assert groups(model) == {}


def test_scale_across_other_axes_stays_outside() -> None:
    body = f"{VARIANCE} r = Sqrt(e) n = Div(d, r) y = Mul(n, rows)"
    model, _ = apply(
        parse(graph("float[3,4] x", "float[3,4] y", CONSTANTS + ", float[3,1] rows = {1,2,3}", body), opset=13), PASS
    )
    anchor = next(n for n in model.graph if notes.kind(n))
    assert notes.params(anchor)["scale"] == ""
    assert [n.op_type for n in model.graph if notes.group_id(n) != anchor.name] == ["Mul"]


@pytest.mark.parametrize(
    ("body", "outputs", "why"),
    [
        (LAYER_NORMS["no affine"], "float[3,4] y, float[3,4] d", "d (a model output)"),
        (LAYER_NORMS["no affine"] + " z = Neg(m)", "float[3,4] y, float[3,1] z", "m (used by Neg"),
        (f"{VARIANCE} r = Sqrt(e) y = Div(r, d)", "float[3,4] y", "numerator"),
        (f"{VARIANCE} r = Sqrt(e) y = Div(b, r)", "float[3,4] y", "is not what was squared"),
        (f"{VARIANCE} r = Sqrt(e) y = Div(d, r) z = Neg(r)", "float[3,4] y, float[3,1] z", "several things"),
    ],
)
def test_refusals_say_why(body: str, outputs: str, why: str) -> None:
    model, (result,) = apply(parse(graph("float[3,4] x", outputs, CONSTANTS, body), opset=13), PASS)
    assert why in reasons(result)
    assert groups(model) == {}


def test_mean_without_axes_kept_is_refused() -> None:
    body = "q = Mul(x, x) v = ReduceMean <axes = [1], keepdims = 0> (q) r = Sqrt(v) y = Div(x, r)"
    _, (result,) = apply(parse(graph("float[4,4] x", "float[4,4] y", "", body), opset=13), PASS)
    assert "keepdims=0" in reasons(result)
