"""One architecture as plain torch modules: needs no supernet, loads what `Supernet.slice` or `save` left.

Parameter names are those of the supernet, so that a weight is cut out by name and shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.space.arch import Arch, StageArch
from nas.space.spec import AttentionSpec, SpaceSpec, StageSpec, divisible
from nas.supernet.blocks import expands, inner_width, to_map, to_tokens
from nas.supernet.layers import SE_RATIO, cut
from nas.supernet.mode import EPS, BnStats

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish, "swish": nn.SiLU}


def _conv(ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=bias)


class Scale(nn.Module):
    """A factor for each channel (last axis)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class SqueezeExcite(nn.Module):
    """x * hardsigmoid(expand(relu(reduce(mean of x))))."""

    def __init__(self, width: int, round_to: int) -> None:
        super().__init__()
        between = divisible(width / SE_RATIO, round_to)
        self.reduce = _conv(width, between, bias=True)
        self.expand = _conv(between, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class MBConv(nn.Module):
    """Inverted residual without its shortcut."""

    def __init__(self, ins: int, genes: StageArch, spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        inner = inner_width(ins, genes.expand, space.round_to) if expands(spec) else ins
        self.expand = _conv(ins, inner) if expands(spec) else None
        self.expand_norm = nn.BatchNorm2d(inner, EPS) if expands(spec) else None
        self.act = ACTIVATIONS[space.act]()
        self.depthwise = _conv(inner, inner, genes.kernel, stride, inner)
        self.depthwise_norm = nn.BatchNorm2d(inner, EPS)
        self.se = SqueezeExcite(inner, space.round_to) if spec.se else None
        self.project = _conv(inner, genes.width)
        self.project_norm = nn.BatchNorm2d(genes.width, EPS)

    def forward(self, x: Tensor) -> Tensor:
        if self.expand is not None and self.expand_norm is not None:
            x = self.act(self.expand_norm(self.expand(x)))
        x = self.act(self.depthwise_norm(self.depthwise(x)))
        if self.se is not None:
            x = self.se(x)
        y: Tensor = self.project_norm(self.project(x))
        return y


class ConvBlock(nn.Module):
    """Regular convolution, norm, act; without its shortcut."""

    def __init__(self, ins: int, genes: StageArch, spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        self.conv = _conv(ins, genes.width, genes.kernel, stride)
        self.norm = nn.BatchNorm2d(genes.width, EPS)
        self.act = ACTIVATIONS[space.act]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class Shortcut(nn.Module):
    """Pooled where the block has a stride, projected where it changes the width."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = _conv(ins, outs) if ins != outs else None

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, padding=x.shape[-1] % 2, count_include_pad=False)
        return x if self.conv is None else self.conv(x)


class ConvCell(nn.Module):
    """A convolution block and the shortcut beside it, where there is one."""

    def __init__(self, ins: int, genes: StageArch, spec: StageSpec, stride: int, space: SpaceSpec) -> None:
        super().__init__()
        kind = {"mbconv": MBConv, "conv": ConvBlock}[genes.block]
        self.types = nn.ModuleDict({genes.block: kind(ins, genes, spec, stride, space)})
        self.block = genes.block
        same = stride == 1 and ins == genes.width
        self.shortcut = Shortcut(ins, genes.width, stride) if same or space.shortcut == "project" else None

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.types[self.block](x)
        return branch if self.shortcut is None else self.shortcut(x) + branch


class Mlp(nn.Module):
    """Norm, linear, act, linear, scale; a residual branch."""

    def __init__(self, genes: StageArch, space: SpaceSpec) -> None:
        super().__init__()
        hidden = divisible(genes.width * genes.mlp_ratio, space.round_to)
        self.norm = nn.LayerNorm(genes.width, EPS)
        self.up = nn.Linear(genes.width, hidden)
        self.act = ACTIVATIONS[space.act]()
        self.down = nn.Linear(hidden, genes.width)
        self.scale = Scale(genes.width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.scale(self.down(self.act(self.up(self.norm(x)))))
        return y


class Attention(nn.Module):
    """Transformer block on tokens, see DynAttention."""

    def __init__(self, genes: StageArch, at: AttentionSpec, space: SpaceSpec) -> None:
        super().__init__()
        width, values = genes.width, genes.width * at.value_ratio
        self.head_dim, self.heads = at.head_dim, width // at.head_dim
        self.norm = nn.LayerNorm(width, EPS)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, values)
        self.place = _conv(values, values, 3, groups=values, bias=True)
        self.before = _conv(self.heads, self.heads) if at.talking_heads else None
        self.after = _conv(self.heads, self.heads) if at.talking_heads else None
        self.project = nn.Linear(values, width)
        self.scale = Scale(width)
        self.mlps = nn.ModuleList(Mlp(genes, space) for _ in range(at.mlps))

    def forward(self, x: Tensor, height: int) -> Tensor:
        x = x + self.scale(self.attend(self.norm(x), height))
        for mlp in self.mlps:
            x = x + mlp(x)
        return x

    def attend(self, x: Tensor, height: int) -> Tensor:
        """Attention without its norm, scale and shortcut."""
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key = self.key(x).unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)
        value = self.value(x)
        value = value + to_tokens(self.place(to_map(value, height)))
        value = value.unflatten(2, (self.heads, -1)).transpose(1, 2)
        scores = torch.matmul(query * self.head_dim**-0.5, key)
        if self.before is not None:
            scores = self.before(scores)
        scores = scores.softmax(-1)
        if self.after is not None:
            scores = self.after(scores)
        y: Tensor = self.project(torch.matmul(scores, value).transpose(1, 2).flatten(2))
        return y


class Stage(nn.Module):
    """Convolution blocks on the map, then transformer blocks on its tokens."""

    def __init__(self, ins: int, genes: StageArch, spec: StageSpec, space: SpaceSpec) -> None:
        super().__init__()
        at = spec.attention
        self.conv = nn.ModuleList(
            ConvCell(genes.width if i else ins, genes, spec, 1 if i else spec.stride, space)
            for i in range(genes.conv_depth)
        )
        self.attention = nn.ModuleList(
            Attention(genes, at, space) for _ in range(genes.attention_depth) if at is not None
        )

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.conv:
            x = cell(x)
        if len(self.attention):
            height = x.shape[2]
            x = to_tokens(x)
            for block in self.attention:
                x = block(x, height)
            x = to_map(x, height)
        return x


class Head(nn.Module):
    """See HeadSpec."""

    def __init__(self, ins: int, width: int, space: SpaceSpec, classes: int) -> None:
        super().__init__()
        ratio = space.head.expand
        first = width if ratio is None else ins * ratio
        self.conv = _conv(ins, first)
        self.norm = nn.BatchNorm2d(first, EPS)
        self.act = ACTIVATIONS[space.act]()
        self.mix = None if ratio is None else nn.Linear(first, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.act(self.norm(self.conv(x))), 1).flatten(1)
        if self.mix is not None:
            x = self.act(self.mix(x))
        logits: Tensor = self.classifier(x)
        return logits


class StaticNet(nn.Module):
    """The network `arch` of a space; images come in its own resolution."""

    def __init__(self, arch: Arch, space: SpaceSpec, classes: int) -> None:
        super().__init__()
        self.arch, self.spec, self.classes = arch, space, classes
        self.stem = _conv(space.channels_in, arch.stem, space.stem.kernel, space.stem.stride)
        self.stem_norm = nn.BatchNorm2d(arch.stem, EPS)
        self.act = ACTIVATIONS[space.act]()
        before = [arch.stem] + [genes.width for genes in arch.stages]
        self.stages = nn.ModuleList(
            Stage(ins, genes, s, space) for ins, genes, s in zip(before, arch.stages, space.stages, strict=False)
        )
        self.head = Head(before[-1], arch.head, space, classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The map [B, C, H, W] behind each stage: what a segmentation or detection head builds on."""
        x = self.act(self.stem_norm(self.stem(x)))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, resolution, resolution]."""
        logits: Tensor = self.head(self.features(x)[-1])
        return logits

    @torch.no_grad()
    def load_weights(self, shared: Mapping[str, Tensor], stats: BnStats | None) -> None:
        """Copy the weights of this architecture out of a supernet's, and its calibrated batch norm statistics."""
        for name, own in self.named_parameters():
            weight = shared[name]
            if own.ndim < weight.ndim:  # a layer scale: one row for each depth
                weight = weight[self.arch.stages[int(name.split(".")[1])].attention_depth - 1]
            own.copy_(cut(weight, own.shape))
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d) and stats is not None:
                assert module.running_mean is not None
                assert module.running_var is not None
                mean, var = stats[name]
                module.running_mean.copy_(mean)
                module.running_var.copy_(var)
