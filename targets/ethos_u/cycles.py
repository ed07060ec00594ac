"""Cycles and bytes of one hardware pass with given blocks, after Arm's own estimate (Vela 5.2, regor back end).

A block costs its MAC steps and its output stage, which overlap: all blocks of the slower, plus one of the other;
neither runs faster than a quarter of command, memory and compute of a block together. Memory traffic is counted in
bytes on the port, bursts included.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from h4hc.units import ceil_div
from targets.ethos_u.work import Arch, Blocks, Format, Hwc, Work, area, round_up, smaller, volume

BITS_PER_BYTE = 8
STEP = 4  # cycles of a kernel step; kernel elements a part-kernel or depthwise step takes
PART_STEP = 8  # input channels a part-kernel step takes
WEIGHT_CYCLES = 32  # least cycles of a step: weights of 8 output channels
DPUS = 4
BIAS_BYTES, BIAS_BUS_BITS = 10, 256  # scale and bias of a channel; width they arrive in
WIDE_MICRO_BLOCK = (1, 4)  # 256 MACs on one-row outputs
BURST_DEPTH_BYTES = 64  # longest run of a plain output
BRICK_DEPTH = 16  # channels of an NHCWB16 brick, and of a run of a plain output
WORD_BITS, INT32_BITS = 8, 32
NOISE_DIGITS = 3  # of a sum of floats that is rounded up


class Port(NamedTuple):
    """A memory as the NPU's port sees it."""

    bytes_per_cycle: float
    read_latency: float
    write_latency: float
    burst_bytes: int


class Ports(NamedTuple):
    """The memory each operand of a pass lies in; `scratch` is where a product of activations keeps its rows."""

    ifm: Port
    ifm2: Port
    ofm: Port
    constants: Port
    scratch: Port


class Rates(NamedTuple):
    """Cycles an output element takes in the output stage; product: in the first half of a product of activations."""

    output: float
    product: float = 0.0


class MacBlocks(NamedTuple):
    """The blocks of a pass through the MAC array, however many of its output channels it works on.

    per_layer, single, each: MAC cycles of a block for each layer of micro-blocks in its depth, and the delays of one
    with a single layer, and of each of several layers; blocks: of one depth, fractional at the edges.
    """

    area: int
    depth: int
    micro_depth: int
    per_layer: int
    single: int
    each: int
    cores: int
    blocks: float
    has_weights: bool


class PassCost(NamedTuple):
    """cycles of the array; bytes each operand moves; times each weight is read; work done.

    macs: multiply-accumulates of the array; of a pooling what its windows add or compare. outputs: elements that pass
    the output stage. Of a pass through the MAC array, edges: cycles to fill the first block and to drain the last;
    array: its blocks.
    """

    cycles: int
    mac_cycles: int
    output_cycles: int
    ifm_bytes: int
    ifm2_bytes: int
    ofm_bytes: int
    scratch_read_bytes: int
    scratch_written_bytes: int
    weight_passes: int
    macs: int
    outputs: int
    edges: tuple[int, int]
    array: MacBlocks | None


def pass_cost(arch: Arch, work: Work, blocks: Blocks, ports: Ports, rates: Rates) -> PassCost:
    """Cost of one repetition of `work`."""
    reads, written = _traffic(arch, work, blocks, ports)
    edges, array = (0, 0), None
    ofm = smaller(work.ofm, blocks.ofm)
    xy = ceil_div(work.ofm[0], ofm[0]) * ceil_div(work.ofm[1], ofm[1])
    scratch = (0, 0)
    macs = mac = 0
    outputs = volume(work.ofm)
    match work.unit:
        case "elementwise":
            cycles = out = elementwise_cycles(arch, work, blocks, ports, rates.output)
        case "copy":
            out = outputs = 0
            cycles = _copy_cycles(reads[0], written, ports)
        case "matmul":
            macs = volume(work.ifm) * _columns(work)  # the sums; each product leaves through the output stage first
            outputs += macs
            scratch = _on_port(arch, ports.scratch, True, "nhwc", INT32_BITS, blocks.ifm, work.ifm, macs), macs
            cycles = out = _matmul_cycles(arch, work, blocks, ports, rates)
        case _:
            edges = block_memory(arch, work, blocks, ports)
            array, latency = mac_blocks(arch, work, blocks), ports.constants.read_latency
            mac, out, cycles = mac_cycles(array, work.ofm[2], edges, latency, rates.output)
            macs = work.kernel[0] * work.kernel[1] * volume(work.ofm)
            if work.unit not in ("depthwise", "pool"):
                macs *= work.ifm[2]
    return PassCost(cycles, mac, out, *reads, written, *scratch, xy if work.weights else 0, macs, outputs, edges, array)


