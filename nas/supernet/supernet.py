"""The weight-sharing supernet: every architecture of a space in one set of weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.space.arch import Arch, StageArch
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec, StageSpec
from nas.supernet.blocks import DynAttention, DynConvCell, to_map, to_tokens
from nas.supernet.layers import DynBatchNorm, DynConv, DynLayerScale, DynLinear, activation
from nas.supernet.mode import BnStats, Mode
from nas.supernet.static import StaticNet

GROUPS = ("conv", "attention", "shared")


class DynStage(nn.Module):
    """Convolution blocks on the map, then transformer blocks on its tokens; as many of each as the genes say."""

    def __init__(self, ins: tuple[int, ...], spec: StageSpec, space: SpaceSpec, scale: float) -> None:
        super().__init__()
        at = spec.attention
        self.conv = nn.ModuleList(
            DynConvCell(spec.width if i else ins, spec, 1 if i else spec.stride, space)
            for i in range(spec.conv_depth[-1])
        )
        self.attention = nn.ModuleList(
            DynAttention(spec, at, space, scale) for _ in range(at.depth[-1] if at is not None else 0) if at is not None
        )

    def forward(self, x: Tensor, genes: StageArch, mode: Mode, places: list[float]) -> Tensor:
        for i in range(genes.conv_depth):
            x = self.conv[i](x, genes, mode, places[i])
        if genes.attention_depth:
            height = x.shape[2]
            x = to_tokens(x)
            for i in range(genes.attention_depth):
                x = self.attention[i](x, genes, mode, places[genes.conv_depth + i], height)
            x = to_map(x, height)
        return x


class Supernet(nn.Module):
    """All networks of `space` for `classes` classes; weights by `seed`; layer_scale: first value of layer scales.

    Batch norms hold no statistics. A forward without `stats` uses those of its batch (training); `calibrate` makes
    the statistics of one architecture for inference.
    """

    def __init__(self, space: SearchSpace, classes: int, seed: int = 0, layer_scale: float = 0.1) -> None:
        super().__init__()
        spec = space.spec
        self.space, self.classes = space, classes
        self.act = spec.act
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = DynConv(spec.channels_in, spec.stem.width[-1], spec.stem.kernel, spec.stem.stride)
            self.stem_norm = DynBatchNorm(spec.stem.width[-1])
            before = [spec.stem.width] + [stage.width for stage in spec.stages]
            self.stages = nn.ModuleList(
                DynStage(ins, s, spec, layer_scale) for ins, s in zip(before, spec.stages, strict=False)
            )
            self.head = DynHead(before[-1][-1], spec, classes)
        for name, module in self.named_modules():
            if isinstance(module, DynBatchNorm):
                module.key = name

    def forward(self, x: Tensor, arch: Arch, stats: BnStats | None = None, mode: Mode | None = None) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], brought to the architecture's resolution first.

        stats: calibrated statistics of `arch`; None: those of the batch. mode: all settings, instead of `stats`.
        """
        mode = mode or Mode(stats)
        x = resize(x, arch.resolution)
        spec = self.space.spec
        x = activation(self.stem_norm(self.stem(x, arch.stem, spec.stem.kernel), mode), self.act)
        depths = [genes.conv_depth + genes.attention_depth for genes in arch.stages]
        total, done = sum(depths), 0
        for stage, genes, depth in zip(self.stages, arch.stages, depths, strict=True):
            x = stage(x, genes, mode, [(done + i + 1) / total for i in range(depth)])
            done += depth
        logits: Tensor = self.head(x, arch.head, mode)
        return logits

    def slice(self, arch: Arch, stats: BnStats | None = None) -> StaticNet:
        """A plain network with copies of the weights of `arch`: same outputs as forward(x, arch, stats), bit for bit.

        Without `stats` its batch norms are as new (mean 0, variance 1). In eval mode; images must come in its size.
        """
        net = StaticNet(arch, self.space.spec, self.classes)
        net.load_weights(dict(self.state_dict()), stats)
        weight = self.head.conv.weight
        last = weight.stride(1) < weight.stride(3)  # other strides may pick other kernels, which round otherwise
        order = torch.channels_last if last else torch.contiguous_format
        return net.eval().to(weight.device).to(memory_format=order)  # type: ignore[call-overload, no-any-return]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the type of block: conv, attention, shared (stem and head)."""
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
        for name, parameter in self.named_parameters():
            groups[group_of(name)].append(parameter)
        return groups

    def without_decay(self) -> frozenset[str]:
        """Names of the parameters that weight decay leaves alone: norms, biases, layer scales."""
        return frozenset(n for n, p in self.named_parameters() if p.ndim <= 1) | self.layer_scales()

    def layer_scales(self) -> frozenset[str]:
        """Names of the layer scales."""
        return frozenset(f"{n}.weight" for n, m in self.named_modules() if isinstance(m, DynLayerScale))

    @torch.no_grad()
    def set_layer_scale(self, value: float) -> None:
        """Set every layer scale."""
        for module in self.modules():
            if isinstance(module, DynLayerScale):
                module.weight.fill_(value)


class DynHead(nn.Module):
    """See HeadSpec."""

    def __init__(self, ins: int, spec: SpaceSpec, classes: int) -> None:
        super().__init__()
        self.ratio, self.act, self.classes = spec.head.expand, spec.act, classes
        width = spec.head.width[-1]
        first = width if self.ratio is None else ins * self.ratio
        self.conv = DynConv(ins, first)
        self.norm = DynBatchNorm(first)
        self.mix = None if self.ratio is None else DynLinear(first, width)
        self.classifier = DynLinear(width, classes)

    def forward(self, x: Tensor, width: int, mode: Mode) -> Tensor:
        x = self.conv(x, width if self.ratio is None else x.shape[1] * self.ratio)
        x = F.adaptive_avg_pool2d(activation(self.norm(x, mode), self.act), 1).flatten(1)
        if self.mix is not None:
            x = activation(self.mix(x, width), self.act)
        x = F.dropout(x, mode.dropout, training=mode.dropout > 0)
        logits: Tensor = self.classifier(x, self.classes)
        return logits


def group_of(parameter_name: str) -> str:
    """Group of a parameter by its name in the supernet."""
    part = parameter_name.split(".")
    return {"conv": "conv", "attention": "attention"}.get(part[2], "shared") if part[0] == "stages" else "shared"


def resize(x: Tensor, resolution: int) -> Tensor:
    """Images [B, C, H, W] at the given size (bicubic); unchanged where they have it."""
    if x.shape[-1] == resolution and x.shape[-2] == resolution:
        return x
    return F.interpolate(x, (resolution, resolution), mode="bicubic", align_corners=False)


@torch.no_grad()
def calibrate(net: Supernet, arch: Arch, batches: Iterable[Tensor]) -> BnStats:
    """Batch norm statistics of one architecture: the average over the batches of their means and unbiased variances.

    The supernet itself is not changed, so subnets do not disturb one another. Raises ValueError without any batch.
    """
    mode = Mode(collecting=0)
    for number, images in enumerate(batches, 1):
        mode.collecting = number
        net(images, arch, mode=mode)
    if not mode.collected:
        raise ValueError("calibration needs a batch of images at least")
    return mode.collected
