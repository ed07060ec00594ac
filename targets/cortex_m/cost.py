"""Cost of every operator kind on a Cortex-M core.

latency = max(compute, sram traffic) + weights from flash + dispatch
  compute  = macs / (MAC/cycle) + results * (cycle/result)  or  elements * (cycle/element)  or  bytes / (B/cycle);
             a fused function that is no clamp, and a movement that also requantises, on each output element on top
  weights  = bytes / (flash bandwidth * fetch_share), not overlapped: the core is in order and waits for its loads
  dispatch = fixed cycles a kernel call
energy = core energy per cycle * (busy + stall_share * stalled cycles) + memory energy per byte
  busy     = compute + dispatch;  stalled = max(0, sram traffic - compute) + weights
Leakage is the system's. Rates and bounds: presets/*.toml.
"""

from __future__ import annotations

from h4hc.costtypes import ZERO, Bound, Cost, Mode, Term
from h4hc.errors import CostModelError
from h4hc.quantity import Quantity, at_clock, whole
from h4hc.units import PS_PER_S
from h4hc.workload import (
    ElementwiseParams,
    GenericParams,
    MoveParams,
    Op,
    OpKind,
    PoolParams,
    ResizeParams,
    VectorParams,
    Workload,
)
from targets.cortex_m.spec import CortexMSpec, TypeRates

Bounds = tuple[float, float, float]

_TYPE_CLASS = {"int8": "int8", "uint8": "int8", "bool": "int8", "float16": "float16", "float32": "float32"}
_VARIADIC = frozenset({"add", "max", "mean", "min"})  # ONNX's Sum, Max, Mean, Min take any number of tensors
_MAC_KINDS = frozenset(
    {
        OpKind.CONV,
        OpKind.DEPTHWISE,
        OpKind.GROUPED_CONV,
        OpKind.CONV_TRANSPOSE,
        OpKind.FULLY_CONNECTED,
        OpKind.MATMUL,
    }
)


