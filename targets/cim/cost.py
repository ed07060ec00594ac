"""Latency and energy of one layer on compute-in-memory macros, one model for all kinds.

With P positions and m macros (targets.cim.geometry for words, activations and conversions):
  step    = read_cycle + columns_per_adc * conversion (analog; a digital array has no conversion)
  compute = activations of the fullest macro * ceil(P / cus) * input_cycles * step + fill
  io      = (input bytes + output bytes) / bus bandwidth, overlaps compute; input bytes once each with dedup,
            else every window whole
  reload  = words of all macros over flash, bus and write port, the slowest; / inferences that share one writing
  latency = max(compute, io) + start, + reload where weights are rewritten
  energy  = words of all macros * passes * read_bits * read_energy + macs * mac_energy + outputs * post_energy
            + conversions * conversion_energy + bytes * (SRAM + bus) + start, + reload
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from h4hc.costtypes import Bound, Cost, Interval, Mode, Term
from h4hc.errors import CostModelError
from h4hc.quantity import whole
from h4hc.units import PS_PER_S, ceil_div
from h4hc.workload import Op, OpKind
from targets.cim.geometry import Layer, activations, conversions_per_output, layer, words
from targets.cim.spec import Adc, CimSpec

PS_PER_NS = 1000


@dataclass(frozen=True)
class Fixed:
    """What a layer costs however many macros share it: energy of products and outputs, io, start."""

    products: Interval
    io: Term
    start: Term


def fixed_costs(spec: CimSpec, work: Layer, macs: int) -> Fixed:
    """The part of a layer's cost that all its modes have in common."""
    products = whole(spec.mac_energy.times(macs)) + whole(spec.post_energy.times(work.output_bytes))
    return Fixed(products, _io(spec, work), _start(spec))


def op_cost(spec: CimSpec, op: Op, mode: Mode, fixed_of: Callable[[Layer, int], Fixed]) -> Cost:
    """Cost of `op` on `mode.units` macros; see the module's text. CostModelError for other kinds of work.

    fixed_of: `fixed_costs` of this spec, remembered by the caller.
    """
    if op.kind is OpKind.VIEW:
        return _view_cost(spec, mode)
    work = layer(op.params)
    if work is None or op.kind is OpKind.CONV_TRANSPOSE:
        raise CostModelError(f"no CIM cost for {op.id!r}", op.origin, f"kind {op.kind.value} has no stationary weights")
    fixed = fixed_of(work, op.macs)
    each = words(spec, work, mode.units)
    fullest, stored = max(each), sum(each)
    passes = ceil_div(work.positions, spec.cus)
    steps = max(activations(spec, work, mode.units)) * passes * spec.input_cycles
    terms = [_compute(spec, fixed, steps, stored * passes), fixed.io]
    moved = [("sram", _input_bytes(spec, work) + work.output_bytes), ("bank", stored * passes * spec.word_bytes)]
    if spec.adc is not None:
        terms.append(_convert(spec, spec.adc, work, steps))
    terms.append(fixed.start)
    if spec.inferences_per_reload:
        terms.append(_reload(spec, stored * spec.word_bytes))
        moved.append(("flash", ceil_div(stored * spec.word_bytes, spec.inferences_per_reload)))
    return Cost.from_terms(
        mode,
        tuple(terms),
        cycles=max(1, steps),
        bound=_bound(terms),
        bytes_moved=tuple(moved),
        unit_weight_bytes=fullest * spec.word_bytes if spec.stays else 0,
        model=f"cim.{spec.kind}",
        marks=spec.cost_marks,
    )


def _input_bytes(spec: CimSpec, work: Layer) -> int:
    return work.touched_bytes if spec.dedup else work.window_bytes


def _compute(spec: CimSpec, fixed: Fixed, steps: int, reads: int) -> Term:
    """steps: of the fullest macro, which sets the time; reads: words of all, which set the energy."""
    latency = whole(spec.read_cycle.times(steps * PS_PER_NS)) + whole(spec.fill.times(PS_PER_NS))
    if spec.adc is not None:
        latency = latency + _conversion_time(spec.adc, steps)
    energy = whole(spec.read_energy.times(reads * spec.read_bits)) + fixed.products
    return Term("compute", "parallel", latency, energy, "macro")


def _conversion_time(adc: Adc, steps: int) -> Interval:
    """Columns that share a converter take turns."""
    return whole(adc.conversion.times(steps * adc.columns_per_adc * PS_PER_NS))


def _convert(spec: CimSpec, adc: Adc, work: Layer, steps: int) -> Term:
    """The converters' part: energy of its own; its time lies within compute, where array and converter alternate."""
    count = work.outputs * work.positions * conversions_per_output(spec, work.weights_per_output)
    count *= spec.input_cycles * adc.conversions_per_output
    return Term("convert", "parallel", _conversion_time(adc, steps), whole(adc.conversion_energy.times(count)), "adc")


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
    """A share of writing the weights, from flash over the bus into the array; the slowest sets the time."""
    shared = spec.shared
    share = size_bytes / spec.inferences_per_reload
    ways = [q.divide(share * PS_PER_S) for q in (shared.flash.bandwidth, shared.bus.bandwidth, spec.write_bandwidth)]
    latency = whole((max(w[0] for w in ways), max(w[1] for w in ways), max(w[2] for w in ways)))
    energy = whole(shared.flash.read_energy.times(share)) + whole(shared.bus.energy.times(share))
    bits = share * spec.read_bits / spec.word_bytes
    return Term("reload", "serial", latency, energy + whole(spec.write_energy.times(bits)), "flash")


def _bound(terms: list[Term]) -> Bound:
    nominal = {t.name: t.latency.nominal for t in terms}
    compute, io, reload = nominal["compute"], nominal["io"], nominal.get("reload", 0)
    if nominal["start"] >= max(compute, io) + reload:
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
