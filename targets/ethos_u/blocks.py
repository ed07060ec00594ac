"""Choice of the block configuration: which part of the output the NPU works on at a time.

The search follows Arm's own (Vela 5.2, the regor back end): over all output blocks whose input, accumulator and table
fit the SHRAM, take the one with the least input and weight traffic for each output element.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h4hc.units import ceil_div
from targets.ethos_u.cycles import INT32_BITS, matmul_parts
from targets.ethos_u.work import Arch, Blocks, Hwc, Work, round_up, volume

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


class _Room(NamedTuple):
    """What decides which blocks fit the SHRAM: nothing of the image, so that many passes share the answer.

    kernel: a sub-kernel, dilated; flat: a row that needs accumulators for one row only; depth: of an input block, 0: as
    the output's; bits: of an input element; granule: banks in which an input buffer grows; banks: of the SHRAM, for all
    buffers; operands: inputs with a buffer; accumulates: no elementwise pass.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    upscale: int
    flat: bool
    depth: int
    bits: int
    granule: int
    banks: int
    operands: int
    accumulates: bool


class _Fitting(NamedTuple):
    """Blocks that fit, a column each, in the order of the search: depth outermost, then height, then width.

    measures: height, width and depth as they count in the traffic; area and volume of the input block; elements.
    """

    blocks: Ints
    inputs: Ints
    measures: Floats
    small: NDArray[np.bool_]


class _Choices(NamedTuple):
    """Those of the fitting blocks that an output of a certain size has use for."""

    at: Ints  # of the fitting ones
    measures: Floats


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


def forget() -> None:
    """Empty the memos of the search, for measurements of a first time."""
    for memo in (choose_blocks, _choices, _depths, _fitting):
        memo.cache_clear()


def _matmul_blocks(arch: Arch, work: Work) -> Blocks | None:
    """Blocks of the sum and of the product: for a part of the rows, so that the two passes do not wait in turn."""
    product, total = matmul_parts(work)
    (height, width, depth), one = _parts(arch, work.ifm), (work.ifm[0], work.ifm[1], 1)
    part = (height, width, depth)
    first = _search(arch, product._replace(ifm=part, ofm=part, ifm2=(work.ifm[0], 1, depth)))
    second = _search(arch, total._replace(ifm=part, ofm=_parts(arch, one), ifm_bits=INT32_BITS))
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
        work = work._replace(ofm=work.ifm)
    fetched = work.ifm2 if work.ifm2 is not None and volume(work.ifm2) > volume(work.ifm) else work.ifm
    room = _room(arch, work, fetched[2])
    (rows, columns, outputs), (height, width, depth) = work.ofm, arch.ofm_block_max
    row, column, step = arch.ofm_ublock
    limit = round_up(min(outputs, depth), step)
    sides = round_up(min(rows, height), row), round_up(min(columns, width), column)
    choices = _choices(arch, room, sides, limit, min(outputs, limit + 1))
    if not choices.at.size:
        return None
    fitting = _fitting(arch, room)
    at = _cheapest(_traffic(arch, work, fetched, choices.measures), fetched, choices.at, fitting)
    return _hwc(fitting.inputs[:, at]), _hwc(fitting.blocks[:, at])


def _hwc(column: Ints) -> Hwc:
    height, width, depth = column.tolist()
    return height, width, depth


