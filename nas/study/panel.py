"""The fixed panel of networks that every run of the study is judged by.

Subnets of one space differ more from one another than arms do, so all runs must be measured on the same ones: the
panel depends on the space and PANEL_SEED alone.
"""

from __future__ import annotations

import torch

from h4hc.errors import UserError
from nas.data.order import rng
from nas.data.splits import Data, Split
from nas.search.accuracy import Evaluator, Genome
from nas.space.space import SearchSpace
from nas.supernet.supernet import Supernet
from nas.training.config import CONV_ONLY
from nas.training.conflict import attention_full

PANEL_SEED, PANEL = 20250, 40  # seed, and stream of random numbers
CALIBRATION_BATCHES, CALIBRATION_BATCH = 2, 128
RANDOM_CONV, RANDOM_ANY, RANDOM_FULL = 8, 12, 8  # networks of each random group
GROUPS = ("max", "min", "max_conv", "random_conv", "random_any", "random_full")
Panel = dict[str, tuple[Genome, ...]]


def make_panel(space: SearchSpace) -> Panel:
    """Genomes of each group. Raises UserError where the space has no networks with and without attention."""
    depths = [v for n, v in space.fields.items() if n.endswith(".attention_depth")]
    if not depths or any(v[0] != 0 for v in depths) or all(v[-1] == 0 for v in depths):
        raise UserError(
            f"the space {space.spec.name!r} has no phases by block type",
            why="that takes stages whose attention depth can be 0 and more",
            hint="use a space such as tiny or h4h",
        )
    full = attention_full(space)

    def random(stream: int, n: int, allowed: dict[str, tuple[int | float | str, ...]]) -> tuple[Genome, ...]:
        drawn = space.sample(rng(PANEL_SEED, PANEL, stream), n, allowed)
        return tuple(tuple(row) for row in drawn.tolist())

    return {
        "max": (space.maximum(),),
        "min": (space.minimum(),),
        "max_conv": (space.maximum(CONV_ONLY),),
        "random_conv": random(0, RANDOM_CONV, CONV_ONLY),
        "random_any": random(1, RANDOM_ANY, {}),
        "random_full": random(2, RANDOM_FULL, full),
    }


def judge(net: Supernet, data: Data, panel: Panel, split: str = "test") -> dict[str, list[float]]:
    """Accuracy [%] of each network of each group on a split, batch norms calibrated on training images."""
    images, labels = whole(getattr(data, split))
    calibration = [batch for batch, _ in data.train.batches(CALIBRATION_BATCH, CALIBRATION_BATCHES * CALIBRATION_BATCH)]
    evaluate = Evaluator(net, calibration, images, labels)
    return {group: [100 * evaluate(genome) for genome in genomes] for group, genomes in panel.items()}


def whole(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of a split."""
    parts = list(split.batches(500))
    images = torch.cat([images for images, _ in parts]).contiguous(memory_format=torch.channels_last)
    return images, torch.cat([labels for _, labels in parts])
