"""CIM costs of all kinds against a macro simulated read by read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from h4hc.costtypes import Bound, Mode
from h4hc.target_file import load_system
from h4hc.workload import ConvParams, FullyConnectedParams, Op
from targets.cim.device import Cim
from targets.cim.geometry import layer
from targets.cim.spec import CimSpec
from tests.targets.vela_layers import conv_workload, fc_workload


def cim_device(*sets: str, system: str = "npu+cim") -> Cim:
    device = load_system(system, sets).device("cim")
    assert isinstance(device, Cim)
    return device


# --- an independent simulation: no formula, only loops ---------------------------------------------------------


@dataclass
class Seen:
    """What happened: steps and words of the fullest macro, reads and words of all, bytes on the bus.

    conversions: sums of a column that a converter took, over all macros.
    """

    steps: int = 0
    reads: int = 0
    words: int = 0
    all_words: int = 0
    conversions: int = 0
    input_bytes: int = 0
    output_bytes: int = 0


def _deal(outputs: int, macros: int) -> list[list[int]]:
    """Output channels to macros, neighbours to the same one: counted out card by card, then dealt from the pack."""
    sizes = [0] * macros
    for channel in range(outputs):
        sizes[channel % macros] += 1
    pack = list(range(outputs))
    return [[pack.pop(0) for _ in range(size)] for size in sizes]


@dataclass(frozen=True)
class Round:
    """Outputs that stand side by side, and the rows that each of them takes in this word."""

    outputs: int
    rows: int


def _store(spec: CimSpec, groups: list[int], k: int, width: int) -> list[list[Round]]:
    """Put filters of k weights, each of a group, into read words until all are placed.

    A word is a grid of lanes x columns. A row of it gets one input, so side by side stand filters of one group only.
    Where the columns are not cut, the next group stands lower and further right: slots of `width` columns.
    """
    lanes = spec.read_bits // spec.weight_bits // spec.columns
    words: list[list[Round]] = []
    left = list(groups)
    while left:
        row, slot = 0, 0
        word: list[Round] = []
        while left and (
            not word or (row + k <= lanes and (spec.segments or (spec.diagonal and slot + width <= spec.columns)))
        ):
            fed, column = left[0], 0  # the group whose inputs these rows get
            while left and column < spec.columns and left[0] == fed:
                left.pop(0)
                column += 1
            word.append(Round(column, min(k, lanes)))
            row += min(k, lanes)
            slot += width
        words.append(word)
        for rest in range(k - lanes, 0, -lanes):  # a filter longer than the lanes goes on in the next word
            words.append([Round(word[0].outputs, min(rest, lanes))])
    return words


def _activate(word: list[Round], at_once: int) -> tuple[int, int]:
    """Sums of a word, at most `at_once` rows on at a time and no filter cut that fits: (activations, conversions)."""
    activations = conversions = on = 0
    for part in word:
        rows = part.rows
        if activations == 0 or on + rows > at_once:
            activations, on = activations + 1, 0
        while rows > at_once:  # a filter longer than one activation
            conversions, rows, activations = conversions + part.outputs, rows - at_once, activations + 1
        on += rows if part.rows <= at_once else at_once
        conversions += part.outputs
    return activations, conversions


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
    width = min(group.count(0), spec.columns)
    at_once = spec.adc.rows if spec.adc else spec.read_bits // spec.weight_bits // spec.columns
    bit_steps = -(-spec.input_bits // spec.bits_per_cycle)
    for hand in _deal(outputs, macros):
        words = _store(spec, [group[channel] for channel in hand], k, width)
        steps = 0
        waiting = len(windows)
        while waiting > 0:  # a batch of positions, one a compute unit
            for word in words:
                activations, conversions = _activate(word, at_once)
                steps += activations * bit_steps
                seen.reads += 1
                seen.conversions += conversions * bit_steps
            waiting -= spec.cus
        seen.steps, seen.words = max(seen.steps, steps), max(seen.words, len(words))
        seen.all_words += len(words)
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
    "mram": cim_device(),
    "vanilla": cim_device(system="npu+cim-1x1"),
    "no segments": cim_device("cim.segments=false", "cim.cus=3"),
    "sram": cim_device(system="npu+cim-sram"),
    "sram, segments": cim_device("cim.segments=true", "cim.diagonal=false", system="npu+cim-sram"),
    "sram, one column a group": cim_device("cim.diagonal=false", system="npu+cim-sram"),
    "sram, kept while awake": cim_device(
        "cim.residency=per_wake_up", "cim.inferences_per_wake_up=7", "cim.bank_bits=6553600", system="npu+cim-sram"
    ),
    "mram, written each inference": cim_device("cim.residency=per_inference"),
    "analog": cim_device(system="npu+cim-analog"),
    "analog, few rows at once": cim_device(
        "cim.read_bits=32768",
        "cim.bank_bits=32768000",
        "cim.columns=32",
        "cim.adc.rows=20",
        "cim.macros=3",
        "cim.adc.columns_per_adc=4",
        "cim.adc.conversions_per_output=2",
        system="npu+cim-analog",
    ),
    "rram": cim_device("cim.macros=4", system="npu+cim-rram"),
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
        step_ns = spec.read_cycle.value
        if spec.adc:
            step_ns += spec.adc.columns_per_adc * spec.adc.conversion.value
            drawn = seen.conversions * spec.adc.conversions_per_output * spec.adc.conversion_energy.value
            assert terms["convert"].energy.nominal == pytest.approx(drawn, abs=1)
            assert terms["convert"].latency.nominal <= terms["compute"].latency.nominal
        compute = seen.steps * step_ns * 1000 + spec.fill.value * 1000
        assert terms["compute"].latency.nominal == pytest.approx(compute, abs=2)
        assert terms["io"].latency.nominal == pytest.approx((seen.input_bytes + seen.output_bytes) / bus * 1e12, abs=2)
        energy = (
            seen.reads * spec.read_bits * spec.read_energy.value
            + op.macs * spec.mac_energy.value
            + seen.output_bytes * spec.post_energy.value
        )
        assert terms["compute"].energy.nominal == pytest.approx(energy, abs=3)
        word = spec.read_bits // 8
        assert cost.unit_weight_bytes == (0 if spec.residency == "per_inference" else seen.words * word)
        moved = dict(cost.bytes_moved)
        assert moved["sram"] == seen.input_bytes + seen.output_bytes
        serial = terms["start"].latency.nominal
        assert ("reload" in terms) == (spec.residency != "resident")
        if "reload" in terms:
            share = seen.all_words * word / (spec.inferences_per_wake_up if spec.residency == "per_wake_up" else 1)
            slowest = min(500e6, bus, spec.write_bandwidth.value)
            assert terms["reload"].latency.nominal == pytest.approx(share / slowest * 1e12, abs=2)
            flash, write = spec.shared.flash.read_energy.value, spec.write_energy.value
            written = share * (flash + spec.shared.bus.energy.value + 8 * write)
            assert terms["reload"].energy.nominal == pytest.approx(written, abs=3)
            serial += terms["reload"].latency.nominal
        longest = max(terms["compute"].latency.nominal, terms["io"].latency.nominal)
        assert cost.latency.nominal == longest + serial


def test_multi_cu_macro_reads_a_quarter() -> None:
    """The point of four compute units: each word serves four windows."""
    workload = LAYERS["conv 3x3"]
    mode = Mode("cim")
    one, four = (cim_device(f"cim.cus={n}").cost(workload.ops[0], mode, workload) for n in (1, 4))
    assert dict(one.bytes_moved)["bank"] == pytest.approx(4 * dict(four.bytes_moved)["bank"], rel=0.05)


def test_single_vector_gains_nothing_from_compute_units() -> None:
    workload = LAYERS["one vector"]
    one, four = (cim_device(f"cim.cus={n}").cost(workload.ops[0], Mode("cim"), workload) for n in (1, 4))
    assert one.latency == four.latency
    assert one.energy == four.energy


def test_depthwise_shares_read_words() -> None:
    """128 lanes hold 14 filters of 9 weights."""
    workload = conv_workload(28, 28, (8, 8), (3, 3), groups=28)
    cost = cim_device().cost(workload.ops[0], Mode("cim"), workload)
    assert cost.unit_weight_bytes == 2 * 128
    assert cost.bound in (Bound.MEMORY, Bound.OVERHEAD)


def _conv1d(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int) -> ConvParams:
    return ConvParams("conv", 1, 1, 1, 1, (kernel,), (stride,), (dilation,), (pad, pad), (size,), (out,))


def _touched_bytes(params: ConvParams) -> int:
    work = layer(params)
    assert work is not None
    return work.touched_bytes


@pytest.mark.parametrize("stride", range(1, 8))
@pytest.mark.parametrize("dilation", range(1, 8))
def test_touched_inputs_are_those_that_the_windows_read(stride: int, dilation: int) -> None:
    """Gaps, overlaps, common factors and padding wider than the kernel: each coordinate is counted once."""
    for size, out, kernel, pad in itertools.product((1, 2, 7, 16), (1, 2, 3, 5, 9), (1, 2, 3, 5, 8), (0, 1, 4, 11)):
        params = _conv1d(size, out, kernel, stride, dilation, pad)
        assert _touched_bytes(params) == len(frozenset().union(*_windows(params))), params


def test_touched_inputs_of_a_long_signal_are_not_listed_one_by_one() -> None:
    """About 10**9 and 10**10 taps; the answers are known without listing them."""
    assert _touched_bytes(_conv1d(480_000, 480_000, 2048, 1, 1, 1024)) == 480_000
    # 4 o + 6 k makes every even number up to the last, except the second and, by symmetry, the last but one
    assert _touched_bytes(_conv1d(2_000_000, 100_000, 100_000, 4, 6, 0)) == 10 * 99_999 // 2 + 1 - 2
