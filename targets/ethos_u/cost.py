"""Latency and energy of one operator on an Ethos-U55.

The operator is cut into hardware passes (mapping.py); each has blocks (blocks.py), cycles and port traffic
(cycles.py). Within a pass the array, the SRAM port and the flash port overlap:
  pass     = max(array, SRAM traffic / port, flash traffic / port)
  operator = sum over passes; the array also waits for tables, and for first weights that nothing hides
Weights cross the flash port once, compressed, and the scales once for each output block; with Sram_Only they are
read over the SRAM port instead. `calibration` scales all cycles: 1 = the vendor's tool, its bounds = silicon seen.
energy = MACs + busy cycles + bytes of each memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from h4hc.costtypes import ZERO, Bound, Cost, Interval, Mode, Term
from h4hc.errors import CostModelError
from h4hc.quantity import Quantity, at_clock, whole
from h4hc.units import ceil_div
from h4hc.workload import Op, OpKind, VectorParams, Workload
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.cycles import pass_cost
from targets.ethos_u.mapping import INT32, passes
from targets.ethos_u.spec import EthosUSpec
from targets.ethos_u.work import Work

MODEL = "ethos_u.vela52"


@dataclass(frozen=True)
class _Load:
    """What an operator asks of the NPU. Bytes are those on the ports; weights and scales before compression.

    first_bytes: weights that must be there before work starts.
    """

    array_cycles: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    weight_bytes: int = 0
    weight_reads: int = 0  # weight bytes times the passes over them
    scale_reads: int = 0
    stalls: int = 0  # cycles by which the passes' own maxima exceed the maximum of the sums
    first_bytes: int = 0
    macs: int = 0
    array_bounds: tuple[float, float, float] | None = None  # where the cycles themselves are an interval
    used: tuple[Quantity, ...] = ()  # numbers that went into the array cycles


def op_cost(spec: EthosUSpec, op: Op, mode: Mode, workload: Workload) -> Cost:
    """Cost of an operator that passes the rules; CostModelError if it cannot be mapped."""
    if op.kind is OpKind.VIEW and not op.rescales:
        return _view_cost(spec, mode)
    load = _softmax(spec, op) if op.kind is OpKind.SOFTMAX else _load(spec, op, workload)
    terms = _terms(spec, load)
    moved = _moved(spec, load)
    cycles = load.array_cycles + load.stalls
    return Cost.from_terms(
        mode,
        tuple(t for t in terms if t.latency != ZERO or t.energy != ZERO),
        cycles=max(1, cycles),
        bound=_bound(spec, load, terms),
        bytes_moved=tuple((memory, count) for memory, count in moved if count),
        model=MODEL,
        marks=_marks(spec, load),
    )


def _load(spec: EthosUSpec, op: Op, workload: Workload) -> _Load:
    works = passes(spec.blocks_arch, op, workload)
    if not works:
        raise CostModelError(f"no NPU cost for {op.id!r}", op.origin, f"kind {op.kind.value} has no mapping")
    parts = [_pass_load(spec, op, w) for w in works]
    total = _Load(
        array_cycles=sum(p.array_cycles for p in parts),
        read_bytes=sum(p.read_bytes for p in parts),
        write_bytes=sum(p.write_bytes for p in parts),
        weight_bytes=sum(p.weight_bytes for p in parts),
        weight_reads=sum(p.weight_reads for p in parts),
        scale_reads=sum(p.scale_reads for p in parts),
        first_bytes=max(p.first_bytes for p in parts),
        macs=sum(p.macs for p in parts),
        used=tuple(q for p in parts for q in p.used),
    )
    apart = sum(max(_lanes(spec, p)) for p in parts)
    together = max(_lanes(spec, total))
    return replace(total, stalls=max(0, int(apart - together)))


def _pass_load(spec: EthosUSpec, op: Op, work: Work) -> _Load:
    arch = spec.blocks_arch
    blocks = choose_blocks(arch, work)
    if blocks is None:
        raise CostModelError(f"no block of {op.id!r} fits the SHRAM", op.origin, f"kernel {work.kernel}")
    bias = spec.flash_port.read_latency if spec.memory_mode == "Shared_Sram" else spec.sram_port.read_latency
    stage = _output_stage(spec, work)
    cost = pass_cost(arch, work, blocks, spec.port, bias.value, max(q.value for q in stage))
    sram = spec.sram_port
    used = [*stage, sram.bytes_per_cycle, sram.read_latency, sram.write_latency, sram.burst]
    used += [bias] if work.weights else []
    used += [spec.table_load] if work.activation == "lut" else []
    scales = spec.arch.scale_bytes * work.ofm[2] if work.weights else 0
    slices = max(1, ceil_div(work.ofm[2], spec.arch.weight_slice_channels)) if cost.weight_passes > 1 else 0
    return _Load(
        array_cycles=(cost.cycles + (_table_cycles(spec) if work.activation == "lut" else 0)) * work.times,
        read_bytes=cost.read_bytes * work.times,
        write_bytes=cost.write_bytes * work.times,
        weight_bytes=work.weights * work.times,
        weight_reads=work.weights * cost.weight_passes * work.times,
        scale_reads=scales * cost.weight_passes * work.times,
        first_bytes=ceil_div(work.weights + scales, slices) if slices else 0,
        macs=cost.macs * work.times if work.unit in ("conv", "depthwise", "vector", "reduce_sum") else 0,
        used=tuple(used),
    )


def _output_stage(spec: EthosUSpec, work: Work) -> tuple[Quantity, ...]:
    """Cycles an element takes in rescaling and in the activation, of which the slower counts.

    A table behind a pass that does nothing else costs no more than the pass itself.
    """
    variant = spec.variant
    rate: Quantity = getattr(variant, f"out_{work.output}")
    if work.unit == "elementwise" and work.ifm_bits == INT32:
        rate = variant.out_int32_binary if work.ifm2 is not None else variant.out_int32_unary
    alone = work.unit == "pool" and work.kernel == (1, 1)
    activation: Quantity = getattr(variant, f"act_{work.activation}")
    return (rate,) if alone else (rate, activation)


def _lanes(spec: EthosUSpec, load: _Load) -> tuple[float, float, float]:
    """Nominal cycles of array, SRAM port, flash port."""
    sram, flash = _port_bytes(spec, load, spec.weight_ratio.value)
    return (
        float(load.array_cycles),
        sram / spec.sram_port.bytes_per_cycle.value,
        flash * spec.clock_hz / spec.shared.flash.bandwidth.value,
    )


def _port_bytes(spec: EthosUSpec, load: _Load, ratio: float) -> tuple[float, float]:
    """Bytes on the SRAM port and on the flash port, weights compressed by `ratio`.

    From flash, weights that several blocks need are copied to SRAM first and read there; others come straight.
    """
    maps = load.read_bytes + load.write_bytes
    if spec.memory_mode == "Sram_Only":
        return maps + load.weight_reads * ratio + load.scale_reads, 0.0
    staged = load.weight_bytes + load.weight_reads if load.weight_reads > load.weight_bytes else 0
    return maps + staged * ratio, load.weight_bytes * ratio + load.scale_reads


def _terms(spec: EthosUSpec, load: _Load) -> tuple[Term, ...]:
    """array, sram, flash in parallel; then the stalls."""
    ratio = spec.weight_ratio
    lanes = [_port_bytes(spec, load, r) for r in (ratio.low, ratio.value, ratio.high)]
    sram_bytes, flash_bytes = tuple(x[0] for x in lanes), tuple(x[1] for x in lanes)
    per_cycle = spec.sram_port.bytes_per_cycle
    sram_cycles = (sram_bytes[0] / per_cycle.high, sram_bytes[1] / per_cycle.value, sram_bytes[2] / per_cycle.low)
    flash_cycles = _flash_cycles(spec, (flash_bytes[0], flash_bytes[1], flash_bytes[2]))
    low, nominal, high = load.array_bounds or _same(load.array_cycles)
    wait_low, wait, wait_high = _first_weights(spec, load)
    array = (low + wait_low, nominal + wait, high + wait_high)
    return (
        Term("array", "parallel", _time(spec, array), _array_energy(spec, load), "mac_array"),
        Term("feature maps", "parallel", _time(spec, sram_cycles), _sram_energy(spec, load, sram_bytes), "sram"),
        Term("weights", "parallel", _time(spec, flash_cycles), _flash_energy(spec, flash_bytes), "flash"),
        Term("port stalls", "serial", _time(spec, _same(load.stalls)), ZERO, "sram"),
    )


def _same(value: float) -> tuple[float, float, float]:
    return (float(value), float(value), float(value))


def _time(spec: EthosUSpec, cycles: tuple[float, float, float]) -> Interval:
    """Cycles as time, scaled by the calibration."""
    by = spec.calibration
    return at_clock((cycles[0] * by.low, cycles[1] * by.value, cycles[2] * by.high), spec.clock_hz)


def _flash_cycles(spec: EthosUSpec, size: tuple[float, float, float]) -> tuple[float, float, float]:
    rate = spec.shared.flash.bandwidth
    hz = spec.clock_hz
    return size[0] * hz / rate.high, size[1] * hz / rate.value, size[2] * hz / rate.low


def _first_weights(spec: EthosUSpec, load: _Load) -> tuple[float, float, float]:
    """Cycles until the first slice of weights is there. Low bound: the operator before hides it altogether."""
    if spec.memory_mode == "Sram_Only" or not load.first_bytes:
        return _same(0)
    ratio = spec.weight_ratio
    size = (load.first_bytes * ratio.low, load.first_bytes * ratio.value, load.first_bytes * ratio.high)
    _, nominal, high = _flash_cycles(spec, size)
    wait = spec.flash_port.read_latency
    return 0.0, nominal + wait.value, high + wait.high


def _table_cycles(spec: EthosUSpec) -> int:
    """Load of a 256-entry table into SHRAM: the slower of its own port and the memory it comes from."""
    size = spec.arch.table_bytes
    cycles = size / spec.table_load.value
    if spec.memory_mode == "Shared_Sram":
        cycles = max(cycles, _flash_cycles(spec, _same(size))[1] + spec.flash_port.read_latency.value)
    return int(cycles)


def _array_energy(spec: EthosUSpec, load: _Load) -> Interval:
    return whole(spec.mac_energy.times(load.macs)) + whole(spec.cycle_energy.times(load.array_cycles + load.stalls))


def _sram_energy(spec: EthosUSpec, load: _Load, size: tuple[float, ...]) -> Interval:
    """Writes at the write energy, everything else on the port at the read energy."""
    sram = spec.shared.sram
    reads = [s - load.write_bytes for s in size]
    energy = (reads[0] * sram.read_energy.low, reads[1] * sram.read_energy.value, reads[2] * sram.read_energy.high)
    return whole(energy) + whole(sram.write_energy.times(load.write_bytes))


def _flash_energy(spec: EthosUSpec, size: tuple[float, ...]) -> Interval:
    flash = spec.shared.flash.read_energy
    return whole((size[0] * flash.low, size[1] * flash.value, size[2] * flash.high))


def _bound(spec: EthosUSpec, load: _Load, terms: tuple[Term, ...]) -> Bound:
    """Memory when a port is busier than the array, or the array waits for its first weights longer than it works."""
    _, sram, flash, stalls = (t.latency.nominal for t in terms)
    array = _time(spec, _same(load.array_cycles)).nominal
    first = _time(spec, _first_weights(spec, load)).nominal
    return Bound.MEMORY if max(sram, flash, first, stalls) > array else Bound.COMPUTE


def _moved(spec: EthosUSpec, load: _Load) -> tuple[tuple[str, int], ...]:
    sram, flash = _port_bytes(spec, load, spec.weight_ratio.value)
    return ("sram", int(sram)), ("flash", int(flash))


def _softmax(spec: EthosUSpec, op: Op) -> _Load:
    """28 passes in int32; cycles and traffic an element as the vendor's tool estimates. Constants are waited for."""
    p = op.params
    assert isinstance(p, VectorParams), op.id
    elements = p.rows * p.length
    traffic = int(spec.softmax_traffic.value * elements)
    written = traffic // 2
    each, fixed = spec.variant.softmax, spec.softmax_fixed
    cycles = each.value * elements + fixed.value
    bounds = (each.low * elements + fixed.low, cycles, each.high * elements + fixed.high)
    used = [each, fixed, spec.softmax_traffic]
    used += [spec.softmax_flash] if spec.memory_mode == "Shared_Sram" else []
    constants = int(spec.softmax_flash.value * elements) if spec.memory_mode == "Shared_Sram" else 0
    wait = int(_flash_cycles(spec, _same(constants))[1])
    return _Load(
        array_cycles=int(cycles),
        read_bytes=traffic - written,
        write_bytes=written,
        scale_reads=constants,
        stalls=wait,
        array_bounds=bounds,
        used=tuple(used),
    )


