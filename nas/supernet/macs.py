"""Multiply-accumulates of an architecture, from its genes alone.

Counted as in h4hc.zoo: convolutions, linear maps and the two products of attention (and the linear maps over its
heads); no bias, norm, activation, pool. Padding counts as computed.
"""

from __future__ import annotations

from nas.space.arch import Arch, StageArch
from nas.space.spec import AttentionSpec, SpaceSpec, StageSpec, divisible
from nas.supernet.blocks import expands, inner_width
from nas.supernet.layers import SE_RATIO


def macs(arch: Arch, spec: SpaceSpec, classes: int) -> int:
    """Multiply-accumulates of one image through `arch`."""
    size = halved(arch.resolution, spec.stem.stride)
    total = size**2 * spec.channels_in * arch.stem * spec.stem.kernel**2
    width = arch.stem
    for stage, genes in zip(spec.stages, arch.stages, strict=True):
        for i in range(genes.conv_depth):
            stride = 1 if i else stage.stride
            after = halved(size, stride)
            total += _conv_cell(width, genes, stage, spec, size, after) + _shortcut(width, genes, stride, spec, after)
            size, width = after, genes.width
        if stage.attention and genes.attention_depth:
            total += genes.attention_depth * _attention(genes, stage.attention, spec, size**2)
    first = arch.head if spec.head.expand is None else width * spec.head.expand
    total += size**2 * width * first + arch.head * classes
    return total + (first * arch.head if spec.head.expand is not None else 0)


def halved(size: int, stride: int) -> int:
    """Side of the map behind an odd kernel with padding kernel // 2."""
    return (size - 1) // stride + 1


def _conv_cell(ins: int, genes: StageArch, stage: StageSpec, spec: SpaceSpec, before: int, after: int) -> int:
    if genes.block == "conv":
        return after**2 * ins * genes.width * genes.kernel**2
    inner = inner_width(ins, genes.expand, spec.round_to) if expands(stage) else ins
    total = before**2 * ins * inner if expands(stage) else 0
    if stage.se:
        total += 2 * inner * divisible(inner / SE_RATIO, spec.round_to)
    return total + after**2 * inner * (genes.kernel**2 + genes.width)


def _shortcut(ins: int, genes: StageArch, stride: int, spec: SpaceSpec, after: int) -> int:
    return after**2 * ins * genes.width if spec.shortcut == "project" and ins != genes.width else 0


def _attention(genes: StageArch, at: AttentionSpec, spec: SpaceSpec, tokens: int) -> int:
    width, values, heads = genes.width, genes.width * at.value_ratio, genes.width // at.head_dim
    linear = 2 * width * width + 2 * width * values  # q and k, v and projection
    place = 9 * values
    products = tokens * (width + values)
    talking = 2 * tokens * heads**2 if at.talking_heads else 0
    mlp = 2 * width * divisible(width * genes.mlp_ratio, spec.round_to) * at.mlps
    return tokens * (linear + place + products + talking + mlp)
