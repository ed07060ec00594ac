"""Compute constant nodes with onnxruntime, many in one session, so that a folded value is the run-time value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    import numpy as np

_IR_VERSION = 10  # what the small evaluation models are written in; onnxruntime reads 3 to 13

# Types that onnxruntime's Python interface hands in and out as numpy arrays.
NATIVE_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT16,
        ir.DataType.BOOL,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)


def evaluate(
    nodes: Sequence[ir.Node], known: Mapping[ir.Value, np.ndarray], opset_imports: Mapping[str, int]
) -> tuple[dict[ir.Value, np.ndarray], dict[ir.Node, str]]:
    """Values of all outputs of `nodes` (in topological order), and why for those nodes that could not be run.

    Inputs come from `known` or from other nodes of the list. All run in one session without optimisations;
    only when that fails is each run alone, so that one unsupported node does not hold up the others.
    """
    if not nodes:
        return {}, {}
    try:
        return _run(nodes, known, opset_imports), {}
    except _runtime_errors() as error:
        if len(nodes) == 1:
            return {}, {nodes[0]: _first_line(error)}
    values: dict[ir.Value, np.ndarray] = {}
    failed: dict[ir.Node, str] = {}
    for node in nodes:
        inputs = [v for v in node.inputs if v is not None]
        seen = {v: values[v] if v in values else known[v] for v in inputs if v in values or v in known}
        if len(seen) < len(set(inputs)):
            failed[node] = "one of its inputs could not be computed"
            continue
        new, why = evaluate([node], seen, opset_imports)
        values.update(new)
        failed.update(why)
    return values, failed


def _run(
    nodes: Sequence[ir.Node], known: Mapping[ir.Value, np.ndarray], opset_imports: Mapping[str, int]
) -> dict[ir.Value, np.ndarray]:
    made = {v for node in nodes for v in node.outputs}
    outside = dict.fromkeys(v for node in nodes for v in node.inputs if v is not None and v not in made)
    outputs = [v for node in nodes for v in node.outputs if v.name]
    names = {v: f"v{i}" for i, v in enumerate([*outside, *outputs])}
    graph = onnx.GraphProto(name="constants")
    for index, node in enumerate(nodes):
        proto = ir.serde.serialize_node(node)
        proto.name = f"n{index}"
        proto.ClearField("metadata_props")
        proto.input[:] = [names[v] if v is not None else "" for v in node.inputs]
        proto.output[:] = [names[v] if v.name else "" for v in node.outputs]
        graph.node.append(proto)
    for value in outside:
        array = known[value]
        graph.input.append(
            onnx.helper.make_tensor_value_info(names[value], ir.DataType.from_numpy(array.dtype), array.shape)
        )
    graph.output.extend(onnx.ValueInfoProto(name=names[v]) for v in outputs)
    model = onnx.helper.make_model(
        graph,
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in sorted(opset_imports.items())],
    )
    session = _session(model)
    results = session.run(None, {names[v]: known[v] for v in outside})
    return dict(zip(outputs, results, strict=True))


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # same order of summation everywhere, and no thread pool to build
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4  # a refusal comes back as an exception, with its reason
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"onnxruntime cannot compute it: {text[0][:200] if text else type(error).__name__}"
