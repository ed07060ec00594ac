"""Choice of the block configuration: which part of the output the NPU works on at a time.

The search follows Arm's own (Vela 5.2, the regor back end): over all output blocks whose input, accumulator and table
fit the SHRAM, take the one with the least input and weight traffic for each output element.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from h4hc.units import ceil_div
from targets.ethos_u.cycles import INT32_BITS, matmul_parts
from targets.ethos_u.work import Arch, Blocks, Hwc, Work, area, round_up, volume

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BITS_PER_BYTE = 8
WORD_BITS = 8  # int8 feature maps
DOUBLE = 2  # input and accumulator buffers are double buffered
PART_DEPTH, FULL_DEPTH = 16, 32  # input channels a block of int8 holds: part-kernel-first, depth-first
PART_STEP, KERNEL_STEP = 8, 4  # part-kernel-first works on 8 channels x 4 kernel elements
TABLE_BANKS = 1  # a 256-entry table
ROWS_SPLIT = (3, 2)  # rows of a product of activations are cut in so many parts, if they stay wide
LEAST_PART = 4
SMALL = 4  # ties between equally cheap blocks go to small ones that cover the input


@dataclass(frozen=True)
class _Query:
    """The work in the terms of the search."""

    arch: Arch
    work: Work
    fetched: Hwc  # the larger operand
    part_kernel: bool
    equal_depth: bool
    ifm_depth: int
    granule: int
    table_banks: int
    second_operand: bool


def is_part_kernel(work: Work) -> bool:
    """Whether a convolution runs part-kernel-first: better use of the MACs than depth-first, or at most 8 channels."""
    if work.unit != "conv":
        return False
    depth, elements = work.ifm[2], work.kernel[0] * work.kernel[1]
    if depth <= PART_STEP:
        return True
    depth_first = depth / round_up(depth, FULL_DEPTH)
    part = depth / round_up(depth, PART_STEP) * (elements / round_up(elements, KERNEL_STEP))
    return part >= depth_first


@functools.lru_cache(maxsize=8192)
def choose_blocks(arch: Arch, work: Work) -> Blocks | None:
    """Best block configuration, or None when nothing fits the SHRAM (very large kernels)."""
    if work.unit == "matmul":
        return _matmul_blocks(arch, work)
    found = _search(arch, work)
    if found is None:
        return None
    order = "depthwise" if work.unit == "depthwise" else "part_kernel" if is_part_kernel(work) else "depth_first"
    return Blocks(*found, order)  # type: ignore[arg-type]


def _matmul_blocks(arch: Arch, work: Work) -> Blocks | None:
    """Blocks of the sum and of the product: for a part of the rows, so that the two passes do not wait in turn."""
    product, total = matmul_parts(work)
    (height, width, depth), one = _parts(arch, work.ifm), (work.ifm[0], work.ifm[1], 1)
    first = _search(
        arch, replace(product, ifm=(height, width, depth), ofm=(height, width, depth), ifm2=(work.ifm[0], 1, depth))
    )
    second = _search(arch, replace(total, ifm=(height, width, depth), ofm=_parts(arch, one), ifm_bits=INT32_BITS))
    return None if first is None or second is None else Blocks(*second, "depth_first", first)


def _parts(arch: Arch, shape: Hwc) -> Hwc:
    """Several parts along the width, or along the height if that is longer than a block."""
    axis = 0 if shape[0] > arch.ofm_block_max[0] else 1
    if shape[axis] <= arch.ofm_block_max[axis]:
        for parts in ROWS_SPLIT:
            if shape[axis] >= LEAST_PART * parts:
                part = ceil_div(shape[axis], parts)
                return (part, shape[1], shape[2]) if axis == 0 else (shape[0], part, shape[2])
    return shape


def _search(arch: Arch, work: Work) -> tuple[Hwc, Hwc] | None:
    """(input, output) block of least cost."""
    if work.unit == "copy":  # in the order in which it is read
        work = replace(work, ofm=work.ifm)
    query = _query(arch, work)
    blocks = _candidates(arch, work)
    inputs = _ifm_blocks(query, blocks)
    fitted = _fitted(query, blocks)
    possible = np.flatnonzero(_fits(query, fitted, inputs))
    if not possible.size:
        return None
    blocks, inputs, fitted = blocks[:, possible], inputs[:, possible], fitted[:, possible]
    at = _cheapest(_traffic(query, fitted, blocks, inputs), _coverage(query, inputs), blocks)
    return _hwc(inputs[:, at]), _hwc(blocks[:, at])


def _hwc(column: Ints) -> Hwc:
    return int(column[0]), int(column[1]), int(column[2])


def _candidates(arch: Arch, work: Work) -> Ints:
    """All output blocks (3, n) in the order of the search: depth outermost, then height, then width."""
    space = tuple(round_up(min(o, m), u) for o, m, u in zip(work.ofm, arch.ofm_block_max, arch.ofm_ublock, strict=True))
    return _grid(_depths(arch, work, space[2]), space[0], space[1], arch.ofm_ublock[0], arch.ofm_ublock[1])


@functools.lru_cache(maxsize=256)
def _grid(depths: tuple[int, ...], height: int, width: int, row: int, column: int) -> Ints:
    heights, widths = np.arange(row, height + 1, row), np.arange(column, width + 1, column)
    grid = np.meshgrid(np.array(depths), heights, widths, indexing="ij")
    found = np.stack([grid[1].ravel(), grid[2].ravel(), grid[0].ravel()]).astype(np.int64)
    found.setflags(write=False)  # shared by all searches over the same space
    return found


def _cheapest(cost: Floats, coverage: Floats, blocks: Ints) -> int:
    """The first block of least cost; a later equal one replaces it if it is small and covers the input no worse."""
    equal = np.flatnonzero(cost == cost.min())
    found, best = int(equal[0]), math.inf
    for at in equal[1:]:
        if coverage[at] <= best and blocks[0, at] <= SMALL and blocks[1, at] <= SMALL:
            found, best = int(at), float(coverage[at])
    return found


def _query(arch: Arch, work: Work) -> _Query:
    fetched = work.ifm2 if work.ifm2 is not None and volume(work.ifm2) > volume(work.ifm) else work.ifm
    elementwise = work.unit == "elementwise"
    part = is_part_kernel(work)
    scalar = elementwise and (volume(work.ifm) == 1 or (work.ifm2 is not None and volume(work.ifm2) == 1))
    small_type = work.ifm_bits == WORD_BITS
    granule = (arch.ifm_elementwise_granule if elementwise else arch.ifm_granule) if small_type else arch.ifm32_granule
    return _Query(
        arch,
        work,
        fetched,
        part,
        equal_depth=elementwise or work.unit in ("pool", "depthwise"),
        ifm_depth=round_up(min(fetched[2], PART_DEPTH if part else FULL_DEPTH), arch.ifm_ublock_depth),
        granule=granule,
        table_banks=max(TABLE_BANKS if work.activation == "lut" else 0, arch.reserved_end_banks),
        second_operand=elementwise and not (scalar and small_type),
    )


def _depths(arch: Arch, work: Work, limit: int) -> tuple[int, ...]:
    """Block depths tried: micro-block steps, rounded to 16 while the output is deeper."""
    step = arch.ofm_ublock[2]
    depth = max(step, min(limit, arch.split_depth))
    out: list[int] = []
    while True:
        if depth < work.ofm[2]:
            depth = round_up(depth, arch.split_depth)
        if depth > limit:
            return tuple(out)
        out.append(depth)
        depth += step


def _ceil(numbers: Ints, step: int) -> Ints:
    """Each number rounded up to a multiple of `step`."""
    return -(-numbers // step) * step


def _area(blocks: Ints) -> Ints:
    return np.asarray(blocks[0] * blocks[1])


def _ifm_blocks(query: _Query, ofm: Ints) -> Ints:
    """Input blocks that feed output blocks (3, n); kernels are cut into sub-kernels of at most 8 x 8."""
    arch, work = query.arch, query.work
    sides = []
    for axis in (0, 1):
        dilated = (work.kernel[axis] - 1) * work.dilation[axis] + 1
        reach = (ofm[axis] - 1) * work.stride[axis] + min(dilated, arch.subkernel_max)
        sides.append(_ceil(-(-reach // work.upscale), arch.ofm_ublock[axis]))
    return np.stack([*sides, ofm[2] if query.equal_depth else np.full_like(ofm[2], query.ifm_depth)])


def _fitted(query: _Query, ofm: Ints) -> Ints:
    """A 1-D convolution on 2-high micro-blocks needs accumulators for one row only."""
    work = query.work
    if work.ofm[0] == 1 and work.kernel[0] == 1 and query.arch.ofm_ublock[0] > 1:
        return np.stack([np.minimum(ofm[0], 1), ofm[1], ofm[2]])
    return ofm


def _fits(query: _Query, ofm: Ints, ifm: Ints) -> NDArray[np.bool_]:
    """Whether the buffers fit the SHRAM: output staging, input x 2 (two operands), accumulators x 2, table."""
    arch = query.arch
    row_bytes = _ceil(ifm[2] * query.work.ifm_bits // BITS_PER_BYTE, BITS_PER_BYTE)
    ifm_banks = _ceil(-(-_area(ifm) * row_bytes // arch.bank_bytes) * DOUBLE, query.granule)
    end = arch.shram_banks - query.table_banks
    start = arch.reserved_output_banks + ifm_banks
    if query.work.unit == "elementwise":
        return np.asarray(start + (ifm_banks if query.second_operand else 0) <= end)
    acc_bytes = _area(ofm) * _ceil(ofm[2], BITS_PER_BYTE) * arch.acc_bits // BITS_PER_BYTE
    return np.asarray(start + _ceil(-(-acc_bytes // arch.bank_bytes) * DOUBLE, arch.acc_granule) <= end)


def _traffic(query: _Query, fitted: Ints, ofm: Ints, ifm: Ints) -> Floats:
    """Input and weight elements fetched for each output element (elementwise: number of blocks)."""
    work, elements = query.work, volume(query.work.ofm)
    parts = [o / b for o, b in zip(work.ofm, fitted, strict=True)]
    if work.unit == "elementwise":
        cost = elements / (_area(ofm) * ofm[2])
    elif work.unit == "pool":
        # Windows that do not overlap cost the same in any block: only rounding to single precision tells them apart.
        fetch = _single((_area(ifm) * query.fetched[2] * _repeats(query)).astype(np.float64))
        cost = _single(_single(_single(fetch * _single(parts[0])) * _single(parts[1])) / elements)
    else:
        full = [-(-o // b) for o, b in zip(work.ofm, fitted, strict=True)]
        weights: Floats = np.zeros(ofm.shape[1])
        if work.unit in ("conv", "depthwise", "vector"):
            weights = (work.kernel[0] * work.kernel[1] * query.fetched[2] * full[0] * full[1]).astype(np.float64)
            if work.unit != "depthwise":
                weights = weights * (parts[2] * fitted[2])
        fetch = _area(ifm) * query.fetched[2] * _repeats(query) * parts[0] * parts[1]
        if not query.equal_depth:
            fetch = fetch * full[2]
        cost = (fetch + weights) / elements
    half = volume(query.fetched) < _area(ifm) * ifm[2] * DOUBLE
    return np.asarray(np.where(half, cost / DOUBLE, cost))


def _single(values: Floats) -> Floats:
    """Rounded to single precision, in which the reference compares blocks."""
    return values.astype(np.float32).astype(np.float64)


def _repeats(query: _Query) -> int:
    work, limit = query.work, query.arch.subkernel_max
    count = 1
    for axis in (0, 1):
        count *= ceil_div((work.kernel[axis] - 1) * work.dilation[axis] + 1, limit)
    return count


def _coverage(query: _Query, ifm: Ints) -> Floats:
    covered = np.minimum(ifm[0], query.fetched[0]) * np.minimum(ifm[1], query.fetched[1])
    return np.asarray(area(query.fetched) / np.maximum(1, covered))
