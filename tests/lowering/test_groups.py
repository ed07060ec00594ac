"""Groups of nodes as operators: what enters, leaves and is stored; constants; origins; faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from h4hc import annotations as marks
from h4hc.errors import GraphError
from h4hc.lower import lower
from h4hc.workload import ElementwiseParams, FullyConnectedParams, OpKind, VectorParams, Workload
from tests.lowering.building import graph_model, lowered, to_ir, weights


def named(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.name): node for node in model.graph}


def grouped(model: ir.Model, anchor: str, *others: str, **what: Any) -> ir.Model:
    nodes = named(model)
    marks.join_group(nodes[anchor], [nodes[o] for o in others], **what)
    return model


def qdq_conv() -> ir.Model:
    """DequantizeLinear -> Conv (weights and bias dequantised) -> QuantizeLinear."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"], name="dx"),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wf"], name="dw", axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["bf"], name="db"),
        helper.make_node("Conv", ["xf", "wf", "bf"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["y"], name="q"),
    ]
    given = {
        "x": ("int8", (1, 3, 8, 8)),
        "xs": weights(),
        "xz": weights(dtype=np.int8),
        "w": weights(4, 3, 3, 3, dtype=np.int8),
        "ws": weights(4),
        "b": weights(4, dtype=np.int32),
        "bs": weights(),
        "ys": weights(),
        "yz": weights(dtype=np.int8),
    }
    return to_ir(graph_model(nodes, given, ["y"]))


def test_a_quantised_group_is_one_integer_operator() -> None:
    workload = lower(grouped(qdq_conv(), "conv", "dx", "dw", "db", "q"), "auto-int8")
    (op,) = workload.ops
    assert workload.precision == "as stored"
    assert (op.id, op.kind, op.dtype, op.macs) == ("conv", OpKind.CONV, "int8", 4 * 36 * 27)
    assert (op.inputs, op.outputs) == (("x",), ("y",))
    assert op.op_types == ("DequantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear")
    assert op.origin == ("conv", "db", "dw", "dx", "q")
    assert set(op.weights) == {"xs", "xz", "w", "ws", "b", "bs", "ys", "yz"}
    assert op.weight_bytes == 4 * 27 + 4 * 4 + 4 * 4 + 3 * 4 + 2  # weights, biases, channel scales, scales, zero points
    assert (op.input_bytes, op.output_bytes) == (192, 144)


def test_the_same_nodes_ungrouped_compute_in_float() -> None:
    workload = lower(qdq_conv(), "auto-int8")
    assert [(op.id, op.kind, op.dtype) for op in workload.ops] == [
        ("dx", OpKind.QUANTIZE, "float32"),
        ("conv", OpKind.CONV, "float32"),
        ("q", OpKind.QUANTIZE, "float32"),
    ]
    conv = workload.ops[1]
    assert conv.weights == ("wf", "bf")  # made at compile time by dw and db, which run nowhere
    assert conv.origin == ("conv", "db", "dw")
    assert conv.weight_bytes == 4 * (108 + 4)


def test_fused_activation_and_region() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Clip", ["c", "lo", "hi"], ["y"], name="clip"),
    ]
    given = {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3), "lo": weights(), "hi": weights()}
    model = grouped(to_ir(graph_model(nodes, given, ["y"])), "conv", "clip", activation="relu6")
    named(model)["conv"].metadata_props[marks.REGION] = "attention_0"
    (op,) = lower(model, "auto-int8").ops
    assert (op.kind, op.activation, op.region) == (OpKind.CONV, "relu6", "attention_0")
    assert (op.weights, op.weight_bytes, op.op_types) == (("w",), 108, ("Conv", "Clip"))


def test_fully_connected_with_its_bias() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="mm"),
        helper.make_node("Add", ["m", "b"], ["y"], name="add"),
    ]
    given = {"x": ("float", (2, 5, 8)), "w": weights(8, 1), "b": weights(1)}
    model = to_ir(graph_model(nodes, given, ["y"]))
    grouped(model, "mm", "add", kind="fully_connected", params={"weight": "w", "bias": "b"})
    (op,) = lower(model, "auto-int8").ops
    assert op.params == FullyConnectedParams("fully_connected", 10, 8, 1)
    assert (op.weights, op.weight_bytes) == (("w", "b"), 8 + 4)  # a bias of one element is still a bias


def test_convolution_with_an_added_bias() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Add", ["c", "b"], ["y"], name="add"),
    ]
    given = {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3), "b": weights(1, 4, 1, 1)}
    model = grouped(to_ir(graph_model(nodes, given, ["y"])), "conv", "add", params={"bias": "b"})
    (op,) = lower(model, "auto-int8").ops
    assert (op.kind, op.weight_bytes) == (OpKind.CONV, 108 + 4 * 4)


