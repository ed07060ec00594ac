"""Sets made of the 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Optdigits, UCI, CC BY 4.0)."""

from __future__ import annotations

from functools import partial

import numpy as np

from h4hc.errors import MissingToolError
from nas.data.config import DataConfig
from nas.data.generate import Drawn, Floats, Ints, as_split, generated, pixel_grid, rotated, sample, to_bytes, uniform
from nas.data.order import split
from nas.data.splits import Data

HELD_OUT = (0.2, 0.2)  # of the digits: validation, test
CLASSES = 10
PATCHES, PATCH = 3, 6  # pieces of other digits in a `clutter` image, and their side at 24 pixels
NOISE = 0.15  # deviation, of an image that spans 0 to 1


def _handwritten() -> tuple[Floats, Ints]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingToolError("scikit-learn is not installed", hint="pip install 'h4hc[nas]'") from error
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16, labels.astype(np.int64)


def digits(config: DataConfig) -> Data:
    """The digits as they are, enlarged: 60 % train, 20 % validation, 20 % test. Easy; for smoke tests."""
    images, labels = _handwritten()
    x, y = pixel_grid(config.resolution)
    u, v = np.broadcast_arrays(x, y)
    big = to_bytes(sample(images, np.repeat(u, len(images), 0), np.repeat(v, len(images), 0)))
    val, test, train = split(labels, HELD_OUT, config.seed)
    mean, deviation = float(big[train].mean() / 255), float(big[train].std() / 255)
    parts = [as_split(big[part], labels[part], mean, deviation) for part in (train, val, test)]
    return Data("digits", CLASSES, 1, config.resolution, *parts)


def clutter(config: DataConfig) -> Data:
    """Digits moved, turned, scaled, at any contrast, among pieces of other digits and noise.

    No handwritten digit serves two splits, neither as the digit nor as a piece.
    """
    images, labels = _handwritten()
    val, test, train = split(labels, HELD_OUT, config.seed)
    train_draw, val_draw, test_draw = (partial(_clutter, images[p], labels[p]) for p in (train, val, test))
    return generated(config, (train_draw, val_draw, test_draw), CLASSES)


def _clutter(digits: Floats, labels: Ints, generator: np.random.Generator, n: int, size: int) -> Drawn:
    chosen = generator.integers(0, len(digits), n)
    picture = _placed(digits[chosen], generator, size)
    side = max(2, PATCH * size // 24)
    for _ in range(PATCHES):
        other = _placed(digits[generator.integers(0, len(digits), n)], generator, size)
        _paste(picture, other, side, generator)
    contrast = uniform(generator, 0.6, 1.0, n)
    level = uniform(generator, 0.0, 1.0, n) * (1 - contrast)
    picture = level + contrast * picture
    return picture + NOISE * generator.standard_normal(picture.shape), labels[chosen]


def _placed(digits: Floats, generator: np.random.Generator, size: int) -> Floats:
    """Digits in a random pose on an empty picture."""
    n = len(digits)
    x, y = pixel_grid(size)
    angle, scale = uniform(generator, -0.35, 0.35, n), uniform(generator, 0.7, 1.0, n)
    dx, dy = uniform(generator, -0.15, 0.15, n), uniform(generator, -0.15, 0.15, n)
    u, v = rotated(x, y, angle, scale, dx, dy)
    return np.asarray(np.clip(sample(digits, u, v) * 1.6 - 0.3, 0, 1))  # bilinear strokes are blurred: sharpen


def _paste(picture: Floats, other: Floats, side: int, generator: np.random.Generator) -> None:
    """Put a random square of `other` over a random place of each picture; the brighter pixel stays."""
    n, size, _ = picture.shape
    corner = generator.integers(0, size - side + 1, (4, n, 1, 1))
    line = np.arange(side)
    rows, columns = line[None, :, None], line[None, None, :]
    at = np.arange(n)[:, None, None]
    target = (at, corner[0] + rows, corner[1] + columns)
    picture[target] = np.maximum(picture[target], other[at, corner[2] + rows, corner[3] + columns])
