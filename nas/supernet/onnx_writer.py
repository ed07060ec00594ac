"""A StaticNet as ONNX, written node by node: milliseconds, and tensor names that stay the same.

Blocks end in `stem.out`, `s2.conv0.out`, `s2.tokens.out` (map to tokens), `s2.attn0.out`, `s2.map.out` (tokens to map),
the head in `logits`. Layer scales and the 1 / sqrt(head_dim) of attention are folded into the linear maps before them.
"""

from __future__ import annotations

import onnx
import torch
from torch import nn

from nas.space.arch import Arch
from nas.space.spec import SpaceSpec
from nas.supernet.macs import halved
from nas.supernet.onnx_graph import OnnxGraph
from nas.supernet.static import Attention, ConvBlock, ConvCell, Head, MBConv, Mlp, Shortcut, SqueezeExcite, StaticNet


@torch.no_grad()
def write_onnx(net: StaticNet, batch: int = 1) -> onnx.ModelProto:
    """The network with its weights; input `image` [batch, C, R, R], output `logits` [batch, classes]."""
    g = OnnxGraph(batch, net.spec.channels_in, net.arch.resolution)
    x = _head(g, write_features(g, net)[-1], net.head)
    return g.model(f"h4hc.nas {net.spec.name}", x, [batch, net.classes])


def write_features(g: OnnxGraph, net: StaticNet) -> list[str]:
    """Stem and stages; the tensors behind each stage, as StaticNet.features."""
    x = g.conv("image", net.stem, "stem.conv")
    x = g.activation(g.batch_norm(x, net.stem_norm, "stem.norm"), net.act, "stem.out")
    size, maps = halved(net.arch.resolution, net.spec.stem.stride), []
    for spec, genes, stage in zip(net.spec.stages, net.arch.stages, net.stages, strict=True):
        for i, cell in enumerate(stage.conv):  # type: ignore[arg-type]
            x = _conv_cell(g, x, cell, f"{spec.name}.conv{i}", size)
            size = halved(size, 1 if i else spec.stride)
        if genes.attention_depth:
            x = _to_tokens(g, x, genes.width, size, f"{spec.name}.tokens")
            for i, block in enumerate(stage.attention):  # type: ignore[arg-type]
                x = _attention(g, x, block, f"{spec.name}.attn{i}", size)
            x = _to_map(g, x, genes.width, size, f"{spec.name}.map")
        maps.append(x)
    return maps


def zero_onnx(arch: Arch, spec: SpaceSpec, classes: int) -> onnx.ModelProto:
    """The graph of `arch` with all weights zero: what a network costs depends on its shapes only."""
    with torch.device("meta"):
        net = StaticNet(arch, spec, classes)
    return write_onnx(net)


def _conv_cell(g: OnnxGraph, x: str, cell: ConvCell, name: str, size: int) -> str:
    block = cell.types[cell.block]
    alone = cell.shortcut is None
    if isinstance(block, MBConv):
        y = _mbconv(g, x, block, name, f"{name}.out" if alone else f"{name}.project_norm")
    else:
        assert isinstance(block, ConvBlock)
        y = g.batch_norm(g.conv(x, block.conv, f"{name}.conv"), block.norm, f"{name}.norm")
        y = g.activation(y, block.act, f"{name}.out" if alone else f"{name}.act")
    if cell.shortcut is None:
        return y
    return g.node("Add", [_shortcut(g, x, cell.shortcut, f"{name}.shortcut", size), y], f"{name}.out")


def _mbconv(g: OnnxGraph, x: str, block: MBConv, name: str, out: str) -> str:
    if block.expand is not None and block.expand_norm is not None:
        x = g.batch_norm(g.conv(x, block.expand, f"{name}.expand"), block.expand_norm, f"{name}.expand_norm")
        x = g.activation(x, block.act, f"{name}.expand_act")
    x = g.batch_norm(g.conv(x, block.depthwise, f"{name}.depthwise"), block.depthwise_norm, f"{name}.depthwise_norm")
    x = g.activation(x, block.act, f"{name}.depthwise_act")
    if block.se is not None:
        x = _squeeze_excite(g, x, block.se, f"{name}.se")
    return g.batch_norm(g.conv(x, block.project, f"{name}.project"), block.project_norm, out)


