"""Reductions and norms as passes of the hardware. Source: the passes that Vela 5.2.0 makes of them."""

from __future__ import annotations

from h4hc.workload import Op, VectorParams, Workload
from targets.ethos_u.maps import physical
from targets.ethos_u.softmax import CONSTANT, INT32
from targets.ethos_u.work import Format, Hwc, Output, Work, deepened


def norm_passes(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    """x - mean, its square, the mean of that, + eps with a table of 1 / root behind; times it, scale; + shift.

    Maps between the passes are bricks, but where one pass leaves a shape that the next one reads as another.
    """
    if p.function == "batch_norm":  # folded to scale and shift
        return scaled(physical(workload.tensor[op.inputs[0]]), ("mul", "add"))
    height, width, _ = physical(workload.tensor[op.inputs[0]])
    across = not p.innermost and height * width == p.length
    shape: Hwc = (1, p.length, p.rows) if across else (1, max(1, p.rows), max(1, p.length))
    row: Hwc = (1, 1, p.rows) if across else (1, shape[1], 1)
    return _normed(p, shape, row, across)


def _normed(p: VectorParams, shape: Hwc, row: Hwc, across: bool) -> tuple[Work, ...]:
    """The passes; row: shape of a value a vector; across: the vectors run along the positions."""
    total, mean = _reduce("mean", p, shape if across else None)
    whole, values = deepened(shape), deepened(row)
    kept: Format = "brick" if whole == shape else "nhwc"  # the map itself
    kept_row: Format = "brick" if values == row else "nhwc"
    summed: Format = "brick" if mean.ofm == values else "nhwc"  # a mean where the next pass adds to it
    inner: Format = "brick" if across else "nhwc"  # a mean where the next pass repeats it
    squared = kept if across else "nhwc"
    square = Work("elementwise", "mul", whole, whole, ifm2=whole, ofm_format=squared)
    eps = Work("elementwise", "add", values, values, ifm2=CONSTANT, ifm2_place="constant", ifm_format=summed)
    spread = (total._replace(ifm_format=squared), mean._replace(ofm_format=summed), eps._replace(ofm_format=kept_row))
    times = Work("elementwise", "mul", shape, shape, ifm2=row, ifm2_format=kept_row, ofm_format="brick")
    if p.function == "rms_norm":
        return square, *spread, times, *scaled(shape, ("mul",), "brick")
    centred = times._replace(output="add", ifm2_format=inner, ofm_format=kept)
    square = square._replace(ifm_format=kept, ifm2_format=kept)
    means = (total, mean._replace(ofm_format=inner))
    last = scaled(shape, ("mul", "add"), "brick")
    return *means, centred, square, *spread, times._replace(ifm_format=kept), *last


def scaled(shape: Hwc, steps: tuple[Output, ...], form: Format = "nhwc") -> tuple[Work, ...]:
    """Products and sums with constants of each channel; form: of what the first one reads."""
    work = Work("elementwise", "mul", shape, shape, ifm2=(1, 1, shape[2]), ifm2_place="constant")
    works = []
    for step in steps:
        works.append(work._replace(output=step, ifm_format=form, ofm_format="brick"))
        form = "brick"
    works[-1] = works[-1]._replace(ofm_format="nhwc")
    return tuple(works)


def reduce_passes(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    """Sum, mean, maximum or minimum of vectors."""
    return _reduce(p.function, p, _reduced_image(op, p, workload))


def _reduced_image(op: Op, p: VectorParams, workload: Workload) -> Hwc | None:
    """The input as an image if the reduction runs over all its positions, or over another axis than the innermost."""
    shape = physical(workload.tensor[op.inputs[0]])
    if shape[0] * shape[1] == p.length and shape[2] == p.rows:
        return shape
    return None if p.innermost else (1, p.length, p.rows)


def _reduce(function: str, p: VectorParams, image: Hwc | None) -> tuple[Work, ...]:
    if function == "sum":
        return (Work("reduce_sum", "other", (1, p.rows, p.length), (1, p.rows, 1)),)
    if function in ("max", "min"):
        return _extreme(function, p)
    if image is not None:
        h, w, c = image
        main = Work("depthwise", "other", image, (1, 1, c), (h, w), weights=h * w * c)
        return _mean(main)
    return _mean(Work("depthwise", "other", (p.rows, p.length, 1), (p.rows, 1, 1), (1, p.length), weights=p.length))


def _mean(total: Work) -> tuple[Work, Work]:
    """A sum to int32 by weights of 1, then times 1 / n."""
    shape = deepened(total.ofm)
    form: Format = "brick" if shape == total.ofm else "nhwc"
    total = total._replace(ofm_bits=INT32, ofm_format=form, even_weights=True)
    scaled = Work("elementwise", "mul", shape, shape, ifm2=CONSTANT, ifm_bits=INT32, ifm_format=form)
    return total, scaled._replace(ifm2_place="constant")


def _extreme(function: str, p: VectorParams) -> tuple[Work, ...]:
    """Pooling along the vectors, all in one window; outer axes lie across the channels.

    A minimum is the maximum of what is subtracted from a constant, subtracted once more.
    """
    height, depth = (p.rows, 1) if p.innermost else (1, p.rows)
    work = Work("pool", "maxpool", (height, p.length, depth), (height, 1, depth), (1, p.length))
    if function == "max":
        return (work,)
    shape = deepened(work.ifm)
    form: Format = "brick" if shape == work.ifm else "nhwc"
    less = Work("elementwise", "add", shape, shape, ifm2=CONSTANT, ifm2_place="constant", ofm_format=form)
    rest = deepened(work.ofm)
    return less, work._replace(ifm_format=form), less._replace(ifm=rest, ofm=rest, ofm_format="nhwc")
