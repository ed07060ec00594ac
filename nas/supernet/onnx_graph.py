"""ONNX nodes in the making: one method a layer, each named after its place in the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

IR_VERSION, OPSET = 10, 20
Array = npt.NDArray[np.generic]


class OnnxGraph:
    """Nodes and constants of a network for images [batch, channels, size, size]; each method returns a tensor's name.

    A node bears the name of its output. Weights on torch's meta device become zeros.
    """

    def __init__(self, batch: int, channels: int, size: int) -> None:
        self.batch = batch
        self.image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, size, size])
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op_type: str, inputs: list[str], out: str, **attributes: Any) -> str:
        """Any operator of one output."""
        self.nodes.append(helper.make_node(op_type, inputs, [out], out, **attributes))
        return out

    def constant(self, name: str, value: Array | Tensor) -> str:
        """A stored tensor."""
        array = _array(value) if isinstance(value, Tensor) else value
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def conv(self, x: str, layer: nn.Conv2d, out: str) -> str:
        """Convolution with the padding of `layer`."""
        inputs = [x, self.constant(f"{out}.weight", layer.weight)]
        if layer.bias is not None:
            inputs.append(self.constant(f"{out}.bias", layer.bias))
        kernel, pad, stride = layer.kernel_size[0], int(layer.padding[0]), layer.stride[0]
        sides = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2}
        return self.node("Conv", inputs, out, group=layer.groups, **sides)

    def batch_norm(self, x: str, layer: nn.BatchNorm2d, out: str) -> str:
        """Batch norm with stored statistics; the compiler folds it."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        values = {"scale": layer.weight, "bias": layer.bias, "mean": layer.running_mean, "var": layer.running_var}
        stored = [self.constant(f"{out}.{name}", value) for name, value in values.items()]
        return self.node("BatchNormalization", [x, *stored], out, epsilon=layer.eps)

    def layer_norm(self, x: str, layer: nn.LayerNorm, out: str) -> str:
        """Layer norm over the last axis."""
        stored = [self.constant(f"{out}.scale", layer.weight), self.constant(f"{out}.bias", layer.bias)]
        return self.node("LayerNormalization", [x, *stored], out, axis=-1, epsilon=layer.eps)

    def linear(self, x: str, layer: nn.Linear, out: str, factor: Tensor | float = 1.0) -> str:
        """(W x + b) * factor over the last axis; the factor goes into the stored weights."""
        row = _array(factor) if isinstance(factor, Tensor) else np.float32(factor)
        weight = self.constant(f"{out}.weight", _array(layer.weight).T * row)
        product = self.node("MatMul", [x, weight], f"{out}.product")
        return self.node("Add", [product, self.constant(f"{out}.bias", _array(layer.bias) * row)], out)

    def gemm(self, x: str, layer: nn.Linear, out: str) -> str:
        """Linear map of a row."""
        stored = [self.constant(f"{out}.weight", layer.weight), self.constant(f"{out}.bias", layer.bias)]
        return self.node("Gemm", [x, *stored], out, transB=1)

    def activation(self, x: str, layer: nn.Module, out: str) -> str:
        """ReLU, hard swish, or swish as x * sigmoid(x)."""
        if isinstance(layer, nn.ReLU | nn.Hardswish):
            return self.node("Relu" if isinstance(layer, nn.ReLU) else "HardSwish", [x], out)
        return self.node("Mul", [x, self.node("Sigmoid", [x], f"{out}.sigmoid")], out)

    def reshape(self, x: str, shape: list[int], out: str) -> str:
        """To `shape`."""
        return self.node("Reshape", [x, self.constant(f"{out}.shape", np.array(shape, np.int64))], out)

    def transpose(self, x: str, perm: list[int], out: str) -> str:
        """Axes in another order."""
        return self.node("Transpose", [x], out, perm=perm)

    def model(self, name: str, output: str, shape: list[int]) -> onnx.ModelProto:
        """The finished model."""
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, name, [self.image], [result], list(self.constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opset, producer_name="h4hc.nas")


def _array(value: Tensor) -> npt.NDArray[np.float32]:
    if value.is_meta:
        return np.zeros(value.shape, np.float32)
    found: npt.NDArray[np.float32] = value.detach().float().cpu().numpy()
    return found
