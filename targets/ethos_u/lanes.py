"""What an operator asks of the array, of the SRAM and of the memory behind the second port, pass by pass.

  pass     = max(array, SRAM traffic / port, second memory's traffic / port), in cycles
  operator = sum over its passes
The array also waits for tables and for first weights; what is left of the pass before hides them (weights.py).
"""

from __future__ import annotations

from typing import NamedTuple

from h4hc.errors import CostModelError
from h4hc.workload import Op, Workload
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.cycles import PassCost, Port, Ports, Rates, mac_cycles, pass_cost, stored_bytes
from targets.ethos_u.mapping import passes
from targets.ethos_u.softmax import INT32
from targets.ethos_u.spec import Corner, EthosUSpec
from targets.ethos_u.weights import Slicing, choose_staging, encoded, filled_weights, staged_whole, transfer_cycles
from targets.ethos_u.work import Blocks, Place, Work


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


class Moved(NamedTuple):
    """Bytes."""

    sram_read: int
    sram_written: int
    second_read: int
    second_written: int


class Pass(NamedTuple):
    """A pass, its cost with all operands at hand, and what there is to know of its weights."""

    work: Work
    cost: PassCost
    in_sram: tuple[bool, ...]  # first input, second input, output
    moved: Moved  # by its maps
    slicing: Slicing | None  # of its weights
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
        found = spec.memo[works] = Operator(parts, _first_lanes(spec, parts))
    assert isinstance(found, Operator)
    return found


def _first_lanes(spec: EthosUSpec, parts: tuple[tuple[Pass, ...], ...]) -> tuple[Lanes, ...]:
    """Lanes at the three corners of an operator that starts the network; one object where they do not differ."""
    lanes: list[Lanes] = []
    for own, corner, is_new in zip(parts, spec.corners, spec.new_passes, strict=True):
        same = not is_new and not any(part.waits for part in own)
        lanes.append(lanes[-1] if same else operator_lanes(spec, own, corner, None))
    return tuple(lanes)


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
    for corner, is_new in zip(spec.corners, spec.new_passes, strict=True):
        if not is_new:
            made.append(made[-1])
            continue
        sram, second = corner.sram, corner.second
        ifm, ifm2, ofm = [sram if near else second for near in in_sram]
        constants = sram if spec.memory_mode == "Sram_Only" else second
        scratch = second if spec.memory_mode == "Dedicated_Sram" else sram
        times = [corner.rates[name] for name in names]
        rates = Rates(*times) if work.unit == "matmul" else Rates(max(times))
        cost = pass_cost(arch, work, blocks, Ports(ifm, ifm2, ofm, constants, scratch), rates)
        slicing = _slicing(spec, work, blocks, cost, ifm, sram.read_latency, rates) if work.weights else None
        made.append(Pass(work, cost, in_sram, _moved_by_maps(spec, cost, in_sram), slicing, filled))
    return made


def _moved_by_maps(spec: EthosUSpec, cost: PassCost, in_sram: tuple[bool, ...]) -> Moved:
    """What the maps of a pass bring to SRAM and to the second memory."""
    first, second, out = in_sram
    near_read = (cost.ifm_bytes if first else 0) + (cost.ifm2_bytes if second else 0)
    near_written = cost.ofm_bytes if out else 0
    far_read, far_written = cost.ifm_bytes + cost.ifm2_bytes - near_read, cost.ofm_bytes - near_written
    if spec.memory_mode == "Dedicated_Sram":
        far_read, far_written = far_read + cost.scratch_read_bytes, far_written + cost.scratch_written_bytes
    else:
        near_read, near_written = near_read + cost.scratch_read_bytes, near_written + cost.scratch_written_bytes
    return Moved(near_read, near_written, far_read, far_written)


def _slicing(
    spec: EthosUSpec, work: Work, blocks: Blocks, cost: PassCost, ifm: Port, latency: float, rates: Rates
) -> Slicing:
    """What staging has to know of a pass; its slices find their weights and scales in SRAM."""
    known: dict[int, int] = {}
    array = cost.array
    assert array is not None, work

    def cycles(depth: int) -> int:
        if depth not in known:
            known[depth] = mac_cycles(array, depth, cost.edges, latency, rates.output)[2]
        return known[depth]

    fetch = int(cost.ifm_bytes / ifm.bytes_per_cycle + ifm.read_latency)
    reads, limit = cost.weight_passes, spec.buffer_bytes
    return Slicing(work.ofm[2], blocks.ofm[2], reads, cycles, cost.cycles, fetch, cost.edges, limit)


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
    work, cost, moved = part.work, part.cost, part.moved
    array = left = cost.cycles
    if part.slicing is not None:
        array, left, moved = _with_weights(spec, part, part.slicing, corner, slack)
    if work.activation == "lut" and work.is_plain:
        array += max(0, _table_cycles(spec, corner) - (slack or 0))
    sram = (moved.sram_read + moved.sram_written) / corner.sram.bytes_per_cycle
    second = (moved.second_read + moved.second_written) / corner.second.bytes_per_cycle
    return Lanes(array, sram, second, max(array, int(sram), int(second)), *moved, cost.macs, cost.outputs, left)


def _with_weights(
    spec: EthosUSpec, part: Pass, slicing: Slicing, corner: Corner, slack: int | None
) -> tuple[int, int, Moved]:
    """(array cycles with waits, slack left, bytes moved with the weights')."""
    work, cycles = part.work, part.cost.cycles
    near_read, near_written, far_read, far_written = part.moved
    streams = encoded(spec.blocks_arch, work, part.filled, corner.ratio, spec.arch.scale_bytes)
    weights = streams.weights * slicing.reads
    scales = streams.scales * slicing.reads
    if spec.memory_mode == "Sram_Only":
        return cycles, cycles, Moved(near_read + weights + scales, near_written, far_read, far_written)
    whole = work.shared != "no" and streams.total <= spec.buffer_bytes  # shared by passes: each counts the wait for it
    choose = staged_whole if whole else choose_staging
    staging = choose(slicing, streams.total, slack, corner.second, corner.sram)
    if staging is None:
        return cycles, cycles, Moved(near_read, near_written, far_read + scales + weights, far_written)
    fetched = 0
    if work.shared != "again":  # a first slice is fetched behind the pass before
        fetched = streams.weights - (min(staging.first_bytes, streams.weights) if slack else 0)
    moved = Moved(near_read + weights, near_written + fetched, far_read + scales + fetched, far_written)
    hidden = slack or 0
    first = transfer_cycles(staging.first_bytes, corner.second, corner.sram)
    waits = staging.transfer_cycles - hidden + staging.last_cycles
    return max(waits, staging.whole_cycles + max(first - hidden, 0)), staging.last_cycles, moved


def _table_cycles(spec: EthosUSpec, corner: Corner) -> int:
    """Load of a table into SHRAM: the slower of its own port and the memory it comes from."""
    size = spec.arch.table_bytes
    source = corner.sram if spec.memory_mode == "Sram_Only" else corner.second
    return int(max(size / corner.table_load, size / source.bytes_per_cycle + source.read_latency))
