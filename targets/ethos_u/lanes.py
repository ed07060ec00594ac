"""What an operator asks of the array, of the SRAM and of the memory behind the second port, pass by pass.

  pass     = max(array, SRAM traffic / port, second memory's traffic / port), in cycles
  operator = sum over its passes
The array also waits for tables and for first weights; what is left of the pass before hides them (weights.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from h4hc.errors import CostModelError
from h4hc.workload import Op, Workload
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.cycles import PassCost, Port, Ports, Rates, mac_cycles, pass_cost, stored_bytes
from targets.ethos_u.mapping import passes
from targets.ethos_u.softmax import INT32
from targets.ethos_u.spec import Corner, EthosUSpec
from targets.ethos_u.weights import Question, Staging, Streams, choose_staging, encoded, filled_weights, transfer_cycles
from targets.ethos_u.work import Arch, Blocks, Place, Work


class Lanes(NamedTuple):
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
    outputs: int = 0
    slack: int = 0


class Pass(NamedTuple):
    """A pass with its blocks, its cost with all operands at hand, and whether each map lies in SRAM."""

    work: Work
    blocks: Blocks
    cost: PassCost
    in_sram: tuple[bool, ...]  # first input, second input, output
    slice_cycles: Callable[[int], int] | None  # of so many output channels, their scales at hand in SRAM
    filled: int  # weights with the zeros that fill up blocks

    @property
    def waits(self) -> bool:
        """Whether it depends on the pass before: for its weights or for a table of its own."""
        return self.work.weights > 0 or (self.work.activation == "lut" and self.work.is_plain)


class Operator(NamedTuple):
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
    works = _spilled(spec, works, op, workload)
    found = spec.memo.get(works)
    if found is None:
        made = {id(work): _pass(spec, op, work) for work in {id(w): w for w in works}.values()}
        parts = tuple(zip(*(made[id(work)] for work in works), strict=True))
        lanes = (operator_lanes(spec, p, corner, None) for p, corner in zip(parts, spec.corners, strict=True))
        found = spec.memo[works] = Operator(parts, tuple(lanes))
    assert isinstance(found, Operator)
    return found


def _spilled(spec: EthosUSpec, works: tuple[Work, ...], op: Op, workload: Workload) -> tuple[Work, ...]:
    """Passes of a dedicated SRAM: each map between operators or passes that is larger than the cache lies behind it."""
    if spec.memory_mode != "Dedicated_Sram":
        return works
    arch, limit = spec.blocks_arch, spec.cache_bytes
    chain = []
    for work in works:
        sizes = (
            stored_bytes(arch, work.ifm, work.ifm_format, work.ifm_bits),
            stored_bytes(arch, work.ifm2 or work.ifm, work.ifm2_format, work.ifm_bits),
            stored_bytes(arch, work.ofm, work.ofm_format, work.ofm_bits),
        )
        chain.append(_moved(work, [size <= limit for size in sizes]))
    # a pass may read or write a part of the operator's own map
    if workload.tensor[op.inputs[0]].size_bytes > limit:
        chain[0] = _moved(chain[0], [False, True, True])
    if workload.tensor[op.outputs[0]].size_bytes > limit:
        chain[-1] = _moved(chain[-1], [True, True, False])
    return tuple(chain)


def _moved(work: Work, near: list[bool]) -> Work:
    """A pass with those of its inner maps that are not near in the outer memory."""
    ifm, ifm2, ofm = (
        "outer" if place == "inner" and not stays else place
        for place, stays in zip((work.ifm_place, work.ifm2_place, work.ofm_place), near, strict=True)
    )
    return work._replace(ifm_place=ifm, ifm2_place=ifm2, ofm_place=ofm)


def _pass(spec: EthosUSpec, op: Op, work: Work) -> list[Pass]:
    """A pass at the three corners; one object where the corners do not differ for it."""
    arch = spec.blocks_arch
    blocks = choose_blocks(arch, work)
    if blocks is None:
        raise CostModelError(f"no block of {op.id!r} fits the SHRAM", op.origin, f"kernel {work.kernel}")
    in_sram = tuple([_lies_in_sram(spec, place) for place in (work.ifm_place, work.ifm2_place, work.ofm_place)])
    filled = filled_weights(arch, work, blocks) if work.weights else 0
    names = stages(work)
    made: list[Pass] = []
    seen: list[tuple[object, ...]] = []
    for corner in spec.corners:
        sram, second = corner.sram, corner.second
        ifm, ifm2, ofm = (sram if near else second for near in in_sram)
        constants = sram if spec.memory_mode == "Sram_Only" else second
        scratch = second if spec.memory_mode == "Dedicated_Sram" else sram
        rates = (
            Rates(*[corner.rates[n] for n in names])
            if work.unit == "matmul"
            else Rates(max(corner.rates[n] for n in names))
        )
        # of the constants' port only the latency counts: what it brings is added with the weights
        used = (ifm, ifm2 if work.ifm2 else None, ofm, constants.read_latency, scratch, sram, rates)
        if used in seen:
            made.append(made[seen.index(used)])
        else:
            cost = pass_cost(arch, work, blocks, Ports(ifm, ifm2, ofm, constants, scratch), rates)
            slices = _slices(arch, work, blocks, cost, sram.read_latency, rates) if work.weights else None
            made.append(Pass(work, blocks, cost, in_sram, slices, filled))
        seen.append(used)
    return made


def _slices(
    arch: Arch, work: Work, blocks: Blocks, cost: PassCost, latency: float, rates: Rates
) -> Callable[[int], int]:
    """Cycles of a slice of so many output channels, with weights and scales staged in SRAM."""
    known: dict[int, int] = {}

    def cycles(depth: int) -> int:
        if depth not in known:
            known[depth] = mac_cycles(arch, work, blocks, cost.edges, latency, rates.output, depth)[2]
        return known[depth]

    return cycles


def _lies_in_sram(spec: EthosUSpec, place: Place) -> bool:
    if spec.memory_mode == "Sram_Only":
        return True
    if place == "constant":
        return False
    return spec.memory_mode == "Shared_Sram" or place == "inner"


def stages(work: Work) -> tuple[str, ...]:
    """Which rates of a variant a pass goes by: of rescaling and of the activation, the slower counts.

    A table behind a pass that does nothing else costs no more than the pass itself; behind another it is there in time.
    """
    rescaling = f"out_{work.output}"
    if work.unit == "elementwise" and work.ifm_bits == INT32:
        rescaling = "out_int32_binary" if work.ifm2 is not None else "out_int32_unary"
    if work.unit == "matmul":
        return rescaling, "out_mul_int32"
    return (rescaling,) if work.is_plain else (rescaling, f"act_{work.activation}")


def operator_lanes(spec: EthosUSpec, parts: tuple[Pass, ...], corner: Corner, slack: int | None) -> Lanes:
    """Lanes of an operator behind one that leaves `slack` cycles; None: it starts the network."""
    total: Lanes | None = None
    known: dict[int, Lanes] = {}  # of passes that wait for nothing
    for part in parts:
        for repeats in (1, part.work.times - 1):
            if repeats:
                lanes = known.get(id(part)) or _pass_lanes(spec, part, corner, slack)
                if not part.waits:
                    known[id(part)] = lanes
                total = lanes if total is None else _plus(total, lanes, repeats)
                slack = lanes.slack
    assert total is not None
    return total


def _plus(a: Lanes, b: Lanes, times: int) -> Lanes:
    return Lanes._make([*(x + y * times for x, y in zip(a[:-1], b[:-1], strict=True)), b.slack])


def _pass_lanes(spec: EthosUSpec, part: Pass, corner: Corner, slack: int | None) -> Lanes:
    """One repetition of a pass."""
    work, cost = part.work, part.cost
    moved = [0, 0, 0, 0]  # SRAM read, written, second memory read, written
    for near, count in zip(part.in_sram[:2], (cost.ifm_bytes, cost.ifm2_bytes), strict=True):
        moved[0 if near else 2] += count
    moved[1 if part.in_sram[2] else 3] += cost.ofm_bytes
    scratch = 2 if spec.memory_mode == "Dedicated_Sram" else 0
    moved[scratch] += cost.scratch_read_bytes
    moved[scratch + 1] += cost.scratch_written_bytes
    array, left = cost.cycles, cost.cycles
    if work.weights:
        streams = encoded(spec.blocks_arch, work, part.filled, corner.ratio, spec.arch.scale_bytes)
        array, left = _with_weights(spec, part, corner, slack, streams, moved)
    if work.activation == "lut" and work.is_plain:
        array += max(0, _table_cycles(spec, corner) - (slack or 0))
    sram = (moved[0] + moved[1]) / corner.sram.bytes_per_cycle
    second = (moved[2] + moved[3]) / corner.second.bytes_per_cycle
    busiest = max(array, int(sram), int(second))
    return Lanes(array, sram, second, busiest, moved[0], moved[1], moved[2], moved[3], cost.macs, cost.outputs, left)


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
    assert part.slice_cycles is not None, part.work
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
        part.cost.cycles,
        int(part.cost.ifm_bytes / input_port.bytes_per_cycle + input_port.read_latency),
        part.cost.edges,
        slack,
        spec.buffer_bytes,
    )
    return choose_staging(question, corner.second, corner.sram)


def _table_cycles(spec: EthosUSpec, corner: Corner) -> int:
    """Load of a table into SHRAM: the slower of its own port and the memory it comes from."""
    size = spec.arch.table_bytes
    source = corner.sram if spec.memory_mode == "Sram_Only" else corner.second
    return int(max(size / corner.table_load, size / source.bytes_per_cycle + source.read_latency))
