"""If, Loop, Scan: one host operator that sums its bodies."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from h4hc.workload import GenericParams, OpKind
from tests.lowering.building import graph_model, lowered, session_outputs, weights

FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def info(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def product_body(inner: int, name: str) -> onnx.GraphProto:
    """x @ (4 x inner) @ (inner x 4), where x (3 x 4) is captured from outside."""
    nodes = [
        helper.make_node("MatMul", ["x", f"{name}_a"], [f"{name}_h"]),
        helper.make_node("MatMul", [f"{name}_h", f"{name}_b"], [f"{name}_y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weights(4, inner), f"{name}_a"),
        onnx.numpy_helper.from_array(weights(inner, 4), f"{name}_b"),
    ]
    return helper.make_graph(nodes, name, [], [info(f"{name}_y", FLOAT, 3, 4)], constants)


def loop_body(extra: onnx.NodeProto | None = None) -> onnx.GraphProto:
    nodes = [
        helper.make_node("Identity", ["go"], ["going"]),
        helper.make_node("MatMul", ["state", "w"], ["next"]),
    ]
    if extra is not None:
        nodes.append(extra)
    inputs = [info("i", INT), info("go", BOOL), info("state", FLOAT, 3, 4)]
    return helper.make_graph(nodes, "body", inputs, [info("going", BOOL), info("next", FLOAT, 3, 4)])


def test_if_costs_its_larger_branch_and_stores_both() -> None:
    node = helper.make_node(
        "If", ["c"], ["y"], name="if", then_branch=product_body(5, "t"), else_branch=product_body(7, "e")
    )
    workload = lowered(graph_model([node], {"c": ("bool", ()), "x": ("float", (3, 4))}, ["y"]))
    (op,) = workload.ops
    assert (op.kind, op.macs) == (OpKind.CONTROL_FLOW, 2 * 3 * 4 * 7)
    assert op.inputs == ("c", "x")  # the captured value enters too
    assert op.weight_bytes == 4 * (2 * 4 * 5 + 2 * 4 * 7)
    assert sum(workload.tensor[w].size_bytes for w in op.weights) == op.weight_bytes
    assert op.input_bytes == 1 + 48 + (48 + 4 * 3 * 7)  # own inputs, then what the two products read
    assert op.output_bytes == 48 + (4 * 3 * 7 + 48)
    assert workload.diagnostics == ()


def test_loop_runs_its_body_as_often_as_its_trip_count_says() -> None:
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], name="loop", body=loop_body())
    given = {"m": np.array(6, np.int64), "x": ("float", (3, 4)), "w": weights(4, 4)}
    model = graph_model([node], given, [info("y", FLOAT, 3, 4)])
    (result,) = session_outputs(model, {"x": np.ones((3, 4), np.float32)})
    assert result[0, 0] == 4.0**6  # it does run six times
    (op,) = lowered(model).ops
    assert (op.macs, op.weights) == (6 * 3 * 4 * 4, ("m", "w"))
    assert op.weight_bytes == 8 + 64
    once = lowered(graph_model([node], {**given, "m": np.array(1, np.int64)}, [info("y", FLOAT, 3, 4)])).ops[0]
    assert isinstance(op.params, GenericParams)
    assert isinstance(once.params, GenericParams)
    assert op.params.elements == 6 * once.params.elements


def test_loop_without_known_trip_count_is_costed_once_and_says_so() -> None:
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], name="loop", body=loop_body())
    given = {"m": ("int64", ()), "x": ("float", (3, 4)), "w": weights(4, 4)}
    workload = lowered(graph_model([node], given, [info("y", FLOAT, 3, 4)]))
    assert workload.ops[0].macs == 3 * 4 * 4
    assert [(d.code, d.where) for d in workload.diagnostics] == [("H4W114", ("loop",))]


def test_scan_walks_its_axis() -> None:
    nodes = [
        helper.make_node("Add", ["state", "step"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["out"]),
    ]
    inputs = [info("state", FLOAT, 4), info("step", FLOAT, 4)]
    body = helper.make_graph(nodes, "b", inputs, [info("sum", FLOAT, 4), info("out", FLOAT, 2)])
    node = helper.make_node(
        "Scan", ["s", "x"], ["final", "y"], name="scan", body=body, num_scan_inputs=1, scan_input_axes=[1]
    )
    given = {"s": ("float", (4,)), "x": ("float", (4, 9)), "w": weights(4, 2)}
    (op,) = lowered(graph_model([node], given, ["final", "y"])).ops
    assert (op.kind, op.macs) == (OpKind.CONTROL_FLOW, 9 * 4 * 2)


def test_control_flow_inside_control_flow_multiplies() -> None:
    inner = helper.make_node(
        "If", ["going"], ["unused"], then_branch=product_body(5, "t"), else_branch=product_body(2, "e")
    )
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], name="loop", body=loop_body(inner))
    given = {"m": np.array(3, np.int64), "x": ("float", (3, 4)), "w": weights(4, 4)}
    (op,) = lowered(graph_model([node], given, [info("y", FLOAT, 3, 4)])).ops
    assert op.macs == 3 * (3 * 4 * 4 + 2 * 3 * 4 * 5)


def test_deep_nesting_needs_no_recursion() -> None:
    graph = product_body(5, "leaf")
    for depth in range(28):  # protobuf itself reads no deeper
        empty = helper.make_graph(
            [helper.make_node("Relu", ["x"], [f"r{depth}"])], "e", [], [info(f"r{depth}", FLOAT, 3, 4)]
        )
        node = helper.make_node("If", ["c"], [f"v{depth}"], name=f"if{depth}", then_branch=graph, else_branch=empty)
        graph = helper.make_graph([node], f"g{depth}", [], [info(f"v{depth}", FLOAT, 3, 4)])
    nodes = list(graph.node)
    workload = lowered(graph_model(nodes, {"c": ("bool", ()), "x": ("float", (3, 4))}, ["v27"]))
    assert workload.ops[0].macs == 2 * 3 * 4 * 5
