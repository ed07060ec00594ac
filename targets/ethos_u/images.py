"""Convolutions, poolings and resizes as passes of the hardware. Source: the passes that Vela 5.2.0 makes of them."""

from __future__ import annotations

from math import prod

from h4hc.workload import ConvParams, Op, OpKind, PoolParams, ResizeParams
from targets.ethos_u.padding import needs_copy, read_padding
from targets.ethos_u.work import Format, Hwc, Output, Work, deepened

MAX_STRIDE = 3  # of a pass; an operator with longer ones takes a pass for each position of its output
DOUBLED = 2
TAPS = (2, 2)  # of a pass that doubles an image


def _pair(dims: tuple[int, ...]) -> tuple[int, int]:
    """One-dimensional images are one row high."""
    return (1, dims[0]) if len(dims) == 1 else (dims[0], dims[1])


def conv_passes(op: Op, p: ConvParams) -> tuple[Work, ...]:
    """One pass for each group, or for each position where a stride is longer than the hardware's."""
    h, w = _pair(p.in_spatial)
    oh, ow = _pair(p.out_spatial)
    kernel, stride, dilation = _pair(p.kernel), _pair(p.stride), _pair(p.dilation)
    taps = kernel[0] * kernel[1]
    if op.kind is OpKind.DEPTHWISE and p.in_channels > 1:
        weights = taps * p.out_channels
        shape = (h, w, p.out_channels)
        return (Work("depthwise", "other", shape, (oh, ow, p.out_channels), kernel, stride, dilation, weights=weights),)
    ins, outs = p.in_channels // p.groups, p.out_channels // p.groups
    work = Work("conv", "other", (h, w, ins), (oh, ow, outs), kernel, stride, dilation, weights=taps * ins * outs)
    if op.kind is OpKind.CONV_TRANSPOSE:  # zeros between the inputs, then a convolution of stride 1
        return (work._replace(stride=(1, 1), upscale=max(stride)),)
    parts = _unrolled(work)
    return parts if p.groups == 1 else tuple(part._replace(times=part.times * p.groups) for part in parts)


def _still(work: Work) -> Work:
    """A window of one position along an axis moves nowhere along it."""
    rows, columns = (1 if size == 1 else step for size, step in zip(work.ofm, work.stride, strict=False))
    return work._replace(stride=(rows, columns))


def _unrolled(work: Work) -> tuple[Work, ...]:
    """A pass with a stride over the limit, position by position: each reads a window; the first brings the weights."""
    work = _still(work)
    if max(work.stride) <= MAX_STRIDE:
        return (work,)
    (kh, kw), positions = work.kernel, work.ofm[0] * work.ofm[1]
    one = work._replace(ifm=(kh, kw, work.ifm[2]), ofm=(1, 1, work.ofm[2]), stride=(1, 1))
    if not work.weights or positions == 1:
        return (one._replace(times=positions),)
    return one._replace(shared="first"), one._replace(shared="again", times=positions - 1)


def pool_passes(p: PoolParams) -> tuple[Work, ...]:
    """One pass, or one for each position; a maximum with other padding than SAME first copies the image and its edges.

    A window that is the whole image moves nowhere.
    """
    output: Output = "maxpool" if p.function == "max" else "other"
    ofm, kernel, stride = (*_pair(p.out_spatial), p.channels), _pair(p.kernel), _pair(p.stride)
    image = (*_pair(p.in_spatial), p.channels)
    copies: tuple[Work, ...] = ()
    ifm = image
    if needs_copy(p):
        sides = read_padding(p)
        sides = sides if len(sides) > 1 else ((0, 0), *sides)
        copies = padded(image, (*sides, (0, 0)), "brick")
        ifm = (image[0] + sum(sides[0]), image[1] + sum(sides[1]), p.channels)
    if kernel == stride == ifm[:2]:
        stride = (1, 1)
    form: Format = "brick" if copies else "nhwc"
    return (*copies, *_unrolled(Work("pool", output, ifm, ofm, kernel, stride, ifm_format=form)))


def padded(image: Hwc, sides: tuple[tuple[int, int], ...], form: Format = "nhwc", batch: int = 1) -> tuple[Work, ...]:
    """Copies of an image and of constant edges into a larger one; `sides`: before and behind each axis.

    Edges of an axis are as long as the padded image along the other ones, and are those of all images at once.
    """
    passes = [Work("pool", "other", image, image, ofm_format=form, times=batch)]
    whole = [size + sum(side) for size, side in zip(image, sides, strict=True)]
    for axis, side in enumerate(sides):
        for width in filter(None, side):
            sizes = [*whole[:axis], width, *whole[axis + 1 :]]
            edge = (sizes[0], sizes[1], sizes[2])
            if batch > 1:  # all axes before it are one, and so are all behind it
                edge = (batch * prod(sizes[:axis]), width, prod(sizes[axis + 1 :]))
            passes.append(passes[0]._replace(ifm=edge, ofm=edge, ifm_place="constant", times=1))
    return tuple(passes)


def resize_passes(p: ResizeParams) -> tuple[Work, ...]:
    """Doubled step by step, each pixel copied; the last step also filters with a window as wide as the whole factor.

    linear: an average; nearest with corners aligned: a depthwise convolution that picks one. Half-pixel linear (by 2):
    the image with edges copied, then a 2 x 2 filter for each of the four phases.
    """
    (h, w), (oh, ow), c = _pair(p.in_spatial), _pair(p.out_spatial), p.channels
    aligned = p.coordinates == "align_corners"
    less = 1 if aligned and max(h, w) > 1 else 0
    factor = max((oh - less) // max(1, h - less), (ow - less) // max(1, w - less))
    if factor == 1:
        return (Work("pool", "other", (h, w, c), (oh, ow, c)),)
    if h == w == c == 1:  # one value is repeated: added to a constant map of zeros
        whole = deepened((oh, ow, 1))
        return (Work("elementwise", "add", whole, whole, ifm2=(1, 1, 1), ifm_place="constant"),)
    if h == w == 1:  # so is one pixel
        return (Work("elementwise", "add", (oh, ow, c), (oh, ow, c), ifm2=(1, 1, c), ifm_place="constant"),)
    if p.mode == "linear" and p.coordinates.endswith("half_pixel"):
        return _phases((h, w, c))
    works: list[Work] = []
    form: Format = "nhwc"
    for _ in range(factor.bit_length() - 2):
        doubled = (DOUBLED * h, DOUBLED * w, c)
        works.append(Work("pool", "other", (h, w, c), doubled, TAPS, upscale=DOUBLED, ifm_format=form))
        works[-1] = works[-1]._replace(ofm_format="brick")
        (h, w, c), form = doubled, "brick"
    last = Work("pool", "other", (h, w, c), (oh, ow, c), TAPS, upscale=DOUBLED, ifm_format=form)
    if p.mode == "linear":
        last = last._replace(kernel=(factor, factor))
    elif aligned:
        last = last._replace(unit="depthwise", kernel=(factor, factor), weights=factor * factor * c)
    return (*works, last)


def _phases(image: Hwc) -> tuple[Work, ...]:
    """Each phase takes as long as the whole output: the pixels of the others lie between its own."""
    h, w, c = image
    copies = padded(image, ((1, 1), (1, 1), (0, 0)))
    edges = [copy._replace(ifm_place="inner") for copy in copies]
    grown = (DOUBLED * h - 1, DOUBLED * w - 1, c)
    phase = Work("depthwise", "other", (h + 2, w + 2, c), grown, TAPS, weights=4 * c)
    return (*edges, *(phase,) * (DOUBLED * DOUBLED))
