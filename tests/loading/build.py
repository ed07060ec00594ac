"""Small ONNX models for the loader's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT, INT64, INT8, INT32 = 1, 7, 3, 6


def value(name: str, shape: Sequence[int | str | None] | None = (2, 3), kind: int = FLOAT) -> onnx.ValueInfoProto:
    """A typed value; shape None leaves the rank open."""
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, array: object, kind: str = "float32") -> onnx.TensorProto:
    """A tensor with raw data."""
    return numpy_helper.from_array(np.asarray(array, dtype=kind), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 20,
    ir_version: int = 10,
    domains: Sequence[tuple[str, int]] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    value_info: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """A model x [2, 3] float -> y, unless other inputs and outputs are given."""
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x")] if inputs is None else inputs,
        [value("y", None)] if outputs is None else outputs,
        initializers,
        value_info=value_info,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in domains)]
    return helper.make_model(graph, ir_version=ir_version, opset_imports=imports, functions=functions)


WEIGHT = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def add_weight() -> onnx.ModelProto:
    """y = x + w, node 'add', w = WEIGHT."""
    return model([helper.make_node("Add", ["x", "w"], ["y"], name="add")], initializers=[tensor("w", WEIGHT)])


def nested_if(depth: int) -> onnx.ModelProto:
    """If inside If, `depth` graphs deep below the main graph."""
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["o0"], name="relu")], "b0", [], [value("o0", None)])
    for level in range(1, depth):
        other = helper.make_graph([helper.make_node("Abs", ["x"], [f"e{level}"])], "e", [], [value(f"e{level}", None)])
        node = helper.make_node("If", ["c"], [f"o{level}"], name=f"if{level}", then_branch=inner, else_branch=other)
        inner = helper.make_graph([node], f"b{level}", [], [value(f"o{level}", None)])
    last = helper.make_graph([helper.make_node("Abs", ["x"], ["z"])], "e", [], [value("z", None)])
    top = helper.make_node("If", ["c"], ["y"], name="top", then_branch=inner, else_branch=last)
    return model([top], [value("x"), value("c", (), onnx.TensorProto.BOOL)])


def function_chain(levels: int, calls: int = 2) -> onnx.ModelProto:
    """f_0 = Relu, f_i = f_(i-1) `calls` times in a row: calls^levels nodes when written out."""
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("bomb", 1)]
    functions = []
    for level in range(levels + 1):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
        nodes = (
            [helper.make_node("Relu", ["a"], ["b"])]
            if level == 0
            else [helper.make_node(f"f{level - 1}", [names[i]], [names[i + 1]], domain="bomb") for i in range(calls)]
        )
        functions.append(helper.make_function("bomb", f"f{level}", ["a"], ["b"], nodes, imports))
    call = helper.make_node(f"f{levels}", ["x"], ["y"], domain="bomb", name="call")
    return model([call], domains=[("bomb", 1)], functions=functions)


def quantize(scale: object, zero: object = 0, *, kind: str = "float32", zero_kind: str = "int8") -> onnx.ModelProto:
    """y = dequantise(quantise(x)), nodes 'q' and 'dq', scale and zero point as given."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["y"], name="dq"),
    ]
    return model(nodes, initializers=[tensor("s", scale, kind), tensor("z", zero, zero_kind)])


def field(number: int, body: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(number: int) -> bytes:
    """Protobuf's integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def deep_wire(levels: int) -> bytes:
    """A model of graph > node > attribute > graph ..., deeper than protobuf itself would write."""
    body = b""
    for _ in range(levels):
        body = field(1, field(5, field(6, body)))
    return field(7, body)
