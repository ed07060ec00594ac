"""fold-batch-norm: the folded net computes the same, weights that others read stay, and refusals have reasons."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from h4hc.annotations import origins
from passes.fold_batch_norm import FoldBatchNorm
from tests.passes.rewriting_support import add_weights, apply, assert_same, load, ops, why

TOLERANCE = 1e-5  # of the largest output magnitude, float32; as the pass's docstring says
TOLERANCE_HALF = 1e-2


def _stats(channels: int, seed: int = 1, dtype: type = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "scale": rng.uniform(0.5, 2, channels).astype(dtype),
        "beta": rng.standard_normal(channels).astype(dtype),
        "mean": rng.standard_normal(channels).astype(dtype),
        "var": rng.uniform(0.1, 3, channels).astype(dtype),
    }


def _random(*shape: int, dtype: type = np.float32, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _model(
    body: str,
    channels: int,
    weights: dict[str, np.ndarray],
    x: str = "1, 4, 6, 6",
    kind: str = "float",
    opset: int = 17,
) -> ir.Model:
    names = {**weights, **_stats(channels, dtype=np.float16 if kind == "float16" else np.float32)}
    inputs = ", ".join(f"{kind}[{', '.join(map(str, a.shape))}] {n}" for n, a in names.items())
    text = f"g ({kind}[{x}] x, {inputs}) => ({kind}[p, q, r, s] y) {{ {body} }}"
    if x.count(",") == 1:
        text = text.replace("[p, q, r, s]", "[p, q]")
    return add_weights(load(text, opset), **names)


BN = "[norm] y = BatchNormalization<epsilon = 0.001>(t, scale, beta, mean, var)"


@pytest.mark.parametrize(
    ("body", "channels", "weights"),
    [
        ("[conv] t = Conv(x, w)", 8, {"w": _random(8, 4, 3, 3)}),
        ("[conv] t = Conv<pads = [1,1,1,1]>(x, w, b)", 8, {"w": _random(8, 4, 3, 3), "b": _random(8)}),
        ("[conv] t = Conv<group = 4, pads = [1,1,1,1]>(x, w)", 8, {"w": _random(8, 1, 3, 3)}),
        ("[conv] t = ConvTranspose<strides = [2,2]>(x, w, b)", 6, {"w": _random(4, 6, 2, 2), "b": _random(6)}),
        ("[conv] t = ConvTranspose<group = 2>(x, w)", 6, {"w": _random(4, 3, 2, 2)}),
    ],
)
def test_convolutions(body: str, channels: int, weights: dict[str, np.ndarray]) -> None:
    model = _model(f"{body} {BN}", channels, weights)
    out, result = apply(model, FoldBatchNorm())
    assert len(out.graph) == 1
    assert result.changed == 1
    assert origins(out.graph.node("conv")) == ("conv", "norm")
    assert out.graph.outputs[0].name == "y"
    assert set(out.graph.initializers) == {"conv/weight", "conv/bias"}
    assert_same(model, out, {"x": (1, 4, 6, 6)}, TOLERANCE)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("[fc] t = Gemm(x, w)", {"w": _random(4, 8)}),
        ("[fc] t = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)", {"w": _random(8, 4), "b": _random(8)}),
        ("[fc] t = Gemm<beta = 0.25>(x, w, b)", {"w": _random(4, 8), "b": _random(1, 1)}),
    ],
)
def test_gemm(body: str, weights: dict[str, np.ndarray]) -> None:
    model = _model(f"{body} {BN}", 8, weights, "3, 4")
    out, _ = apply(model, FoldBatchNorm())
    assert ops(out) == ["Gemm"]
    assert_same(model, out, {"x": (3, 4)}, TOLERANCE)


def test_matmul_has_no_bias_so_an_add_takes_the_place() -> None:
    model = _model(f"[fc] t = MatMul(x, w) {BN}", 8, {"w": _random(4, 8)}, "3, 4")
    out, _ = apply(model, FoldBatchNorm())
    assert [(n.op_type, n.name, origins(n)) for n in out.graph] == [
        ("MatMul", "fc", ("fc",)),
        ("Add", "norm", ("norm",)),
    ]
    assert_same(model, out, {"x": (3, 4)}, TOLERANCE)


def test_matmul_of_a_sequence_flattened_for_the_normalisation() -> None:
    text = """
        g (float[2, 5, 4] x, float[4, 8] w, float[8] scale, float[8] beta, float[8] mean, float[8] var)
        => (float[10, 8] y)
        <int64[2] flat = {-1, 8}>
        { [fc] m = MatMul(x, w) t = Reshape(m, flat) [norm] y = BatchNormalization(t, scale, beta, mean, var) }
    """
    model = add_weights(load(text), w=_random(4, 8), **_stats(8))
    out, _ = apply(model, FoldBatchNorm())
    assert ops(out) == ["MatMul", "Reshape", "Add"]
    assert_same(model, out, {"x": (2, 5, 4)}, TOLERANCE)


def test_float16() -> None:
    model = _model(f"[conv] t = Conv(x, w) {BN}", 8, {"w": _random(8, 4, 3, 3, dtype=np.float16)}, kind="float16")
    out, _ = apply(model, FoldBatchNorm())
    assert out.graph.initializers["conv/weight"].dtype == ir.DataType.FLOAT16
    assert_same(model, out, {"x": (1, 4, 6, 6)}, TOLERANCE_HALF)


@pytest.mark.parametrize("opset", [9, 11, 13, 14, 15, 20])
def test_opsets(opset: int) -> None:
    model = _model(f"[conv] t = Conv(x, w) {BN}", 8, {"w": _random(8, 4, 3, 3)}, opset=opset)
    out, _ = apply(model, FoldBatchNorm())
    assert ops(out) == ["Conv"]
    assert_same(model, out, {"x": (1, 4, 6, 6)}, TOLERANCE)


def test_a_shared_weight_is_not_changed_for_the_other_reader() -> None:
    model = _model(
        f"[conv] t = Conv(x, w) [other] u = Conv(x, w) {BN.replace('y =', 'v =')} y = Add(u, v)",
        8,
        {"w": _random(8, 4, 3, 3)},
    )
    out, _ = apply(model, FoldBatchNorm())
    assert ops(out) == ["Conv", "Conv", "Add"]
    assert {"w", "conv/weight"} <= set(out.graph.initializers)
    assert_same(model, out, {"x": (1, 4, 6, 6)}, TOLERANCE)


def test_two_norms_in_a_row_fold_into_one_convolution() -> None:
    model = _model(
        f"[conv] t = Conv(x, w) [first] u = BatchNormalization(t, scale, beta, mean, var) {BN.replace('(t,', '(u,')}",
        8,
        {"w": _random(8, 4, 3, 3)},
    )
    out, _ = apply(model, FoldBatchNorm())
    assert ops(out) == ["Conv"]
    assert origins(out.graph.node("conv")) == ("conv", "first", "norm")
    assert_same(model, out, {"x": (1, 4, 6, 6)}, TOLERANCE)


CONV = "[conv] t = Conv(x, w)"
FILTER = {"w": _random(8, 4, 3, 3)}


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        (
            f"{CONV} [norm] y, m, v = BatchNormalization<training_mode = 1>(t, scale, beta, mean, var)",
            FILTER,
            "training mode",
        ),
        (f"{CONV} {BN} z = Neg(t)", FILTER, "another node, or an output of the model, reads the result of 'conv'"),
        (f"v = Abs(w) {CONV.replace('w)', 'v)')} {BN}", FILTER, "the weights of 'conv' are not constant"),
        (f"b = Abs(beta) [conv] t = Conv(x, w, b) {BN}", FILTER, "the bias of 'conv' is not constant"),
        (
            f"{CONV} s = Abs(scale) {BN.replace('scale', 's')}",
            FILTER,
            "its scale, bias, mean or variance is not constant",
        ),
        (f"{CONV} v = Relu(t) {BN.replace('(t,', '(v,')}", FILTER, "its input is not the output of a Conv"),
        (f"{BN.replace('(t,', '(x,')}", {}, "its input is not the output of a Conv"),
    ],
)
def test_refusals(body: str, weights: dict[str, np.ndarray], reason: str) -> None:
    channels = 8 if weights else 4
    out, result = apply(_model(body, channels, weights), FoldBatchNorm())
    assert "BatchNormalization" in ops(out)
    assert result.changed == 0
    assert reason in why(result, "norm")


def test_a_convolution_that_makes_a_model_output_keeps_its_value() -> None:
    model = _model(f"{CONV} {BN}", 8, FILTER)
    model.graph.outputs.append(model.graph.node("conv").outputs[0])
    out, result = apply(model, FoldBatchNorm())
    assert ops(out) == ["Conv", "BatchNormalization"]
    assert "output of the model" in why(result, "norm")


def test_matmul_whose_channels_are_not_the_last_axis() -> None:
    text = """
        g (float[2, 8, 4] x, float[4, 5] w, float[8] scale, float[8] beta, float[8] mean, float[8] var)
        => (float[a, b, c] y)
        { [fc] t = MatMul(x, w) [norm] y = BatchNormalization(t, scale, beta, mean, var) }
    """
    out, result = apply(add_weights(load(text), w=_random(4, 5), **_stats(8)), FoldBatchNorm())
    assert ops(out) == ["MatMul", "BatchNormalization"]
    assert "not the last axis of 'fc'" in why(result, "norm")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("var", -1.0, "not positive"), ("mean", np.inf, "not finite"), ("scale", 1e38, "leave the range of float32")],
)
def test_statistics_that_cannot_be_folded(name: str, value: float, reason: str) -> None:
    names = {"w": _random(8, 4, 3, 3) * 100, **_stats(8)}
    names[name] = np.full(8, value, np.float32)
    inputs = ", ".join(f"float[{', '.join(map(str, a.shape))}] {n}" for n, a in names.items())
    model = load(f"g (float[1,4,6,6] x, {inputs}) => (float[p,q,r,s] y) {{ {CONV} {BN} }}")
    out, result = apply(add_weights(model, **names), FoldBatchNorm())
    assert ops(out) == ["Conv", "BatchNormalization"]
    assert reason in why(result, "norm")


def test_a_quantised_weight_is_left() -> None:
    model = load("""
        g (float[1, 4, 6, 6] x, int8[8, 4, 3, 3] w, float[8] scale, float[8] beta, float[8] mean, float[8] var)
        => (float[p, q, r, s] y) <float k = {0.1}>
        { d = DequantizeLinear(w, k) [conv] t = Conv(x, d) [norm] y = BatchNormalization(t, scale, beta, mean, var) }
    """)
    out, result = apply(add_weights(model, w=_random(8, 4, 3, 3).astype(np.int8), **_stats(8)), FoldBatchNorm())
    assert "BatchNormalization" in ops(out)
    assert why(result, "norm") == "the weights of 'conv' are not constant"
