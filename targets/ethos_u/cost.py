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
        tuple(t for t in terms if t.latency.high or t.energy.high),
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
    return at_clock(_calibrated(spec, *saved), spec.clock_hz)


def _terms(spec: EthosUSpec, lanes: tuple[Lanes, ...]) -> tuple[Three, tuple[Term, ...]]:
    """Cycles, and the terms they are the sum of.

    array, feature maps, weights in parallel; then the cycles by which each pass's own maximum exceeds theirs; the clock
    runs through all of them.
    """
    *busy, totals, read, written, read_2nd, written_2nd, macs, outputs, _ = zip(*lanes, strict=True)
    waits = [max(0.0, total - max(lane)) for total, lane in zip(totals, zip(*busy, strict=True), strict=True)]
    array, sram, second = [_calibrated(spec, *lane) for lane in busy]
    stalls = _calibrated(spec, *waits)
    low, nominal, high = [max(lane) + wait for *lane, wait in zip(array, sram, second, stalls, strict=True)]
    hz, near, far = spec.clock_hz, spec.shared.sram, spec.shared.flash
    work = _energy((spec.mac_energy, macs), (spec.output_energy, outputs))
    near_energy = _energy((near.read_energy, _spread(*read)), (near.write_energy, _spread(*written)))
    far_energy = _energy((far.read_energy, _spread(*read_2nd)), (spec.flash_port.write_energy, _spread(*written_2nd)))
    return (low, nominal, high), (
        Term("array", "parallel", at_clock(array, hz), work, "mac_array"),
        Term("feature maps", "parallel", at_clock(sram, hz), near_energy, "sram"),
        Term("weights", "parallel", at_clock(second, hz), far_energy, "flash"),
        Term("port stalls", "serial", at_clock(stalls, hz), ZERO, "sram"),
        clock_term(spec, (low, nominal, high)),
    )


def _calibrated(spec: EthosUSpec, low: float, nominal: float, high: float) -> Three:
    """Cycles after calibration. A choice between corners may turn them round: the bounds then close up."""
    by = spec.calibration
    return min(low, nominal) * by.low, nominal * by.value, max(nominal, high) * by.high


def clock_term(spec: EthosUSpec, cycles: Three) -> Term:
    """What each of the operator's calibrated cycles costs, at work or waiting."""
    return Term("clock", "serial", ZERO, _energy((spec.cycle_energy, cycles)), CLOCK)


def _spread(low: int, nominal: int, high: int) -> Three:
    """Bounds of a count that the corners may turn round."""
    return min(low, nominal, high), nominal, max(low, nominal, high)


def _energy(*parts: tuple[Quantity, Three]) -> Interval:
    """Sum over what each takes, times how many there are."""
    return whole(*[(n[0] * each.low, n[1] * each.value, n[2] * each.high) for each, n in parts if n[2]])


def _bound(parts: tuple[Pass, ...], lanes: Lanes) -> Bound:
    """Memory when a port is busier than the array at work, or the array waits longer than it works."""
    busy = sum(p.cost.cycles * p.work.times for p in parts)
    waits = lanes.total - busy
    return Bound.MEMORY if max(lanes.sram, lanes.second, waits) > busy else Bound.COMPUTE


def _view_cost(spec: EthosUSpec, mode: Mode) -> Cost:
    """Nothing moves: another address in the command stream."""
    over = spec.view_overhead
    cycles = _calibrated(spec, over.low, over.value, over.high)
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