def _squeeze_excite(g: OnnxGraph, x: str, se: SqueezeExcite, name: str) -> str:
    y = g.conv(g.node("GlobalAveragePool", [x], f"{name}.pool"), se.reduce, f"{name}.reduce")
    y = g.conv(g.node("Relu", [y], f"{name}.relu"), se.expand, f"{name}.expand")
    return g.node("Mul", [x, g.node("HardSigmoid", [y], f"{name}.gate", alpha=1 / 6, beta=0.5)], f"{name}.out")


def _shortcut(g: OnnxGraph, x: str, shortcut: Shortcut, name: str, size: int) -> str:
    if shortcut.stride > 1:
        sides = {"kernel_shape": [shortcut.stride] * 2, "strides": [shortcut.stride] * 2, "pads": [size % 2] * 4}
        x = g.node("AveragePool", [x], f"{name}.pool", count_include_pad=0, **sides)
    return x if shortcut.conv is None else g.conv(x, shortcut.conv, f"{name}.conv")


def _to_tokens(g: OnnxGraph, x: str, width: int, size: int, name: str) -> str:
    flat = g.reshape(x, [g.batch, width, size * size], f"{name}.flat")
    return g.transpose(flat, [0, 2, 1], f"{name}.out")


def _to_map(g: OnnxGraph, x: str, width: int, size: int, name: str) -> str:
    return g.reshape(g.transpose(x, [0, 2, 1], f"{name}.flat"), [g.batch, width, size, size], f"{name}.out")


def _attention(g: OnnxGraph, x: str, block: Attention, name: str, size: int) -> str:
    y = g.layer_norm(x, block.norm, f"{name}.norm")
    x = g.node("Add", [x, _attend(g, y, block, name, size)], f"{name}.sum" if len(block.mlps) else f"{name}.out")
    for i, mlp in enumerate(block.mlps):
        last = i == len(block.mlps) - 1
        x = g.node("Add", [x, _mlp(g, x, mlp, f"{name}.mlp{i}")], f"{name}.out" if last else f"{name}.mlp{i}.sum")  # type: ignore[arg-type]
    return x


def _attend(g: OnnxGraph, x: str, block: Attention, name: str, size: int) -> str:
    tokens, heads, values = size * size, block.heads, block.value.out_features

    def by_head(linear: nn.Linear, what: str, y: str, perm: list[int]) -> str:
        split = g.reshape(y, [g.batch, tokens, heads, linear.out_features // heads], f"{name}.{what}.split")
        return g.transpose(split, perm, f"{name}.{what}.heads")

    query = g.linear(x, block.query, f"{name}.query", block.head_dim**-0.5)
    key = g.linear(x, block.key, f"{name}.key")
    value = g.linear(x, block.value, f"{name}.value")
    place = g.conv(_to_map(g, value, values, size, f"{name}.place.map"), block.place, f"{name}.place.conv")
    place = _to_tokens(g, place, values, size, f"{name}.place.tokens")
    value = g.node("Add", [value, place], f"{name}.value.placed")
    scores = g.node(
        "MatMul",
        [by_head(block.query, "query", query, [0, 2, 1, 3]), by_head(block.key, "key", key, [0, 2, 3, 1])],
        f"{name}.scores",
    )
    if block.before is not None:
        scores = g.conv(scores, block.before, f"{name}.before")
    scores = g.node("Softmax", [scores], f"{name}.softmax", axis=-1)
    if block.after is not None:
        scores = g.conv(scores, block.after, f"{name}.after")
    y = g.node("MatMul", [scores, by_head(block.value, "value", value, [0, 2, 1, 3])], f"{name}.mixed")
    y = g.reshape(g.transpose(y, [0, 2, 1, 3], f"{name}.merge"), [g.batch, tokens, values], f"{name}.merged")
    return g.linear(y, block.project, f"{name}.project", block.scale.weight)


def _mlp(g: OnnxGraph, x: str, mlp: Mlp, name: str) -> str:
    y = g.linear(g.layer_norm(x, mlp.norm, f"{name}.norm"), mlp.up, f"{name}.up")
    return g.linear(g.activation(y, mlp.act, f"{name}.act"), mlp.down, f"{name}.down", mlp.scale.weight)


def _head(g: OnnxGraph, x: str, head: Head) -> str:
    x = g.activation(g.batch_norm(g.conv(x, head.conv, "head.conv"), head.norm, "head.norm"), head.act, "head.act")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "head.pool")], "head.flat")
    if head.mix is not None:
        x = g.activation(g.gemm(x, head.mix, "head.mix"), head.act, "head.mix_act")
    return g.gemm(x, head.classifier, "logits")
