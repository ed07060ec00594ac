"""CIM costs against a macro simulated read by read, and the rules at their limits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from math import ceil

import pytest

from h4hc.cost import device_rejection, op_row
from h4hc.costtypes import Bound, Mode
from h4hc.errors import TargetError
from h4hc.target_file import load_system
from h4hc.workload import ConvParams, FullyConnectedParams, Op, OpKind, Workload
from targets.cim.device import Cim
from targets.cim.spec import CimSpec
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload


def _cim(*sets: str, system: str = "npu+cim") -> Cim:
    device = load_system(system, sets).device("cim")
    assert isinstance(device, Cim)
    return device


# --- an independent simulation: no formula, only loops ---------------------------------------------------------


@dataclass
class Seen:
    """What happened: steps of the fullest macro, reads of all, words stored by the fullest, bytes on the bus."""

    steps: int = 0
    reads: int = 0
    words: int = 0
    input_bytes: int = 0
    output_bytes: int = 0


def _deal(outputs: int, macros: int) -> list[list[int]]:
    """Output channels to macros, neighbours to the same one: counted out card by card, then dealt from the pack."""
    sizes = [0] * macros
    for channel in range(outputs):
        sizes[channel % macros] += 1
    pack = list(range(outputs))
    return [[pack.pop(0) for _ in range(size)] for size in sizes]


def _store(spec: CimSpec, groups: list[int], k: int) -> int:
    """Put filters of k weights, each of a group, into read words until all are placed; count the words.

    A word is a grid of lanes x columns. A row of it gets one input, so side by side stand filters of one group only.
    """
    lanes = spec.read_bits // spec.weight_bits // spec.columns
    words = 0
    left = list(groups)
    while left:
        row = 0
        while left and (row == 0 or (spec.segments and row + k <= lanes)):
            fed = left[0]  # the group whose inputs these rows get
            column = 0
            while left and column < spec.columns and left[0] == fed:
                left.pop(0)
                column += 1
            row += min(k, lanes)
        pieces = 0
        rest = k
        while rest > 0:  # a filter longer than the lanes goes on in the next word
            rest -= lanes
            pieces += 1
        words += pieces
    return words


def _windows(params: ConvParams | FullyConnectedParams) -> list[frozenset[tuple[int, ...]]]:
    """Input coordinates (without channels) that each output position reads."""
    if isinstance(params, FullyConnectedParams):
        return [frozenset({(p,)}) for p in range(params.positions)]
    out = []
    axes = range(len(params.kernel))
    for batch in range(params.batch):
        for position in itertools.product(*(range(o) for o in params.out_spatial)):
            reads = set()
            for tap in itertools.product(*(range(k) for k in params.kernel)):
                at = tuple(position[a] * params.stride[a] + tap[a] * params.dilation[a] - params.pads[a] for a in axes)
                if all(0 <= at[a] < params.in_spatial[a] for a in axes):
                    reads.add((batch, *at))
            out.append(frozenset(reads))
    return out


def simulate(spec: CimSpec, op: Op, macros: int) -> Seen:
    """Run the layer: every macro reads each of its words once for every `cus` positions."""
    p = op.params
    assert isinstance(p, ConvParams | FullyConnectedParams)
    if isinstance(p, ConvParams):
        taps = 1
        for side in p.kernel:
            taps *= side
        k, outputs, channels = p.in_channels // p.groups * taps, p.out_channels, p.in_channels
        group = [channel * p.groups // p.out_channels for channel in range(outputs)]
    else:
        k, outputs, channels, taps = p.in_features, p.out_features, p.in_features, 1
        group = [0] * outputs
    windows = _windows(p)
    seen = Seen(output_bytes=outputs * len(windows))
    for hand in _deal(outputs, macros):
        words = _store(spec, [group[channel] for channel in hand], k)
        steps = 0
        waiting = len(windows)
        while waiting > 0:  # a batch of positions, one a compute unit
            for _ in range(words):
                steps += spec.input_cycles
                seen.reads += 1
            waiting -= spec.cus
        seen.steps, seen.words = max(seen.steps, steps), max(seen.words, words)
    if spec.dedup:
        touched: set[tuple[int, ...]] = set().union(*windows)
        seen.input_bytes = len(touched) * channels
    else:
        seen.input_bytes = channels * taps * len(windows)
    return seen


LAYERS = {
    "conv 3x3": conv_workload(16, 40, (9, 9), (3, 3)),
    "conv 3x3 stride 2": conv_workload(8, 24, (11, 10), (3, 3), 2),
    "conv 3x3 dilated": conv_workload(4, 10, (12, 12), (3, 3), dilation=2),
    "pointwise": conv_workload(24, 20, (7, 7), (1, 1)),
    "pointwise stride 2": conv_workload(24, 20, (8, 8), (1, 1), 2),
    "depthwise 3x3": conv_workload(30, 30, (8, 8), (3, 3), groups=30),
    "depthwise 5x5 stride 2": conv_workload(12, 12, (9, 9), (5, 5), 2, groups=12),
    "grouped": conv_workload(16, 24, (6, 6), (3, 3), groups=4),
    "grouped, 3 outputs each": conv_workload(16, 24, (4, 4), (1, 1), groups=8),
    "grouped, 19 outputs each": conv_workload(8, 38, (4, 4), (3, 3), groups=2),
    "grouped, long filters": conv_workload(128, 20, (3, 3), (3, 3), groups=2),
    "one-dimensional": conv_workload(10, 12, (40,), (9,)),
    "three-dimensional": conv_workload(3, 7, (4, 5, 6), (2, 3, 3)),
    "long filter": conv_workload(64, 5, (5, 5), (3, 3)),
    "batch of 2": conv_workload(8, 8, (5, 5), (3, 3), batch=2),
    "one vector": fc_workload(1, 300, 50),
    "tokens": fc_workload(17, 192, 33),
}
SPECS = {
    "mram": _cim(),
    "vanilla": _cim(system="npu+cim-1x1"),
    "no segments": _cim("cim.segments=false", "cim.cus=3"),
    "sram": _cim(system="npu+cim-sram"),
    "sram, segments": _cim("cim.segments=true", system="npu+cim-sram"),
}


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_cost_equals_the_simulation(name: str, layer: str) -> None:
    device, workload = SPECS[name], LAYERS[layer]
    spec, op = device.spec, workload.ops[0]
    for mode in device.modes():
        if device.mode_rejection(op, mode) is not None:
            continue
        seen, cost = simulate(spec, op, mode.units), device.cost(op, mode, workload)
        terms = {t.name: t for t in cost.terms}
        bus = spec.shared.bus.bandwidth.value
        compute = seen.steps * spec.read_cycle.value * 1000 + spec.fill.value * 1000
        assert terms["compute"].latency.nominal == pytest.approx(compute, abs=2)
        assert terms["io"].latency.nominal == pytest.approx((seen.input_bytes + seen.output_bytes) / bus * 1e12, abs=2)
        energy = (
            seen.reads * spec.read_bits * spec.read_energy.value
            + op.macs * spec.mac_energy.value
            + seen.output_bytes * spec.post_energy.value
        )
        assert terms["compute"].energy.nominal == pytest.approx(energy, abs=3)
        word = spec.read_bits // 8
        assert cost.unit_weight_bytes == (seen.words * word if spec.kind == "mram_nearmem" else 0)
        moved = dict(cost.bytes_moved)
        assert moved["sram"] == seen.input_bytes + seen.output_bytes
        serial = terms["start"].latency.nominal
        if spec.kind == "sram_digital":
            stored = seen.reads // ceil(len(_windows(op.params)) / spec.cus) * word  # type: ignore[arg-type]
            assert terms["reload"].latency.nominal == pytest.approx(stored / 500e6 * 1e12, abs=2)
            serial += terms["reload"].latency.nominal
        longest = max(terms["compute"].latency.nominal, terms["io"].latency.nominal)
        assert cost.latency.nominal == longest + serial


def test_multi_cu_macro_reads_a_quarter() -> None:
    """The point of four compute units: each word serves four windows."""
    workload = LAYERS["conv 3x3"]
    mode = Mode("cim")
    one, four = (_cim(f"cim.cus={n}").cost(workload.ops[0], mode, workload) for n in (1, 4))
    assert dict(one.bytes_moved)["bank"] == pytest.approx(4 * dict(four.bytes_moved)["bank"], rel=0.05)


def test_single_vector_gains_nothing_from_compute_units() -> None:
    workload = LAYERS["one vector"]
    one, four = (_cim(f"cim.cus={n}").cost(workload.ops[0], Mode("cim"), workload) for n in (1, 4))
    assert one.latency == four.latency
    assert one.energy == four.energy


def test_depthwise_shares_read_words() -> None:
    """128 lanes hold 14 filters of 9 weights."""
    workload = conv_workload(28, 28, (8, 8), (3, 3), groups=28)
    cost = _cim().cost(workload.ops[0], Mode("cim"), workload)
    assert cost.unit_weight_bytes == 2 * 128
    assert cost.bound in (Bound.MEMORY, Bound.OVERHEAD)


# --- rules -----------------------------------------------------------------------------------------------------


def _code(workload: Workload, *sets: str, system: str = "npu+cim") -> str:
    rejection = device_rejection(workload.ops[0], _cim(*sets, system=system), workload)
    return "" if rejection is None else rejection.code


@pytest.mark.parametrize(
    "kind", [OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED, OpKind.VIEW]
)
def test_runs(kind: OpKind) -> None:
    assert _code(samples.legal()[kind]) == ""


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (OpKind.MATMUL, "cim.product"),
        (OpKind.CONV_TRANSPOSE, "cim.product"),
        (OpKind.SOFTMAX, "cim.other_work"),
        (OpKind.ELEMENTWISE, "cim.other_work"),
        (OpKind.POOL, "cim.other_work"),
        (OpKind.GENERIC, "cim.other_work"),
        (OpKind.CONTROL_FLOW, "cim.other_work"),
    ],
)
def test_refuses_kind(kind: OpKind, code: str) -> None:
    assert _code(samples.legal()[kind]) == code


@pytest.mark.parametrize(
    ("activation", "code"), [("", ""), ("relu6", ""), ("clip", ""), ("hard_swish", "cim.post_unit")]
)
def test_post_unit(activation: str, code: str) -> None:
    assert _code(conv_workload(8, 8, (8, 8), (3, 3), activation=activation)) == code


def test_dtype_and_stationary_weights() -> None:
    assert _code(fc_workload(2, 8, 8, dtype="float32")) == "cim.dtype"
    assert _code(fc_workload(2, 8, 8, dtype="uint8")) == ""
    loose = fc_workload(2, 8, 8)
    op = replace(loose.ops[0], weights=())
    assert _code(replace(loose, ops=(op,))) == "cim.stationary_weights"


def test_weights_fit_exactly_or_not() -> None:
    """One macro of 64 words of 128 weights: 64 outputs of 128 weights fit, 65 do not."""
    sets = ("cim.macros=1", f"cim.bank_bits={64 * 1024}")
    assert _code(fc_workload(4, 128, 63), *sets) == ""
    assert _code(fc_workload(4, 128, 64), *sets) == ""
    assert _code(fc_workload(4, 128, 65), *sets) == "cim.fits"
    assert _code(fc_workload(4, 128, 65), "cim.macros=2", sets[1]) == ""


def test_modes_at_their_limits() -> None:
    device, workload = _cim(), fc_workload(4, 16, 3)
    op = workload.ops[0]
    assert device.mode_rejection(op, Mode("cim", 3)) is None
    violation = device.mode_rejection(op, Mode("cim", 4))
    assert violation is not None
    assert violation.limit.startswith("3 output channels")
    view = samples.legal()[OpKind.VIEW].ops[0]
    assert device.mode_rejection(view, Mode("cim", 1)) is None
    assert device.mode_rejection(view, Mode("cim", 2)) is not None


def test_rejection_reaches_the_row() -> None:
    row = op_row(samples.matmul().ops[0], load_system("npu+cim"), samples.matmul())
    refused = [r for r in row.rejections if r.mode.device == "cim"]
    assert [r.mode.units for r in refused] == [1, 2, 3, 4]


def test_capacity() -> None:
    assert _cim().capacity().unit_bytes == 1024 * 1024
    assert _cim().capacity().units == 4
    assert _cim(system="npu+cim-sram").capacity().unit_bytes is None


@pytest.mark.parametrize("kind", ["sram_analog", "rram_analog", "abacus"])
def test_analog_is_refused_clearly(kind: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system("npu+cim", (f"cim.kind={kind}",))
    assert ("not modelled yet" in str(caught.value)) == kind.endswith("analog")


def test_impossible_geometry_is_refused() -> None:
    with pytest.raises(TargetError, match="read_bits"):
        load_system("npu+cim", ("cim.read_bits=1000",))


def test_weights_that_come_at_run_time_are_refused_even_beside_a_constant_bias() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    op = workload.ops[0]
    assert device_rejection(op, _cim(), workload) is None
    dynamic = replace(op, inputs=(*op.inputs, "w"))
    rejection = device_rejection(dynamic, _cim(), workload)
    assert rejection is not None
    assert rejection.code == "cim.stationary_weights"


def test_depthwise_layer_uses_one_column_of_an_array() -> None:
    """By hand: channels have different inputs, so 16 channels are 16 words; a dense layer of 16 outputs is 2."""
    device = _cim("cim.macros=1", system="npu+cim-sram")
    depthwise = conv_workload(16, 16, (8, 8), (3, 3), groups=16)
    dense = conv_workload(8, 16, (8, 8), (3, 3))
    cycles = [device.cost(w.ops[0], Mode("cim"), w).cycles for w in (depthwise, dense)]
    assert cycles == [16 * 64 * 4, 2 * 64 * 4]


@pytest.mark.parametrize("kind", [OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED])
@pytest.mark.parametrize(
    ("types", "code"),
    [
        ((), ""),
        (("int8",), ""),
        (("uint8",), "cim.weight_type"),
        (("int8 asymmetric",), "cim.weight_type"),
        (("float32",), "cim.weight_type"),
        (("int8", "int16"), "cim.weight_type"),
    ],
)
def test_weight_types(kind: OpKind, types: tuple[str, ...], code: str) -> None:
    workload = samples.legal()[kind]
    op = replace(workload.ops[0], weight_types=types)
    rejection = device_rejection(op, _cim(), workload)
    assert (rejection.code if rejection else "") == code
    if rejection is not None:
        assert rejection.value == types[-1]


@pytest.mark.parametrize(("bits", "code"), [(1, "cim.weight_bits"), (4, "cim.weight_bits"), (8, ""), (16, "")])
def test_weights_wider_than_a_cell_are_refused(bits: int, code: str) -> None:
    workload = fc_workload(4, 64, 64)
    device = _cim(f"cim.weight_bits={bits}")
    rejection = device_rejection(workload.ops[0], device, workload)
    assert (rejection.code if rejection else "") == code
    assert any(r.code == "cim.weight_bits" and r.always == bool(code) for r in device.rules())


def test_view_that_rescales_is_refused() -> None:
    workload = samples.legal()[OpKind.VIEW]
    op = replace(workload.ops[0], rescales=True)
    rejection = device_rejection(op, _cim(), workload)
    assert rejection is not None
    assert rejection.code == "cim.rescale"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cim.macros=65", "less than or equal to 64"),
        ("cim.cus=1000000", "less than or equal to 64"),
        ("cim.input_cycles=65", "less than or equal to 64"),
        ("cim.read_bits=131072", "less than or equal to 65536"),
        (f"cim.bank_bits={2**37}", f"less than or equal to {2**36}"),
        ("cim.weight_bits=64", "less than or equal to 32"),
        ("cim.columns=65537", "less than or equal to 65536"),
        ("cim.input_types=int8,int9", "'int8' or 'uint8'"),
        ("cim.input_types=", "at least 1 item"),
        ("cim.post_activations=relu,rlu", "'relu6'"),
    ],
)
def test_counts_and_names_are_held_to_their_limits(text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system("npu+cim", (text,))
    assert said in str(caught.value)


def test_energy_of_a_read_reaches_down_to_the_published_macros() -> None:
    """At its low bound a word read for four windows costs no more a MAC than the best whole macro: 12.5 fJ."""
    spec = _cim().spec
    macs_a_word = spec.rows * spec.cus
    assert spec.read_energy.low * spec.read_bits / macs_a_word == pytest.approx(0.0125)
    assert spec.read_energy.value * spec.read_bits / macs_a_word == pytest.approx(0.46)
    assert spec.mac_energy.mark == "guess"
    assert spec.mac_energy.low < 0.0125 < spec.mac_energy.high <= 0.066


def test_wide_results_and_empty_tensors_are_refused() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    for change, code in (({"dtype": "int32"}, "cim.results"), ({"shape": (1, 0, 8, 8)}, "cim.present")):
        tensors = tuple(replace(t, **change) if t.name == "y" else t for t in workload.tensors)
        rejection = device_rejection(workload.ops[0], _cim(), replace(workload, tensors=tensors))
        assert rejection is not None
        assert rejection.code == code