def _room(arch: Arch, work: Work, fetched_depth: int) -> _Room:
    """The terms of a pass that its fitting blocks depend on."""
    elementwise = work.unit == "elementwise"
    scalar = elementwise and (volume(work.ifm) == 1 or (work.ifm2 is not None and volume(work.ifm2) == 1))
    small_type = work.ifm_bits == WORD_BITS
    granule = (arch.ifm_elementwise_granule if elementwise else arch.ifm_granule) if small_type else arch.ifm32_granule
    table = max(TABLE_BANKS if work.activation == "lut" else 0, arch.reserved_end_banks)
    height, width = _dilated(work)
    depth = 0
    if not elementwise and work.unit not in ("pool", "depthwise"):
        deepest = PART_DEPTH if is_part_kernel(work) else FULL_DEPTH
        depth = round_up(min(fetched_depth, deepest), arch.ifm_ublock_depth)
    return _Room(
        (min(height, arch.subkernel_max), min(width, arch.subkernel_max)),
        work.stride,
        work.upscale,
        work.ofm[0] == 1 and work.kernel[0] == 1 and arch.ofm_ublock[0] > 1,
        depth,
        work.ifm_bits,
        granule,
        arch.shram_banks - table - arch.reserved_output_banks,
        2 if elementwise and not (scalar and small_type) else 1,
        not elementwise,
    )


def _dilated(work: Work) -> tuple[int, int]:
    """Height and width that a kernel reaches over."""
    (h, w), (dh, dw) = work.kernel, work.dilation
    return (h - 1) * dh + 1, (w - 1) * dw + 1


@functools.lru_cache(maxsize=4096)
def _choices(arch: Arch, room: _Room, sides: tuple[int, int], limit: int, outputs: int) -> _Choices:
    """Blocks up to the sides of an output, and of a depth that is tried for it."""
    found = _fitting(arch, room)
    height, width, depth = found.blocks
    within = _depths(arch.ofm_ublock[2], arch.split_depth, arch.ofm_block_max[2], outputs, limit)[depth]
    within &= height <= sides[0]
    within &= width <= sides[1]
    at = within.nonzero()[0]
    return _Choices(at, found.measures.take(at, axis=1))


@functools.lru_cache(maxsize=4096)
def _depths(step: int, split: int, most: int, outputs: int, limit: int) -> NDArray[np.bool_]:
    """Which block depths are tried: micro-block steps, rounded to 16 while the output is deeper."""
    tried = np.zeros(round_up(most, step) + 1, np.bool_)
    depth = max(step, min(limit, split))
    while True:
        if depth < outputs:
            depth = round_up(depth, split)
        if depth > limit:
            return tried
        tried[depth] = True
        depth += step


