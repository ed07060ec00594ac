"""Prepare a float zoo model for quantisation: batch norm into the convolution before it, Constant nodes into
initializers. (The compiler has passes of its own for this; the zoo must not depend on what it tests.)
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def fold_constants_and_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without Constant and BatchNormalization nodes.

    Convolution followed by batch norm: w' = w * s, b' = (b - mean) * s + shift with
    s = scale / sqrt(variance + epsilon) by output channel; computed in float64. The convolution keeps its node
    name and takes over the output of the batch norm.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    producer = {v: n for n in graph.node for v in n.output}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "BatchNormalization":
            _fold_norm(node, producer[node.input[0]], values)
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    used = dict.fromkeys(v for n in graph.node for v in n.input if v in values)  # ordered by first use
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in used)
    return folded


def _fold_norm(norm: onnx.NodeProto, conv: onnx.NodeProto, values: dict[str, NDArray[np.generic]]) -> None:
    assert conv.op_type == "Conv", "zoo nets have batch norm right after a convolution only"
    scale, shift, mean, variance = (np.asarray(values[v], dtype=np.float64) for v in norm.input[1:])
    epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
    factor = scale / np.sqrt(variance + epsilon)
    weight = np.asarray(values[conv.input[1]], dtype=np.float64)
    bias = np.asarray(values[conv.input[2]], dtype=np.float64) if len(conv.input) == 3 else np.zeros_like(factor)
    values[conv.input[1]] = (weight * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias_name = conv.input[2] if len(conv.input) == 3 else conv.input[1].removesuffix(".weight") + ".bias"
    values[bias_name] = ((bias - mean) * factor + shift).astype(np.float32)
    conv.input[:] = [conv.input[0], conv.input[1], bias_name]
    conv.output[:] = norm.output
