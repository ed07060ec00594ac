"""Cycles and bytes of one hardware pass with given blocks, after Arm's own estimate (Vela 5.2, regor back end).

A block costs its MAC steps and its output stage, which overlap: all blocks of the slower, plus one of the other;
neither runs faster than a quarter of command, memory and compute of a block together. Memory traffic is counted in
bytes on the port, bursts included.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Port:
    """A memory as the NPU's port sees it."""

    bytes_per_cycle: float
    read_latency: float
    write_latency: float
    burst_bytes: int


@dataclass(frozen=True)
class PassCost:
    """cycles of the array; bytes on the feature-map port by direction; times each weight crosses the weight port."""

    cycles: int
    mac_cycles: int
    output_cycles: int
    read_bytes: int
    write_bytes: int
    weight_passes: int
    macs: int


def pass_cost(arch: Arch, work: Work, blocks: Blocks, port: Port, bias_latency: float, per_output: float) -> PassCost:
    """Cost of one repetition of `work`; `per_output` = cycles an output element takes in the output stage."""
    read, write, refetch = _traffic(arch, work, blocks, port)
    if work.unit == "elementwise":
        cycles = _elementwise(arch, work, blocks, port, per_output)
        return PassCost(cycles, 0, cycles, read, write, 0, 0)
    if work.unit == "copy":
        cycles = max(
            int(read / port.bytes_per_cycle + port.read_latency), int(write / port.bytes_per_cycle + port.write_latency)
        )
        return PassCost(cycles, 0, 0, read, write, 0, 0)
    mac, out, cycles = _mac_pass(arch, work, blocks, port, bias_latency, per_output)
    macs = work.kernel[0] * work.kernel[1] * volume(work.ofm)
    if work.unit not in ("depthwise", "pool"):
        macs *= work.ifm[2]
    return PassCost(cycles, mac, out, read, write, refetch, macs)


def _mac_pass(
    arch: Arch, work: Work, blocks: Blocks, port: Port, bias_latency: float, per_output: float
) -> tuple[int, int, int]:
    """(MAC cycles, output cycles, total) of a pass through the MAC array."""
    ifm, ofm = smaller(work.ifm, blocks.ifm), smaller(work.ofm, blocks.ofm)
    height, width, depth = arch.ofm_ublock
    if height > 1 and work.unit in ("conv", "vector") and _is_row(work):
        (height, width), ofm = WIDE_MICRO_BLOCK, (1, ofm[1], ofm[2])
    n_xy = ceil_div(ofm[0], height) * ceil_div(ofm[1], width)
    n_z = ceil_div(ofm[2], depth)
    mac_block = sum(_kernel_cycles(arch, work, blocks, ifm[2], e, n_xy, n_z) for e in _sub_kernels(arch, work))
    if work.unit in ("conv", "vector", "reduce_sum"):
        mac_block *= ceil_div(work.ifm[2], ifm[2])
    count = 1.0  # blocks, fractional at the edges, in whole micro-blocks
    for whole, block, micro in zip(work.ofm, ofm, (height, width, depth), strict=True):
        count *= round_up(whole, micro) / round_up(block, micro)
    out_block = int(per_output * volume(ofm))
    out_total = out_block * count + mac_block
    if work.weights:
        out_block = max(out_block, int(BIAS_BYTES * ofm[2] * bias_latency / BIAS_BUS_BITS))
    mac_total = mac_block * count + out_block
    fill, drain = _block_memory(work, blocks, port)
    wait = abs(fill - drain) if count > 1 else 0
    floor = (wait + out_block + mac_block) // DPUS
    mac_block, out_block = max(mac_block, floor), max(out_block, floor)
    slow, fast = max(mac_block, out_block), min(mac_block, out_block)
    return int(mac_total), int(out_total), int(slow * count) + fast + fill + drain


def _is_row(work: Work) -> bool:
    return work.ofm[0] == 1 and work.ofm[1] % 2 == 0 and work.kernel[0] == 1


def _sub_kernels(arch: Arch, work: Work) -> list[int]:
    """Elements of each sub-kernel of at most 8 x 8."""
    limit = arch.subkernel_max
    rows = [min(work.kernel[0] - y, limit) for y in range(0, work.kernel[0], limit)]
    columns = [min(work.kernel[1] - x, limit) for x in range(0, work.kernel[1], limit)]
    return [r * c for c in columns for r in rows]


