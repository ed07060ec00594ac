"""The notebook in which a zoo model is written down: layers in, ONNX nodes and seeded weights out.

Names follow PyTorch's exporter: module path "features.1.conv.0.0" gives the node
"/features/features.1/conv/conv.0/conv.0.0/Conv", its output "..._output_0" and the weight
"features.1.conv.0.0.weight".

A net is written down twice. The first time, with `statistics=None`, batch norm normalises by the
statistics of the batch itself and reports them (the probe); the second time they are in the
BatchNormalization nodes as running statistics. So activations neither vanish nor explode at any depth,
though the weights are random.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10  # onnxruntime refuses what newer onnx releases write by default
OPSET = 20

# Batch norm shifts are about half the scale: most values then pass a ReLU, as in trained nets, and small
# differences (quantisation noise among them) do not grow from layer to layer.
_SHIFT = 0.5
BRANCH = 0.5  # scale of the last batch norm of a residual branch: the branch refines, the skip carries

Statistics = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # path -> mean, variance by channel


class Weights:
    """Seeded weights by name: independent of the order in which they are asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._made: dict[str, NDArray[np.float32]] = {}

    def normal(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> NDArray[np.float32]:
        """Gaussian values. RandomState, because numpy promises never to change its stream."""
        if name not in self._made:
            random = np.random.RandomState([self.seed, zlib.crc32(name.encode())])
            self._made[name] = (mean + std * random.standard_normal(shape)).astype(np.float32)
        return self._made[name]


def scopes(path: str) -> str:
    """PyTorch's node prefix of a module path: "blocks.0.attn" -> "/blocks/blocks.0/attn"."""
    labels: list[str] = []
    for part in path.split(".") if path else ():
        labels.append(f"{labels[-1]}.{part}" if part.isdigit() and labels else part)
    return "".join(f"/{label}" for label in labels)


class Net:
    """Collects the nodes, weights, inputs and outputs of one model."""

    def __init__(self, weights: Weights, batch: int, statistics: Statistics | None) -> None:
        self.batch = batch
        self.probes: dict[str, tuple[str, str]] = {}  # batch norm path -> names of its mean and variance outputs
        self.keep_float: list[str] = []  # inner nodes of composite functions: see `composite`
        self._weights = weights
        self._statistics = statistics
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._taken: dict[str, int] = {}

    # ---- nodes and values

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Declare a model input; shape without the batch."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape]))
        return name

    def output(self, value: str, name: str, shape: Sequence[int]) -> None:
        """Make `value` a model output called `name`; shape without the batch."""
        for node in self._nodes:
            node.output[:] = [name if v == value else v for v in node.output]
            node.input[:] = [name if v == value else v for v in node.input]
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape]))

    def ops(self, op_type: str, inputs: Sequence[str], path: str, outputs: int, **attributes: Any) -> list[str]:
        """Append a node at the module `path`; returns the names of its outputs."""
        base = f"{scopes(path)}/{op_type}"
        number = self._taken.get(base, 0)
        self._taken[base] = number + 1
        name = f"{base}_{number}" if number else base
        results = [f"{name}_output_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), results, name=name, **attributes))
        return results

    def op(self, op_type: str, inputs: Sequence[str], path: str, **attributes: Any) -> str:
        """Append a node with one output."""
        return self.ops(op_type, inputs, path, 1, **attributes)[0]

    def initializer(self, name: str, values: NDArray[Any]) -> str:
        """A stored constant; the same name may be asked for again (shared weights)."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(values, name)
        return name

    def literal(self, values: Any, path: str, dtype: type[np.generic] = np.float32) -> str:
        """A Constant node, as PyTorch's exporter writes scalars and shapes."""
        return self.op("Constant", [], path, value=numpy_helper.from_array(np.array(values, dtype=dtype)))

    def reshape(self, x: str, shape: Sequence[int], path: str) -> str:
        """Reshape to a constant shape."""
        return self.op("Reshape", [x, self.literal(list(shape), path, np.int64)], path)

    def composite(self, start: int) -> None:
        """Mark the nodes appended since `start` (a value of `mark`) as one function.

        Quantisation then leaves its inner values in float and quantises what goes in and what comes out,
        so that an NPU can run it as one int8 operator (a look-up table, a norm).
        """
        self.keep_float += [n.name for n in self._nodes[start:] if n.op_type != "Constant"]

    def mark(self) -> int:
        """Position for `composite`."""
        return len(self._nodes)

    # ---- layers

    def parameter(self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> str:
        """A trainable tensor with seeded Gaussian values."""
        return self.initializer(name, self._weights.normal(name, shape, std, mean))

    def conv(
        self,
        path: str,
        x: str,
        channels: tuple[int, int],
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        pads: tuple[int, int, int, int] | None = None,
        gain: float = 2.0,
        call: str | None = None,
    ) -> str:
        """2-D convolution, (in, out) channels; weight std sqrt(gain / fan-in) (He: 2 before a ReLU).

        pads: top, left, bottom, right; half the kernel if None. call: node path if the module is shared.
        """
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        inner = channels[0] // groups
        std = (gain / (inner * height * width)) ** 0.5
        inputs = [x, self.parameter(f"{path}.weight", (channels[1], inner, height, width), std)]
        if bias:
            inputs.append(self.parameter(f"{path}.bias", (channels[1],), 0.05))
        return self.op(
            "Conv",
            inputs,
            path if call is None else call,
            dilations=[1, 1],
            group=groups,
            kernel_shape=[height, width],
            pads=list(pads) if pads else [height // 2, width // 2, height // 2, width // 2],
            strides=[stride, stride],
        )

    def conv_transpose(self, path: str, x: str, channels: tuple[int, int], kernel: int) -> str:
        """Transposed convolution that enlarges by `kernel` without overlap (stride = kernel)."""
        shape = (channels[0], channels[1], kernel, kernel)
        weight = self.parameter(f"{path}.weight", shape, (1.0 / channels[0]) ** 0.5)
        return self.op(
            "ConvTranspose",
            [x, weight, self.parameter(f"{path}.bias", (channels[1],), 0.05)],
            path,
            dilations=[1, 1],
            group=1,
            kernel_shape=[kernel, kernel],
            pads=[0, 0, 0, 0],
            strides=[kernel, kernel],
        )

    def linear(self, path: str, x: str, features: tuple[int, int], gain: float = 1.0) -> str:
        """Fully connected layer on a matrix: Gemm with a transposed weight."""
        weight = self.parameter(f"{path}.weight", (features[1], features[0]), (gain / features[0]) ** 0.5)
        bias = self.parameter(f"{path}.bias", (features[1],), 0.05)
        return self.op("Gemm", [x, weight, bias], path, alpha=1.0, beta=1.0, transB=1)

    def token_linear(self, path: str, x: str, features: tuple[int, int], gain: float = 1.0) -> str:
        """Fully connected layer on tokens: MatMul and Add, as exported from nn.Linear on more than two axes."""
        weight = self.parameter(f"{path}.weight", features, (gain / features[0]) ** 0.5)
        product = self.op("MatMul", [x, weight], path)
        return self.op("Add", [self.parameter(f"{path}.bias", (features[1],), 0.05), product], path)

    def batch_norm(self, path: str, x: str, channels: int, eps: float = 1e-5, scale_mean: float = 1.0) -> str:
        """Batch norm over N, H, W with seeded scale (about `scale_mean`) and shift (about half of it)."""
        scale = self.parameter(f"{path}.weight", (channels,), 0.1 * scale_mean, scale_mean)
        shift = self.parameter(f"{path}.bias", (channels,), 0.2 * scale_mean, _SHIFT * scale_mean)
        if self._statistics is None:
            return self._probe(path, x, scale, shift)
        mean, variance = self._statistics[path]
        inputs = [
            x,
            scale,
            shift,
            self.initializer(f"{path}.running_mean", mean),
            self.initializer(f"{path}.running_var", variance),
        ]
        return self.op("BatchNormalization", inputs, path, epsilon=eps, momentum=0.9, training_mode=0)

    def _probe(self, path: str, x: str, scale: str, shift: str) -> str:
        """Normalise by the batch's own statistics and remember where they are.

        The variance has a floor of 5 % of the layer's mean variance: a channel that happens to be dead on the
        probe images must not explode on others.
        """
        axes = self.literal([0, 2, 3], path, np.int64)
        mean = self.op("ReduceMean", [x, axes], path)
        centred = self.op("Sub", [x, mean], path)
        own = self.op("ReduceMean", [self.op("Mul", [centred, centred], path), axes], path)
        floor = self.op("Mul", [self.op("ReduceMean", [own], path), self.literal(0.05, path)], path)
        variance = self.op("Max", [own, floor], path)
        self.probes[path] = (mean, variance)
        column = self.literal([-1, 1, 1], path, np.int64)
        normal = self.op("Div", [centred, self.op("Sqrt", [variance], path)], path)
        scaled = self.op("Mul", [normal, self.op("Reshape", [scale, column], path)], path)
        return self.op("Add", [scaled, self.op("Reshape", [shift, column], path)], path)

    # ---- the result

    def model(self, name: str, description: str) -> onnx.ModelProto:
        """The ONNX model; for a probe the outputs are the statistics only."""
        outputs = self._outputs
        if self.probes:
            names = [value for pair in self.probes.values() for value in pair]
            outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
        graph = helper.make_graph(
            self._nodes, name, self._inputs, outputs, initializer=list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="h4hc-zoo",
        )
        model.doc_string = description
        return model
