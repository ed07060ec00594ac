"""verify: agrees with what is right, and finds what is wrong down to the node."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from h4hc.errors import (
    ExitCode,
    NumericsError,
    UnsupportedOpError,
    UserError,
)
from h4hc.partitioned import partition_models, partitioned_model
from h4hc.schedule import Schedule
from h4hc.verification import Status, Verdict, Verification
from h4hc.verify_models import verify_models
from tests.partition_models import hybrid, hybrid_plan, legal, make_model, one_each, random_dag

FLOAT, INT64, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8
Shape = tuple[int, list[int]]


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def verify(
    original: onnx.ModelProto,
    legalised: onnx.ModelProto | None = None,
    spoil: Callable[[onnx.ModelProto], None] = lambda _: None,
    schedule: Schedule | None = None,
    **options: Any,
) -> Verification:
    """Verify `original` against `legalised` (the same by default), partitioned, then spoilt."""
    graph = legal(legalised or original)
    plan = schedule or one_each(graph)
    whole = partitioned_model(graph, plan)
    spoil(whole)
    return verify_models(original, onnx_of(graph), whole, partitions=partition_models(graph, plan), **options)


def onnx_of(graph: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(graph)
    assert isinstance(proto, onnx.ModelProto)
    return proto


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = {t.name: t for t in model.graph.initializer}[name]
    return found


def change_weight(model: onnx.ModelProto, name: str, by: float, place: int = 0) -> None:
    tensor = weight(model, name)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[place] += by
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def one_node(op: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(op, list(inputs), list(outputs), "n", **attributes)
    return make_model([node], inputs, outputs)


# ---- what is right


def test_hybrid_is_verified_bit_by_bit() -> None:
    result = verify(hybrid(), samples=3)
    assert result.status == Status.VERIFIED
    assert result.samples == 3
    pairs = [(c.reference, c.candidate, c.level, c.output) for c in result.comparisons]
    assert pairs == [
        (*pair, output)
        for pair in (
            ("original", "legalised", "ORT_DISABLE_ALL"),
            ("legalised", "partitioned", "ORT_DISABLE_ALL"),
            ("legalised", "partitioned", "ORT_ENABLE_BASIC"),
            ("legalised", "partitions", "ORT_DISABLE_ALL"),
        )
        for output in ("y", "a")
    ]
    assert {c.verdict for c in result.comparisons} == {Verdict.BIT_EQUAL}
    assert result.inputs[0].shape == (1, 3, 6, 6)
    assert not result.diagnostics
    assert Verification.from_json(result.to_json()) == result


def test_the_seed_decides_and_is_reproducible() -> None:
    shifted = hybrid()
    change_weight(shifted, "w2", 1e-7)
    first, again = verify(hybrid(), shifted), verify(hybrid(), shifted)
    assert first.to_json() == again.to_json()
    assert first.to_json() != verify(hybrid(), shifted, seed=1).to_json()


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs_verify(seed: int) -> None:
    model, schedule = random_dag(np.random.default_rng(1000 + seed))
    assert verify(model, schedule=schedule).status == Status.VERIFIED


# ---- what is wrong


def test_a_wrong_weight_is_found_at_its_node() -> None:
    shifted = hybrid()
    change_weight(shifted, "w2", 0.5)
    with pytest.raises(NumericsError) as caught:
        verify(hybrid(), shifted)
    first, *outputs = caught.value.problems
    assert first.where == ("conv2",)
    assert "'conv2' (Conv)" in first.what
    assert "max abs difference" in first.why
    assert {p.where for p in outputs} <= {("y",), ("a",)}
    assert "1e-4" in outputs[0].why.replace("0.0001", "1e-4")
    assert caught.value.exit_code == ExitCode.NUMERICS


def test_the_float32_bound_is_1e_4_of_the_largest_magnitude() -> None:
    inputs, outputs = {"x": (FLOAT, [4]), "d": (FLOAT, [4])}, {"y": (FLOAT, [4])}
    model = one_node("Add", inputs, outputs)
    nothing = make_model([helper.make_node("Identity", ["x"], ["y"], "n")], inputs, outputs)
    x = np.array([1, 2, 3, 100], np.float32)
    for gap, fits in ((0.0099, True), (0.0101, False)):
        feeds = [{"x": x, "d": np.array([gap, 0, 0, 0], np.float32)}]
        if fits:
            result = verify(model, nothing, inputs=feeds)
            assert result.comparisons[0].verdict == Verdict.WITHIN
            assert result.comparisons[0].max_abs == pytest.approx(gap, rel=1e-4)
        else:
            with pytest.raises(NumericsError, match=r"at \[0\]"):
                verify(model, nothing, inputs=feeds)


@pytest.mark.parametrize(("gap", "fits"), [(1, True), (2, False)])
def test_int8_may_be_off_by_one(gap: int, fits: bool) -> None:
    model = make_model(
        [helper.make_node("Add", ["x", "zero"], ["y"], "n")], {"x": (INT8, [3])}, {"y": (INT8, [3])},
        {"zero": np.array(0, np.int8)},
    )  # fmt: skip
    other = copied(model)
    change_weight(other, "zero", gap)
    feeds = [{"x": np.array([1, 2, 3], np.int8)}]
    if fits:
        assert verify(model, other, inputs=feeds).comparisons[0].max_abs == 1
    else:
        with pytest.raises(NumericsError, match="1 LSB of int8"):
            verify(model, other, inputs=feeds)


def test_wider_integers_are_exact() -> None:
    model = make_model(
        [helper.make_node("Add", ["x", "zero"], ["y"], "n")], {"x": (INT64, [3])}, {"y": (INT64, [3])},
        {"zero": np.array(0)},
    )  # fmt: skip
    other = copied(model)
    change_weight(other, "zero", 1)
    with pytest.raises(NumericsError, match="exact"):
        verify(model, other)


def quantised(scale: float) -> onnx.ModelProto:
    """x -> Q -> DQ -> y, moved by a Reshape; the zero point can be shifted by one step."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "zd"], ["d"], "d"),
        helper.make_node("Reshape", ["d", "shape"], ["y"], "r"),
    ]
    weights: dict[str, np.ndarray] = {
        "s": np.array(scale, np.float32),
        "z": np.array(0, np.int8),
        "zd": np.array(0, np.int8),
    }
    outputs: dict[str, Any] = {"y": (FLOAT, [2, 2])}
    return make_model(nodes, {"x": (FLOAT, [4])}, outputs, {**weights, "shape": np.array([2, 2])})