def _view_cost(spec: EthosUSpec, mode: Mode) -> Cost:
    """A view moves nothing: another address in the command stream."""
    over = spec.view_overhead
    energy = whole(
        (over.low * spec.cycle_energy.low, over.value * spec.cycle_energy.value, over.high * spec.cycle_energy.high)
    )
    term = Term("command", "serial", at_clock(over.times(1), spec.clock_hz), energy, "command stream")
    marks = tuple(sorted({over.mark, spec.cycle_energy.mark}))
    return Cost.from_terms(
        mode,
        (term,),
        cycles=max(1, int(over.value)),
        bound=Bound.OVERHEAD,
        bytes_moved=(),
        model=MODEL,
        marks=marks,
    )


def _marks(spec: EthosUSpec, load: _Load) -> tuple[str, ...]:
    """Marks of the numbers that this operator's cost rests on."""
    shared, from_flash = spec.shared, spec.memory_mode == "Shared_Sram"
    used = [*load.used, spec.calibration, spec.cycle_energy, spec.sram_port.bytes_per_cycle]
    used += [shared.sram.read_energy, shared.sram.write_energy]
    if load.macs:
        used.append(spec.mac_energy)
    if load.weight_bytes:
        used.append(spec.weight_ratio)
    if from_flash and (load.weight_bytes or load.scale_reads):
        used += [shared.flash.bandwidth, shared.flash.read_energy]
    if from_flash and load.first_bytes:
        used.append(spec.flash_port.read_latency)
    if from_flash and spec.table_load in load.used:
        used += [shared.flash.bandwidth, spec.flash_port.read_latency]
    return tuple(sorted({q.mark for q in used}))
