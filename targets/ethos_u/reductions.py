"""Reductions as passes of the hardware. Source: the passes that Vela 5.2.0 makes of MEAN, SUM, REDUCE_MAX, REDUCE_MIN.

mean  a depthwise convolution whose window is all that is averaged, then times 1 / n. The window lies in height and
      width: a mean over the channels too takes an image with an axis of one, which changes places with them.
max   axis by axis, first to last: a pooling along the axis; min: the same between two subtractions from a constant.
sum   along the innermost axis, one value a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import prod

from h4hc.workload import Op, VectorParams, Workload
from targets.ethos_u.axes import Shape, order_of, working_layout
from targets.ethos_u.maps import folded
from targets.ethos_u.softmax import CONSTANT, INT32
from targets.ethos_u.work import Format, Hwc, Work, deepened

MOST_AXES = 4
HEIGHT, WIDTH, CHANNELS = 1, 2, 3  # of the four axes of a map in memory
Axes = tuple[int, ...]


def reduction(op: Op, p: VectorParams, workload: Workload) -> tuple[Shape, Axes] | None:
    """Input of a reduction as four axes in the order of memory, and those longer than one that it runs over.

    Where the result keeps its axes, they are the ones that became one; else those whose lengths give the vectors'
    and leave the result's; of several choices the first that agrees with `innermost`. None where there is none.
    """
    shape, result = workload.tensor[op.inputs[0]].shape, workload.tensor[op.outputs[0]].shape
    order = order_of(len(shape), working_layout(op, workload))
    kept = list(range(len(shape)))
    while len(kept) > MOST_AXES and any(shape[order[at]] == 1 for at in kept):
        kept.remove(next(at for at in kept if shape[order[at]] == 1))
    if len(kept) > MOST_AXES:
        return None
    wide = [at for at in kept if shape[order[at]] != 1]

    def fits(choice: Axes) -> bool:
        gone = {order[at] for at in choice}
        left = [d for a, d in enumerate(shape) if a not in gone and d != 1]
        return prod(shape[a] for a in gone) == p.length and left == [d for d in result if d != 1]

    changed = tuple(at for at in wide if len(result) == len(shape) and result[order[at]] == 1)
    found = [changed] if fits(changed) else [*filter(fits, _choices(wide))]
    if not found:
        return None
    axes = next((axes for axes in found if (wide[-1:] == [*axes[-1:]]) is p.innermost), found[0])
    lead = MOST_AXES - len(kept)
    return (1,) * lead + tuple(shape[order[at]] for at in kept), tuple(lead + kept.index(at) for at in axes)


def _choices(axes: list[int]) -> Iterator[Axes]:
    """Fewest first, innermost first; each in the order of memory."""
    for count in range(len(axes) + 1):
        for choice in combinations(reversed(axes), count):
            yield tuple(sorted(choice))


def reduce_passes(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    """Sum, mean, maximum or minimum of vectors, of a reduction that the rules allow."""
    known = reduction(op, p, workload)
    assert known is not None, op.id
    shape, axes = known
    if p.function == "sum":
        image = folded(shape)
        return (Work("reduce_sum", "other", image, (image[0], image[1], 1)),)
    if p.function == "mean":
        window = mean_window(shape, axes)
        assert window is not None, op.id
        return mean_passes(*window)
    return _extremes(p.function, shape, axes)


def mean_window(shape: Shape, axes: Axes) -> tuple[Hwc, tuple[int, int]] | None:
    """An image and the window that averages it; None where the window would reach over channels of a whole image."""
    h, w, c = folded(shape)
    high, wide = (h if HEIGHT in axes else 1), (w if WIDTH in axes else 1)
    if CHANNELS not in axes or c == 1:
        return (h, w, c), (high, wide)
    if h == 1:
        return (w, c, 1), (wide, c)
    return ((h, c, 1), (high, c)) if w == 1 else None


def mean_passes(image: Hwc, window: tuple[int, int]) -> tuple[Work, Work]:
    """A sum to int32 by weights of 1, then times 1 / n."""
    (h, w, c), (high, wide) = image, window
    ofm = (h // high, w // wide, c)
    shape = deepened(ofm)
    form: Format = "brick" if shape == ofm else "nhwc"
    total = Work("depthwise", "other", image, ofm, window, weights=high * wide * c, even_weights=True)
    total = total._replace(ofm_bits=INT32, ofm_format=form)
    scaled = Work("elementwise", "mul", shape, shape, ifm2=CONSTANT, ifm_bits=INT32, ifm_format=form)
    return total, scaled._replace(ifm2_place="constant")


def _extremes(function: str, shape: Shape, axes: Axes) -> tuple[Work, ...]:
    """Maxima or minima along one axis after the other. Subtractions see the map, a pooling the axis as a row."""
    works: list[Work] = []
    sizes = list(shape)
    for axis in axes:
        before, length, behind = prod(sizes[:axis]), sizes[axis], prod(sizes[axis + 1 :])
        pool = Work("pool", "maxpool", (before, length, behind), (before, 1, behind), (1, length))
        whole = folded(tuple(sizes))
        sizes[axis] = 1
        works += [pool] if function == "max" else _between(whole, pool, folded(tuple(sizes)), bool(works))
    return tuple(works)


def _between(whole: Hwc, pool: Work, rest: Hwc, again: bool) -> list[Work]:
    """A minimum: the maximum of what is subtracted from a constant, subtracted once more.

    Maps are bricks where the next pass reads them in the shape they were made in; again: behind another minimum.
    """
    shape, left = deepened(whole), deepened(rest)
    before: Format = "brick" if again and shape == whole else "nhwc"
    form: Format = "brick" if shape == pool.ifm else "nhwc"
    behind: Format = "brick" if left == rest else "nhwc"
    less = Work("elementwise", "add", shape, shape, ifm2=CONSTANT, ifm2_place="constant")
    last = less._replace(ifm=left, ofm=left, ofm_format=behind)
    return [less._replace(ifm_format=before, ofm_format=form), pool._replace(ifm_format=form), last]