@pytest.mark.parametrize(("steps", "fits"), [(1, True), (2, False)])
def test_float_output_of_a_quantised_model_may_be_off_by_one_step(steps: int, fits: bool) -> None:
    other = quantised(0.1)
    change_weight(other, "zd", steps)
    if fits:
        result = verify(quantised(0.1), other)
        assert result.comparisons[0].tolerance.value == pytest.approx(0.1)
        assert not result.diagnostics
    else:
        with pytest.raises(NumericsError, match="1 LSB of the output's quantisation scale"):
            verify(quantised(0.1), other)


def test_an_unknown_scale_is_said() -> None:
    model = quantised(0.1)
    model.graph.node.append(helper.make_node("Sigmoid", ["y"], ["p"], "sigmoid"))
    model.graph.output[0].name = "p"
    assert [d.code for d in verify(model).diagnostics] == ["H4W703"]


def test_one_bit_in_the_partitioned_model_is_found_inside_its_function() -> None:
    def spoil(model: onnx.ModelProto) -> None:
        node = next(n for f in model.functions for n in f.node if n.name == "softmax")
        node.op_type = "LogSoftmax"

    with pytest.raises(NumericsError) as caught:
        verify(hybrid(), spoil=spoil)
    assert caught.value.problems[0].where == ("softmax",)
    assert [p.where for p in caught.value.problems[1:]] == [("y",)]


def test_the_smallest_float_change_in_the_partitioned_model_fails() -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["m"], "mul"), helper.make_node("Neg", ["m"], ["y"], "neg")]
    model = make_model(nodes, {"x": (FLOAT, [64])}, {"y": (FLOAT, [64])}, {"w": np.array(1.7, np.float32)})

    def spoil(whole: onnx.ModelProto) -> None:
        up = np.nextafter(numpy_helper.to_array(weight(whole, "w")), np.float32(np.inf))
        weight(whole, "w").CopyFrom(numpy_helper.from_array(np.asarray(up), "w"))

    with pytest.raises(NumericsError, match="every bit counts") as caught:
        verify(model, spoil=spoil)
    assert caught.value.problems[0].where == ("mul",)


