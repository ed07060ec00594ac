"""Rules of convolutions and of other images on an Ethos-U55. Source of the limits: see rules.py."""

from __future__ import annotations

from math import prod

from h4hc.costtypes import Rule, Violation
from h4hc.workload import ConvParams, Op, OpKind, PoolParams, ResizeParams, Workload
from targets.ethos_u.padding import is_padded, is_same, read_padding

MAX_STRIDE = 3
MAX_DILATION = 2
MAX_KERNEL_HEIGHT = 64
MAX_KERNEL_AREA = 64 * 64
WEIGHT_TYPE = "int8"
MAX_FILTER_WEIGHTS = 65536  # sum of |w| <= 127 * 65536 holds for any filter this long

CONVS = frozenset({OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.CONV_TRANSPOSE})
IMAGES = CONVS | {OpKind.POOL, OpKind.RESIZE}
WEIGHTED = CONVS | {OpKind.FULLY_CONNECTED}


def _planar(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ConvParams | PoolParams | ResizeParams), op.id
    count = len(p.in_spatial)
    return None if count in (1, 2) else Violation(f"{count} spatial axes", "1 or 2")


def _batch(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    batch = p.batch if isinstance(p, ConvParams | PoolParams) else workload.tensor[op.inputs[0]].shape[0]
    return None if batch == 1 else Violation(f"batch {batch}", "1")


def _constant(op: Op, workload: Workload) -> Violation | None:
    """One activation and constants: a constant bias or scale beside run-time weights is not enough."""
    constant = len(op.inputs) == 1 and bool(op.weights)
    return None if constant else Violation("the weights are computed at run time", "constant weights")


def _weight_type(op: Op, workload: Workload) -> Violation | None:
    other = sorted({t for t in op.weight_types if t != WEIGHT_TYPE})
    if not other:
        return None
    return Violation(", ".join(other), f"{WEIGHT_TYPE}, zero point 0", "quantise the weights symmetrically to int8")


def _average(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, PoolParams), op.id
    if p.function != "average" or not is_padded(p):
        return None
    if p.count_include_pad:
        return Violation("padding counts in the average", "averages over the image alone", "set count_include_pad=0")
    if is_same(p):
        return None
    sides = " and ".join(f"{before} before, {behind} behind" for before, behind in read_padding(p))
    return Violation(
        f"padding {sides}", "out = ceil(in / stride), the smaller half before", "pad in an operator before"
    )


def _stride(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ConvParams | PoolParams), op.id
    if max(p.stride) <= MAX_STRIDE:
        return None
    dilated = isinstance(p, ConvParams) and max(p.dilation) > 1
    padded = any(p.pads) if isinstance(p, ConvParams) else is_padded(p)
    if op.kind not in (OpKind.DEPTHWISE, OpKind.GROUPED_CONV) and not padded and not dilated:
        return None
    return Violation(f"stride {max(p.stride)}", f"{MAX_STRIDE}; above, only undilated, unpadded and in one group")


def _dilation(op: Op, workload: Workload) -> Violation | None:
    """The hardware steps over one element at most; what the compiler makes of more is not modelled."""
    p = op.params
    assert isinstance(p, ConvParams), op.id
    longest = max(p.dilation)
    return None if longest <= MAX_DILATION else Violation(f"dilation {longest}", f"{MAX_DILATION}")


def _kernel(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ConvParams), op.id
    dilated = [(k - 1) * d + 1 for k, d in zip(p.kernel, p.dilation, strict=True)]
    height = dilated[0] if len(dilated) == 2 else 1
    if height <= MAX_KERNEL_HEIGHT and prod(dilated) <= MAX_KERNEL_AREA:
        return None
    return Violation("x".join(map(str, dilated)), f"height {MAX_KERNEL_HEIGHT}, area {MAX_KERNEL_AREA}, dilated")


def _filter(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    weights = prod(p.kernel) * p.in_channels // p.groups if isinstance(p, ConvParams) else 0
    if not isinstance(p, ConvParams):
        weights = getattr(p, "in_features", 0)
    return None if weights <= MAX_FILTER_WEIGHTS else Violation(f"{weights} weights", f"{MAX_FILTER_WEIGHTS} an output")


def _multiplier(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ConvParams), op.id
    if p.out_channels == p.in_channels or p.in_channels == 1:
        return None
    return Violation(f"{p.out_channels} from {p.in_channels} channels", "as many outputs as inputs, or one input")


def _transposed(op: Op, workload: Workload) -> Violation | None:
    p = op.params
    assert isinstance(p, ConvParams), op.id
    strides = set(p.stride) if len(p.stride) == 2 else {*p.stride, 0}
    if strides not in ({1}, {2}) or max(p.dilation) > 1 or p.groups > 1:
        seen = f"stride {p.stride}, dilation {p.dilation}, groups {p.groups}"
        return Violation(seen, "stride 1x1 or 2x2, no dilation, one group")
    same = all(o == i * s for i, o, s in zip(p.in_spatial, p.out_spatial, p.stride, strict=True))
    full = all(
        o == i * s + max(k - s, 0) for i, o, s, k in zip(p.in_spatial, p.out_spatial, p.stride, p.kernel, strict=True)
    )
    return (
        None if same or full else Violation(f"output {p.out_spatial}", "input * stride, or with kernel - stride added")
    )


CONVOLUTIONS = (
    Rule("ethos_u.planar", "images have one or two spatial axes", _planar, IMAGES),
    Rule("ethos_u.batch", "the batch is 1", _batch, IMAGES),
    Rule("ethos_u.constant_weights", "the weights are constants of the model", _constant, WEIGHTED),
    Rule("ethos_u.weight_type", "weights are int8 with zero point 0", _weight_type, WEIGHTED),
    Rule(
        "ethos_u.average",
        "a padded average has SAME padding and divides by the positions inside the image",
        _average,
        frozenset({OpKind.POOL}),
    ),
    Rule(
        "ethos_u.stride",
        f"strides are at most {MAX_STRIDE}; longer ones only undilated, unpadded and in one group",
        _stride,
        (CONVS - {OpKind.CONV_TRANSPOSE}) | {OpKind.POOL},
    ),
    Rule(
        "ethos_u.dilation",
        f"dilations are at most {MAX_DILATION}",
        _dilation,
        CONVS - {OpKind.CONV_TRANSPOSE},
    ),
    Rule(
        "ethos_u.kernel",
        f"the dilated kernel is at most {MAX_KERNEL_HEIGHT} high and {MAX_KERNEL_AREA} in area",
        _kernel,
        CONVS,
    ),
    Rule("ethos_u.filter", f"a filter has at most {MAX_FILTER_WEIGHTS} weights", _filter, WEIGHTED),
    Rule(
        "ethos_u.multiplier",
        "depthwise gives one output a channel, or reads one channel",
        _multiplier,
        frozenset({OpKind.DEPTHWISE}),
    ),
    Rule(
        "ethos_u.transposed",
        "transposed convolution has stride 1x1 or 2x2, one group, and a SAME or VALID output size",
        _transposed,
        frozenset({OpKind.CONV_TRANSPOSE}),
    ),
)
