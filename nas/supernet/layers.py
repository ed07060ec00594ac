"""Layers whose weights are cut to the size of the network in use: the first channels, the centre of the kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.space.spec import divisible
from nas.supernet.mode import EPS, Mode

SE_RATIO = 4  # squeeze-and-excite: channels in over channels between


def cut(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The part of a shared weight that a network of this shape uses; a view.

    The first entries of the first two axes (channels), the centre of the others (kernels).
    """
    for axis, size in enumerate(shape):
        if weight.shape[axis] != size:
            start = (weight.shape[axis] - size) // 2 if axis > 1 else 0
            weight = weight.narrow(axis, start, size)
    return weight


def activation(x: Tensor, act: str) -> Tensor:
    """The activation that the space names."""
    if act == "relu":
        return F.relu(x)
    return F.hardswish(x) if act == "hardswish" else F.silu(x)


class DynConv(nn.Module):
    """Full or pointwise convolution without bias: the first `outs` filters, their centre of `kernel` x `kernel`."""

    def __init__(self, ins: int, outs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outs, ins, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, outs: int, kernel: int = 1) -> Tensor:
        weight = cut(self.weight, (outs, x.shape[1], kernel, kernel))
        return F.conv2d(x, weight, None, self.stride, kernel // 2)


class DynDepthwise(nn.Module):
    """Depthwise convolution over the channels that come in, centre of `kernel` x `kernel`."""

    def __init__(self, width: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(width, 1, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        nn.init.normal_(self.weight, std=(2 / kernel**2) ** 0.5)

    def forward(self, x: Tensor, kernel: int) -> Tensor:
        width = x.shape[1]
        weight = cut(self.weight, (width, 1, kernel, kernel))
        bias = None if self.bias is None else cut(self.bias, (width,))
        return F.conv2d(x, weight, bias, self.stride, kernel // 2, groups=width)


class DynBatchNorm(nn.Module):
    """Batch norm of the channels that come in; its statistics come from the Mode, none are kept here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = ""  # its name in the supernet, under which statistics are kept
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, mode: Mode) -> Tensor:
        shape = (x.shape[1],)
        return mode.batch_norm(self.key, x, cut(self.weight, shape), cut(self.bias, shape))


class DynLinear(nn.Module):
    """Linear map of the last axis to its first `outs` features."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outs, ins))
        self.bias = nn.Parameter(torch.zeros(outs))
        nn.init.trunc_normal_(self.weight, std=ins**-0.5)

    def forward(self, x: Tensor, outs: int) -> Tensor:
        return F.linear(x, cut(self.weight, (outs, x.shape[-1])), cut(self.bias, (outs,)))


class DynLayerNorm(nn.Module):
    """Layer norm over the channels (last axis) that come in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[-1],)
        return F.layer_norm(x, shape, cut(self.weight, shape), cut(self.bias, shape), EPS)


class DynLayerScale(nn.Module):
    """A factor for each channel (last axis), another set for each depth of the stage that the network may have."""

    def __init__(self, depths: int, width: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((depths, width), value))

    def forward(self, x: Tensor, depth: int) -> Tensor:
        return x * cut(self.weight[depth - 1], (x.shape[-1],))


class DynHeads(nn.Module):
    """Linear map over the heads of attention maps [B, heads, N, N], as a pointwise convolution; begins as identity."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(heads)[:, :, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, cut(self.weight, (x.shape[1], x.shape[1], 1, 1)))


class DynSE(nn.Module):
    """Squeeze-and-excite: x * hardsigmoid(expand(relu(reduce(mean of x))))."""

    def __init__(self, width: int, round_to: int) -> None:
        super().__init__()
        self.round_to = round_to
        between = divisible(width / SE_RATIO, round_to)
        self.reduce = DynBiasConv(width, between)
        self.expand = DynBiasConv(between, width)

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1]
        y = F.adaptive_avg_pool2d(x, 1)
        y = F.relu(self.reduce(y, divisible(width / SE_RATIO, self.round_to)))
        return x * F.hardsigmoid(self.expand(y, width))


class DynBiasConv(DynConv):
    """Pointwise convolution with bias."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__(ins, outs)
        self.bias = nn.Parameter(torch.zeros(outs))

    def forward(self, x: Tensor, outs: int, kernel: int = 1) -> Tensor:
        return F.conv2d(x, cut(self.weight, (outs, x.shape[1], 1, 1)), cut(self.bias, (outs,)))
