"""The partitioned model and the stand-alone partitions against onnxruntime and the ONNX checker."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from h4hc.annotations import ORIGIN
from h4hc.compare import BITS, compare
from h4hc.errors import InternalError
from h4hc.ortrun import Level, Runner
from h4hc.partitioned import DEVICE, DOMAIN, PARTITION, model_bytes, partition_models, partitioned_model
from h4hc.schedule import Partition, Schedule
from tests.partition_models import hybrid, hybrid_plan, legal, make_model, one_each, random_dag, runs

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def run(model: onnx.ModelProto, feeds: dict[str, Any], level: Level = Level.DISABLE_ALL) -> dict[str, Any]:
    return Runner(model_bytes(model), level).run(feeds)


def chain(parts: dict[str, onnx.ModelProto], feeds: dict[str, Any]) -> dict[str, Any]:
    values = dict(feeds)
    for part in parts.values():
        values.update(run(part, values))
    return values


def assert_same(wanted: dict[str, Any], got: dict[str, Any]) -> None:
    for name, value in wanted.items():
        difference = compare(value, got[name], BITS)
        assert difference.within, f"{name}: {difference.sentence()}"


def check(model: onnx.ModelProto, schedule: Schedule, feeds: dict[str, Any]) -> onnx.ModelProto:
    """Emit both forms, check them, run them, compare every output bit by bit."""
    graph = legal(model)
    whole, parts = partitioned_model(graph, schedule), partition_models(graph, schedule)
    onnx.checker.check_model(whole, full_check=True)
    for part in parts.values():
        onnx.checker.check_model(part, full_check=True)
    wanted = run(model, feeds)
    assert_same(wanted, run(whole, feeds))
    made = {value.name for part in parts.values() for value in part.graph.output}
    assert_same({n: v for n, v in wanted.items() if n in made}, chain(parts, feeds))
    return whole


def x_feed(seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 3, 6, 6), np.float32)}


def test_hybrid_structure() -> None:
    model, schedule = hybrid_plan()
    whole = partitioned_model(model, schedule)
    assert [n.op_type for n in whole.graph.node] == ["p0_cim", "p1_npu", "p2_host", "p3_cim", "p4_host"]
    assert {n.domain for n in whole.graph.node} == {DOMAIN}
    first = whole.functions[0]
    assert [n.op_type for n in first.node] == ["Conv", "Relu"]
    assert list(first.input) == ["x", "w1", "b1"]
    assert list(first.output) == ["r1"]
    assert {p.key: p.value for p in first.metadata_props} == {PARTITION: "p0_cim", DEVICE: "cim"}
    assert {p.key: p.value for p in first.node[1].metadata_props}[ORIGIN] == '["relu1"]'
    assert {p.key: p.value for p in whole.graph.node[0].metadata_props}[ORIGIN] == '["conv1", "relu1"]'
    assert {v.name for v in first.value_info} >= {"x", "w1", "b1", "c1", "r1"}
    assert {v.name for v in whole.graph.value_info}.isdisjoint({"c1", "c2"})
    assert whole.ir_version >= 10
    assert [o.version for o in whole.opset_import if o.domain == ""] == [17]
    assert [t.name for t in whole.graph.initializer] == ["w1", "b1", "w2", "w3", "b3"]


@pytest.mark.parametrize("level", list(Level))
def test_hybrid_runs_with_the_same_bits(level: Level) -> None:
    model, schedule = hybrid_plan()
    for seed in range(3):
        assert_same(run(hybrid(), x_feed(seed), level), run(partitioned_model(model, schedule), x_feed(seed), level))


def test_every_split_of_the_hybrid() -> None:
    ops = [n.name for n in hybrid().graph.node]
    for cut in range(1, len(ops)):
        check(hybrid(), runs(ops, ["cim"] * cut + ["npu"] * (len(ops) - cut)), x_feed(cut))
    check(hybrid(), one_each(legal(hybrid())), x_feed())


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, schedule = random_dag(rng)
    feeds = {n: rng.standard_normal((2, 4)).astype(np.float32) for n in ("x0", "x1")}
    check(model, schedule, feeds)


def test_standalone_models_hold_their_weights_and_types() -> None:
    model, schedule = hybrid_plan()
    parts = partition_models(model, schedule)
    assert list(parts) == [p.id for p in schedule.partitions]
    first = parts["p0_cim"]
    assert [t.name for t in first.graph.initializer] == ["w1", "b1"]
    assert [v.name for v in first.graph.input] == ["x"]
    assert [d.dim_value for d in first.graph.output[0].type.tensor_type.shape.dim] == [1, 8, 6, 6]
    weights = [t.name for p in parts.values() for t in p.graph.initializer]
    assert sorted(weights) == ["b1", "b3", "w1", "w2", "w3"]


def test_the_callers_model_is_left_alone() -> None:
    model, schedule = hybrid_plan()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    partitioned_model(model, schedule)
    partition_models(model, schedule)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_same_bytes_under_another_hash_seed() -> None:
    code = (
        "import hashlib; from tests.partition_models import hybrid_plan; from h4hc.partitioned import *;"
        "m, s = hybrid_plan(); d = [model_bytes(partitioned_model(m, s))];"
        "d += [model_bytes(p) for p in partition_models(m, s).values()];"
        "print(hashlib.sha256(b''.join(d)).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_optional_inputs_and_unused_outputs() -> None:
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Clip", ["x", "", "top"], ["c"], "clip"),
        helper.make_node("MaxPool", ["c"], ["m", ""], "pool", kernel_shape=[1]),
        helper.make_node("LayerNormalization", ["m", "s"], ["y", "", "i"], "ln"),
    ]
    weights = {"top": np.array(0.5, np.float32), "s": np.ones(4, np.float32)}
    outputs = {"y": (FLOAT, [1, 3, 4]), "i": (FLOAT, [1, 3, 1])}
    model = make_model(nodes, {"x": (FLOAT, [1, 3, 4])}, outputs, weights)
    whole = check(model, one_each(legal(model)), {"x": rng.standard_normal((1, 3, 4)).astype(np.float32)})
    assert list(whole.functions[0].node[0].input) == ["x", "", "top"]
    assert list(whole.functions[1].output) == ["m"]
    assert list(whole.functions[2].node[0].output) == ["y", "", "i"]
    assert list(whole.functions[2].output) == ["y", "i"]


def test_input_and_weight_as_outputs_and_a_dead_end() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], "relu"),
        helper.make_node("Abs", ["y"], ["unused"], "dead"),
    ]
    outputs: dict[str, Any] = {n: (FLOAT, [2]) for n in ("y", "x", "w")}
    model = make_model(nodes, {"x": (FLOAT, [2])}, outputs, {"w": np.array([1, 2], np.float32)})
    whole = check(model, runs(["relu", "dead"], ["npu", "host"]), {"x": np.array([-1, 3], np.float32)})
    assert list(whole.functions[1].output) == ["unused"]


def test_no_operator_at_all() -> None:
    model = make_model([], {"x": (FLOAT, [2])}, {"x": (FLOAT, [2])})
    whole = check(model, Schedule((), ()), {"x": np.array([1, 2], np.float32)})
    assert not whole.functions


def test_constants_outside_the_plan_stay_before_the_calls() -> None:
    two = numpy_helper.from_array(np.array([2], np.float32))
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("ConstantOfShape", ["shape"], ["big"], "big", value=two),
        helper.make_node("Neg", ["big"], ["minus"], "minus"),
        helper.make_node("Mul", ["r", "minus"], ["y"], "mul"),
    ]
    model = make_model(nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}, {"shape": np.array([4])})
    whole = check(model, runs(["relu", "mul"], ["npu", "cim"]), {"x": np.arange(4, dtype=np.float32)})
    assert [n.op_type for n in whole.graph.node] == ["ConstantOfShape", "Neg", "p0_npu", "p1_cim"]
    part = partition_models(legal(model), runs(["relu", "mul"], ["npu", "cim"]))["p1_cim"]
    assert [n.op_type for n in part.graph.node] == ["ConstantOfShape", "Neg", "Mul"]
    assert [v.name for v in part.graph.input] == ["r"]


def test_loop_captures_weights_and_values() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carry", "w"], ["sum"]),
            helper.make_node("Mul", ["sum", "r"], ["next"]),
            helper.make_node("Identity", ["go"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carry", FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [2]),
        ],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Loop", ["n", "", "r"], ["y"], "loop", body=body),
    ]
    weights = {"w": np.array([1, 2], np.float32), "n": np.array(3)}
    model = make_model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, weights)
    whole = check(model, one_each(legal(model)), {"x": np.array([0.5, 1], np.float32)})
    assert list(whole.functions[1].input) == ["n", "r", "w"]


def test_sequences_and_strings_between_partitions() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], "split", axis=0),
        helper.make_node("SequenceAt", ["s", "one"], ["t"], "at"),
        helper.make_node("Identity", ["words"], ["w"], "same"),
        helper.make_node("Unique", ["w"], ["u"], "unique", sorted=1),
    ]
    outputs: dict[str, Any] = {"t": (FLOAT, [1, 2]), "u": (TensorProto.STRING, ["n"])}
    inputs = {"x": (FLOAT, [3, 2]), "words": (TensorProto.STRING, [3])}
    model = make_model(nodes, inputs, outputs, {"one": np.array(1)})
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "words": np.array(["b", "a", "b"], dtype=object)}
    check(model, one_each(legal(model)), feeds)


def test_qdq_and_microsoft_operators() -> None:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("Gelu", ["d"], ["g"], "gelu", domain="com.microsoft"),
    ]
    weights: dict[str, np.ndarray] = {"s": np.array(0.05, np.float32), "z": np.array(3, np.int8)}
    model = make_model(nodes, {"x": (FLOAT, [5])}, {"g": (FLOAT, [5])}, weights, domains={"com.microsoft": 1})
    whole = check(model, one_each(legal(model)), {"x": rng.standard_normal(5).astype(np.float32)})
    assert [o.domain for o in whole.functions[2].opset_import] == ["com.microsoft"]


def test_a_function_operator_without_its_default_attributes() -> None:
    """onnxruntime refuses MeanVarianceNormalization without `axes` inside a model-local function."""
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], "mvn")
    model = make_model([node], {"x": (FLOAT, [1, 2, 3, 3])}, {"y": (FLOAT, [1, 2, 3, 3])})
    check(model, runs(["mvn"], ["npu"]), {"x": np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)})


def test_the_models_own_functions_stay() -> None:
    inner = helper.make_function(
        "user", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    outer = helper.make_function(
        DOMAIN, "p0_npu", ["a"], ["b"], [helper.make_node("twice", ["a"], ["b"], domain="user")],
        [helper.make_opsetid("user", 1)],
    )  # fmt: skip
    nodes = [helper.make_node("p0_npu", ["x"], ["y"], "call", domain=DOMAIN)]
    shape = (FLOAT, [2])
    model = make_model(nodes, {"x": shape}, {"y": shape}, domains={"user": 1, DOMAIN: 1}, functions=[inner, outer])
    whole = check(model, runs(["call"], ["npu"]), {"x": np.array([1, 2], np.float32)})
    assert [f.name for f in whole.functions] == ["twice", "p0_npu", "p0_npu_2"]


def test_old_models_list_their_weights_as_inputs() -> None:
    model = hybrid()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph = legal(model)
    whole = partitioned_model(graph, one_each(graph))
    assert [v.name for v in whole.graph.input] == ["x"]
    assert_same(run(hybrid(), x_feed()), run(whole, x_feed()))


def test_schedules_that_do_not_fit_are_refused() -> None:
    model = legal(hybrid())
    ops = [n.name for n in hybrid().graph.node]
    with pytest.raises(InternalError, match="in no partition") as missing:
        partitioned_model(model, runs(ops[1:], ["npu"] * 7))
    assert missing.value.problems[0].where == ("conv1",)
    with pytest.raises(InternalError, match="do not exist when it starts"):
        partitioned_model(
            model, Schedule((), (Partition("p0", "npu", tuple(ops[1:])), Partition("p1", "cim", ("conv1",))))
        )
    with pytest.raises(InternalError, match="in two partitions"):
        partitioned_model(model, Schedule((), (Partition("p0", "npu", tuple(ops)), Partition("p1", "cim", ("conv1",)))))
    with pytest.raises(InternalError, match="has no node"):
        partitioned_model(model, runs([*ops, "ghost"], ["npu"] * 9))


def test_types_are_asked_for_where_the_model_has_none() -> None:
    model = hybrid()
    del model.graph.value_info[:]
    parts = partition_models(legal(model), one_each(legal(model)))
    assert_same(run(model, x_feed()), chain(parts, x_feed()))
    assert [d.dim_value for d in parts["p1_cim"].graph.input[0].type.tensor_type.shape.dim] == [1, 8, 6, 6]
