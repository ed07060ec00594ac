"""Transposes as passes of the hardware, which swaps two of the axes (height, width, channels) as it copies.

A transpose that needs more than three axes is made of such copies. Vela 5.2.0 puts the axes in their places one by one,
first to last, each by a swap with the axis that is there. Swaps of the outer pair, the inner pair, or the two ends take
one copy (the other two axes count as one); the others are made of these. So NCHW with the order of all four axes turned
round takes six copies, with axes 0, 2, 1, 3 (the heads of an attention) five, with 0, 2, 3, 1 (NHWC) one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from targets.ethos_u.axes import Shape
from targets.ethos_u.work import Hwc, Work

OUTER, INNER, ENDS = (0, 1), (2, 3), (0, 3)
GROUPS = {OUTER: (1, 2), INNER: (2, 3), ENDS: (1, 3)}  # where height ends, where width ends
SWAPS = {
    OUTER: (OUTER,),
    INNER: (INNER,),
    ENDS: (ENDS,),
    (1, 3): (OUTER, ENDS, OUTER),
    (0, 2): (INNER, ENDS, INNER),
    (1, 2): (OUTER, INNER, ENDS, INNER, OUTER),
}
MOST_AXES = 4


def transpose_passes(shape: Shape, perm: tuple[int, ...]) -> tuple[Work, ...]:
    """Copies of a transpose with as few axes as can be (axes.joined), at most four; () where nothing moves."""
    if len(shape) == MOST_AXES:
        return tuple(_four_axes(shape, perm))
    if perm == tuple(range(len(perm))):
        return ()
    before = (1,) * (3 - len(shape)) + shape
    after = (1,) * (3 - len(shape)) + tuple(shape[axis] for axis in perm)
    return (_copy(_hwc(before), _hwc(after)),)


def _four_axes(shape: Shape, perm: tuple[int, ...]) -> Iterator[Work]:
    sizes, order = list(shape), list(range(MOST_AXES))
    for place, axis in enumerate(perm):
        at = order.index(axis)
        for a, b in SWAPS[place, at] if at != place else ():
            h, w = GROUPS[a, b]
            before = (prod(sizes[:h]), prod(sizes[h:w]), prod(sizes[w:]))
            sizes[a], sizes[b] = sizes[b], sizes[a]
            yield _copy(before, (prod(sizes[:h]), prod(sizes[h:w]), prod(sizes[w:])))
        order[place], order[at] = order[at], order[place]


def _hwc(shape: Shape) -> Hwc:
    height, width, channels = shape
    return height, width, channels


def _copy(before: Hwc, after: Hwc) -> Work:
    return Work("copy", "other", before, after)