def op_cost(spec: CortexMSpec, op: Op, mode: Mode, workload: Workload) -> Cost:
    """Latency and energy of one operator; see the module's text for the formula."""
    pure_view = op.kind is OpKind.VIEW and not op.rescales
    cycles, used = _compute(spec, op, sum(workload.tensor[name].elements for name in op.outputs))
    traffic = 0 if pure_view else op.input_bytes + op.output_bytes
    overhead = spec.view_overhead if pure_view else spec.op_overhead
    terms = [
        _compute_term(spec, cycles, traffic),
        _memory_term(spec, op, traffic),
        _weights_term(spec, op),
        _dispatch_term(spec, overhead),
    ]
    used += [overhead, spec.energy_per_cycle]
    if traffic:
        used += [spec.memory_rate, spec.shared.sram.read_energy, spec.shared.sram.write_energy]
    if op.weight_bytes:
        used += [spec.shared.flash.bandwidth, spec.fetch_share, spec.shared.flash.read_energy]
    if traffic or op.weight_bytes:
        used.append(spec.stall_share)
    kept = tuple(t for t in terms if t.latency != ZERO or t.energy != ZERO)
    moved = [("sram", traffic), ("flash", op.weight_bytes)]
    nominal = sum(t.latency.nominal for t in kept if t.role == "serial")
    nominal += max((t.latency.nominal for t in kept if t.role == "parallel"), default=0)
    return Cost.from_terms(
        mode,
        kept,
        cycles=max(1, nominal * spec.clock_hz // PS_PER_S),
        bound=_bound(terms),
        bytes_moved=tuple((m, b) for m, b in moved if b),
        model="cortex_m.rates",
        marks=tuple(sorted({q.mark for q in used})),
        clock_hz=spec.clock_hz,
    )


def _bound(terms: list[Term]) -> Bound:
    compute, memory, weights, dispatch = (t.latency.nominal for t in terms)
    if dispatch >= max(compute, memory) + weights:
        return Bound.OVERHEAD
    return Bound.MEMORY if max(memory, weights) > compute else Bound.COMPUTE


def _compute_term(spec: CortexMSpec, cycles: Bounds, traffic: int) -> Term:
    """Also bears the core's energy while it waits for the SRAM: c + s * max(0, t - c), which grows with c, t and s."""
    waits = _times(_beyond(spec.memory_rate.divide(traffic), cycles), spec.stall_share)
    core = whole(_times(_sum(cycles, waits), spec.energy_per_cycle))
    return Term("compute", "parallel", at_clock(cycles, spec.clock_hz), core, "core")


def _memory_term(spec: CortexMSpec, op: Op, traffic: int) -> Term:
    sram = spec.shared.sram
    latency = at_clock(spec.memory_rate.divide(traffic), spec.clock_hz)
    read, write = (op.input_bytes, op.output_bytes) if traffic else (0, 0)
    energy = whole(sram.read_energy.times(read)) + whole(sram.write_energy.times(write))
    return Term("memory", "parallel", latency, energy, "sram")


def _weights_term(spec: CortexMSpec, op: Op) -> Term:
    """The flash's energy, and the core's while it waits."""
    flash = spec.shared.flash
    stalled = _over(flash.bandwidth.divide(op.weight_bytes * spec.clock_hz), spec.fetch_share)
    core = whole(_times(_times(stalled, spec.stall_share), spec.energy_per_cycle))
    energy = whole(flash.read_energy.times(op.weight_bytes)) + core
    return Term("weights", "serial", at_clock(stalled, spec.clock_hz), energy, "flash")


def _dispatch_term(spec: CortexMSpec, overhead: Quantity) -> Term:
    cycles = overhead.times(1)
    energy = whole(_times(cycles, spec.energy_per_cycle))
    return Term("dispatch", "serial", at_clock(cycles, spec.clock_hz), energy, "core")


def _times(bounds: Bounds, quantity: Quantity) -> Bounds:
    return bounds[0] * quantity.low, bounds[1] * quantity.value, bounds[2] * quantity.high


def _over(bounds: Bounds, quantity: Quantity) -> Bounds:
    return bounds[0] / quantity.high, bounds[1] / quantity.value, bounds[2] / quantity.low


def _beyond(a: Bounds, b: Bounds) -> Bounds:
    """What `a` exceeds `b` by, bound by bound."""
    return max(0.0, a[0] - b[0]), max(0.0, a[1] - b[1]), max(0.0, a[2] - b[2])


def _sum(a: Bounds, b: Bounds) -> Bounds:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _compute(spec: CortexMSpec, op: Op, results: int) -> tuple[Bounds, list[Quantity]]:
    """Cycles the core computes, and the quantities used; `results`: elements of the outputs."""
    rates: TypeRates = getattr(spec.rates, _TYPE_CLASS.get(op.dtype, "other"))
    bounds, used = _main(spec, rates, op, results)
    extras = [rates.elements.quantize] if op.rescales else []
    if op.activation and op.activation not in spec.free_activations:
        extras.append(getattr(rates.elements, _value_entry(spec, op, op.activation)))
    for extra in extras:
        bounds, used = _sum(bounds, extra.times(results)), [*used, extra]
    return bounds, used


def _main(spec: CortexMSpec, rates: TypeRates, op: Op, results: int) -> tuple[Bounds, list[Quantity]]:
    """The operator itself, without what is fused into it."""
    used: list[Quantity]
    if op.kind is OpKind.VIEW:
        return (0.0, 0.0, 0.0), []
    if op.kind in _MAC_KINDS:
        rate: Quantity = getattr(rates.macs, op.kind.value)
        results_cost = rates.elements.output
        bounds, used = _sum(rate.divide(op.macs), results_cost.times(results)), [rate, results_cost]
    elif op.kind is OpKind.MOVE:
        rate = spec.transpose_rate if _is_transpose(op) else spec.move_rate
        bounds, used = rate.divide(max(op.input_bytes, op.output_bytes)), [rate]
    else:
        count, name = _elements(spec, op, results)
        per_element: Quantity = getattr(rates.elements, name)
        bounds, used = per_element.times(count), [per_element]
        if op.macs:  # recurrent nets, whole attention, bodies of control flow: products without a kernel of their own
            bounds, used = _sum(bounds, rates.macs.matmul.divide(op.macs)), [*used, rates.macs.matmul]
    return bounds, used


def _is_transpose(op: Op) -> bool:
    return isinstance(op.params, MoveParams) and op.params.function == "transpose"


def _elements(spec: CortexMSpec, op: Op, results: int) -> tuple[int, str]:
    """How many elements the kernel works through, and which entry of the rates says what each takes."""
    match op.params:
        case VectorParams() as p:
            return p.rows * p.length, op.kind.value
        case ElementwiseParams() as p if op.kind is OpKind.ELEMENTWISE:
            return p.elements * _passes(p), _elementwise_entry(spec, op, p)
        case ElementwiseParams() as p if op.kind is OpKind.ACTIVATION:
            return p.elements, _value_entry(spec, op, p.function)
        case ElementwiseParams() as p:
            return p.elements, op.kind.value
        case PoolParams() as p:
            return p.batch * p.channels * _volume(p.out_spatial) * _volume(p.kernel), "pool"
        case ResizeParams() as p:
            known = {"nearest": "resize_nearest", "linear": "resize_linear"}
            return results, known.get(p.mode, "resize_cubic")
        case GenericParams() as p:
            return p.elements, op.kind.value
        case _:
            raise CostModelError(
                f"no host cost for {op.id!r}", op.origin, f"kind {op.kind.value} with {type(op.params).__name__}"
            )


def _passes(p: ElementwiseParams) -> int:
    """A sum of four tensors is three sums of two."""
    return max(1, p.operands - 1) if p.function in _VARIADIC else 1


def _elementwise_entry(spec: CortexMSpec, op: Op, p: ElementwiseParams) -> str:
    """Which rate applies. With one 8-bit value and a constant scalar, any function is a table of 256 entries."""
    if p.function in spec.simple_functions:
        return "elementwise"
    one_value = len(op.inputs) == 1 and p.broadcast == "scalar"
    return "activation" if one_value and _is_int8(op) else "elementwise_slow"


def _value_entry(spec: CortexMSpec, op: Op, function: str) -> str:
    """The same for a function of one value: a table in 8 bits, else a few instructions or a polynomial."""
    return "activation" if _is_int8(op) or function not in spec.simple_functions else "elementwise"


def _is_int8(op: Op) -> bool:
    return _TYPE_CLASS.get(op.dtype) == "int8"


def _volume(dims: tuple[int, ...]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count
