"""What may run on a CIM macro, as sentences with checks. The support table is made from these objects."""

from __future__ import annotations

from collections.abc import Callable

from h4hc.costtypes import Mode, Rule, Violation
from h4hc.units import format_bytes
from h4hc.workload import Op, OpKind, Workload
from targets.cim.geometry import layer, words
from targets.cim.spec import CimSpec

WEIGHT_KINDS = frozenset({OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED})
VIEWS = frozenset({OpKind.VIEW})
LEGAL_KINDS = WEIGHT_KINDS | VIEWS

WEIGHT_TYPE, WEIGHT_TYPE_BITS = "int8", 8  # the only one the models cost: one byte an element, zero point 0
INPUT_TYPE_BITS = 8

Check = Callable[[Op, Workload], Violation | None]


def make_rules(spec: CimSpec) -> tuple[Rule, ...]:
    """The rules of a device with these numbers; the first one an operator breaks is reported."""
    stationary = frozenset({OpKind.MATMUL, OpKind.CONV_TRANSPOSE})
    others = frozenset(OpKind) - LEGAL_KINDS - stationary
    types = " or ".join(spec.input_types)
    activations = ", ".join(spec.post_activations) or "none"
    return (
        Rule(
            "cim.other_work",
            "a macro multiplies activations with stored weights and does nothing else",
            _kind,
            others,
            True,
        ),
        Rule(
            "cim.product",
            "a macro runs no product of two activations and no transposed convolution",
            _kind,
            stationary,
            True,
        ),
        Rule("cim.stationary_weights", "the weights are constants of the model", _stationary, WEIGHT_KINDS),
        Rule("cim.weight_type", "weights are int8 with zero point 0", _weight_type, WEIGHT_KINDS),
        Rule(
            "cim.weight_bits",
            f"weights are no wider than the {spec.weight_bits} bits that a macro stores of each",
            _weight_bits(spec),
            WEIGHT_KINDS,
            spec.weight_bits < WEIGHT_TYPE_BITS,
        ),
        Rule(
            "cim.input_bits",
            f"activations are no wider than the {spec.input_bits} bits that a macro takes",
            _input_bits(spec),
            WEIGHT_KINDS,
            spec.input_bits < INPUT_TYPE_BITS,
        ),
        Rule("cim.dtype", f"activations are {types}", _dtype(spec), LEGAL_KINDS),
        Rule("cim.results", f"results are {types}", _results(spec), LEGAL_KINDS),
        Rule("cim.present", "no tensor is empty", _present, WEIGHT_KINDS),
        Rule("cim.rescale", "a view keeps its scale: the post unit requantises sums, not inputs", _rescale, VIEWS),
        Rule("cim.post_unit", f"a fused activation is one the post unit has: {activations}", _post(spec), WEIGHT_KINDS),
        Rule("cim.fits", f"one operator's weights fit the {spec.macros} macros together", _fits(spec), WEIGHT_KINDS),
    )


def _kind(op: Op, workload: Workload) -> Violation | None:
    return Violation(op.kind.value, ", ".join(sorted(k.value for k in LEGAL_KINDS)))


def _stationary(op: Op, workload: Workload) -> Violation | None:
    if len(op.inputs) == 1 and op.weights:
        return None
    return Violation(
        "the weights are computed at run time", "constant weights", "fold them, or leave it to another device"
    )


def _weight_type(op: Op, workload: Workload) -> Violation | None:
    """Macros multiply stored int8 as it is: a zero point would need the sum of each window's inputs."""
    other = sorted({t for t in op.weight_types if t != WEIGHT_TYPE})
    if not other:
        return None
    return Violation(", ".join(other), f"{WEIGHT_TYPE}, zero point 0", "quantise the weights symmetrically to int8")


def _weight_bits(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        if spec.weight_bits >= WEIGHT_TYPE_BITS:
            return None
        return Violation(f"{WEIGHT_TYPE_BITS} bits", f"{spec.weight_bits} bits", "set weight_bits to 8 or more")

    return check


def _input_bits(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        if spec.input_bits >= INPUT_TYPE_BITS:
            return None
        return Violation(f"{INPUT_TYPE_BITS} bits", f"{spec.input_bits} bits", "set input_bits to 8 or more")

    return check


def _rescale(op: Op, workload: Workload) -> Violation | None:
    if not op.rescales:
        return None
    return Violation("output scale differs from input scale", "equal scales", "share one scale, or leave it to another")


def _present(op: Op, workload: Workload) -> Violation | None:
    empty = [n for n in (*op.inputs, *op.outputs, *op.weights) if workload.tensor[n].elements == 0]
    return Violation(f"{empty[0]} has no elements", "at least one element") if empty else None


def _results(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        wide = sorted({workload.tensor[n].dtype for n in op.outputs} - set(spec.input_types))
        return Violation(", ".join(wide), " or ".join(spec.input_types), "requantise the result") if wide else None

    return check


def _dtype(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        if op.dtype in spec.input_types:
            return None
        return Violation(op.dtype, " or ".join(spec.input_types), "quantise the operator")

    return check


def _post(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        if not op.activation or op.activation in spec.post_activations:
            return None
        return Violation(op.activation, ", ".join(spec.post_activations) or "none", "use relu or relu6 in this layer")

    return check


def _fits(spec: CimSpec) -> Check:
    def check(op: Op, workload: Workload) -> Violation | None:
        work = layer(op.params)
        assert work is not None, op.id  # a weight kind always is one
        macros = min(spec.macros, work.outputs)
        return _bank_violation(spec, op, macros)

    return check


def unit_bytes(spec: CimSpec, op: Op, macros: int) -> int:
    """Bytes that the fullest of `macros` macros stores for `op`: whole read words, as stored."""
    work = layer(op.params)
    if work is None:
        return 0
    return max(words(spec, work, macros)) * spec.word_bytes


def _bank_violation(spec: CimSpec, op: Op, macros: int) -> Violation | None:
    need = unit_bytes(spec, op, macros)
    if need <= spec.bank_bytes:
        return None
    return Violation(
        f"{format_bytes(need)} in each of {macros} macros",
        f"{format_bytes(spec.bank_bytes)} a macro",
        "more or larger macros (macros, bank_bits)",
    )


def mode_violation(spec: CimSpec, op: Op, mode: Mode) -> Violation | None:
    """Limits of one mode: a view needs no macros to share it; no macro may stay without an output channel."""
    if op.kind is OpKind.VIEW:
        return None if mode.units == 1 else Violation(f"{mode.units} macros", "1: a view computes nothing")
    work = layer(op.params)
    assert work is not None, op.id
    if mode.units > work.outputs:
        return Violation(f"{mode.units} macros", f"{work.outputs} output channels to share out")
    return _bank_violation(spec, op, mode.units)