def decomposed_norm() -> ir.Model:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], name="mean"),
        helper.make_node("Sub", ["x", "m"], ["d"], name="sub"),
        helper.make_node("Pow", ["d", "two"], ["p"], name="pow"),
        helper.make_node("ReduceMean", ["p", "axes"], ["v"], name="var"),
        helper.make_node("Add", ["v", "eps"], ["e"], name="eps_add"),
        helper.make_node("Sqrt", ["e"], ["r"], name="sqrt"),
        helper.make_node("Div", ["d", "r"], ["n"], name="div"),
        helper.make_node("Mul", ["n", "g"], ["s"], name="scale"),
        helper.make_node("Add", ["s", "b"], ["y"], name="shift"),
    ]
    given = {
        "x": ("float", (2, 7, 16)),
        "axes": np.array([-1], np.int64),
        "two": weights(),
        "eps": weights(),
        "g": weights(16),
        "b": weights(16),
    }
    return to_ir(graph_model(nodes, given, ["y"]))


def test_a_norm_out_of_parts() -> None:
    model = decomposed_norm()
    names = [n for n in named(model) if n != "mean"]
    grouped(model, "mean", *names, kind="layer_norm", params={"input": "x", "axes": [2], "scale": "g", "bias": "b"})
    (op,) = lower(model, "stored").ops
    assert op.params == VectorParams("vector", "layer_norm", 14, 16)
    assert (op.kind, op.weights, op.weight_bytes) == (OpKind.NORM, ("g", "b"), 128)
    assert op.macs == 0


def test_an_activation_out_of_parts() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"], name="sigmoid"),
        helper.make_node("Mul", ["x", "s"], ["y"], name="mul"),
    ]
    model = to_ir(graph_model(nodes, {"x": ("float", (2, 6))}, ["y"]))
    grouped(model, "sigmoid", "mul", kind="activation", activation="silu")
    (op,) = lower(model, "auto-int8").ops
    assert op.params == ElementwiseParams("elementwise", "silu", 12, 1)
    assert (op.kind, op.activation, op.input_bytes) == (OpKind.ACTIVATION, "", 12)


# ---------------------------------------------------------------- constants


def constant_model(outputs: list[str]) -> Workload:
    """x * (Sqrt(k) + c), where the bracket is known at compile time."""
    nodes = [
        helper.make_node("Constant", [], ["c"], name="const", value=onnx.numpy_helper.from_array(weights(4))),
        helper.make_node("Sqrt", ["k"], ["r"], name="sqrt"),
        helper.make_node("Add", ["r", "c"], ["s"], name="add"),
        helper.make_node("Mul", ["x", "s"], ["y"], name="mul"),
    ]
    return lowered(graph_model(nodes, {"x": ("float", (2, 4)), "k": weights(4)}, outputs))


def test_what_is_known_at_compile_time_is_a_weight_of_its_user() -> None:
    (op,) = constant_model(["y"]).ops
    assert (op.id, op.weights, op.weight_bytes, op.inputs) == ("mul", ("s",), 16, ("x",))
    assert op.origin == ("add", "const", "mul", "sqrt")


def test_a_constant_model_output_is_made_on_the_host() -> None:
    workload = constant_model(["y", "s"])
    assert [op.id for op in workload.ops] == ["add", "mul"]
    made, user = workload.ops
    assert (made.inputs, made.outputs, made.weights) == ((), ("s",), ("r", "c"))
    assert made.output_bytes == 16
    assert user.weights == ("s",)


@pytest.mark.parametrize("op_type", ["Transpose", "Flatten", "ReduceSum", "Relu", "Concat", "Identity"])
def test_a_constant_output_of_any_class_is_host_work(op_type: str) -> None:
    """No input flows in, so there is nothing to be a view of; the bytes of the result are paid."""
    attributes: dict[str, Any] = {"axis": 0} if op_type == "Concat" else {}
    node = helper.make_node(op_type, ["k"], ["y"], name="n", **attributes)
    (op,) = lowered(graph_model([node], {"x": ("float", (1,)), "k": weights(2, 3)}, ["y"])).ops
    assert (op.kind, op.weights, op.inputs) == (OpKind.GENERIC, ("k",), ())
    assert op.output_bytes > 0


