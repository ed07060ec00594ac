"""Shapes of one node's outputs from what is known of its inputs, values of small constants included.

The whole-graph inference of `infer-shapes` cannot see through a constant that is not computed yet. Folding
computes it, and then only the nodes after it need another look: this does it a node at a time, with ONNX's
own rules, and without a second run over the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from passes.contrib_shapes import DOMAIN, infer_contrib
from passes.values import STANDARD_DOMAINS, constant, is_tensor, static_shape

if TYPE_CHECKING:
    import numpy as np

MAX_VALUE_ELEMENTS = 4096  # longest constant handed to a shape rule; shapes, axes, pads and repeats are far shorter
# ONNX's own inference of this function finds no shape (onnx 1.23); the output is like the input.
_LIKE_INPUT = frozenset({"MeanVarianceNormalization"})
_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def is_settled(value: ir.Value) -> bool:
    """Whether nothing about the value's type is left to infer: not a tensor, or a tensor of static shape."""
    if value.type is None:
        return False
    return not is_tensor(value) or (static_shape(value) is not None and value.dtype is not None)


def infer_outputs(node: ir.Node, opset_imports: Mapping[str, int], known: Mapping[ir.Value, np.ndarray]) -> bool:
    """Infer types and shapes of the outputs of `node`; whether anything new was learnt.

    known: values of constant inputs. Nodes with a body, nodes of other domains and inputs of unknown type are
    left alone; so are contradictions, which whole-graph inference reports with the node's name.
    """
    if node.domain == DOMAIN:
        return _infer_contrib(node)
    if node.domain not in STANDARD_DOMAINS or any(a.type in _BODIES for a in node.attributes.values()):
        return False
    inputs = [v for v in node.inputs if v is not None]
    if any(v.type is None for v in inputs):
        return False
    if node.op_type in _LIKE_INPUT:
        return _copy_input(node)
    version = int(opset_imports.get(node.domain, opset_imports.get("", 1)))
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            ir.serde.serialize_node(node),
            {str(v.name): type_proto(v) for v in inputs},
            input_data={str(v.name): _tensor(known[v]) for v in inputs if v in known and _is_short(known[v])},
            opset_imports=[onnx.helper.make_opsetid("", version)],
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        return False
    learnt = [adopt(v, inferred[str(v.name)]) for v in node.outputs if str(v.name) in inferred]
    return any(learnt)


def _copy_input(node: ir.Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or is_settled(output):
        return False
    output.type, output.shape = source.type, source.shape.copy()
    return True


def _infer_contrib(node: ir.Node) -> bool:
    found = infer_contrib(node)
    if found is None or is_settled(node.outputs[0]):
        return False
    output = node.outputs[0]
    before = (output.type, output.shape)
    output.type, output.shape = found
    return before != found


def known_values(node: ir.Node) -> dict[ir.Value, np.ndarray]:
    """Values of the inputs of `node` that are stored in the model and short enough to matter for shapes."""
    arrays = {v: constant(v) for v in node.inputs if v is not None and (v.const_value is None or _is_small(v))}
    return {v: array for v, array in arrays.items() if array is not None}


def _is_small(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size <= MAX_VALUE_ELEMENTS


def type_proto(value: ir.Value) -> onnx.TypeProto:
    """The value's type and shape as ONNX writes it; the type must be known."""
    assert value.type is not None
    proto = ir.serde.serialize_type(value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def adopt(value: ir.Value, proto: onnx.TypeProto) -> bool:
    """Take over type and shape where they say more than the value knows; whether anything was new."""
    if proto.WhichOneof("value") is None or is_settled(value):
        return False
    before = (value.type, value.shape)
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(proto)
    if proto.HasField("tensor_type") and proto.tensor_type.HasField("shape"):
        new = ir.serde.deserialize_type_proto_for_shape(proto)
        if new is not None and _says_more(new, value.shape):
            value.shape = new
    return before != (value.type, value.shape)


def _says_more(new: ir.Shape, old: ir.Shape | None) -> bool:
    if old is None or len(old) != len(new):
        return True
    return sum(isinstance(d, int) for d in new) > sum(isinstance(d, int) for d in old)


def _is_short(array: np.ndarray) -> bool:
    return bool(array.size <= MAX_VALUE_ELEMENTS and array.dtype.kind in "biuf")


def _tensor(array: np.ndarray) -> onnx.TensorProto:
    return ir.serde.serialize_tensor(ir.tensor(array))
