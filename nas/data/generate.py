"""What the generated sets share: sampling pictures by coordinates, bytes, splits.

Everything is float64 until the bytes are rounded, so that the same seed gives the same bytes on any machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from nas.data.config import DataConfig
from nas.data.order import IMAGES, rng
from nas.data.splits import Data, TensorSplit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Drawn = tuple[Floats, Ints]
Draw = Callable[[np.random.Generator, int, int], Drawn]
CHUNK = 1000  # images drawn at once: keeps the work in cache
SPLITS = ("train", "val", "test")


def uniform(generator: np.random.Generator, low: float, high: float, n: int) -> Floats:
    """n numbers [n, 1, 1], to be broadcast over pixels."""
    return generator.uniform(low, high, (n, 1, 1))


def pixel_grid(size: int) -> tuple[Floats, Floats]:
    """x [1, 1, size] and y [1, size, 1] of pixel centres; the picture spans -1 to 1."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    return line[None, None, :], line[None, :, None]


def rotated(x: Floats, y: Floats, angle: Floats, scale: Floats, dx: Floats, dy: Floats) -> tuple[Floats, Floats]:
    """Coordinates in a frame moved by (dx, dy), turned by angle [rad] and enlarged by scale; each [N, H, W]."""
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = x - dx, y - dy
    return cos * x + sin * y, cos * y - sin * x


def sample(pictures: Floats, u: Floats, v: Floats) -> Floats:
    """Bilinear values of pictures [N, h, w] at u, v [N, H, W]; a picture spans -1 to 1, outside it is 0."""
    n, h, w = pictures.shape
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    column = np.clip((u + 1) * w / 2 + 0.5, 0, w + 0.999)
    row = np.clip((v + 1) * h / 2 + 0.5, 0, h + 0.999)
    i, j = row.astype(np.int64), column.astype(np.int64)
    a, b = row - i, column - j
    at = (np.arange(n)[:, None, None] * (h + 2) + i) * (w + 2) + j
    flat = padded.ravel()
    top = flat[at] * (1 - b) + flat[at + 1] * b
    bottom = flat[at + w + 2] * (1 - b) + flat[at + w + 3] * b
    return np.asarray(top * (1 - a) + bottom * a)


def to_bytes(images: Floats) -> NDArray[np.uint8]:
    """Images of 0 to 1 as bytes; the noise beyond is cut off."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def draw_bytes(draw: Draw, seed: int, split: int, n: int, size: int) -> tuple[NDArray[np.uint8], Ints]:
    """n images [n, size, size] and labels of one split; the first m of n are the same for every n > m."""
    images, labels = np.empty((n, size, size), np.uint8), np.empty(n, np.int64)
    for first in range(0, n, CHUNK):
        part = slice(first, min(n, first + CHUNK))
        picture, label = draw(rng(seed, IMAGES, split, first // CHUNK), CHUNK, size)
        images[part], labels[part] = to_bytes(picture)[: part.stop - first], label[: part.stop - first]
    return images, labels


def as_split(images: NDArray[np.uint8], labels: Ints, mean: float, deviation: float) -> TensorSplit:
    """Bytes as the floats a network sees: (byte / 255 - mean) / deviation."""
    floats = (torch.from_numpy(images).float() / 255 - mean) / deviation
    return TensorSplit(floats[:, None], torch.from_numpy(labels))


def generated(config: DataConfig, draws: tuple[Draw, Draw, Draw], classes: int) -> Data:
    """A data set of drawn images: one function a split, so that splits may draw from material of their own."""
    drawn = [
        draw_bytes(draw, config.seed, i, getattr(config, name), config.resolution)
        for i, (name, draw) in enumerate(zip(SPLITS, draws, strict=True))
    ]
    mean, deviation = drawn[0][0].mean() / 255, drawn[0][0].std() / 255
    train, val, test = (as_split(images, labels, float(mean), float(deviation)) for images, labels in drawn)
    return Data(config.name, classes, 1, config.resolution, train, val, test)
