"""Shapes of onnxruntime's own operators (domain com.microsoft) that its quantiser and optimiser write.

ONNX knows no shape rule for them. Each has a standard operator with the same shape rule; what differs is which
inputs are tensors (the others are scales and zero points) and where the element type comes from.
Source: onnxruntime/core/graph/contrib_ops (quantization_defs.cc, contrib_defs.cc), onnxruntime 1.31.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from passes.values import int_attribute

DOMAIN = "com.microsoft"
_OPSET = 13  # the rules below are those of this version: ReduceMean still has its axes as an attribute
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@dataclass(frozen=True)
class _Rule:
    """Shape as `op_type` of the inputs `tensors`; element type of input `type_of`, `or_type` when that is absent."""

    op_type: str
    tensors: tuple[int, ...] = (0,)
    attributes: tuple[str, ...] = ()
    type_of: int = 0
    or_type: ir.DataType | None = None


_RULES: dict[str, _Rule] = {
    "BiasGelu": _Rule("Identity"),
    "DequantizeLinear": _Rule("Identity", type_of=1),
    "DynamicQuantizeMatMul": _Rule("MatMul", (0, 1)),
    "FastGelu": _Rule("Identity"),
    "FusedConv": _Rule("Conv", (0, 1), _CONV),
    "FusedGemm": _Rule("Gemm", (0, 1), ("transA", "transB")),
    "Gelu": _Rule("Identity"),
    "MatMulIntegerToFloat": _Rule("MatMul", (0, 1), type_of=2),
    "QGemm": _Rule("Gemm", (0, 3), ("transA", "transB"), type_of=8, or_type=ir.DataType.FLOAT),
    "QLinearAdd": _Rule("Add", (0, 3)),
    "QLinearAveragePool": _Rule("AveragePool", (0,), _POOL),
    "QLinearGlobalAveragePool": _Rule("GlobalAveragePool"),
    "QLinearLeakyRelu": _Rule("Identity"),
    "QLinearMul": _Rule("Mul", (0, 3)),
    "QLinearReduceMean": _Rule("ReduceMean", (0,), ("axes", "keepdims")),
    "QLinearSigmoid": _Rule("Identity"),
    "QLinearSoftmax": _Rule("Identity"),
    "QLinearWhere": _Rule("Where", (0, 1, 4), type_of=1),
    "QuantizeLinear": _Rule("Identity", type_of=2, or_type=ir.DataType.UINT8),
    "QuickGelu": _Rule("Identity"),
    "SkipLayerNormalization": _Rule("Identity"),
}
_CHANNELS_LAST = frozenset({"QLinearAveragePool", "QLinearGlobalAveragePool"})  # when their attribute says so


def infer_contrib(node: ir.Node) -> tuple[ir.TypeProtocol, ir.Shape] | None:
    """Type and shape of the first output, or None when there is no rule or an input is not known."""
    rule = _concat_rule(node) if node.op_type == "QLinearConcat" else _RULES.get(node.op_type)
    if rule is None or (node.op_type in _CHANNELS_LAST and int_attribute(node, "channels_last", 0)):
        return None
    tensors = [node.inputs[i] if i < len(node.inputs) else None for i in rule.tensors]
    source = node.inputs[rule.type_of] if rule.type_of < len(node.inputs) else None
    dtype = source.dtype if source is not None else rule.or_type
    if dtype is None or any(v is None or v.shape is None for v in tensors):
        return None
    proto = onnx.NodeProto(op_type=rule.op_type, output=["y"])
    types: dict[str, onnx.TypeProto] = {}
    for index, value in enumerate(tensors):
        assert value is not None
        assert value.shape is not None
        kind = onnx.TypeProto()
        kind.tensor_type.elem_type = onnx.TensorProto.BOOL if rule.op_type == "Where" and not index else 1
        ir.serde.serialize_shape_into(kind, value.shape)
        proto.input.append(f"x{index}")
        types[f"x{index}"] = kind
    for name in rule.attributes:
        if name in node.attributes:
            proto.attribute.append(ir.serde.serialize_attribute(node.attributes[name]))
    if node.op_type == "QLinearConcat":
        proto.attribute.append(ir.serde.serialize_attribute(node.attributes["axis"]))
    imports = [onnx.helper.make_opsetid("", _OPSET)]
    try:
        schema = onnx.defs.get_schema(rule.op_type, _OPSET, "")
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, opset_imports=imports)
    except onnx.shape_inference.InferenceError:
        return None
    shape = ir.serde.deserialize_type_proto_for_shape(found["y"])
    return None if shape is None else (ir.TensorType(dtype), shape)


def _concat_rule(node: ir.Node) -> _Rule | None:
    """Inputs: scale and zero point of the output, then tensor, scale, zero point for each operand."""
    return _Rule("Concat", tuple(range(2, len(node.inputs), 3)), type_of=2) if "axis" in node.attributes else None
