"""Norms as passes of the hardware. Source: the passes that Vela 5.2.0 makes of them."""

from __future__ import annotations

from math import prod

from h4hc.workload import Op, VectorParams, Workload
from targets.ethos_u.axes import Shape, memory_shape, working_layout
from targets.ethos_u.maps import folded
from targets.ethos_u.reductions import mean_passes
from targets.ethos_u.softmax import CONSTANT
from targets.ethos_u.work import Format, Hwc, Output, Work, deepened


def norm_passes(op: Op, p: VectorParams, workload: Workload) -> tuple[Work, ...]:
    """x - mean, its square, the mean of that, + eps with a table of 1 / root behind; times it, scale; + shift.

    Maps between the passes are bricks, but where one pass leaves a shape that the next one reads as another.
    """
    memory = memory_shape(workload.tensor[op.inputs[0]], working_layout(op, workload))
    if p.function == "batch_norm":  # folded to scale and shift
        return scaled(folded(memory), ("mul", "add"))
    across = runs_across(memory, p)
    shape: Hwc = (1, max(1, p.rows), max(1, p.length))
    row: Hwc = (1, shape[1], 1)
    if across:
        shape, row = (memory[0], p.length, memory[-1]), (memory[0], 1, memory[-1])
    return _normed(p, shape, row, across)


def runs_across(memory: Shape, p: VectorParams) -> bool:
    """Whether the vectors are the positions of each channel of images that lie channels last, a row an image."""
    return not p.innermost and memory[0] * memory[-1] == p.rows and prod(memory[1:-1]) == p.length


def _normed(p: VectorParams, shape: Hwc, row: Hwc, across: bool) -> tuple[Work, ...]:
    """The passes; row: shape of a value a vector; across: the vectors run along the positions."""
    total, mean = mean_passes(shape, (1, p.length)) if across else mean_passes((shape[1], shape[2], 1), (1, shape[2]))
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
    if shape[2] == 1:
        work = work._replace(ifm=deepened(shape), ofm=deepened(shape))
    works = []
    for step in steps:
        works.append(work._replace(output=step, ifm_format=form, ofm_format="brick"))
        form = "brick"
    works[-1] = works[-1]._replace(ofm_format="nhwc")
    return tuple(works)
