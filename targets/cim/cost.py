"""Latency and energy of one layer on digital CIM macros.

With P positions and m macros (targets.cim.geometry for the words):
  compute = words of the fullest macro * ceil(P / cus) * input_cycles * read_cycle + fill
  io      = (input bytes + output bytes) / bus bandwidth, overlaps compute; input bytes once each with dedup,
            else every window whole
  latency = max(compute, io) + start, + reload where weights do not stay
  energy  = words of all macros * passes * read_bits * read_energy + macs * mac_energy + outputs * post_energy
            + bytes * (SRAM + bus) + start, + reload
"""

from __future__ import annotations

from h4hc.costtypes import Bound, Cost, Mode, Term
from h4hc.errors import CostModelError
from h4hc.quantity import Quantity, whole
from h4hc.units import PS_PER_S, ceil_div
from h4hc.workload import Op, OpKind
from targets.cim.geometry import Layer, layer, words
from targets.cim.spec import CimSpec

PS_PER_NS = 1000


def op_cost(spec: CimSpec, op: Op, mode: Mode) -> Cost:
    """Cost of `op` on `mode.units` macros; see the module's text. CostModelError for other kinds of work."""
    if op.kind is OpKind.VIEW:
        return _view_cost(spec, mode)
    work = layer(op.params)
    if work is None or op.kind is OpKind.CONV_TRANSPOSE:
        raise CostModelError(f"no CIM cost for {op.id!r}", op.origin, f"kind {op.kind.value} has no stationary weights")
    each = words(spec, work, mode.units)
    reads, stored = max(each), sum(each)
    passes = ceil_div(work.positions, spec.cus)
    terms = [_compute(spec, op, work, reads * passes, stored * passes), _io(spec, work), _start(spec)]
    if not spec.resident:
        terms.append(_reload(spec, stored * spec.word_bytes))
    moved = [("sram", _input_bytes(spec, work) + work.output_bytes), ("bank", stored * passes * spec.word_bytes)]
    if not spec.resident:
        moved.append(("flash", stored * spec.word_bytes))
    return Cost.from_terms(
        mode,
        tuple(terms),
        cycles=max(1, reads * passes * spec.input_cycles),
        bound=_bound(terms),
        bytes_moved=tuple(moved),
        unit_weight_bytes=reads * spec.word_bytes if spec.resident else 0,
        model=f"cim.{spec.kind}",
        marks=_marks(spec),
    )


def _input_bytes(spec: CimSpec, work: Layer) -> int:
    return work.touched_bytes if spec.dedup else work.window_bytes


def _compute(spec: CimSpec, op: Op, work: Layer, reads_one: int, reads_all: int) -> Term:
    """reads_one: of the fullest macro, which sets the time; reads_all: of all, which sets the energy."""
    latency = whole(spec.read_cycle.times(reads_one * spec.input_cycles * PS_PER_NS)) + whole(
        spec.fill.times(PS_PER_NS)
    )
    energy = (
        whole(spec.read_energy.times(reads_all * spec.read_bits))
        + whole(spec.mac_energy.times(op.macs))
        + whole(spec.post_energy.times(work.output_bytes))
    )
    return Term("compute", "parallel", latency, energy, "macro")


def _io(spec: CimSpec, work: Layer) -> Term:
    shared = spec.shared
    inputs = _input_bytes(spec, work)
    latency = whole(shared.bus.bandwidth.divide((inputs + work.output_bytes) * PS_PER_S))
    energy = (
        whole(shared.sram.read_energy.times(inputs))
        + whole(shared.sram.write_energy.times(work.output_bytes))
        + whole(shared.bus.energy.times(inputs + work.output_bytes))
    )
    return Term("io", "parallel", latency, energy, "bus")


def _start(spec: CimSpec) -> Term:
    return Term("start", "serial", whole(spec.start.times(PS_PER_NS)), whole(spec.start_energy.times(1)), "sequencer")


def _reload(spec: CimSpec, size_bytes: int) -> Term:
    """Weights from flash over the bus into the array before each inference; the slowest of the three sets the time."""
    shared = spec.shared
    ways = [
        q.divide(size_bytes * PS_PER_S) for q in (shared.flash.bandwidth, shared.bus.bandwidth, spec.write_bandwidth)
    ]
    latency = whole((max(w[0] for w in ways), max(w[1] for w in ways), max(w[2] for w in ways)))
    energy = whole(shared.flash.read_energy.times(size_bytes)) + whole(shared.bus.energy.times(size_bytes))
    bits = size_bytes * spec.read_bits // spec.word_bytes
    return Term("reload", "serial", latency, energy + whole(spec.write_energy.times(bits)), "flash")


def _bound(terms: list[Term]) -> Bound:
    compute, io, *serial = (t.latency.nominal for t in terms)
    start, reload = serial[0], sum(serial[1:])
    if start >= max(compute, io) + reload:
        return Bound.OVERHEAD
    return Bound.MEMORY if max(io, reload) > compute else Bound.COMPUTE


def _view_cost(spec: CimSpec, mode: Mode) -> Cost:
    """A view moves nothing: the sequencer reads one descriptor more."""
    term = Term("start", "serial", whole(spec.view.times(PS_PER_NS)), whole(spec.start_energy.times(1)), "sequencer")
    return Cost.from_terms(
        mode,
        (term,),
        cycles=1,
        bound=Bound.OVERHEAD,
        bytes_moved=(),
        model=f"cim.{spec.kind}",
        marks=tuple(sorted({spec.view.mark, spec.start_energy.mark})),
    )


def _marks(spec: CimSpec) -> tuple[str, ...]:
    shared = spec.shared
    used: list[Quantity] = [
        spec.read_cycle,
        spec.fill,
        spec.start,
        spec.start_energy,
        spec.read_energy,
        spec.mac_energy,
        spec.post_energy,
        shared.bus.bandwidth,
        shared.bus.energy,
        shared.sram.read_energy,
        shared.sram.write_energy,
    ]
    if not spec.resident:
        used += [shared.flash.bandwidth, shared.flash.read_energy, spec.write_bandwidth, spec.write_energy]
    return tuple(sorted({q.mark for q in used}))
