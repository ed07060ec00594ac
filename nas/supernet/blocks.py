"""Blocks of the supernet. static.py holds the same blocks with fixed sizes: same operations in the same order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.space.arch import StageArch
from nas.space.spec import AttentionSpec, SpaceSpec, StageSpec, divisible
from nas.supernet.layers import (
    DynBatchNorm,
    DynConv,
    DynDepthwise,
    DynHeads,
    DynLayerNorm,
    DynLayerScale,
    DynLinear,
    DynSE,
    activation,
)
from nas.supernet.mode import Mode


def to_tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H W, C]; a view where the map is channels_last."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, height: int) -> Tensor:
    """[B, H W, C] -> [B, C, H, W], channels_last; a view."""
    y: Tensor = x.transpose(1, 2).unflatten(2, (height, -1))
    return y


class DynShortcut(nn.Module):
    """What stands beside a convolution block: x; pooled and projected; or nothing (None)."""

    def __init__(self, ins: int, outs: int, stride: int, project: bool, may_differ: bool) -> None:
        super().__init__()
        self.stride, self.project = stride, project
        self.conv = DynConv(ins, outs) if project and may_differ else None

    def forward(self, x: Tensor, outs: int) -> Tensor | None:
        if not self.project:
            return x if self.stride == 1 and x.shape[1] == outs else None
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, padding=x.shape[-1] % 2, count_include_pad=False)
        return x if x.shape[1] == outs or self.conv is None else self.conv(x, outs)


class DynMBConv(nn.Module):
    """Inverted residual: [expand, norm, act,] depthwise, norm, act, [squeeze-excite,] project, norm, + shortcut.

    The expansion is left out where the stage expands by 1 only.
    """

    def __init__(self, ins: int, spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        self.act, self.round_to = space.act, space.round_to
        inner = inner_width(ins, spec.expand[-1], space.round_to)
        self.expand = DynConv(ins, inner) if expands(spec) else None
        self.expand_norm = DynBatchNorm(inner) if expands(spec) else None
        self.depthwise = DynDepthwise(inner, spec.kernel[-1], stride)
        self.depthwise_norm = DynBatchNorm(inner)
        self.se = DynSE(inner, space.round_to) if spec.se else None
        self.project = DynConv(inner, spec.width[-1])
        self.project_norm = DynBatchNorm(spec.width[-1])

    def forward(self, x: Tensor, genes: StageArch, mode: Mode) -> Tensor:
        if self.expand is not None and self.expand_norm is not None:
            x = self.expand(x, inner_width(x.shape[1], genes.expand, self.round_to))
            x = activation(self.expand_norm(x, mode), self.act)
        x = activation(self.depthwise_norm(self.depthwise(x, genes.kernel), mode), self.act)
        if self.se is not None:
            x = self.se(x)
        y: Tensor = self.project_norm(self.project(x, genes.width), mode)
        return y


class DynConvBlock(nn.Module):
    """Regular convolution, norm, act."""

    def __init__(self, ins: int, spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        self.act = space.act
        self.conv = DynConv(ins, spec.width[-1], spec.kernel[-1], stride)
        self.norm = DynBatchNorm(spec.width[-1])

    def forward(self, x: Tensor, genes: StageArch, mode: Mode) -> Tensor:
        return activation(self.norm(self.conv(x, genes.width, genes.kernel), mode), self.act)


class DynConvCell(nn.Module):
    """One place for a convolution block: each type that the stage may have there, and the shortcut beside it."""

    def __init__(self, ins: tuple[int, ...], spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        kinds = {"mbconv": DynMBConv, "conv": DynConvBlock}
        self.types = nn.ModuleDict({name: kinds[name](ins[-1], spec, stride, space) for name in spec.block})
        differs = len(set(ins) | set(spec.width)) > 1
        self.shortcut = DynShortcut(ins[-1], spec.width[-1], stride, space.shortcut == "project", differs)

    def forward(self, x: Tensor, genes: StageArch, mode: Mode, place: float) -> Tensor:
        branch: Tensor = self.types[genes.block](x, genes, mode)
        beside = self.shortcut(x, genes.width)
        return branch if beside is None else beside + mode.keep(branch, place)


class DynMlp(nn.Module):
    """Norm, linear, act, linear, layer scale; a residual branch."""

    def __init__(self, width: int, spec: AttentionSpec, space: SpaceSpec, scale: float) -> None:
        super().__init__()
        self.act, self.round_to = space.act, space.round_to
        hidden = divisible(width * spec.mlp_ratio[-1], space.round_to)
        self.norm = DynLayerNorm(width)
        self.up = DynLinear(width, hidden)
        self.down = DynLinear(hidden, width)
        self.scale = DynLayerScale(spec.depth[-1], width, scale)

    def forward(self, x: Tensor, genes: StageArch) -> Tensor:
        y = self.up(self.norm(x), divisible(genes.width * genes.mlp_ratio, self.round_to))
        y = self.down(activation(y, self.act), genes.width)
        z: Tensor = self.scale(y, genes.attention_depth)
        return z


class DynAttention(nn.Module):
    """Transformer block on tokens [B, H W, C]: attention, then the MLPs, each a residual branch.

    Attention: softmax(q k^T / sqrt(head_dim)) v by heads, where v, of value_ratio * C channels, gets a depthwise 3x3
    convolution of itself added: that tells places apart at any resolution.
    """

    def __init__(self, spec: StageSpec, at: AttentionSpec, space: SpaceSpec, scale: float) -> None:
        super().__init__()
        width = spec.width[-1]
        self.head_dim, self.value_ratio = at.head_dim, at.value_ratio
        self.norm = DynLayerNorm(width)
        self.query = DynLinear(width, width)
        self.key = DynLinear(width, width)
        self.value = DynLinear(width, width * at.value_ratio)
        self.place = DynDepthwise(width * at.value_ratio, 3, bias=True)
        self.before = DynHeads(width // at.head_dim) if at.talking_heads else None
        self.after = DynHeads(width // at.head_dim) if at.talking_heads else None
        self.project = DynLinear(width * at.value_ratio, width)
        self.scale = DynLayerScale(at.depth[-1], width, scale)
        self.mlps = nn.ModuleList(DynMlp(width, at, space, scale) for _ in range(at.mlps))

    def forward(self, x: Tensor, genes: StageArch, mode: Mode, place: float, height: int) -> Tensor:
        x = x + mode.keep(self.scale(self.attend(self.norm(x), height), genes.attention_depth), place)
        for mlp in self.mlps:
            x = x + mode.keep(mlp(x, genes), place)
        return x

    def attend(self, x: Tensor, height: int) -> Tensor:
        """Attention without its norm, scale and shortcut."""
        width = x.shape[2]
        heads = width // self.head_dim
        query = self.query(x, width).unflatten(2, (heads, -1)).transpose(1, 2)
        key = self.key(x, width).unflatten(2, (heads, -1)).permute(0, 2, 3, 1)
        value = self.value(x, width * self.value_ratio)
        value = value + to_tokens(self.place(to_map(value, height), 3))
        value = value.unflatten(2, (heads, -1)).transpose(1, 2)
        scores = torch.matmul(query * self.head_dim**-0.5, key)
        if self.before is not None:
            scores = self.before(scores)
        scores = scores.softmax(-1)
        if self.after is not None:
            scores = self.after(scores)
        y: Tensor = self.project(torch.matmul(scores, value).transpose(1, 2).flatten(2), width)
        return y


def expands(spec: StageSpec) -> bool:
    """Whether the inverted residuals of a stage have an expansion at all."""
    return spec.expand[-1] > 1


def inner_width(ins: int, expand: float, round_to: int) -> int:
    """Channels inside an inverted residual; without an expansion those that come in, whatever they are."""
    return ins if expand == 1 else divisible(ins * expand, round_to)
