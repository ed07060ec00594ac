"""How an operator lies on CIM macros: filters, positions, read words. Integers only; no time, no energy.

A layer has N outputs of K weights each (K = in_channels / groups * kernel volume) and P positions (batch x output
map, or tokens). Outputs are dealt out evenly over the macros used. A read word holds `rows` weights for each of
`columns` outputs; a filter longer than that takes several words, shorter ones share a word if the adder tree can be
cut (`segments`).
"""

from __future__ import annotations

import functools
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
    """K weights a output, N outputs, P positions; input bytes with and without taking overlaps once; output bytes."""

    weights_per_output: int
    outputs: int
    positions: int
    touched_bytes: int
    window_bytes: int
    output_bytes: int


def layer(params: OpParams) -> Layer | None:
    """The layer an operator with stationary weights is; None for any other. One byte an element."""
    if isinstance(params, FullyConnectedParams):
        p, k, n = params.positions, params.in_features, params.out_features
        return Layer(k, n, p, p * k, p * k, p * n)
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
    return Layer(k, c.out_channels, positions, touched, window, positions * c.out_channels)


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


def outputs_of(outputs: int, macros: int) -> tuple[int, int]:
    """Even split: (outputs of the fullest macro, how many macros are that full); the others have one fewer.

    >>> outputs_of(10, 4)
    (3, 2)
    """
    most = ceil_div(outputs, macros)
    return most, macros - (most * macros - outputs)


def words(array: Array, weights_per_output: int, outputs: int) -> int:
    """Read words that `outputs` filters take in one macro = reads for one position.

    ceil(K / rows) * ceil(outputs / (columns * filters that share a row)).
    """
    per_row = array.rows // weights_per_output if array.segments and weights_per_output <= array.rows else 1
    return ceil_div(weights_per_output, array.rows) * ceil_div(outputs, array.columns * per_row)


def words_total(array: Array, weights_per_output: int, outputs: int, macros: int) -> int:
    """Words over all macros of an even split."""
    most, full = outputs_of(outputs, macros)
    fuller = full * words(array, weights_per_output, most)
    return fuller + ((macros - full) * words(array, weights_per_output, most - 1) if most > 1 else 0)
