"""Small legalised models with hand-made schedules, and random ones, for the tests of emit and verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.random import Generator
from onnx import TensorProto, helper, numpy_helper

from h4hc.annotations import group_members, join_group, stamp_origins
from h4hc.schedule import Partition, Schedule

DEVICES = ("npu", "cim", "host")


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str] | None]],
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of IR 10 with complete value_info; inputs and outputs: name -> (type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=list(functions))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def legal(model: onnx.ModelProto) -> ir.Model:
    """As it comes out of the pipeline when no pass has anything to do."""
    result = ir.from_proto(model)
    assert isinstance(result, ir.Model)
    stamp_origins(result)
    return result


def runs(ops: Sequence[str], devices: Sequence[str]) -> Schedule:
    """The schedule of operators in this order on these devices, cut where the device changes; no steps."""
    parts: list[tuple[str, list[str]]] = []
    for op, device in zip(ops, devices, strict=True):
        if not parts or parts[-1][0] != device:
            parts.append((device, []))
        parts[-1][1].append(op)
    return Schedule((), tuple(Partition(f"p{i}_{d}", d, tuple(o)) for i, (d, o) in enumerate(parts)))


def one_each(model: ir.Model) -> Schedule:
    """Each operator a partition of its own: the devices take turns."""
    ops = list(group_members(model))
    return runs(ops, [DEVICES[i % len(DEVICES)] for i in range(len(ops))])


def hybrid(seed: int = 0) -> onnx.ModelProto:
    """conv + relu, a residual, a pooled fully connected head, a softmax; two outputs, one used inside as well."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"], "add"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"], "fc", transB=1),
        helper.make_node("Softmax", ["g"], ["y"], "softmax"),
    ]
    weights = {
        "w1": rng.standard_normal((8, 3, 3, 3), np.float32),
        "b1": rng.standard_normal(8, np.float32),
        "w2": rng.standard_normal((8, 8, 3, 3), np.float32),
        "w3": rng.standard_normal((5, 8), np.float32),
        "b3": rng.standard_normal(5, np.float32),
    }
    outputs = {"y": (TensorProto.FLOAT, [1, 5]), "a": (TensorProto.FLOAT, [1, 8, 6, 6])}
    return make_model(nodes, {"x": (TensorProto.FLOAT, [1, 3, 6, 6])}, outputs, weights)


def hybrid_plan() -> tuple[ir.Model, Schedule]:
    """`hybrid` with conv1 + relu1 as one group, in four partitions."""
    model = legal(hybrid())
    node = {n.name: n for n in model.graph}
    join_group(node["conv1"], [node["relu1"]], activation="relu")
    ops = list(group_members(model))
    return model, runs(ops, ["cim", "npu", "npu", "host", "host", "cim", "host"])


def random_dag(rng: Generator) -> tuple[onnx.ModelProto, Schedule]:
    """A random graph of 3 to 12 float operators on [2, 4] tensors, with an If, weights, constants and dead ends.

    Operators may be listed in another order than they are planned in; each is on a random device.
    """
    count = int(rng.integers(3, 13))
    values, nodes = ["x0", "x1"], []
    weights: dict[str, np.ndarray] = {"flag": np.array(bool(rng.integers(2)))}
    for i in range(count):
        a, b = (str(v) for v in rng.choice(values, 2))
        out = f"v{i}"
        kind = int(rng.integers(6))
        if kind == 0:
            weights[f"w{i}"] = rng.standard_normal((4, 4)).astype(np.float32)
            made = [helper.make_node("MatMul", [a, f"w{i}"], [out], f"n{i}")]
        elif kind == 1:
            made = [helper.make_node("Split", [a], [f"{out}l", f"{out}r"], f"n{i}s", axis=1, num_outputs=2)]
            made.append(helper.make_node("Concat", [f"{out}r", f"{out}l"], [out], f"n{i}", axis=1))
        elif kind == 2:
            made = [_if_node(a, b, out, f"n{i}")]
        elif kind == 3:
            made = [helper.make_node("Constant", [], [f"k{i}"], f"n{i}k", value_float=float(rng.standard_normal()))]
            made.append(helper.make_node("Clip", [a, "", f"k{i}"], [out], f"n{i}"))
        else:
            made = [helper.make_node("Add" if kind == 4 else "Mul", [a, b], [out], f"n{i}")]
        nodes += made
        values.append(out)
    outputs = sorted({*(str(v) for v in rng.choice(values[2:], 2)), values[-1]})
    shape = (TensorProto.FLOAT, [2, 4])
    model = make_model(nodes, {"x0": shape, "x1": shape}, dict.fromkeys(outputs, shape), weights, opset=18)
    planned = [n.name for n in nodes if rng.random() > 0.5 or n.op_type != "Constant"]  # some constants stay outside
    return model, runs(planned, [str(d) for d in rng.choice(DEVICES, len(planned))])


def _if_node(a: str, b: str, out: str, name: str) -> onnx.NodeProto:
    """Both branches capture values of the graph around them."""
    branches = {}
    for branch, op in (("then_branch", "Add"), ("else_branch", "Sub")):
        inner = helper.make_node(op, [a, b], [f"{out}_{branch}"], f"{name}_{op}")
        shape = helper.make_tensor_value_info(f"{out}_{branch}", TensorProto.FLOAT, [2, 4])
        branches[branch] = helper.make_graph([inner], branch, [], [shape])
    return helper.make_node("If", ["flag"], [out], name, **branches)
