"""Beyond classification: a segmentation head on the stages of an exported network.

The maps behind the stages are brought to one width by 1x1 convolutions; from the smallest up, each is enlarged to the
size of the one before and added (a feature pyramid, Lin et al. 2017). One more 1x1 convolution gives the classes of
the pixels of the finest map; they are enlarged to the image. Nearest and whole factors: any device can do that.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from h4hc.errors import UserError
from nas.config import Segmentation
from nas.data.masks import CLASSES, MaskSplit, glyph_masks
from nas.supernet.macs import halved
from nas.supernet.onnx_graph import OnnxGraph
from nas.supernet.onnx_writer import write_features
from nas.supernet.static import StaticNet

BATCH = 250


class SegmentationNet(nn.Module):
    """`backbone` (a copy of its stages; its classifier is left out) and a new head for `classes` classes of pixels."""

    def __init__(self, backbone: StaticNet, classes: int, width: int, seed: int) -> None:
        """Raises UserError where an enlargement would not be by a whole number."""
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        del self.backbone.head
        self.classes = classes
        self.sizes = _sizes(backbone)
        bad = [(a, b) for a, b in zip([backbone.arch.resolution, *self.sizes], self.sizes, strict=False) if a % b]
        if bad:
            why = f"sides of the maps: {', '.join(map(str, [backbone.arch.resolution, *self.sizes]))}"
            raise UserError(
                "the network has no whole factors between its maps", why=why, hint="choose another resolution"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lateral = nn.ModuleList(nn.Conv2d(stage.width, width, 1) for stage in backbone.arch.stages)
            self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes, R, R] of images [B, C, R, R]."""
        maps = self.backbone.features(x)
        y: Tensor = self.lateral[-1](maps[-1])
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            y = lateral(finer) + F.interpolate(y, finer.shape[-2:], mode="nearest")
        return F.interpolate(self.classifier(F.relu(y)), x.shape[-2:], mode="nearest")


@dataclass(frozen=True)
class Quality:
    """Of a segmentation on validation images. mean_iou: intersection over union, mean over the classes that occur."""

    mean_iou: float
    pixel_accuracy: float


def train_segmentation(backbone: StaticNet, config: Segmentation, seed: int) -> tuple[SegmentationNet, dict[str, Any]]:
    """Train head and backbone together on generated masks; the net in eval mode, and its figures.

    Figures hold, for comparison, the same net before training, and calling every pixel ground. Raises UserError where
    the network does not suit.
    """
    if backbone.spec.channels_in != 1:
        raise UserError(
            "the generated masks are grey images", why=f"the network takes {backbone.spec.channels_in} channels"
        )
    train, val = glyph_masks(config.train, config.val, backbone.arch.resolution, seed)
    net = SegmentationNet(backbone, CLASSES, config.width, seed)
    before = quality(net.eval(), val)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps + 1)
    weight = torch.ones(CLASSES)
    weight[0] = config.ground_weight
    net.train()
    for step in range(config.steps):
        images, masks = train.batch(seed, config.batch, step)
        loss = F.cross_entropy(net(images), masks, weight=weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    figures = {
        "classes": CLASSES, "steps": config.steps, "val": asdict(quality(net.eval(), val)), "untrained": asdict(before),
        "ground_only": asdict(_from_counts(_counts(torch.zeros_like(val.masks), val.masks, CLASSES))),
    }  # fmt: skip
    return net, figures


@torch.no_grad()
def quality(net: SegmentationNet, split: MaskSplit) -> Quality:
    """Figures of a net in eval mode."""
    counts = torch.zeros(net.classes, net.classes, dtype=torch.int64)
    for images, masks in zip(split.images.split(BATCH), split.masks.split(BATCH), strict=True):
        counts += _counts(net(images).argmax(1), masks, net.classes)
    return _from_counts(counts)


def _counts(found: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Pixels [true class, class found]."""
    return torch.bincount(masks.flatten() * classes + found.flatten(), minlength=classes**2).view(classes, classes)


def _from_counts(counts: Tensor) -> Quality:
    hit = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    present = union > 0
    return Quality(float((hit[present] / union[present]).mean()), float(hit.sum() / counts.sum()))


@torch.no_grad()
def segmentation_onnx(net: SegmentationNet) -> onnx.ModelProto:
    """Input `image` [1, C, R, R], output `logits` [1, classes, R, R]."""
    backbone = net.backbone
    g = OnnxGraph(1, backbone.spec.channels_in, backbone.arch.resolution)
    maps = write_features(g, backbone)
    y = g.conv(maps[-1], net.lateral[-1], f"lateral{len(maps) - 1}")  # type: ignore[arg-type]
    for i in range(len(maps) - 2, -1, -1):
        y = _enlarged(g, y, net.sizes[i] // net.sizes[i + 1], f"up{i}")
        y = g.node("Add", [g.conv(maps[i], net.lateral[i], f"lateral{i}"), y], f"pyramid{i}")  # type: ignore[arg-type]
    y = g.conv(g.node("Relu", [y], "pyramid.act"), net.classifier, "pixels")
    side = backbone.arch.resolution
    _enlarged(g, y, side // net.sizes[0], "logits")
    return g.model(f"h4hc.nas {backbone.spec.name} segmentation", "logits", [1, net.classes, side, side])


def _enlarged(g: OnnxGraph, x: str, factor: int, out: str) -> str:
    if factor == 1:
        return g.node("Identity", [x], out) if out == "logits" else x
    scales: NDArray[np.float32] = np.array([1, 1, factor, factor], np.float32)
    inputs = [x, "", g.constant(f"{out}.scales", scales)]
    return g.node(
        "Resize", inputs, out, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )


def _sizes(backbone: StaticNet) -> list[int]:
    """Side of the map behind each stage."""
    size, found = halved(backbone.arch.resolution, backbone.spec.stem.stride), []
    for stage in backbone.spec.stages:
        size = halved(size, stage.stride)
        found.append(size)
    return found