def _copy_cycles(read: int, written: int, ports: Ports) -> int:
    """The slower of both ways, each with its latency."""
    into = int(read / ports.ifm.bytes_per_cycle) + ports.ifm.read_latency
    back = int(written / ports.ofm.bytes_per_cycle) + ports.ofm.write_latency
    return int(max(into, back))


def _columns(work: Work) -> int:
    """Columns of a product of activations: each is a pass over the first operand."""
    assert work.ifm2 is not None, work
    return work.ifm2[1]


def matmul_parts(work: Work) -> tuple[Work, Work]:
    """What the NPU does for each column of a product of activations: multiply to int32 by one row, then sum over k."""
    rows = work.ifm
    product = work._replace(unit="elementwise", output="mul_int32", ofm=rows, ifm2=rows, ofm_bits=INT32_BITS)
    total = work._replace(unit="reduce_sum", output="other", ofm=(rows[0], rows[1], 1), ifm2=None)
    return product, total


def _matmul_cycles(arch: Arch, work: Work, blocks: Blocks, ports: Ports, rates: Rates) -> int:
    """Product and sum of each column, one behind the other."""
    product, total = matmul_parts(work)
    assert blocks.product is not None, work
    own = blocks._replace(ifm=blocks.product[0], ofm=blocks.product[1])
    first = elementwise_cycles(arch, product, own, ports._replace(ofm=ports.scratch), rates.product)
    edges = block_memory(arch, total, blocks, ports._replace(ifm=ports.scratch))
    _, _, second = mac_cycles(mac_blocks(arch, total, blocks), total.ofm[2], edges, 0, rates.output)
    return (first + second) * _columns(work)


def mac_blocks(arch: Arch, work: Work, blocks: Blocks) -> MacBlocks:
    """What the blocks of a pass have in common."""
    rows, columns, _ = work.ofm
    height, width, channels = arch.ofm_ublock
    high, wide = min(rows, blocks.ofm[0]), min(columns, blocks.ofm[1])
    if height > 1 and work.unit in ("conv", "vector") and _is_row(work):
        (height, width), high = WIDE_MICRO_BLOCK, 1
    n_y, n_x = ceil_div(high, height), ceil_div(wide, width)
    ifm_depth = min(work.ifm[2], blocks.ifm[2])
    times = ceil_div(work.ifm[2], ifm_depth) if work.unit in ("conv", "vector", "reduce_sum") else 1
    part = ceil_div(ifm_depth, PART_STEP) if blocks.traversal == "part_kernel" else 1
    delay = arch.delay_cycles * part * times if n_y * n_x == 1 else 0
    per_layer = steps = last = 0
    for e in sub_kernels(work.kernel, arch.subkernel_max):
        own, cycles = _kernel_cycles(arch, work, blocks, e, n_y * n_x)
        per_layer += cycles * part * times
        steps += own
        last += 1
    count = round_up(rows, height) / (n_y * height) * (round_up(columns, width) / (n_x * width))
    single, each = delay * steps, delay * (steps - last)
    area_of_block, cores = high * wide, arch.cores
    return MacBlocks(area_of_block, blocks.ofm[2], channels, per_layer, single, each, cores, count, work.weights > 0)


