"""The shapes of `glyphs` with the class of every pixel: a generated set for segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas.data.generate import CHUNK, to_bytes
from nas.data.glyphs import SHAPES, scenes
from nas.data.order import IMAGES, Order, rng

CLASSES = len(SHAPES) + 1  # class 0 is the ground
MASKS = 7  # stream of random numbers apart from those of the classification sets


@dataclass(frozen=True)
class MaskSplit:
    """images float32 [N, 1, H, W] of mean about 0 and deviation about 1; masks int64 [N, H, W], 0 = ground."""

    images: Tensor
    masks: Tensor

    def batch(self, seed: int, batch: int, step: int) -> tuple[Tensor, Tensor]:
        """Images and masks of one step of a shuffled endless run."""
        index = torch.from_numpy(Order(len(self.images), seed).part(step * batch, (step + 1) * batch))
        return self.images[index], self.masks[index]


def glyph_masks(train: int, val: int, resolution: int, seed: int = 0) -> tuple[MaskSplit, MaskSplit]:
    """Training and validation scenes; none is shared with each other or with the classification sets."""
    drawn = [_draw(n, resolution, seed, split) for split, n in enumerate((train, val))]
    mean, deviation = float(drawn[0][0].mean() / 255), float(drawn[0][0].std() / 255)
    first, second = (_split(images, masks, mean, deviation) for images, masks in drawn)
    return first, second


def _draw(n: int, size: int, seed: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    images, masks = np.empty((n, size, size), np.uint8), np.empty((n, size, size), np.int64)
    for first in range(0, n, CHUNK):
        part = slice(first, min(n, first + CHUNK))
        picture, labels, inside = scenes(rng(seed, IMAGES, MASKS, split, first // CHUNK), CHUNK, size)
        mask = np.where(inside, labels[:, None, None] + 1, 0)
        images[part], masks[part] = to_bytes(picture)[: part.stop - first], mask[: part.stop - first]
    return images, masks


def _split(images: np.ndarray, masks: np.ndarray, mean: float, deviation: float) -> MaskSplit:
    floats = (torch.from_numpy(images).float() / 255 - mean) / deviation
    return MaskSplit(floats[:, None], torch.from_numpy(masks))
