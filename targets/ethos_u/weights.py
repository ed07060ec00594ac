"""Weights on their way to the array: how many bytes they are once encoded, and whether SRAM stages them.

Encoded size. Weights are coded losslessly: `ratio` x 8 bits for each, and the zeros that fill blocks up
(channels to whole bricks of the traversal, kernel elements to steps) either as weights of their own or as runs behind
each weight, their lengths in a Golomb-Rice code of parameter d:
    bits = 8 ratio n + min(8 ratio z + n / 4, (d + 0.85) n + z / 2^d)      n weights, z zeros, d = 0 .. 3; plus a header
Each core that has output channels has a stream of weights and one of scales.
Staging. Where weights lie behind the slower port, the vendor's compiler cuts an operator into slices of output
channels; the array works on one while DMA brings the next. It does so if its own estimate gets no worse by it.
The first slice is waited for, less the cycles of the operator before (its slack), behind which it is fetched:
    array = max(all weights - slack + last slice, work + max(0, first slice - slack))
Source: Vela 5.2.0, regor: its scheduler's choice of weight buffering.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from h4hc.units import ceil_div
from targets.ethos_u.cycles import PART_STEP, STEP, Port, sub_kernels
from targets.ethos_u.work import Arch, Blocks, Work, round_up

BITS_PER_BYTE = 8
ALIGN_BYTES = 16  # of an encoded stream
BRICK_DEPTH = 32  # input channels of a depth-first brick
HEADER_BYTES = 24  # a stream's palette and padding
SPARSE_BITS = 0.25  # what zeros that are coded as weights cost each weight, in its palette
FIRST_SLICE = 16  # output channels
START_CYCLES = 1000  # delay at the start of a network that the compiler does not mind
STATIC_SHARE = 10  # a first slice below a tenth of all reads is worth staging
RUN_CODES = range(4)  # parameters of the code for runs of zeros
RUN_SAVING_BITS = 0.15  # of each weight, where runs take those that are zero themselves
LEAST_USE = 0.3  # of a block's depth by a slice


class Streams(NamedTuple):
    """Encoded weights and scales of a pass [B]."""

    weights: int
    scales: int

    @property
    def total(self) -> int:
        """All bytes that DMA moves."""
        return self.weights + self.scales


class Staging(NamedTuple):
    """Slices of the output channels; bytes that are fetched before work starts; cycles of the last slice."""

    slices: tuple[int, ...]
    first_bytes: int
    last_cycles: int
    whole_cycles: int  # scales come from SRAM as well
    transfer_cycles: int  # of all weights by DMA


def encoded(arch: Arch, work: Work, filled: int, ratio: float, scale_bytes: int) -> Streams:
    """Size of the encoded weights of one repetition, and of its scales; filled: see filled_weights."""
    zeros = filled - work.weights
    bits = 1 if work.even_weights else BITS_PER_BYTE * ratio
    runs = min([(d + 1 - RUN_SAVING_BITS) * work.weights + zeros / 2**d for d in RUN_CODES])
    extra = min(zeros * bits + SPARSE_BITS * work.weights, runs) if zeros else 0
    shares = _on_cores(arch, work.ofm[2])
    each = (work.weights * bits + extra) / BITS_PER_BYTE / len(shares) + HEADER_BYTES
    scales = sum([round_up(scale_bytes * share, ALIGN_BYTES) for share in shares])
    return Streams(round_up(int(each), ALIGN_BYTES) * len(shares), scales)


def filled_weights(arch: Arch, work: Work, blocks: Blocks) -> int:
    """Weights with the zeros that fill up blocks."""
    step = 1 if blocks.traversal == "depth_first" else STEP
    kernel = sum(round_up(e, step) for e in sub_kernels(work.kernel, arch.subkernel_max))
    whole, rest = divmod(work.ofm[2], blocks.ofm[2])
    depths = [blocks.ofm[2]] * whole + [rest]
    outs = sum([round_up(share, arch.ofm_ublock[2]) for depth in depths for share in _on_cores(arch, depth)])
    if work.unit == "depthwise":
        return kernel * outs
    return kernel * outs * round_up(work.ifm[2], PART_STEP if blocks.traversal == "part_kernel" else BRICK_DEPTH)


def _on_cores(arch: Arch, depth: int) -> list[int]:
    """Output channels of each core that has any: they take turns."""
    return [ceil_div(depth - core, arch.cores) for core in range(min(arch.cores, depth))]


def transfer_cycles(count: float, source: Port, target: Port) -> int:
    """DMA of `count` bytes from one memory to the other."""
    sent, kept = (
        count / source.bytes_per_cycle + source.read_latency,
        count / target.bytes_per_cycle + target.write_latency,
    )
    return int(sent if sent > kept else kept)


class Slicing(NamedTuple):
    """What the choice of staging rests on, besides the size of the weights and the pass before.

    depth: output channels; reads: how often each weight is read; cycles: of so many output channels on the array,
    operands at hand; direct_cycles: of the pass with its scales read where they are; fetch_cycles: of the inputs;
    edge_cycles: to fill the first block, and to drain the last; limit_bytes: of the buffers.
    """

    depth: int
    block_depth: int
    reads: int
    cycles: Callable[[int], int]
    direct_cycles: int
    fetch_cycles: int
    edge_cycles: tuple[int, int]
    limit_bytes: int


def staged_whole(q: Slicing, total: int, slack: int | None, source: Port, staged: Port) -> Staging:
    """All weights in one slice, whatever the slack."""
    whole = q.cycles(q.depth)
    return Staging((q.depth,), total, whole, whole, transfer_cycles(total, source, staged))


def choose_staging(q: Slicing, total: int, slack: int | None, source: Port, staged: Port) -> Staging | None:
    """Slices of `total` bytes to stage, or None to read the weights where they are.

    slack: cycles of the pass before, None if there is none: it starts the network.
    """
    unmoved = (total / source.bytes_per_cycle + source.read_latency) * q.reads
    from_buffer = (total / staged.bytes_per_cycle + staged.read_latency) * q.reads
    if from_buffer >= unmoved:
        return None
    full = transfer_cycles(total, source, staged)
    least = int(full * min(q.depth, FIRST_SLICE) / q.depth)
    start = slack is None and q.reads > 1 and (least < unmoved / STATIC_SHARE or least <= START_CYCLES)
    buffered = from_buffer + max(full - (slack or 0), 0)
    if not (
        start
        or buffered < unmoved
        or q.depth // q.block_depth > 2
        or (slack is not None and least < slack and q.reads > 1)
    ):
        return None
    whole = q.cycles(q.depth)
    dominated = whole > unmoved
    slices = _slices(q, total, full, slack or 0, dominated)
    if slices is None:
        return None
    ahead = slack if slack is not None else START_CYCLES if start else 0
    visible = _visible(q, slices, total, ahead, source, staged)
    reads = (total / staged.bytes_per_cycle + staged.read_latency * len(slices)) * q.reads
    run = whole + visible
    before, after = max(q.direct_cycles, unmoved, q.fetch_cycles), max(run, reads, q.fetch_cycles)
    if dominated:
        if visible / len(slices) < START_CYCLES:
            after -= visible
        if len(slices) > 1 and run == after and start:
            after -= len(slices) * START_CYCLES / 2
    if after > before or (q.reads == 1 and full + reads > before):
        return None
    last = q.cycles(slices[-1]) - (q.edge_cycles[0] if len(slices) > 1 else 0)  # filled behind the slice before
    return Staging(slices, int(total * slices[0] / q.depth), last, whole, full)


def _visible(q: Slicing, slices: tuple[int, ...], total: int, slack: float, source: Port, staged: Port) -> float:
    """Cycles by which DMA of the slices is longer than the work on the slice before, after the compiler's estimate."""
    whole = q.cycles(q.depth)
    visible = wait = 0.0
    last = before_last = 0
    for depth in slices:
        if not depth == last == before_last:  # most slices are of one size and behind one of the same
            wait = max(0.0, transfer_cycles(total * depth / q.depth, source, staged) - slack)
            slack = whole * depth / q.depth if len(slices) > 1 else 0
        visible += wait
        last, before_last = depth, last
    return visible


