"""Latency, energy and area of an Ethos-U.

An operator is cut into hardware passes (mapping.py); each has blocks (blocks.py), cycles and port traffic (cycles.py),
weights and their staging (weights.py). lanes.py adds them up at three corners of the numbers: least, nominal, most.
`calibration` scales all cycles: 1 = the vendor's tool, its bounds = silicon seen.
energy = MACs + outputs + bytes of each memory, which do not depend on time, + calibrated cycles.
"""

from __future__ import annotations

from h4hc.costtypes import CLOCK, ZERO, Bound, Cost, Interval, Mode, Term
from h4hc.quantity import Quantity, at_clock, whole
from h4hc.workload import Op, Workload
from targets.ethos_u.lanes import Lanes, Operator, Pass, operator, operator_lanes, stages
from targets.ethos_u.mapping import is_free
from targets.ethos_u.spec import EthosUSpec

MODEL = "ethos_u.vela52"
Three = tuple[float, float, float]


def op_cost(spec: EthosUSpec, op: Op, mode: Mode, workload: Workload) -> Cost:
    """Cost of an operator that passes the rules, as the first of a network; CostModelError if it cannot be mapped."""
    if is_free(op, workload):
        return _view_cost(spec, mode)
    known = operator(spec, op, workload)
    key = (id(known), mode)  # `known` lives as long as the memo
    if key not in spec.memo:
        spec.memo[key] = _cost(spec, known, mode)
    found = spec.memo[key]
    assert isinstance(found, Cost)
    return found


def _cost(spec: EthosUSpec, known: Operator, mode: Mode) -> Cost:
    lanes, parts = known.lanes, known.parts[1]
    nominal = lanes[1]
    cycles, terms = _terms(spec, lanes)
    sram, second = nominal.sram_read + nominal.sram_written, nominal.second_read + nominal.second_written
    return Cost.from_terms(
        mode,
        tuple(t for t in terms if t.latency != ZERO or t.energy != ZERO),
        cycles=max(1, round(cycles[1])),
        bound=_bound(parts, nominal),
        bytes_moved=tuple((name, count) for name, count in (("sram", sram), ("flash", second)) if count),
        model=MODEL,
        marks=_marks(spec, parts, nominal),
        clock_hz=spec.clock_hz,
    )


def hidden(spec: EthosUSpec, before: Op, op: Op, workload: Workload) -> Interval:
    """Latency of `op` that is fetched behind `before` [ps]: weights and tables, while `before` works.

    hidden = op_cost(op) - what op takes behind `before`, whose own weights count as fetched in time, so that the port
    is free; zero where weights are not staged (Sram_Only) and behind a view, which takes no time.
    """
    if is_free(op, workload) or is_free(before, workload):
        return ZERO
    earlier, own = operator(spec, before, workload), operator(spec, op, workload)
    saved = []
    for at, corner in enumerate(spec.corners):
        slack = earlier.parts[at][-1].cost.cycles
        behind = operator_lanes(spec, own.parts[at], corner, slack)
        saved.append(max(0, own.lanes[at].total - behind.total))
    return at_clock(_calibrated(spec, _ordered(saved[0], saved[1], saved[2])), spec.clock_hz)


def _ordered(low: float, nominal: float, high: float) -> Three:
    """A choice between corners may turn them round: the bounds then close up."""
    return min(low, nominal), nominal, max(nominal, high)


def _terms(spec: EthosUSpec, lanes: tuple[Lanes, ...]) -> tuple[Three, tuple[Term, ...]]:
    """Cycles, and the terms they are the sum of.

    array, feature maps, weights in parallel; then the cycles by which each pass's own maximum exceeds theirs; the clock
    runs through all of them.
    """
    array = _calibrated(spec, _ordered(*(float(x.array) for x in lanes)))
    sram = _calibrated(spec, _ordered(*(x.sram for x in lanes)))
    second = _calibrated(spec, _ordered(*(x.second for x in lanes)))
    stalls = _calibrated(spec, _ordered(*(max(0.0, x.total - max(x.array, x.sram, x.second)) for x in lanes)))
    low, nominal, high = (max(busy) + wait for *busy, wait in zip(array, sram, second, stalls, strict=True))
    hz = spec.clock_hz
    return (low, nominal, high), (
        Term("array", "parallel", at_clock(array, hz), _array_energy(spec, lanes[1]), "mac_array"),
        Term("feature maps", "parallel", at_clock(sram, hz), _sram_energy(spec, lanes), "sram"),
        Term("weights", "parallel", at_clock(second, hz), _second_energy(spec, lanes), "flash"),
        Term("port stalls", "serial", at_clock(stalls, hz), ZERO, "sram"),
        clock_term(spec, (low, nominal, high)),
    )


