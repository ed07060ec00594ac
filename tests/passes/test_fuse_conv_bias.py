"""fuse-conv-bias: which additions are a bias, and that they join the convolution and nothing more."""

from __future__ import annotations

import pytest

from h4hc import annotations as notes
from passes.fuse_activation import FuseActivation
from passes.fuse_conv_bias import FuseConvBias
from tests.passes.grouping_support import anchor, apply, graph, groups, parse, reasons

PASS = [FuseConvBias()]
W = "float[2,1,1,1] w = {1,2}"
X, Y = "float[1,1,3,3] x", "float[1,2,3,3] y"


@pytest.mark.parametrize("bias", ["float[2,1,1] b = {3,4}", "float[1,2,1,1] b = {3,4}", "float b = {3}"])
@pytest.mark.parametrize("add", ["Add(c, b)", "Add(b, c)"])
def test_bias_joins(bias: str, add: str) -> None:
    model, _ = apply(parse(graph(X, Y, f"{W}, {bias}", f"c = Conv(x, w) y = {add}")), PASS)
    assert list(groups(model).values()) == [["Add", "Conv"]]
    assert notes.params(anchor(model, "Conv")) == {"bias": "b"}


def test_transposed_grouped_convolution() -> None:
    constants = "float[2,1,1,1] w = {1,2}, float[2,1,1] b = {3,4}"
    body = "c = ConvTranspose<group=2>(x, w) y = Add(c, b)"
    model, _ = apply(parse(graph("float[1,2,3,3] x", Y, constants, body)), PASS)
    assert notes.params(anchor(model, "ConvTranspose")) == {"bias": "b"}


def test_activation_follows() -> None:
    text = graph(X, Y, f"{W}, float[2,1,1] b = {{3,4}}", "c = Conv(x, w) a = Add(c, b) y = Relu(a)")
    model, _ = apply(parse(text), [FuseConvBias(), FuseActivation()])
    node = anchor(model, "Conv")
    assert groups(model) == {str(node.name): ["Add", "Conv", "Relu"]}
    assert notes.activation(node) == "relu"


@pytest.mark.parametrize(
    ("constants", "body"),
    [
        ("float[1,1,3] b = {1,2,3}", "c = Conv(x, w) y = Add(c, b)"),  # one value a column
        ("float[2] o = {1,2}, float[2,1,1] b = {3,4}", "c = Conv(x, w, o) y = Add(c, b)"),  # has a bias already
        ("float[1] o = {1}", "c = Conv(x, w) y = Add(c, c)"),
    ],
)
def test_other_additions_stay(constants: str, body: str) -> None:
    model, (result,) = apply(parse(graph(X, Y, f"{W}, {constants}", body)), PASS)
    assert (groups(model), result.skipped) == ({}, [])


def test_shared_result_says_why() -> None:
    text = graph(X, f"{Y}, float[1,2,3,3] c", f"{W}, float[2,1,1] b = {{3,4}}", "c = Conv(x, w) y = Add(c, b)")
    model, (result,) = apply(parse(text), PASS)
    assert groups(model) == {}
    assert "its bias 'b' stays apart" in reasons(result)
    assert "c (a model output)" in reasons(result)
