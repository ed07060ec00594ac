"""A small search space of convolution blocks: ONNX networks written down gene by gene, and their blocks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from h4hc.api import CompileOptions, compile_model
from h4hc.batch.blocks import Block, cut_blocks, skip
from h4hc.workload import Workload

STEM = 16
CLASSES = 10


@dataclass(frozen=True)
class Gene:
    """An inverted residual: kernel, expansion, output channels, stride, with or without squeeze-and-excite."""

    kernel: int
    expand: int
    width: int
    stride: int = 1
    excite: bool = False


class _Net:
    """ONNX nodes with zero weights: what a network costs depends on their shapes only."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def conv(self, x: str, out: str, ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        weight = np.zeros((outs, ins // groups, kernel, kernel), np.float32)
        self.weights.append(numpy_helper.from_array(weight, f"{out}.weight"))
        sides = [kernel // 2] * 4
        self.node("Conv", [x, f"{out}.weight"], out, group=groups, pads=sides, strides=[stride, stride])
        return out

    def node(self, op_type: str, inputs: list[str], out: str, **more: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [out], out, **more))
        return out

    def block(self, x: str, out: str, before: int, gene: Gene) -> str:
        """Expand, depthwise, maybe squeeze-and-excite, project, maybe add."""
        inner = before * gene.expand
        y = self.node("Relu", [self.conv(x, f"{out}.e", before, inner)], f"{out}.er")
        y = self.conv(y, f"{out}.d", inner, inner, gene.kernel, gene.stride, inner)
        y = self.node("Relu", [y], f"{out}.dr")
        if gene.excite:
            z = self.node("GlobalAveragePool", [y], f"{out}.p")
            z = self.node("Relu", [self.conv(z, f"{out}.s", inner, 8)], f"{out}.sr")
            z = self.node("Sigmoid", [self.conv(z, f"{out}.x", 8, inner)], f"{out}.xs")
            y = self.node("Mul", [y, z], f"{out}.m")
        if gene.stride == 1 and gene.width == before:
            y = self.conv(y, f"{out}.c", inner, gene.width)
            return self.node("Add", [x, y], out)
        return self.conv(y, out, inner, gene.width)


def network(genes: tuple[Gene, ...], size: int = 32) -> bytes:
    """Stem, blocks, classifier. The tensors between them are called b0, b1, ..."""
    net = _Net()
    y = net.node("Relu", [net.conv("x", "stem", 3, STEM, 3, 2)], "b0")
    before = STEM
    for i, gene in enumerate(genes, 1):
        y, before = net.block(y, f"b{i}", before, gene), gene.width
    y = net.node("Flatten", [net.node("GlobalAveragePool", [y], "pool")], "flat")
    net.weights.append(numpy_helper.from_array(np.zeros((before, CLASSES), np.float32), "fc.weight"))
    net.node("MatMul", [y, "fc.weight"], "y")
    value = helper.make_tensor_value_info
    image, result = value("x", TensorProto.FLOAT, [1, 3, size, size]), value("y", TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(net.nodes, "net", [image], [result], net.weights)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    data: bytes = model.SerializeToString()
    return data


@functools.cache
def lowered(genes: tuple[Gene, ...], size: int = 32) -> Workload:
    """The network as typed operators, planned as int8."""
    workload = compile_model(network(genes, size), CompileOptions("host"), stop_after="workload").workload
    assert workload is not None
    return workload


@functools.cache
def blocks(genes: tuple[Gene, ...], size: int = 32) -> tuple[Block, ...]:
    """Stem, blocks and classifier of a network."""
    return cut_blocks(lowered(genes, size), [f"b{i}" for i in range(len(genes) + 1)])


@dataclass(frozen=True)
class Space:
    """genes[s]: what stage s may be; None = left out. Stages of the tables: stem, genes, classifier."""

    genes: tuple[tuple[Gene | None, ...], ...]
    size: int = 32

    @functools.cached_property
    def stages(self) -> list[list[Block]]:
        """Blocks by stage, cut out of as many networks as one stage has options."""
        first = tuple(next(g for g in options if g is not None) for options in self.genes)
        plain = blocks(first, self.size)
        stages = [[plain[0]], *([] for _ in self.genes), [plain[-1]]]
        for s, options in enumerate(self.genes):
            for gene in options:
                if gene is None:
                    before = plain[s]
                    stages[s + 1].append(skip(before.workload.tensor[before.exit]))
                else:
                    stages[s + 1].append(blocks((*first[:s], gene, *first[s + 1 :]), self.size)[s + 1])
        return stages

    def workload(self, choice: tuple[int, ...]) -> Workload:
        """The network of a choice, written down and lowered as a whole."""
        genes = [options[i] for options, i in zip(self.genes, choice, strict=True)]
        return lowered(tuple(g for g in genes if g is not None), self.size)


def mobile_space(size: int = 32, wide: bool = False) -> Space:
    """Three widths, each entered by a stride-2 block and followed by up to two more."""
    widths = (24, 40, 96) if not wide else (24, 40, 80, 112, 192, 320)
    genes: list[tuple[Gene | None, ...]] = []
    for width in widths:
        kinds = [(k, e, x) for k in (3, 5) for e in (3, 6) for x in (False, True)]
        genes.append(tuple(Gene(k, e, width, 2 if size > 4 else 1, x) for k, e, x in kinds))
        genes.append((None, *(Gene(k, e, width, 1, x) for k, e, x in kinds)))
        genes.append((None, *(Gene(k, e, width, 1, x) for k, e, x in kinds)))
    return Space(tuple(genes), size)