def _calibrated(spec: EthosUSpec, cycles: Three) -> Three:
    by = spec.calibration
    return cycles[0] * by.low, cycles[1] * by.value, cycles[2] * by.high


def clock_term(spec: EthosUSpec, cycles: Three) -> Term:
    """What each of the operator's calibrated cycles costs, at work or waiting."""
    return Term("clock", "serial", ZERO, _energy(spec.cycle_energy, cycles), CLOCK)


def _array_energy(spec: EthosUSpec, lanes: Lanes) -> Interval:
    return whole(spec.mac_energy.times(lanes.macs)) + whole(spec.output_energy.times(lanes.outputs))


def _energy(each: Quantity, counts: Three) -> Interval:
    return whole((counts[0] * each.low, counts[1] * each.value, counts[2] * each.high))


def _sram_energy(spec: EthosUSpec, lanes: tuple[Lanes, ...]) -> Interval:
    sram = spec.shared.sram
    read = sorted(x.sram_read for x in lanes)
    written = sorted(x.sram_written for x in lanes)
    return _energy(sram.read_energy, (read[0], lanes[1].sram_read, read[2])) + _energy(
        sram.write_energy, (written[0], lanes[1].sram_written, written[2])
    )


def _second_energy(spec: EthosUSpec, lanes: tuple[Lanes, ...]) -> Interval:
    read = sorted(x.second_read for x in lanes)
    written = sorted(x.second_written for x in lanes)
    return _energy(spec.shared.flash.read_energy, (read[0], lanes[1].second_read, read[2])) + _energy(
        spec.flash_port.write_energy, (written[0], lanes[1].second_written, written[2])
    )


def _bound(parts: tuple[Pass, ...], lanes: Lanes) -> Bound:
    """Memory when a port is busier than the array at work, or the array waits longer than it works."""
    busy = sum(p.cost.cycles * p.work.times for p in parts)
    waits = lanes.total - busy
    return Bound.MEMORY if max(lanes.sram, lanes.second, waits) > busy else Bound.COMPUTE


def _view_cost(spec: EthosUSpec, mode: Mode) -> Cost:
    """Nothing moves: another address in the command stream."""
    over = spec.view_overhead
    cycles = _calibrated(spec, over.times(1))
    term = Term("command", "serial", at_clock(cycles, spec.clock_hz), ZERO, "command stream")
    marks = tuple(sorted({over.mark, spec.calibration.mark, spec.cycle_energy.mark}))
    return Cost.from_terms(
        mode,
        (term, clock_term(spec, cycles)),
        cycles=max(1, round(cycles[1])),
        bound=Bound.OVERHEAD,
        bytes_moved=(),
        model=MODEL,
        marks=marks,
        clock_hz=spec.clock_hz,
    )


def _marks(spec: EthosUSpec, parts: tuple[Pass, ...], lanes: Lanes) -> tuple[str, ...]:
    """Marks of the numbers that this operator's cost rests on."""
    shared, port, second = spec.shared, spec.sram_port, spec.flash_port
    used: list[Quantity] = [getattr(spec.variant, name) for p in parts for name in stages(p.work)]
    used += [port.bytes_per_cycle, port.read_latency, port.write_latency, port.burst]
    used += [spec.calibration, spec.cycle_energy, shared.sram.read_energy, shared.sram.write_energy]
    if lanes.macs:
        used.append(spec.mac_energy)
    if lanes.outputs:
        used.append(spec.output_energy)
    if any(p.work.weights for p in parts):
        used.append(spec.weight_ratio)
    tables = any(p.work.activation == "lut" for p in parts)
    if tables:
        used.append(spec.table_load)
    if lanes.second_read or lanes.second_written or (spec.memory_mode != "Sram_Only" and tables):
        used += [shared.flash.bandwidth, shared.flash.read_energy, second.read_latency]
    if lanes.second_written:
        used += [second.write_latency, second.write_energy, second.burst]
    return tuple(sorted({q.mark for q in used}))