def _kernel_cycles(arch: Arch, work: Work, blocks: Blocks, ifm_depth: int, e: int, n_xy: int, n_z: int) -> int:
    """MAC cycles of one sub-kernel of `e` elements over one block of n_xy * n_z micro-blocks."""
    weight_floor = WEIGHT_CYCLES * arch.ofm_ublock[2] // PART_STEP
    part = ceil_div(ifm_depth, PART_STEP) if blocks.traversal == "part_kernel" else 1
    if work.unit == "pool":
        steps, cycles = 1, max(STEP, e) * n_xy * n_z * arch.pool_factor
    elif work.unit == "depthwise" or blocks.traversal == "part_kernel":
        steps = ceil_div(e, STEP)
        cycles = max(weight_floor, STEP * n_xy) * steps * n_z * part
    else:
        steps, cycles = e, max(weight_floor, STEP * n_xy) * e * n_z
    if n_xy > 1:
        return cycles
    delay = arch.delay_cycles * steps if n_z == 1 else arch.delay_cycles * (steps - 1) * n_z
    return cycles + delay * part


def _elementwise(arch: Arch, work: Work, blocks: Blocks, port: Port, per_output: float) -> int:
    block = volume(blocks.ofm)
    per_element = max(per_output, (sum(_block_memory(work, blocks, port)) / block + per_output) / DPUS)
    return int(per_element * volume(_stored(arch, work.ofm, work.ofm_format)))


def _stored(arch: Arch, shape: Hwc, form: Format) -> Hwc:
    return (shape[0], shape[1], round_up(shape[2], arch.brick_depth)) if form == "brick" else shape


def _block_memory(work: Work, blocks: Blocks, port: Port) -> tuple[int, int]:
    """Least cycles to bring one block in (the larger operand), and its result out, latency included."""
    fill = 0
    for ifm in (work.ifm, work.ifm2):
        if ifm is not None:
            sent = volume(smaller(ifm, blocks.ifm)) * work.ifm_bits // BITS_PER_BYTE
            sent = _on_port(port, True, work.ifm_format, work.ifm_bits, blocks.ifm, ifm, sent)
            fill = max(fill, int(port.read_latency + int(sent / port.bytes_per_cycle)))
    sent = volume(smaller(work.ofm, blocks.ofm)) * work.ofm_bits // BITS_PER_BYTE
    sent = _on_port(port, False, work.ofm_format, work.ofm_bits, blocks.ofm, work.ofm, sent)
    return fill, int(port.write_latency + int(sent / port.bytes_per_cycle))


def _on_port(port: Port, read: bool, form: Format, bits: int, block: Hwc, shape: Hwc, count: int) -> int:
    """Bytes that `count` bytes occupy on the port when runs are shorter than a burst."""
    if form == "brick":
        whole = shape[1] * bits * BRICK_DEPTH // BITS_PER_BYTE == block[2]
        run_bits = bits * block[1] * (block[2] if whole else BRICK_DEPTH)
    else:
        whole = shape[2] * bits // BITS_PER_BYTE == block[2] and (read or block[2] <= BRICK_DEPTH)
        if whole:
            run_bits = bits * block[1] * block[2]
        elif read:
            run_bits = bits * block[2]
        else:
            run_bits = min(BURST_DEPTH_BYTES * BITS_PER_BYTE, BRICK_DEPTH * bits, block[2] * bits)
    run = min(port.burst_bytes, run_bits // BITS_PER_BYTE)
    return count * port.burst_bytes // run


def _traffic(arch: Arch, work: Work, blocks: Blocks, port: Port) -> tuple[int, int, int]:
    """(bytes read, bytes written on the feature-map port, how often each weight is fetched)."""
    ifm, ofm = smaller(work.ifm, blocks.ifm), smaller(work.ofm, blocks.ofm)
    xy = ceil_div(work.ofm[0], ofm[0]) * ceil_div(work.ofm[1], ofm[1])
    reads = [0, 0]
    if work.unit == "elementwise":
        stored = volume(_stored(arch, work.ofm, work.ifm_format))
        reads[0] = stored if volume(work.ifm) > 1 else 0
        reads[1] = stored if work.ifm2 is not None and volume(work.ifm2) > 1 else 0
    elif work.unit == "copy":
        reads[0] = volume(work.ifm)
    else:
        z = 1 if work.unit in ("depthwise", "pool") else ceil_div(work.ofm[2], ofm[2])
        fetch = area(ifm) * _stored(arch, work.ifm, work.ifm_format)[2]
        reads[0] = fetch * len(_sub_kernels(arch, work)) * xy * z
    read = 0
    for count, shape in ((reads[0], work.ifm), (reads[1], work.ifm2)):
        if count and shape is not None:
            read += _on_port(port, True, work.ifm_format, work.ifm_bits, blocks.ifm, shape, count)
    written = volume(_stored(arch, work.ofm, work.ofm_format))
    written = _on_port(port, False, work.ofm_format, work.ofm_bits, blocks.ofm, work.ofm, written)
    return read, written, xy if work.weights else 0
