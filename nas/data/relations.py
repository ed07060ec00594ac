"""How many squares are brighter than the ring? The answer lies in no part of the picture, only between parts far apart.

A picture is a grid of 6 x 6 cells; one holds a ring, ITEMS others hold filled squares, each of its own brightness. The
class is the number of squares brighter than the ring, 0 to ITEMS. Every square must be compared with the one ring,
wherever both are; a network without attention must first carry the ring's brightness through its convolutions.
"""

from __future__ import annotations

import numpy as np

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.data.generate import Drawn, Floats, generated
from nas.data.splits import Data

CELLS = 6  # a side
LEAST = 4 * CELLS  # pixels a side: a ring is one pixel wide then, its hole two
ITEMS = 5
DARKEST, BRIGHTEST = 0.25, 0.95  # of squares and ring, about; the picture ends at 1
GAP = 0.08  # least difference to the ring, of the range
NOISE = 0.06


def relations(config: DataConfig) -> Data:
    """As above; resolutions that are no multiple of 6 leave a margin on the right and below.

    Raises UserError for a resolution at which a ring has no pixel of its own: nobody could answer there.
    """
    if config.resolution < LEAST:
        why = f"a cell of less than {LEAST // CELLS} pixels a side shows no ring"
        where, hint = (f"data.resolution: {config.resolution}",), f"resolution: {LEAST} or more"
        raise UserError("the images of `relations` are too small", where, why, hint)
    return generated(config, (_draw, _draw, _draw), ITEMS + 1)


def _draw(generator: np.random.Generator, n: int, size: int) -> Drawn:
    ring = generator.random(n)
    items = _apart(generator.random((n, ITEMS)), ring[:, None], generator)
    labels = (items > ring[:, None]).sum(1)
    cells = generator.permuted(np.broadcast_to(np.arange(CELLS**2), (n, CELLS**2)), axis=1)
    brightness = np.zeros((n, CELLS**2))
    here = np.arange(n)
    brightness[here[:, None], cells[:, 1 : ITEMS + 1]] = _level(items)
    hollow = np.zeros((n, CELLS**2), bool)
    hollow[here, cells[:, 0]] = True
    brightness[here, cells[:, 0]] = _level(ring)
    picture = _paint(brightness.reshape(n, CELLS, CELLS), hollow.reshape(n, CELLS, CELLS), size)
    return picture + NOISE * generator.standard_normal(picture.shape), labels


def _apart(items: Floats, ring: Floats, generator: np.random.Generator) -> Floats:
    """Move items that are too near to the ring away from it, to the side on which they are."""
    near = np.abs(items - ring) < GAP
    side = np.where(items >= ring, 1.0, -1.0)
    return np.asarray(np.where(near, ring + side * (GAP + GAP * generator.random(items.shape)), items))


def _level(value: Floats) -> Floats:
    """Brightness in the picture of a value of about 0 to 1."""
    return DARKEST + (BRIGHTEST - DARKEST) * np.clip(value, -GAP, 1 + GAP)


def _paint(brightness: Floats, hollow: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], size: int) -> Floats:
    """Cells as filled squares, a quarter of the cell's side left black inside where hollow."""
    side = size // CELLS
    inside = slice(side // 4, side - side // 4)
    cells = np.repeat(np.repeat(brightness[:, :, None, :, None], side, 2), side, 4)
    block = cells[:, :, inside, :, inside]
    block[np.broadcast_to(hollow[:, :, None, :, None], block.shape)] = 0
    picture = np.zeros((len(brightness), size, size))
    picture[:, : side * CELLS, : side * CELLS] = cells.reshape(len(brightness), side * CELLS, side * CELLS)
    return picture