def mac_cycles(
    b: MacBlocks, depth: int, edges: tuple[int, int], latency: float, per_output: float
) -> tuple[int, int, int]:
    """(MAC cycles, output cycles, total) of a pass through the MAC array, for `depth` of its output channels.

    edges: see block_memory; latency: of reading scales and biases.
    """
    block_depth = depth if depth < b.depth else b.depth
    layers = -(-block_depth // b.micro_depth)
    mac_block = (b.per_layer * layers + (b.single if layers == 1 else b.each * layers)) // b.cores
    # blocks, fractional at the edges, in whole micro-blocks
    count = b.blocks * (round_up(depth, b.micro_depth) / (layers * b.micro_depth))
    out_block = int(per_output * (b.area * block_depth))
    out_total = out_block * count + mac_block
    if b.has_weights:
        out_block = max(out_block, int(BIAS_BYTES * block_depth * latency / BIAS_BUS_BITS))
    mac_total = mac_block * count + out_block
    fill, drain = edges
    wait = abs(fill - drain) if count > 1 else 0
    floor = (wait + out_block + mac_block) // DPUS
    fast, slow = max(mac_block, floor), max(out_block, floor)
    if fast > slow:
        fast, slow = slow, fast
    return int(mac_total), int(out_total), int(slow * count) + fast + fill + drain


def _is_row(work: Work) -> bool:
    return work.ofm[0] == 1 and work.ofm[1] % 2 == 0 and work.kernel[0] == 1


@functools.lru_cache(maxsize=1024)
def sub_kernels(kernel: tuple[int, int], limit: int) -> tuple[int, ...]:
    """Elements of each sub-kernel of at most `limit` x `limit`."""
    rows = [min(kernel[0] - y, limit) for y in range(0, kernel[0], limit)]
    columns = [min(kernel[1] - x, limit) for x in range(0, kernel[1], limit)]
    return tuple(r * c for c in columns for r in rows)


def _kernel_cycles(arch: Arch, work: Work, blocks: Blocks, e: int, n_xy: int) -> tuple[int, int]:
    """(steps, MAC cycles) of one sub-kernel of `e` elements over one layer of n_xy micro-blocks."""
    if work.unit == "pool":
        return 1, max(STEP, e) * n_xy * arch.pool_factor
    whole = work.unit != "depthwise" and blocks.traversal != "part_kernel"
    steps = e if whole else ceil_div(e, STEP)
    return steps, max(WEIGHT_CYCLES * arch.ofm_ublock[2] // PART_STEP, STEP * n_xy) * steps


def elementwise_cycles(arch: Arch, work: Work, blocks: Blocks, ports: Ports, per_output: float) -> int:
    """Elements, channels of bricks filled up, times what one takes: a quarter of block memory + output at least."""
    memory = max(block_memory(arch, work, blocks, ports)) / volume(blocks.ofm)
    per_element = max(per_output, (memory + per_output) / DPUS)
    return math.ceil(round(per_element * volume(_stored(arch, work.ofm, work.ofm_format)), NOISE_DIGITS))


def _stored(arch: Arch, shape: Hwc, form: Format) -> Hwc:
    return (shape[0], shape[1], round_up(shape[2], arch.brick_depth)) if form == "brick" else shape


def stored_bytes(arch: Arch, shape: Hwc, form: Format, bits: int) -> int:
    """Bytes of a map as it lies in memory."""
    return volume(_stored(arch, shape, form)) * bits // BITS_PER_BYTE


def _operands(work: Work, ports: Ports) -> list[tuple[Hwc, Format, Port]]:
    """Inputs of a pass: shape, storage, memory."""
    first = (work.ifm, work.ifm_format, ports.ifm)
    return [first] if work.ifm2 is None else [first, (work.ifm2, work.ifm2_format, ports.ifm2)]


def block_memory(arch: Arch, work: Work, blocks: Blocks, ports: Ports) -> tuple[int, int]:
    """Least cycles to bring one block in (the larger operand), and its result out, latency included."""
    fill = 0
    for shape, form, port in _operands(work, ports):
        sent = volume(smaller(shape, blocks.ifm)) * work.ifm_bits // BITS_PER_BYTE
        sent = _on_port(arch, port, True, form, work.ifm_bits, blocks.ifm, shape, sent)
        fill = max(fill, int(port.read_latency + int(sent / port.bytes_per_cycle)))
    sent = volume(smaller(work.ofm, blocks.ofm)) * work.ofm_bits // BITS_PER_BYTE
    sent = _on_port(arch, ports.ofm, False, work.ofm_format, work.ofm_bits, blocks.ofm, work.ofm, sent)
    return fill, int(ports.ofm.write_latency + int(sent / ports.ofm.bytes_per_cycle))


def _on_port(arch: Arch, port: Port, read: bool, form: Format, bits: int, block: Hwc, shape: Hwc, count: int) -> int:
    """Bytes that `count` bytes occupy on the port when runs are shorter than a burst; two cores write one run."""
    cores = 1 if read else arch.cores
    if form == "brick":
        whole = shape[1] * bits * BRICK_DEPTH // BITS_PER_BYTE == block[2]
        run_bits = bits * block[1] * (block[2] if whole else BRICK_DEPTH * cores)
    else:
        whole = shape[2] * bits // BITS_PER_BYTE == block[2] and (read or block[2] <= BRICK_DEPTH)
        if whole:
            run_bits = bits * block[1] * block[2]
        elif read:
            run_bits = bits * block[2]
        else:
            run_bits = min(BURST_DEPTH_BYTES * BITS_PER_BYTE, BRICK_DEPTH * bits * cores, block[2] * bits)
    run = min(port.burst_bytes, run_bits // BITS_PER_BYTE)
    return count * port.burst_bytes // run


def _traffic(arch: Arch, work: Work, blocks: Blocks, ports: Ports) -> tuple[tuple[int, int], int]:
    """Bytes on the ports: ((first, second operand), output)."""
    elements = _elements_read(arch, work, blocks)
    reads = [0, 0]
    for at, (shape, form, port) in enumerate(_operands(work, ports)):
        if elements[at]:
            count = elements[at] * work.ifm_bits // BITS_PER_BYTE
            reads[at] = _on_port(arch, port, True, form, work.ifm_bits, blocks.ifm, shape, count)
    written = volume(_stored(arch, work.ofm, work.ofm_format)) * work.ofm_bits // BITS_PER_BYTE
    written = _on_port(arch, ports.ofm, False, work.ofm_format, work.ofm_bits, blocks.ofm, work.ofm, written)
    return (reads[0], reads[1]), written


def _elements_read(arch: Arch, work: Work, blocks: Blocks) -> tuple[int, int]:
    """Elements of each operand that cross the port, those fetched again included."""
    if work.unit == "elementwise":
        return _elementwise_reads(arch, work)
    if work.unit == "copy":
        return volume(work.ifm), 0
    if work.unit == "matmul":
        assert work.ifm2 is not None, work
        return volume(work.ifm) * _columns(work), volume(work.ifm2)
    ifm, ofm = smaller(work.ifm, blocks.ifm), smaller(work.ofm, blocks.ofm)
    xy = ceil_div(work.ofm[0], ofm[0]) * ceil_div(work.ofm[1], ofm[1])
    z = 1 if work.unit in ("depthwise", "pool") else ceil_div(work.ofm[2], ofm[2])
    fetch = area(ifm) * _stored(arch, work.ifm, work.ifm_format)[2]
    return fetch * len(sub_kernels(work.kernel, arch.subkernel_max)) * xy * z, 0


def _elementwise_reads(arch: Arch, work: Work) -> tuple[int, int]:
    """Maps are read once for each result, also where they are stretched; an 8-bit scalar is part of the command."""
    whole = volume(_stored(arch, work.ofm, work.ifm_format))
    scalar = volume(_stored(arch, (1, 1, 1), work.ifm_format)) if work.ifm_bits > WORD_BITS else 0
    if volume(work.ifm) == 1:
        return (scalar, 0) if scalar else (0, whole if work.ifm2 is not None else 0)
    if work.ifm2 is None:
        return whole, 0
    return whole, scalar if volume(work.ifm2) == 1 else whole
