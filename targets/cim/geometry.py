"""How an operator lies on CIM macros: filters, positions, read words. Integers only; no time, no energy.

A layer has N outputs of K weights each (K = in_channels / groups * kernel volume) and P positions (batch x output
map, or tokens). Outputs are dealt out evenly over the macros used, neighbours to the same macro. A read word holds
`rows` weights for each of `columns` outputs; a filter longer than that takes several words, shorter ones share a word
if the adder tree can be cut (`segments`).
The columns of a word see the same inputs, one a row. So side by side stand outputs of one group only. Segments lie on
different rows, so they may belong to different groups. An uncut column sums all rows that are on: there filters of
different groups share a word only on its diagonal, each in rows and columns of its own, zeros elsewhere (`diagonal`);
without that a depthwise layer uses one column of an array. An analog column sums at most `rows_at_once` rows at a time.
"""

from __future__ import annotations

import functools
import itertools
import math
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
    def rows_at_once(self) -> int: ...
    @property
    def segments(self) -> bool: ...
    @property
    def diagonal(self) -> bool: ...


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


@functools.lru_cache(maxsize=4096)
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


def _touched(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int) -> int:
    """Input coordinates of one axis that at least one window reads (a 1x1 stride 2 reads half of them).

    Tap k of window o reads o * stride + k * dilation - pad, if that lies in 0 .. size - 1. With s, d = stride, dilation
    over their gcd, just the taps (o + d, k - s), (o + 2 d, k - 2 s), ... read the same. So each coordinate is counted
    where its k is smallest: k < s, or o among the last d. Time about the root of the padded size.
    """
    step = math.gcd(stride, dilation)
    s, d = stride // step, dilation // step
    first, last = ceil_div(pad, step), (size - 1 + pad) // step
    taps, windows = min(kernel, s), min(out, d)
    corner = (out - windows) * s + taps * d
    tail = _pairs(windows, s, kernel - taps, d, first - corner, last - corner)
    return _pairs(out, s, taps, d, first, last) + tail


def _pairs(rows: int, a: int, columns: int, b: int, first: int, last: int) -> int:
    """Pairs i < rows, j < columns with first <= i * a + j * b <= last; one step for each of the fewer."""
    if rows > columns:
        return _pairs(columns, b, rows, a, first, last)
    count = 0
    for at in range(0, rows * a, a):
        low, high = max(0, ceil_div(first - at, b)), min(columns - 1, (last - at) // b)
        count += max(0, high - low + 1)
    return count


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

    ceil(K / rows) * ceil(rounds / filters sharing a word); rounds = sum over the groups in the macro of
    ceil(their outputs / columns).
    """
    pieces = ceil_div(work.weights_per_output, array.rows)
    shared = _sharing(array, work)
    return tuple(pieces * ceil_div(rounds, shared) for rounds in _rounds(array, work, macros))


def activations(array: Array, work: Layer, macros: int) -> tuple[int, ...]:
    """Times that each macro sums rows for one position: its words, each as often as its filled rows need.

    A filter within one activation shares it with its neighbours in the word; a longer one takes ceil(K / rows at once).
    """
    k, at_once = work.weights_per_output, array.rows_at_once
    if k > array.rows or k > at_once:
        each = conversions_per_output(array, k)
        return tuple(rounds * each for rounds in _rounds(array, work, macros))
    shared = _sharing(array, work)
    out = []
    for rounds in _rounds(array, work, macros):
        full, rest = divmod(rounds, shared)
        out.append(full * ceil_div(shared, at_once // k) + ceil_div(rest, at_once // k))
    return tuple(out)


def conversions_per_output(array: Array, k: int) -> int:
    """Activations that a filter of `k` weights is spread over: every piece of it by the rows summed at once."""
    pieces, rest = divmod(k, array.rows)
    return pieces * ceil_div(array.rows, array.rows_at_once) + ceil_div(rest, array.rows_at_once)


def _sharing(array: Array, work: Layer) -> int:
    """Rounds that share one word: as many as its rows hold; on a diagonal each takes columns of its own, too."""
    k = work.weights_per_output
    if k > array.rows:
        return 1
    if array.segments:
        return array.rows // k
    if array.diagonal:
        return min(array.rows // k, array.columns // min(work.per_group, array.columns))
    return 1


def _rounds(array: Array, work: Layer, macros: int) -> list[int]:
    return [_columns_full(array.columns, work.per_group, first, last) for first, last in hands(work.outputs, macros)]


def _columns_full(columns: int, per_group: int, first: int, last: int) -> int:
    """Rounds of at most `columns` outputs of one group that outputs first to last (not included) take."""
    whole_from, whole_to = ceil_div(first, per_group), last // per_group  # groups that lie inside altogether
    if whole_from > whole_to:  # inside one group
        return ceil_div(last - first, columns)
    head, tail = whole_from * per_group - first, last - whole_to * per_group
    inner = (whole_to - whole_from) * ceil_div(per_group, columns)
    return ceil_div(head, columns) + inner + ceil_div(tail, columns)