def test_a_wrong_stand_alone_partition_is_found() -> None:
    graph, plan = hybrid_plan()
    parts = partition_models(graph, plan)
    change_weight(parts["p1_npu"], "w2", 1e-3)
    with pytest.raises(NumericsError, match="of the partitions model differs"):
        verify_models(hybrid(), onnx_of(graph), partitioned_model(graph, plan), partitions=parts)


def test_models_that_do_not_run_or_have_other_outputs() -> None:
    def wrong_op(model: onnx.ModelProto) -> None:
        model.functions[0].node[0].op_type = "NoSuchOp"

    with pytest.raises(NumericsError, match="partitioned model does not run"):
        verify(hybrid(), spoil=wrong_op)
    other = hybrid()
    del other.graph.output[1]
    with pytest.raises(NumericsError, match="other outputs"):
        verify(hybrid(), other)
    unknown = one_node("Relu", {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])})
    unknown.ir_version = 99
    with pytest.raises(UnsupportedOpError, match="does not load the original"):
        verify(unknown)


# ---- special values and types


def test_nan_and_infinity() -> None:
    model = one_node("Log", {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])})
    feeds = [{"x": np.array([-1, 0, 1, np.inf], np.float32)}]
    assert verify(model, inputs=feeds).comparisons[0].verdict == Verdict.BIT_EQUAL
    with pytest.raises(NumericsError):
        verify(model, one_node("Abs", {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}), inputs=feeds)


def test_an_output_of_nothing_but_nan_is_warned_about() -> None:
    inputs: dict[str, Shape] = {"x": (FLOAT, [2])}
    nodes = [helper.make_node("Sub", ["x", "inf"], ["a"], "a"), helper.make_node("Add", ["a", "inf"], ["y"], "b")]
    model = make_model(nodes, inputs, {"y": (FLOAT, [2])}, {"inf": np.array(np.inf, np.float32)})
    assert [d.code for d in verify(model).diagnostics] == ["H4W702"]


def test_half_precision_chain_is_compared_within_tolerance() -> None:
    half = (TensorProto.FLOAT16, [3, 5])
    nodes = [
        helper.make_node(op, ["x" if i == 0 else f"v{i}"], [f"v{i + 1}"], op)
        for i, op in enumerate(("Exp", "Sqrt", "Sin"))
    ]
    model = make_model(nodes, {"x": half}, {"v3": half})
    result = verify(model)
    assert {c.tolerance.kind for c in result.comparisons if c.candidate == "partitions"} == {"relative"}
    assert {c.tolerance.kind for c in result.comparisons if c.candidate == "partitioned"} == {"bits", "relative"}


def test_bfloat16_goes_in_and_out() -> None:
    shape = (TensorProto.BFLOAT16, [2, 3])
    model = make_model([helper.make_node("Identity", ["x"], ["y"], "n")], {"x": shape}, {"y": shape})
    assert verify(model).comparisons[0].dtype == "bfloat16"


def test_strings_and_sequences() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], "split", axis=0),
        helper.make_node("Identity", ["w"], ["v"], "same"),
    ]
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1, 2])
    model = make_model(
        nodes, {"x": (FLOAT, [3, 2]), "w": (TensorProto.STRING, [3])}, {"v": (TensorProto.STRING, [3])}
    )  # fmt: skip
    model.graph.output.append(sequence)
    result = verify(model)
    assert {c.dtype for c in result.comparisons} == {"object", "list"}
    assert {c.verdict for c in result.comparisons} == {Verdict.BIT_EQUAL}


# ---- random operators


def dropout(training: bool, **attributes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Dropout", ["x", "ratio", "training"], ["y"], "drop", **attributes),
        helper.make_node("Relu", ["x"], ["z"], "relu"),
    ]
    shape: Shape = (FLOAT, [64])
    weights = {"ratio": np.array(0.5, np.float32), "training": np.array(training)}
    return make_model(nodes, {"x": shape}, {"y": shape, "z": shape}, weights)


def test_random_outputs_are_said_not_to_be_comparable() -> None:
    result = verify(dropout(True))
    assert result.status == Status.PARTLY
    assert {c.output for c in result.comparisons if c.verdict == Verdict.NOT_COMPARABLE} == {"y"}
    assert [(d.code, d.where) for d in result.diagnostics] == [("H4W701", ("drop",))]
    only = one_node("RandomNormalLike", {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])})
    assert verify(only).status == Status.NOT_COMPARABLE