@functools.lru_cache(maxsize=1024)
def _fitting(arch: Arch, room: _Room) -> _Fitting:
    """Blocks whose buffers fit the SHRAM: input x 2 (two operands), accumulators x 2."""
    blocks = _candidates(arch, room)
    inputs = _ifm_blocks(arch, room, blocks)
    area = inputs[0] * inputs[1]
    row_bytes = _ceil(inputs[2] * room.bits // BITS_PER_BYTE, BITS_PER_BYTE)
    banks = _ceil(-(-area * row_bytes // arch.bank_bytes) * DOUBLE, room.granule) * room.operands
    counted = blocks
    if room.flat:  # a 1-D convolution on 2-high micro-blocks needs accumulators for one row only
        counted = np.stack([np.minimum(blocks[0], 1), blocks[1], blocks[2]])
    if room.accumulates:
        acc_bytes = counted[0] * counted[1] * _ceil(counted[2], BITS_PER_BYTE) * arch.acc_bits // BITS_PER_BYTE
        banks = banks + _ceil(-(-acc_bytes // arch.bank_bytes) * DOUBLE, arch.acc_granule)
    fit = np.flatnonzero(banks <= room.banks)
    blocks, inputs, counted, area = blocks[:, fit], inputs[:, fit], counted[:, fit], area[fit]
    measures = np.stack([*counted, area, area * inputs[2], blocks[0] * blocks[1] * blocks[2]]).astype(np.float64)
    return _Fitting(blocks, inputs, measures, (blocks[0] <= SMALL) & (blocks[1] <= SMALL))


def _candidates(arch: Arch, room: _Room) -> Ints:
    """All output blocks (3, n) in the order of the search, less those whose accumulators (or inputs) alone do not fit.

    An input block of an elementwise pass is no smaller than its output block, of another one at least one granule.
    """
    if room.accumulates:
        banks, granule, bits = room.banks - room.granule, arch.acc_granule, arch.acc_bits
    else:
        banks, granule, bits = room.banks // room.operands, room.granule, room.bits
    most = banks // granule * granule // DOUBLE * arch.bank_bytes * BITS_PER_BYTE // bits
    height, width, depth = (
        np.arange(step, round_up(most, step) + 1, step)
        for most, step in zip(arch.ofm_block_max, arch.ofm_ublock, strict=True)
    )
    rows = np.minimum(height, 1) if room.flat else height
    z, y, x = np.nonzero(depth[:, None, None] * (rows[:, None] * width) <= most)
    return np.stack([height[y], width[x], depth[z]])


def _ifm_blocks(arch: Arch, room: _Room, ofm: Ints) -> Ints:
    """Input blocks that feed output blocks (3, n); kernels are cut into sub-kernels of at most 8 x 8."""
    sides = []
    for axis in (0, 1):
        reach = (ofm[axis] - 1) * room.stride[axis] + room.kernel[axis]
        if room.upscale > 1:
            reach = -(-reach // room.upscale)
        sides.append(_ceil(reach, arch.ofm_ublock[axis]))
    return np.stack([*sides, np.full_like(ofm[2], room.depth) if room.depth else ofm[2]])


def _ceil(numbers: Ints, step: int) -> Ints:
    """Each number rounded up to a multiple of `step`."""
    return numbers if step == 1 else -(-numbers // step) * step


def _cheapest(cost: Floats, fetched: Hwc, places: Ints, found: _Fitting) -> int:
    """The first block of least cost; of later equal ones the last of the small that cover most of the input."""
    first = cost.argmin()
    equal = places[(cost == cost[first]).nonzero()[0]]
    if len(equal) > 1:
        later = equal[1:][found.small[equal[1:]]][::-1]
        if later.size:
            rows, columns = found.inputs[0, later], found.inputs[1, later]
            covered = np.minimum(rows, fetched[0]) * np.minimum(columns, fetched[1])
            return int(later[covered.argmax()])
    return int(places[first])


def _traffic(arch: Arch, work: Work, fetched: Hwc, measures: Floats) -> Floats:
    """Input and weight elements fetched for each output element (elementwise: number of blocks).

    measures: see _Fitting.
    """
    elements = volume(work.ofm)
    cost: Floats
    if work.unit == "elementwise":
        cost = elements / measures[5]
    else:
        parts = np.array(work.ofm, np.float64)[:, None] / measures[:3]
        cost = measures[3] * (fetched[2] * _repeats(arch, work))
        if work.unit == "pool":
            # Windows that do not overlap cost the same in any block: only rounding to single precision tells them
            # apart.
            cost = _single(_single(_single(_single(cost) * _single(parts[0])) * _single(parts[1])) / elements)
        else:
            cost *= parts[0]
            cost *= parts[1]
            whole = np.ceil(parts)
            if work.unit != "depthwise":
                cost *= whole[2]
            if work.unit in ("conv", "depthwise", "vector"):
                weights = whole[0] * whole[1]
                weights *= work.kernel[0] * work.kernel[1] * fetched[2]
                if work.unit != "depthwise":
                    weights *= parts[2] * measures[2]
                cost += weights
            cost /= elements
    cost /= 1.0 + (measures[4] > volume(fetched) / DOUBLE)  # blocks of more than half the input count half
    return cost


def _single(values: Floats) -> Floats:
    """Rounded to single precision, in which the reference compares blocks."""
    return values.astype(np.float32).astype(np.float64)


def _repeats(arch: Arch, work: Work) -> int:
    height, width = _dilated(work)
    return ceil_div(height, arch.subkernel_max) * ceil_div(width, arch.subkernel_max)