def _slices(q: Slicing, total: int, full: int, slack: int, dominated: bool) -> tuple[int, ...] | None:
    """Output channels of each slice: the first as large as the slack can hide, the others as long as DMA needs."""
    full = max(1, full)  # a fast port moves a few weights in under a cycle
    half = min(q.limit_bytes / 2 / total, 1.0)
    ratio = min(_first_share(q.depth, slack / full, dominated), half)
    if ratio >= 1:
        return (q.depth,)
    first = max(int(q.depth * ratio) // FIRST_SLICE * FIRST_SLICE, FIRST_SLICE)
    if first >= q.depth:
        return (q.depth,)
    each = round_up(max(int(q.depth * (q.cycles(first) - sum(q.edge_cycles)) / full), FIRST_SLICE), q.block_depth)
    if each * total > q.limit_bytes / 2 * q.depth:
        each = max(int(half * q.depth) // q.block_depth * q.block_depth, FIRST_SLICE)
    if each / round_up(each, q.block_depth) < LEAST_USE:
        return None
    middle, rest = divmod(q.depth - first, each)
    return (first, *[each] * middle, *([rest] if rest else []))


def _first_share(depth: int, hidden: float, dominated: bool) -> float:
    """Share of the weights in the first slice, for a share that the slack can hide."""
    least, hidden = min(FIRST_SLICE / depth, 1.0), min(hidden, 1.0)
    ratio = 1.0 if 1 - math.floor(hidden / least) * least < least / 2 else hidden
    if dominated and 0.5 < ratio < 1:
        ratio = min(max(round_up(depth // 2, FIRST_SLICE) / depth, 0.5), 1.0)
    return max(ratio, least)