def test_dropout_for_inference_and_seeded_draws_are_comparable() -> None:
    assert verify(dropout(False)).status == Status.VERIFIED
    assert verify(dropout(True, seed=7)).status == Status.VERIFIED
    seeded = one_node("RandomUniformLike", {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, seed=3.0)
    assert verify(seeded).status == Status.VERIFIED


# ---- inputs


def test_inputs_the_model_refuses_are_replaced_by_others() -> None:
    table = {"t": np.arange(4, dtype=np.float32)[:1]}
    model = make_model(
        [helper.make_node("Gather", ["t", "i"], ["y"], "n")], {"i": (INT64, [64])}, {"y": (FLOAT, [64])}, table
    )
    result = verify(model)
    assert "uniform" in result.inputs[0].filled
    assert result.status == Status.VERIFIED


def test_no_inputs_are_accepted() -> None:
    model = make_model(
        [helper.make_node("Reshape", ["x", "s"], ["y"], "n")], {"x": (FLOAT, [6]), "s": (INT64, [2])},
        {"y": (FLOAT, None)},
    )  # fmt: skip
    with pytest.raises(UserError, match="fails on all generated inputs") as caught:
        verify(model)
    assert "--inputs" in caught.value.problems[0].hint
    assert len(caught.value.problems) == 5
    feeds = [{"x": np.arange(6, dtype=np.float32), "s": np.array([2, 3])}]
    assert verify(model, inputs=feeds).status == Status.VERIFIED


def test_a_free_dimension_takes_the_compiled_value() -> None:
    original = make_model(
        [helper.make_node("Relu", ["x"], ["y"], "n")], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])}
    )
    fixed = make_model([helper.make_node("Relu", ["x"], ["y"], "n")], {"x": (FLOAT, [5, 2])}, {"y": (FLOAT, [5, 2])})
    assert verify(original, fixed).inputs[0].shape == (5, 2)
    with pytest.raises(UserError, match="no test values"):
        verify(original, original)


def test_an_optimiser_that_refuses_the_model_is_a_warning() -> None:
    """Range wants a scalar and its kernel takes one element; with the condition known the optimiser sees the shape."""
    branches = {}
    for branch, dims in (("then_branch", [1]), ("else_branch", [])):
        value = numpy_helper.from_array(np.full(dims, 3.0, np.float32))
        inner = helper.make_node("Constant", [], [branch], value=value)
        shape = helper.make_tensor_value_info(branch, TensorProto.FLOAT, dims)
        branches[branch] = helper.make_graph([inner], branch, [], [shape])
    nodes = [
        helper.make_node("If", ["flag"], ["limit"], "if", **branches),
        helper.make_node("Range", ["start", "limit", "delta"], ["r"], "range"),
        helper.make_node("Add", ["r", "x"], ["y"], "add"),
    ]
    weights: dict[str, np.ndarray] = {
        "flag": np.array(True), "start": np.array(0, np.float32), "delta": np.array(1, np.float32)
    }  # fmt: skip
    model = make_model(nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, None)}, weights)
    result = verify(model)
    assert result.status == Status.PARTLY
    assert [d.code for d in result.diagnostics] == ["H4W704"]
    assert {c.level for c in result.comparisons} == {"ORT_DISABLE_ALL"}


def test_verification_is_json() -> None:
    data = json.loads(verify(hybrid()).to_json())
    assert data["status"] == "verified"
    assert data["comparisons"][0]["tolerance"]["value"] == 1e-4
    assert data["runtime"].startswith("onnxruntime ")


def test_an_output_without_a_finite_element_is_not_called_verified() -> None:
    nodes = [helper.make_node("Abs", ["x"], ["a"], "abs"), helper.make_node("Neg", ["a"], ["n"], "neg")]
    nodes += [helper.make_node("Sub", ["n", "one"], ["s"], "sub"), helper.make_node("Log", ["s"], ["y"], "log")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [4])],
        [value("y", onnx.TensorProto.FLOAT, [4])],
        [helper.make_tensor("one", onnx.TensorProto.FLOAT, [], [1.0])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    result = verify_models(model, model, model)
    assert result.status == "not comparable"
    assert "H4W702" in {d.code for d in result.diagnostics}
