"""How an operator lies on CIM macros: filters, positions, read words. Integers only; no time, no energy.

A layer has N outputs of K weights each (K = in_channels / groups * kernel volume) and P positions (batch x output
map, or tokens). Outputs are dealt out evenly over the macros used, neighbours to the same macro. A read word holds
`rows` weights for each of `columns` outputs; a filter longer than that takes several words, shorter ones share a word
if the adder tree can be cut (`segments`).
The columns of a word see the same inputs, one a row. So they serve outputs of one group only: a depthwise layer uses
one column of an array. Segments lie on different rows, so they may belong to different groups.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Protocol

from h4hc.units import ceil_div
from h4hc.workload import ConvParams, FullyConnectedParams, OpParams


class Array(Protocol):
    """What the geometry needs to know of a macro."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def segments(self) -> bool: ...


@dataclass(frozen=True)
class Layer:
    """K weights an output, N outputs of which each `per_group` read the same channels, P positions.

    Input bytes with and without taking overlaps once; output bytes.
    """

    weights_per_output: int
    outputs: int
    per_group: int
    positions: int
    touched_bytes: int
    window_bytes: int
    output_bytes: int


def layer(params: OpParams) -> Layer | None:
    """The layer an operator with stationary weights is; None for any other. One byte an element."""
    if isinstance(params, FullyConnectedParams):
        p, k, n = params.positions, params.in_features, params.out_features
        return Layer(k, n, n, p, p * k, p * k, p * n)
    if isinstance(params, ConvParams):
        return _conv_layer(params)
    return None


def _conv_layer(c: ConvParams) -> Layer:
    kernel = _volume(c.kernel)
    positions = c.batch * _volume(c.out_spatial)
    touched = c.batch * c.in_channels
    for axis in range(len(c.kernel)):
        touched *= _touched(
            c.in_spatial[axis], c.out_spatial[axis], c.kernel[axis], c.stride[axis], c.dilation[axis], c.pads[axis]
        )
    window = c.in_channels * kernel * positions
    k = c.in_channels // c.groups * kernel
    return Layer(k, c.out_channels, c.out_channels // c.groups, positions, touched, window, positions * c.out_channels)


@functools.lru_cache(maxsize=4096)
def _touched(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int) -> int:
    """Input coordinates of one axis that at least one window reads (a 1x1 stride 2 reads half of them)."""
    starts = range(-pad, out * stride - pad, stride)
    return len({x for s in starts for x in range(s, s + kernel * dilation, dilation) if 0 <= x < size})


def _volume(dims: tuple[int, ...]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count


def hands(outputs: int, macros: int) -> list[tuple[int, int]]:
    """Even split of `outputs` over `macros` as half-open ranges; the first macros have one more.

    >>> hands(10, 4)
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    least, more = divmod(outputs, macros)
    starts = [m * least + min(m, more) for m in range(macros + 1)]
    return list(itertools.pairwise(starts))


def words(array: Array, work: Layer, macros: int) -> tuple[int, ...]:
    """Read words that the layer takes in each macro = reads for one position.

    ceil(K / rows) * ceil(sum over the groups in the macro of ceil(their outputs / columns) / filters sharing rows).
    """
    k = work.weights_per_output
    shared = array.rows // k if array.segments and k <= array.rows else 1
    pieces = ceil_div(k, array.rows)
    return tuple(
        pieces * ceil_div(_columns_full(array.columns, work.per_group, first, last), shared)
        for first, last in hands(work.outputs, macros)
    )


def _columns_full(columns: int, per_group: int, first: int, last: int) -> int:
    """Rounds of at most `columns` outputs of one group that outputs first to last (not included) take."""
    whole_from, whole_to = ceil_div(first, per_group), last // per_group  # groups that lie inside altogether
    if whole_from > whole_to:  # inside one group
        return ceil_div(last - first, columns)
    head, tail = whole_from * per_group - first, last - whole_to * per_group
    inner = (whole_to - whole_from) * ceil_div(per_group, columns)
    return ceil_div(head, columns) + inner + ceil_div(tail, columns)