def test_a_constant_arranged_by_data_is_host_work() -> None:
    node = helper.make_node("Reshape", ["k", "s"], ["y"], name="n")
    y = helper.make_tensor_value_info("y", 1, (3, 2))
    (op,) = lowered(graph_model([node], {"s": ("int64", (2,)), "k": weights(2, 3)}, [y])).ops
    assert (op.kind, op.inputs, op.weights) == (OpKind.GENERIC, ("s",), ("k",))


@pytest.mark.parametrize("used", [True, False])
def test_a_model_of_constants_only_still_has_operators(used: bool) -> None:
    nodes = [
        helper.make_node("Sqrt", ["k"], ["r"], name="sqrt"),
        helper.make_node("Neg", ["r"], ["n"], name="neg"),
    ]
    output = "n" if used else helper.make_tensor_value_info("x", 1, (3,))
    workload = lowered(graph_model(nodes, {"x": ("float", (3,)), "k": weights(4)}, [output]))
    assert [op.id for op in workload.ops] == ["neg"]
    assert workload.ops[0].origin == ("neg", "sqrt")
    assert all(name in workload.tensor for name in (*workload.inputs, *workload.outputs))


def test_an_initialiser_as_model_output_needs_no_operator() -> None:
    workload = lowered(
        graph_model([], {"x": ("float", (3,)), "k": weights(4)}, [helper.make_tensor_value_info("k", 1, (4,))])
    )
    assert workload.ops == ()
    assert workload.tensor["k"].size_bytes == 16


def test_random_numbers_are_no_constants() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], name="random", shape=[4]),
        helper.make_node("RandomUniformLike", ["k"], ["u"], name="like"),
        helper.make_node("Sum", ["x", "r", "u"], ["y"], name="sum"),
    ]
    workload = lowered(graph_model(nodes, {"x": ("float", (4,)), "k": weights(4)}, ["y"]))
    assert [op.id for op in workload.ops] == ["random", "like", "sum"]
    assert workload.ops[2].inputs == ("x", "r", "u")


def test_an_initialiser_that_the_caller_may_override_is_an_input() -> None:
    model = graph_model(
        [helper.make_node("Add", ["x", "k"], ["y"], name="add")], {"x": ("float", (4,)), "k": weights(4)}, ["y"]
    )
    model.graph.input.append(helper.make_tensor_value_info("k", 1, (4,)))
    assert lowered(model).inputs == ("x", "k")
    model.ir_version = 3  # there every initialiser had to be listed
    assert lowered(model).inputs == ("x",)
    assert lowered(model).ops[0].weights == ("k",)


# ---------------------------------------------------------------- order and faults


def test_nodes_out_of_order_are_put_in_order() -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["y"], name="third"),
        helper.make_node("Abs", ["x"], ["a"], name="first"),
        helper.make_node("Neg", ["a"], ["b"], name="second"),
    ]
    model = ir.from_proto(graph_model(nodes, {"x": ("float", (4,))}, ["y"]))
    marks.stamp_origins(model)
    assert [op.id for op in lower(model, "stored").ops] == ["first", "second", "third"]


def test_a_cycle_names_its_nodes() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Neg", ["a"], ["b"], name="two"),
        helper.make_node("Abs", ["b"], ["y"], name="behind"),
    ]
    model = ir.from_proto(graph_model(nodes, {"x": ("float", (4,))}, ["y"]))
    marks.stamp_origins(model)
    with pytest.raises(GraphError, match="cycle") as caught:
        lower(model, "stored")
    assert set(caught.value.problems[0].where) == {"one", "two"}


def test_a_group_that_is_not_convex_is_refused() -> None:
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="first"),
        helper.make_node("Neg", ["a"], ["b"], name="outside"),
        helper.make_node("Add", ["a", "b"], ["y"], name="last"),
    ]
    model = to_ir(graph_model(nodes, {"x": ("float", (4,))}, ["y"]))
    grouped(model, "first", "last")
    with pytest.raises(GraphError, match="not convex") as caught:
        lower(model, "stored")
    assert set(caught.value.problems[0].where) == {"first", "last", "outside"}


def test_groups_without_anchor_and_names_used_twice_are_all_reported() -> None:
    nodes = [helper.make_node("Abs", ["x"], [f"y{i}"], name=f"n{i}") for i in range(4)]
    model = to_ir(graph_model(nodes, {"x": ("float", (4,))}, [f"y{i}" for i in range(4)]))
    found = named(model)
    found["n0"].metadata_props[marks.GROUP] = "gone"
    found["n2"].name = "n1"
    found["n3"].name = ""
    with pytest.raises(GraphError) as caught:
        lower(model, "stored")
    assert [p.what for p in caught.value.problems] == [
        "operator 'gone' has no anchor node",
        "2 nodes are called 'n1'",
        "a node has no name",
    ]
