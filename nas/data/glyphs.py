"""Ten shapes drawn by formula on textured ground among lines and noise: needs no data at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.data.config import DataConfig
from nas.data.generate import Drawn, Floats, Ints, generated, pixel_grid, rotated, uniform
from nas.data.splits import Data

LINES = 2
NOISE = 0.1
EDGE = 0.12  # width over which a shape fades out, of its own radius


def _box(u: Floats, v: Floats, width: float, height: float) -> Floats:
    return np.maximum(np.abs(u) - width, np.abs(v) - height)


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.hypot(u, v) - 0.7) - 0.18


def _disc(u: Floats, v: Floats) -> Floats:
    return np.hypot(u, v) - 0.8


def _crescent(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.hypot(u, v) - 0.9, 0.75 - np.hypot(u - 0.5, v))


def _frame(u: Floats, v: Floats) -> Floats:
    return np.abs(_box(u, v, 0.65, 0.65)) - 0.17


def _triangle(u: Floats, v: Floats) -> Floats:
    return np.maximum(v - 0.6, 0.87 * np.abs(u) - 0.5 * v - 0.42)


def _plus(u: Floats, v: Floats) -> Floats:
    return np.minimum(_box(u, v, 0.85, 0.2), _box(u, v, 0.2, 0.85))


def _tee(u: Floats, v: Floats) -> Floats:
    return np.minimum(_box(u, v + 0.6, 0.8, 0.2), _box(u, v - 0.1, 0.2, 0.75))


def _ell(u: Floats, v: Floats) -> Floats:
    return np.minimum(_box(u + 0.45, v, 0.2, 0.85), _box(u, v - 0.65, 0.65, 0.2))


def _bars(u: Floats, v: Floats) -> Floats:
    return np.minimum(_box(u - 0.45, v, 0.2, 0.85), _box(u + 0.45, v, 0.2, 0.85))


def _cup(u: Floats, v: Floats) -> Floats:
    return np.minimum(_bars(u, v), _box(u, v - 0.65, 0.65, 0.2))


SHAPES = (_ring, _disc, _crescent, _frame, _triangle, _plus, _tee, _ell, _bars, _cup)  # below 0 inside


def glyphs(config: DataConfig) -> Data:
    """One of ten shapes at any place, size, slant and contrast, light on dark or dark on light."""
    return generated(config, (_draw, _draw, _draw), len(SHAPES))


def _draw(generator: np.random.Generator, n: int, size: int) -> Drawn:
    images, labels, _ = scenes(generator, n, size)
    return images, labels


def scenes(generator: np.random.Generator, n: int, size: int) -> tuple[Floats, Ints, NDArray[np.bool_]]:
    """n images [n, size, size] of 0 to 1 with noise beyond, the shape in each [n], and the pixels inside it."""
    labels = generator.integers(0, len(SHAPES), n)
    x, y = pixel_grid(size)
    angle, scale = uniform(generator, -0.4, 0.4, n), uniform(generator, 0.45, 0.7, n)
    dx, dy = uniform(generator, -0.25, 0.25, n), uniform(generator, -0.25, 0.25, n)
    u, v = rotated(x, y, angle, scale, dx, dy)
    ink = np.empty((n, size, size))
    for label, shape in enumerate(SHAPES):
        own = labels == label
        ink[own] = _soft(shape(u[own], v[own]) / EDGE)
    inside = ink >= 0.5
    for _ in range(LINES):
        ink = np.maximum(ink, _line(generator, n, size))
    ground = 0.5 + 0.1 * _grating(generator, n, size)
    contrast = uniform(generator, 0.4, 0.5, n) * generator.choice((-1.0, 1.0), (n, 1, 1))
    return ground + contrast * ink + NOISE * generator.standard_normal(ink.shape), labels, inside


def _soft(distance: Floats) -> Floats:
    """1 inside, 0 outside, a ramp between."""
    return np.asarray(np.clip(0.5 - distance, 0, 1))


def _line(generator: np.random.Generator, n: int, size: int) -> Floats:
    """A thin stroke anywhere."""
    x, y = pixel_grid(size)
    angle = uniform(generator, 0, np.pi, n)
    dx, dy = uniform(generator, -0.8, 0.8, n), uniform(generator, -0.8, 0.8, n)
    u, v = rotated(x, y, angle, np.ones_like(angle), dx, dy)
    return _soft(_box(u, v, 0.35, 0.03) / (2 / size))


def _grating(generator: np.random.Generator, n: int, size: int) -> Floats:
    """A wave over the whole picture, of 1 to 4 periods."""
    x, y = pixel_grid(size)
    angle, turns = uniform(generator, 0, np.pi, n), uniform(generator, np.pi, 4 * np.pi, n)
    return np.asarray(np.sin(turns * (np.cos(angle) * x + np.sin(angle) * y) + uniform(generator, 0, 2 * np.pi, n)))
