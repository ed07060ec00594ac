"""MACs and parameters of an ONNX model, counted from shapes; written apart from the compiler's lowering."""

from __future__ import annotations

import math

import onnx


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul (the batched ones of attention included).

    Biases, norms, activations, pools and elementwise operators count nothing. Padding counts as computed.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {i.name: tuple(i.dims) for i in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return sum(_node_macs(node, shapes) for node in inferred.graph.node)


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":  # each output element: one kernel over the channels of its group
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":  # each input element: one kernel to the channels of its group
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        assert not any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def count_parameters(model: onnx.ModelProto, running_statistics: bool = False) -> int:
    """Stored float values, each tensor once; batch norm's running mean and variance only if asked for."""
    running = {v for n in model.graph.node if n.op_type == "BatchNormalization" for v in n.input[3:5]}
    return sum(
        math.prod(i.dims)
        for i in model.graph.initializer
        if i.data_type == onnx.TensorProto.FLOAT and (running_statistics or i.name not in running)
    )
