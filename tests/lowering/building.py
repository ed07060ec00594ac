"""Small ONNX models for the lowering tests, and running them through shape inference and `lower`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from h4hc.annotations import stamp_origins
from h4hc.lower import Precision, lower
from h4hc.workload import Op, Workload

IR_VERSION = 10
OPSET = 20
MICROSOFT = "com.microsoft"

Array = np.ndarray[Any, Any]
Input = tuple[str, Sequence[int | str]] | Array  # an activation (type, shape), or a constant


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Sequence[str | onnx.ValueInfoProto],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Model with the activations of `inputs`, each (type, shape), as graph inputs and its arrays as initialisers."""
    activations, constants = [], []
    for name, what in inputs.items():
        if isinstance(what, np.ndarray):
            constants.append(numpy_helper.from_array(what, name))
        else:
            kind = onnx.TensorProto.DataType.Value(what[0].upper())
            activations.append(helper.make_tensor_value_info(name, kind, list(what[1])))
    results = [o if isinstance(o, onnx.ValueInfoProto) else onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph(list(nodes), "g", activations, results, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets)


def node_model(
    op_type: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str] = ("y",),
    opset: int = OPSET,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """Model of one node called `n`; an input of None is left out."""
    names = ["" if what is None else name for name, what in inputs.items()]
    node = helper.make_node(op_type, names, list(outputs), name="n", domain=domain, **attributes)
    given = {name: what for name, what in inputs.items() if what is not None}
    return graph_model([node], given, [o for o in outputs if o], opset)


def to_ir(model: onnx.ModelProto) -> ir.Model:
    """Infer shapes as onnx does, and stamp origins."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    result = ir.from_proto(inferred)
    stamp_origins(result)
    return result


def lowered(model: onnx.ModelProto, precision: Precision = "stored") -> Workload:
    """The workload of a model."""
    return lower(to_ir(model), precision)


def only_op(model: onnx.ModelProto, precision: Precision = "stored") -> Op:
    """The single operator of a model."""
    ops = lowered(model, precision).ops
    assert len(ops) == 1, [o.id for o in ops]
    return ops[0]


def weights(*shape: int, dtype: Any = np.float32) -> Array:
    """A constant of ones."""
    return np.ones(shape, dtype)


def session_outputs(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime computes, optimisations off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))
