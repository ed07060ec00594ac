"""A small writer of networks as ONNX, apart from the one that the package has: what costs are tested against.

Plain blocks with zero weights: costs depend on shapes only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec

SMALL = SpaceSpec.model_validate(
    {
        "name": "small",
        "resolution": [16, 24],
        "channels_in": 1,
        "stem": {"width": [8, 16]},
        "stages": [
            {"name": "s1", "width": [16, 24], "stride": 2, "conv_depth": [1, 2], "block": ["mbconv", "conv"],
             "expand": [2, 3]},
            {"name": "s2", "width": [24, 32], "stride": 2, "conv_depth": [1], "expand": [2],
             "attention": {"depth": [0, 1, 2], "head_dim": 8, "mlp_ratio": [1, 2]}},
        ],
        "head": {"width": [32]},
    }
)  # fmt: skip


class _Net:
    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int) -> str:
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], out: str, **more: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [out], out, **more))
        return out

    def conv(self, x: str, out: str, ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        weight = self.weight(f"{out}.w", outs, ins // groups, kernel, kernel)
        sides = [kernel // 2] * 4
        return self.node("Conv", [x, weight], out, group=groups, pads=sides, strides=[stride, stride])

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def block(self, x: str, name: str, ins: int, outs: int, kernel: int, stride: int, inner: int, plain: bool) -> str:
        """The block's last operator makes `<name>.out`."""
        adds = ins == outs and stride == 1
        last = f"{name}.last" if adds else f"{name}.out"
        if plain:
            y = self.conv(x, last, ins, outs, kernel, stride)
        else:
            y = self.relu(self.conv(x, f"{name}.expand", ins, inner))
            y = self.relu(self.conv(y, f"{name}.depth", inner, inner, kernel, stride, inner))
            y = self.conv(y, last, inner, outs)
        return self.node("Add", [x, y], f"{name}.out") if adds else y

    def reshape(self, x: str, out: str, *shape: int) -> str:
        self.weights.append(numpy_helper.from_array(np.array(shape, np.int64), f"{out}.shape"))
        return self.node("Reshape", [x, f"{out}.shape"], out)

    def linear(self, x: str, out: str, ins: int, outs: int) -> str:
        return self.node("MatMul", [x, self.weight(f"{out}.w", ins, outs)], out)

    def attention(self, x: str, name: str, width: int, ratio: int) -> str:
        """One head over all tokens, then an MLP."""
        q, k, v = (self.linear(x, f"{name}.{part}", width, width) for part in "qkv")
        scores = self.node("MatMul", [q, self.node("Transpose", [k], f"{name}.kt", perm=[0, 2, 1])], f"{name}.qk")
        mixed = self.node("MatMul", [self.node("Softmax", [scores], f"{name}.soft", axis=-1), v], f"{name}.mix")
        y = self.node("Add", [x, self.linear(mixed, f"{name}.proj", width, width)], f"{name}.mid")
        z = self.relu(self.linear(y, f"{name}.mlp1", width, width * ratio))
        return self.node("Add", [y, self.linear(z, f"{name}.mlp2", width * ratio, width)], f"{name}.out")


def write(space: SearchSpace, arch: Arch) -> bytes:
    """The network, with `<slot>.out` behind each block."""
    net, spec = _Net(), space.spec
    y = net.relu(net.conv("image", "stem.conv", spec.channels_in, arch.stem, 3, 2))
    net.nodes[-1] = helper.make_node("Relu", ["stem.conv"], ["stem.out"], "stem.out")
    y, before, size = "stem.out", arch.stem, -(-arch.resolution // 2)
    for stage, made in zip(spec.stages, arch.stages, strict=True):
        for i in range(made.conv_depth):
            stride = stage.stride if i == 0 else 1
            inner = int(before * made.expand)
            y = net.block(
                y, f"{stage.name}.conv{i}", before, made.width, made.kernel, stride, inner, made.block == "conv"
            )
            before, size = made.width, -(-size // stride)
        if made.attention_depth:
            y = net.reshape(y, f"{stage.name}.tokens", 1, before, size * size)
            y = net.node("Transpose", [y], f"{stage.name}.tokens.out", perm=[0, 2, 1])
            for i in range(made.attention_depth):
                y = net.attention(y, f"{stage.name}.attn{i}", before, int(made.mlp_ratio))
            y = net.node("Transpose", [y], f"{stage.name}.back", perm=[0, 2, 1])
            y = net.reshape(y, f"{stage.name}.map.out", 1, before, size, size)
    y = net.relu(net.conv(y, "head.conv", before, arch.head))
    y = net.node("Flatten", [net.node("GlobalAveragePool", [y], "pool")], "flat")
    net.node("MatMul", [y, net.weight("fc", arch.head, 10)], "logits")
    value = helper.make_tensor_value_info
    image = value("image", TensorProto.FLOAT, [1, spec.channels_in, arch.resolution, arch.resolution])
    graph = helper.make_graph(net.nodes, "net", [image], [value("logits", TensorProto.FLOAT, [1, 10])], net.weights)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    data: bytes = model.SerializeToString()
    return data
