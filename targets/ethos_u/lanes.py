"""What an operator asks of the array, of the SRAM and of the memory behind the second port, pass by pass.

  pass     = max(array, SRAM traffic / port, second memory's traffic / port), in cycles
  operator = sum over its passes
The array also waits for tables and for first weights; what is left of the pass before hides them (weights.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from h4hc.errors import CostModelError
from h4hc.quantity import Quantity
from h4hc.workload import Op, Workload
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.cycles import PassCost, Port, Ports, Rates, block_memory, mac_cycles, pass_cost
from targets.ethos_u.mapping import passes
from targets.ethos_u.softmax import INT32
from targets.ethos_u.spec import Corner, EthosUSpec
from targets.ethos_u.weights import Question, Staging, Streams, choose_staging, encoded, transfer_cycles
from targets.ethos_u.work import Blocks, Place, Work


@dataclass(frozen=True)
class Lanes:
    """Cycles and bytes of an operator at one corner of its numbers.

    total: sum over the passes of the busiest lane; slack: cycles behind which the next operator may fetch weights.
    """

    array: int = 0
    sram: float = 0.0
    second: float = 0.0
    total: int = 0
    sram_read: int = 0
    sram_written: int = 0
    second_read: int = 0
    second_written: int = 0
    macs: int = 0
    slack: int = 0


@dataclass(frozen=True)
class Pass:
    """A pass with its blocks, its cost with all operands at hand, and whether each map lies in SRAM."""

    work: Work
    blocks: Blocks
    cost: PassCost
    in_sram: tuple[bool, bool, bool]  # first input, second input, output
    slice_cycles: Callable[[int], int]  # of so many output channels, their scales at hand in SRAM
    edge_cycles: tuple[int, int]  # to fill the first block, and to drain the last one


@dataclass(frozen=True)
class Operator:
    """An operator at the three corners of the numbers: its passes, and its lanes as the first of a network."""

    parts: tuple[tuple[Pass, ...], ...]
    lanes: tuple[Lanes, ...]


def operator(spec: EthosUSpec, op: Op, workload: Workload) -> Operator:
    """The hardware passes of an operator that the rules allow, worked out once for all that are alike.

    Raises CostModelError where nothing is known of it.
    """
    works = passes(spec.blocks_arch, op, workload)
    if not works:
        raise CostModelError(f"no NPU cost for {op.id!r}", op.origin, f"kind {op.kind.value} has no mapping")
    key = (works, _cached(spec, op, workload))
    if key not in spec.memo:
        parts: list[tuple[Pass, ...]] = []
        for at, corner in enumerate(spec.corners):
            same = next((i for i in range(at) if spec.corners[i].memories == corner.memories), None)
            parts.append(tuple(_pass(spec, op, w, corner, key[1]) for w in works) if same is None else parts[same])
        lanes = (operator_lanes(spec, p, corner, None) for p, corner in zip(parts, spec.corners, strict=True))
        spec.memo[key] = Operator(tuple(parts), tuple(lanes))
    found = spec.memo[key]
    assert isinstance(found, Operator)
    return found


def _cached(spec: EthosUSpec, op: Op, workload: Workload) -> bool:
    """Whether inner maps of this operator are kept in the cache of a dedicated SRAM: the largest fits it."""
    largest = max((workload.tensor[n].size_bytes for n in (*op.inputs, *op.outputs)), default=0)
    return largest <= spec.cache_bytes


def _pass(spec: EthosUSpec, op: Op, work: Work, corner: Corner, fits: bool) -> Pass:
    blocks = choose_blocks(spec.blocks_arch, work)
    if blocks is None:
        raise CostModelError(f"no block of {op.id!r} fits the SHRAM", op.origin, f"kernel {work.kernel}")
    places = (work.ifm_place, work.ifm2_place, work.ofm_place)
    in_sram = tuple(_lies_in_sram(spec, place, fits) for place in places)
    ifm, ifm2, ofm = (corner.sram if near else corner.second for near in in_sram)
    constants = corner.sram if spec.memory_mode == "Sram_Only" else corner.second
    scratch = corner.second if spec.memory_mode == "Dedicated_Sram" else corner.sram
    ports = Ports(ifm, ifm2, ofm, constants, scratch)
    rates = _rates(spec, work)
    staged = replace(ports, constants=corner.sram)

    def cycles(depth: int) -> int:
        return mac_cycles(spec.blocks_arch, work, blocks, staged, rates.output, depth)[2]

    edges = block_memory(spec.blocks_arch, work, blocks, ports)
    cost = pass_cost(spec.blocks_arch, work, blocks, ports, rates)
    return Pass(work, blocks, cost, in_sram, functools.cache(cycles), edges)  # type: ignore[arg-type]


def _lies_in_sram(spec: EthosUSpec, place: Place, fits: bool) -> bool:
    if spec.memory_mode == "Sram_Only":
        return True
    if place == "constant":
        return False
    return spec.memory_mode == "Shared_Sram" or (place == "inner" and fits)


def stage_rates(spec: EthosUSpec, work: Work) -> tuple[Quantity, ...]:
    """Cycles an element takes in rescaling and in the activation, of which the slower counts.

    A table behind a pass that does nothing else costs no more than the pass itself; behind another it is there in time.
    """
    variant = spec.variant
    rate: Quantity = getattr(variant, f"out_{work.output}")
    if work.unit == "elementwise" and work.ifm_bits == INT32:
        rate = variant.out_int32_binary if work.ifm2 is not None else variant.out_int32_unary
    if work.unit == "matmul":
        return rate, variant.out_mul_int32
    activation: Quantity = getattr(variant, f"act_{work.activation}")
    return (rate,) if work.is_plain else (rate, activation)


def _rates(spec: EthosUSpec, work: Work) -> Rates:
    rates = stage_rates(spec, work)
    if work.unit == "matmul":
        return Rates(rates[0].value, rates[1].value)
    return Rates(max(q.value for q in rates))


def operator_lanes(spec: EthosUSpec, parts: tuple[Pass, ...], corner: Corner, slack: int | None) -> Lanes:
    """Lanes of an operator behind one that leaves `slack` cycles; None: it starts the network."""
    total = Lanes()
    for part in parts:
        for repeats in (1, part.work.times - 1):
            if repeats:
                lanes = _pass_lanes(spec, part, corner, slack)
                total = _plus(total, lanes, repeats)
                slack = lanes.slack
    return total


def _plus(a: Lanes, b: Lanes, times: int) -> Lanes:
    return Lanes(
        a.array + b.array * times,
        a.sram + b.sram * times,
        a.second + b.second * times,
        a.total + b.total * times,
        a.sram_read + b.sram_read * times,
        a.sram_written + b.sram_written * times,
        a.second_read + b.second_read * times,
        a.second_written + b.second_written * times,
        a.macs + b.macs * times,
        b.slack,
    )


def _pass_lanes(spec: EthosUSpec, part: Pass, corner: Corner, slack: int | None) -> Lanes:
    """One repetition of a pass."""
    work, cost = part.work, part.cost
    moved = [0, 0, 0, 0]  # SRAM read, written, second memory read, written
    for near, count in zip(part.in_sram[:2], (cost.ifm_bytes, cost.ifm2_bytes), strict=True):
        moved[0 if near else 2] += count
    moved[1 if part.in_sram[2] else 3] += cost.ofm_bytes
    scratch = 2 if spec.memory_mode == "Dedicated_Sram" else 0
    moved[scratch] += cost.scratch_bytes // 2
    moved[scratch + 1] += cost.scratch_bytes // 2
    array, left = cost.cycles, cost.cycles
    if work.weights:
        streams = encoded(spec.blocks_arch, work, part.blocks, corner.ratio, spec.arch.scale_bytes)
        array, left = _with_weights(spec, part, corner, slack, streams, moved)
    if work.activation == "lut" and work.is_plain:
        array += max(0, _table_cycles(spec, corner) - (slack or 0))
    sram = (moved[0] + moved[1]) / corner.sram.bytes_per_cycle
    second = (moved[2] + moved[3]) / corner.second.bytes_per_cycle
    macs = cost.macs if work.unit in ("conv", "depthwise", "vector", "reduce_sum") else 0
    busiest = max(array, int(sram), int(second))
    return Lanes(array, sram, second, busiest, moved[0], moved[1], moved[2], moved[3], macs, left)


def _with_weights(
    spec: EthosUSpec, part: Pass, corner: Corner, slack: int | None, streams: Streams, moved: list[int]
) -> tuple[int, int]:
    """(array cycles with waits, slack left); adds the weights' bytes to `moved`."""
    cost = part.cost
    reads = cost.weight_passes
    scales = spec.arch.scale_bytes * part.work.ofm[2] * reads
    if spec.memory_mode == "Sram_Only":
        moved[0] += streams.weights * reads + scales
        return cost.cycles, cost.cycles
    staging = _staging(spec, part, corner, slack, streams)
    moved[2] += scales
    if staging is None:
        moved[2] += streams.weights * reads
        return cost.cycles, cost.cycles
    moved[0] += streams.weights * reads
    if part.work.shared != "again":
        ahead = min(staging.first_bytes, streams.weights) if slack else 0  # fetched behind the pass before
        moved[1] += streams.weights - ahead
        moved[2] += streams.weights - ahead
    full = transfer_cycles(streams.total, corner.second, corner.sram)
    first = transfer_cycles(staging.first_bytes, corner.second, corner.sram)
    hidden = slack or 0
    cycles = staging.whole_cycles
    return max(full - hidden + staging.last_cycles, cycles + max(first - hidden, 0)), staging.last_cycles


def _staging(spec: EthosUSpec, part: Pass, corner: Corner, slack: int | None, streams: Streams) -> Staging | None:
    """How the weights are staged; those that several passes share are as a whole, and each counts the wait for them."""
    if part.work.shared != "no" and streams.total <= spec.buffer_bytes:
        depth = part.work.ofm[2]
        return Staging((depth,), streams.total, part.slice_cycles(depth), part.slice_cycles(depth))
    input_port: Port = corner.sram if part.in_sram[0] else corner.second
    question = Question(
        part.work.ofm[2],
        part.blocks.ofm[2],
        streams,
        part.cost.weight_passes,
        part.slice_cycles,
        int(part.cost.ifm_bytes / input_port.bytes_per_cycle + input_port.read_latency),
        part.edge_cycles,
        slack,
        spec.buffer_bytes,
    )
    return choose_staging(question, corner.second, corner.sram)


def _table_cycles(spec: EthosUSpec, corner: Corner) -> int:
    """Load of a table into SHRAM: the slower of its own port and the memory it comes from."""
    size = spec.arch.table_bytes
    source = corner.sram if spec.memory_mode == "Sram_Only" else corner.second
    return int(max(size / spec.table_load.value, size / source.bytes_per_cycle + source.read_latency))
