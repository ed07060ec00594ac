"""Seeded inputs that look like images to a network: smooth large shapes, edges, fine grain, 8-bit levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CONTRAST = 50.0  # standard deviation of an image, in levels
_FINEST_CELLS = 64
_OCTAVE_RATIO = 0.6  # amplitude of each octave over that of the coarser one
_GRAIN = 0.1  # standard deviation of the noise of single pixels
_LEVELS_PER_UNIT = 64  # a pixel 0..255 becomes (pixel - 128) / 64, that is -2.0 .. 1.98


def sample_images(shape: tuple[int, ...], count: int, seed: int) -> NDArray[np.float32]:
    """`count` inputs of the model input `shape` (its first axis, the batch, is replaced by count).

    Each is a sum of noise at octaves of 2, 4, 8 ... cells (large shapes strongest, as in photographs), one
    rectangle of another colour and a little grain, at one mean and contrast; rounded to the 256 levels of a
    camera, so that the values do not depend on the machine's rounding. Range -2 .. 1.98, about zero mean.
    """
    _, channels, height, width = shape
    random = np.random.RandomState([seed, 0x1A6E])
    images = [_image(random, channels, height, width) for _ in range(count)]
    return np.stack(images)


def _image(random: np.random.RandomState, channels: int, height: int, width: int) -> NDArray[np.float32]:
    plane = np.zeros((channels, height, width))
    cells, amplitude = 2, 1.0
    while cells <= min(height, width, _FINEST_CELLS):
        shared = random.standard_normal((1, cells, cells))  # brightness, the same in all channels
        colour = random.standard_normal((channels, cells, cells))
        plane += amplitude * _enlarge(0.8 * shared + 0.6 * colour, height, width)
        cells, amplitude = cells * 2, amplitude * _OCTAVE_RATIO
    top, left = random.randint(0, max(1, height // 2)), random.randint(0, max(1, width // 2))
    bright = random.uniform(-1.5, 1.5, size=(channels, 1, 1))
    plane[:, top : top + max(1, height // 3), left : left + max(1, width // 3)] += bright
    plane += _GRAIN * random.standard_normal(plane.shape)
    plane = (plane - plane.mean()) / plane.std()  # as a camera's automatic exposure does
    pixels = np.clip(np.rint(_CONTRAST * plane + 128.0), 0, 255)
    values: NDArray[np.float32] = ((pixels - 128.0) / _LEVELS_PER_UNIT).astype(np.float32)
    return values


def _enlarge(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear interpolation of the last two axes, elementwise (no BLAS: its sums differ between machines)."""
    low, part = _cells(grid.shape[1], height)
    rows = grid[:, low] * (1.0 - part)[:, None] + grid[:, low + 1] * part[:, None]
    low, part = _cells(grid.shape[2], width)
    return rows[:, :, low] * (1.0 - part) + rows[:, :, low + 1] * part


def _cells(count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of `size` positions spread over `count` cells: the cell before it and how far it is beyond."""
    position = np.linspace(0.0, count - 1.0, size)
    low = np.minimum(position.astype(np.int64), count - 2)
    return low, position - low
