"""Choice of the block configuration: which part of the output the NPU works on at a time.

The search follows Arm's own (Vela 5.2, the regor back end): over all output blocks whose input, accumulator and table
fit the SHRAM, take the one with the least input and weight traffic for each output element.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass, replace

from h4hc.units import ceil_div
from targets.ethos_u.work import Arch, Blocks, Hwc, Work, area, round_up, smaller, volume

BITS_PER_BYTE = 8
WORD_BITS = 8  # int8 feature maps
DOUBLE = 2  # input and accumulator buffers are double buffered
PART_DEPTH, FULL_DEPTH = 16, 32  # input channels a block of int8 holds: part-kernel-first, depth-first
PART_STEP, KERNEL_STEP = 8, 4  # part-kernel-first works on 8 channels x 4 kernel elements
TABLE_BANKS = 1  # a 256-entry table
_SINGLE = struct.Struct("f")
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
    if work.fit is not None:
        h, w, _ = work.fit
        second = None if work.ifm2 is None else (work.ifm2[0], 1, work.ifm2[2])
        return choose_blocks(arch, replace(work, ifm=work.fit, ofm=(h, w, work.ofm[2]), ifm2=second, fit=None))
    query = _query(arch, work)
    space = tuple(round_up(min(o, m), u) for o, m, u in zip(work.ofm, arch.ofm_block_max, arch.ofm_ublock, strict=True))
    best: tuple[float, float] = (math.inf, math.inf)
    found: tuple[Hwc, Hwc] | None = None
    for depth in _depths(arch, work, space[2]):
        for height in range(arch.ofm_ublock[0], space[0] + 1, arch.ofm_ublock[0]):
            fits = False
            for width in range(arch.ofm_ublock[1], space[1] + 1, arch.ofm_ublock[1]):
                ofm = (height, width, depth)
                ifm = _ifm_block(query, ofm)
                if not _fits(query, _fitted(query, ofm), ifm):
                    break  # wider needs more
                fits = True
                cost = _traffic(query, _fitted(query, ofm), ofm, ifm)
                coverage = _coverage(query, ifm)
                if cost < best[0]:
                    best, found = (cost, math.inf), (ofm, ifm)
                elif cost == best[0] and coverage <= best[1] and height <= SMALL and width <= SMALL:
                    best, found = (cost, coverage), (ofm, ifm)
            if not fits:
                break  # taller needs more
    if found is None:
        return None
    order = "depthwise" if work.unit == "depthwise" else "part_kernel" if query.part_kernel else "depth_first"
    return Blocks(found[1], found[0], order)  # type: ignore[arg-type]


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
        equal_depth=elementwise or work.unit in ("pool", "depthwise", "copy"),
        ifm_depth=round_up(min(fetched[2], PART_DEPTH if part else FULL_DEPTH), arch.ifm_ublock_depth),
        granule=granule,
        table_banks=max(TABLE_BANKS if work.activation == "lut" else 0, arch.reserved_end_banks),
        second_operand=elementwise and not (scalar and small_type),
    )


def _depths(arch: Arch, work: Work, limit: int) -> list[int]:
    """Block depths tried: micro-block steps, rounded to 16 while the output is deeper."""
    step = arch.ofm_ublock[2]
    depth = max(step, min(limit, arch.split_depth))
    out: list[int] = []
    while True:
        if depth < work.ofm[2]:
            depth = round_up(depth, arch.split_depth)
        if depth > limit:
            return out
        out.append(depth)
        depth += step


def _ifm_block(query: _Query, ofm: Hwc) -> Hwc:
    """Input block that feeds an output block; kernels are cut into sub-kernels of at most 8 x 8."""
    arch, work = query.arch, query.work
    sides = []
    for axis in (0, 1):
        dilated = (work.kernel[axis] - 1) * work.dilation[axis] + 1
        reach = (ofm[axis] - 1) * work.stride[axis] + min(dilated, arch.subkernel_max)
        sides.append(round_up(ceil_div(reach, work.upscale), arch.ofm_ublock[axis]))
    return sides[0], sides[1], ofm[2] if query.equal_depth else query.ifm_depth


def _fitted(query: _Query, ofm: Hwc) -> Hwc:
    """A 1-D convolution on 2-high micro-blocks needs accumulators for one row only."""
    work = query.work
    if work.ofm[0] == 1 and work.kernel[0] == 1 and query.arch.ofm_ublock[0] > 1:
        return min(ofm[0], 1), ofm[1], ofm[2]
    return ofm


def _fits(query: _Query, ofm: Hwc, ifm: Hwc) -> bool:
    """Whether the buffers fit the SHRAM: output staging, input x 2 (two operands), accumulators x 2, table."""
    arch = query.arch
    row_bytes = round_up(ifm[2] * query.work.ifm_bits // BITS_PER_BYTE, BITS_PER_BYTE)
    ifm_banks = round_up(ceil_div(area(ifm) * row_bytes, arch.bank_bytes) * DOUBLE, query.granule)
    end = arch.shram_banks - query.table_banks
    start = arch.reserved_output_banks + ifm_banks
    if query.work.unit == "elementwise":
        return start + (ifm_banks if query.second_operand else 0) <= end
    acc_bytes = area(ofm) * round_up(ofm[2], BITS_PER_BYTE) * arch.acc_bits // BITS_PER_BYTE
    return start + round_up(ceil_div(acc_bytes, arch.bank_bytes) * DOUBLE, arch.acc_granule) <= end


def _traffic(query: _Query, fitted: Hwc, ofm: Hwc, ifm: Hwc) -> float:
    """Input and weight elements fetched for each output element (elementwise: number of blocks)."""
    work, elements = query.work, volume(query.work.ofm)
    if work.unit == "elementwise":
        cost = elements / volume(ofm)
    elif work.unit == "pool":
        # Windows that do not overlap cost the same in any block: only rounding to single precision tells them apart.
        parts = [_single(o / b) for o, b in zip(work.ofm, fitted, strict=True)]
        fetch = _single(float(area(ifm) * query.fetched[2] * _repeats(query)))
        cost = _single(_single(_single(fetch * parts[0]) * parts[1]) / elements)
    else:
        parts = [o / b for o, b in zip(work.ofm, fitted, strict=True)]
        full = [ceil_div(o, b) for o, b in zip(work.ofm, fitted, strict=True)]
        weights = 0.0
        if work.unit in ("conv", "depthwise", "vector"):
            weights = float(work.kernel[0] * work.kernel[1] * query.fetched[2] * full[0] * full[1])
            if work.unit != "depthwise":
                weights *= parts[2] * fitted[2]
        fetch = area(ifm) * query.fetched[2] * _repeats(query) * parts[0] * parts[1]
        if not query.equal_depth:
            fetch *= full[2]
        cost = (fetch + weights) / elements
    return cost / DOUBLE if volume(query.fetched) < volume(ifm) * DOUBLE else cost


def _single(value: float) -> float:
    """Rounded to single precision, in which the reference compares blocks."""
    return float(_SINGLE.unpack(_SINGLE.pack(value))[0])


def _repeats(query: _Query) -> int:
    work, limit = query.work, query.arch.subkernel_max
    count = 1
    for axis in (0, 1):
        count *= ceil_div((work.kernel[axis] - 1) * work.dilation[axis] + 1, limit)
    return count


def _coverage(query: _Query, ifm: Hwc) -> float:
    return area(query.fetched) / max(1, area(smaller(query.fetched, ifm)))
