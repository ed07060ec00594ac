"""The host's cost model against hand calculations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from h4hc.costtypes import ZERO, Bound, Cost
from h4hc.errors import TargetError
from h4hc.quantity import quantities
from h4hc.target_file import load_system
from h4hc.workload import ElementwiseParams, GenericParams, OpKind, Workload
from targets.cortex_m.device import CortexM
from tests.targets import samples
from tests.targets.bounds import idle_bounds
from tests.targets.vela_layers import conv_workload, fc_workload

HOST = load_system("host").device("host")
PS_A_CYCLE = 2500  # 400 MHz


def load_device(target: str) -> CortexM:
    device = load_system(target).device("host")
    assert isinstance(device, CortexM)
    return device


def _cost(workload: Workload) -> Cost:
    return HOST.cost(workload.ops[0], HOST.modes()[0], workload)


def test_convolution_by_hand() -> None:
    """4.75 MAC and 1/17 result a cycle, 9216 bytes of weights at 500 MB/s, 1200 cycles of dispatch."""
    workload = conv_workload(32, 32, (16, 16), (3, 3))
    cost = _cost(workload)
    macs, results = 32 * 32 * 9 * 256, 32 * 256
    cycles = macs / 4.75 + results * 17 + 1200
    assert cost.latency.nominal == pytest.approx(cycles * PS_A_CYCLE + 9216 * 2000, rel=1e-6)
    assert cost.bound is Bound.COMPUTE
    stalled = 9216 / 500e6 * cost.clock_hz  # the core waits for its weights at 0.8 of the energy of a busy cycle
    energy = (cycles + 0.8 * stalled) * 20 + 9216 * 40 + (8192 + 8192) * 1.5
    assert cost.energy.nominal == pytest.approx(energy, rel=1e-6)
    assert dict(cost.bytes_moved) == {"sram": 16384, "flash": 9216}


def test_rates_bound_the_interval() -> None:
    """2.4 to 8 MAC a cycle, 8 to 34 cycles a result."""
    compute = _cost(conv_workload(32, 32, (64, 64), (3, 3))).terms[0].latency
    macs, results = 32 * 32 * 9 * 4096, 32 * 4096
    assert compute.low == pytest.approx((macs / 8 + results * 8) * PS_A_CYCLE, rel=1e-6)
    assert compute.high == pytest.approx((macs / 2.4 + results * 34) * PS_A_CYCLE, rel=1e-6)


def test_waiting_for_the_sram_costs_the_core() -> None:
    """Activations of a tenth of a cycle each, 2 bytes at 1 B/cycle: of 2 cycles an element the core waits 1.9."""
    sets = ("host.rates.int8.elements.activation=0.1", "host.memory_rate=1", "host.stall_share=0.5")
    host = load_system("host", sets).device("host")
    workload = samples.elementwise(OpKind.ACTIVATION, "sigmoid")
    cost = host.cost(workload.ops[0], host.modes()[0], workload)
    count = workload.ops[0].output_bytes
    assert cost.latency.nominal == pytest.approx((2 * count + 1200) * PS_A_CYCLE, rel=1e-6)
    assert cost.energy.nominal == pytest.approx((0.1 * count + 0.5 * 1.9 * count + 1200) * 20 + 3.0 * count, rel=1e-6)


@pytest.mark.parametrize("kind", list(OpKind))
def test_bounds_of_energy_are_those_of_the_waiting_core(kind: OpKind) -> None:
    """energy per cycle * (dispatch + compute + share * what the latency has beyond them) + memories, at each bound.

    Worked out from the latency terms, which the energy does not use.
    """
    workload = samples.legal()[kind]
    spec, cost = load_device("host").spec, _cost(workload)
    terms = {t.name: t.latency for t in cost.terms}
    moved = dict(cost.bytes_moved)
    op = workload.ops[0]
    sram, flash = spec.shared.sram, spec.shared.flash
    for bound, name in (("low", "low"), ("nominal", "value"), ("high", "high")):
        busy = sum(getattr(terms[t], bound) for t in ("compute", "dispatch") if t in terms)
        stalled = getattr(cost.latency, bound) - busy
        cycles = (busy + getattr(spec.stall_share, name) * stalled) / PS_A_CYCLE
        energy = cycles * getattr(spec.energy_per_cycle, name) + moved.get("flash", 0) * getattr(
            flash.read_energy, name
        )
        if "sram" in moved:
            energy += op.input_bytes * getattr(sram.read_energy, name)
            energy += op.output_bytes * getattr(sram.write_energy, name)
        assert getattr(cost.energy, bound) == pytest.approx(energy, rel=1e-4)


def test_loads_may_not_fill_the_flash() -> None:
    """At worst the core reaches 0.3 of the flash's bandwidth."""
    weights = next(t for t in _cost(fc_workload(1, 1024, 1000)).terms if t.name == "weights").latency
    assert weights.low == weights.nominal == 1_024_000 * 2000
    assert weights.high == pytest.approx(1_024_000 * 2000 / 0.3, rel=1e-6)


@pytest.mark.parametrize("key", ["stall_share", "fetch_share"])
def test_a_share_is_at_most_one(key: str) -> None:
    with pytest.raises(TargetError, match=rf"{key}.*\n.*\n.*a share is at most 1"):
        load_system("host", (f"host.{key}=1.1",))


def test_types_order_as_the_core_does() -> None:
    costs = [
        _cost(conv_workload(32, 32, (16, 16), (3, 3), dtype=t)).latency.nominal
        for t in ("int8", "float16", "float32", "float64")
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_single_vector_waits_for_its_weights() -> None:
    cost = _cost(fc_workload(1, 1024, 1000))
    assert cost.bound is Bound.MEMORY


def test_view_is_a_descriptor() -> None:
    cost = _cost(samples.legal()[OpKind.VIEW])
    assert cost.latency.nominal == 60 * PS_A_CYCLE
    assert cost.bound is Bound.OVERHEAD
    assert cost.bytes_moved == ()


def test_fused_table_costs_and_clamp_does_not() -> None:
    plain, clamp, table = (_cost(conv_workload(8, 8, (16, 16), (1, 1), activation=a)) for a in ("", "relu6", "gelu"))
    assert plain.latency == clamp.latency
    assert table.latency.nominal - plain.latency.nominal == 2 * 8 * 256 * PS_A_CYCLE


def test_transpose_is_dearer_than_a_copy() -> None:
    transpose, copy = (_cost(samples.move(OpKind.MOVE, f)).latency.nominal for f in ("transpose", "concat"))
    assert transpose > copy


def test_simple_and_slow_functions() -> None:
    add, power = (_cost(samples.elementwise(OpKind.ELEMENTWISE, f)).latency.nominal for f in ("add", "pow"))
    assert power > 4 * add


def test_a_sum_of_many_tensors_is_a_pass_for_each() -> None:
    """ONNX's Sum, Max, Min and Mean take any number; `where` takes three and selects once."""
    two, five, where = (
        _cost(samples.elementwise(OpKind.ELEMENTWISE, f, inputs=n)).terms[0].latency.nominal
        for f, n in (("add", 2), ("add", 5), ("where", 3))
    )
    assert five == 4 * two
    assert where == two


@pytest.mark.parametrize(("function", "rate"), [("relu", 2), ("leaky_relu", 2), ("exp", 30)])
def test_a_clamp_in_float_is_no_polynomial(function: str, rate: int) -> None:
    """By itself and fused."""
    workload = samples.elementwise(OpKind.ACTIVATION, function)
    op = replace(workload.ops[0], dtype="float32")
    compute = _cost(replace(workload, ops=(op,))).terms[0].latency.nominal
    assert compute == rate * 3136 * PS_A_CYCLE
    plain, fused = (
        _cost(conv_workload(8, 8, (16, 16), (1, 1), activation=a, dtype="float32")).latency.nominal
        for a in ("", function)
    )
    assert fused - plain == (0 if function == "relu" else rate * 2048 * PS_A_CYCLE)


def test_empty_operator_costs_its_call() -> None:
    workload = samples.legal()[OpKind.GENERIC]
    params = GenericParams("generic", "NonMaxSuppression", "", 0)
    op = replace(workload.ops[0], params=params, input_bytes=0, output_bytes=0)
    cost = _cost(replace(workload, ops=(op,)))
    assert cost.latency.nominal == 1200 * PS_A_CYCLE
    assert cost.bound is Bound.OVERHEAD


def test_host_is_a_full_target_for_products_of_activations() -> None:
    """The NPU emulates them at one or two MACs a cycle; on the host a result of 32 products costs 24 cycles."""
    workload = samples.matmul(4, 64, 32, 64)
    npu = load_system("npu").device("npu")
    on_npu = npu.cost(workload.ops[0], npu.modes()[0], workload)
    on_host = _cost(workload)
    assert 0.8 < workload.ops[0].macs / on_npu.cycles < 2.5
    assert 1.2 < workload.ops[0].macs / on_host.cycles < 1.5
    assert 1 / 3 < on_host.latency.nominal / on_npu.latency.nominal < 3


def test_division_by_a_constant_is_a_table() -> None:
    workload = samples.elementwise(OpKind.ELEMENTWISE, "div")
    params = ElementwiseParams("elementwise", "div", 3136, 2, "scalar")
    scalar = replace(workload, ops=(replace(workload.ops[0], params=params),))
    table = samples.elementwise(OpKind.ACTIVATION, "sigmoid")
    assert _cost(scalar).latency == _cost(table).latency
    assert _cost(workload).latency.nominal > 4 * _cost(scalar).latency.nominal


def test_generic_operators_pay_for_their_products() -> None:
    """An LSTM of 26 MMAC: its elements at the generic rate, its products at the matmul rate."""
    plain = samples.legal()[OpKind.GENERIC]
    heavy = replace(plain, ops=(replace(plain.ops[0], macs=26_000_000),))
    extra = _cost(heavy).latency.nominal - _cost(plain).latency.nominal
    assert extra == pytest.approx(26_000_000 / 4.75 * PS_A_CYCLE, rel=0.01)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["fully_connected", "matmul", "norm"])
def test_fused_function_is_paid_by_the_element(kind: str, dtype: str) -> None:
    """Not by the byte: a float32 result has four a value."""
    rates = {"int8": 2, "float32": 30}
    shape = (4, 96)
    workload = {
        "fully_connected": fc_workload(*(4, 64, 96), dtype=dtype),
        "matmul": samples.matmul(2, 16, 32, 12),
        "norm": samples.vector(OpKind.NORM, "layer_norm", *shape),
    }[kind]
    tensors = tuple(replace(t, dtype=dtype, size_bytes=t.elements * 4) for t in workload.tensors)
    op = replace(workload.ops[0], dtype=dtype, output_bytes=4 * 384, activation="")
    plain = replace(workload, ops=(op,), tensors=tensors)
    fused = replace(plain, ops=(replace(op, activation="gelu"),))
    assert plain.tensor["y"].elements == 384
    extra = _cost(fused).latency.nominal - _cost(plain).latency.nominal
    assert extra == 384 * rates[dtype] * PS_A_CYCLE


@pytest.mark.parametrize(
    "workload",
    [samples.pool("max", size=30), samples.elementwise(OpKind.ELEMENTWISE, "max", inputs=2)],
    ids=["max pool", "maximum"],
)
def test_change_of_scale_is_paid_by_the_element(workload: Workload) -> None:
    """3 cycles an output element."""
    op = replace(workload.ops[0], rescales=True)
    energies = _cost(workload).energy.nominal, _cost(replace(workload, ops=(op,))).energy.nominal
    assert energies[1] - energies[0] == 3 * 20 * workload.tensor["y"].elements


def test_view_that_rescales_is_a_pass() -> None:
    workload = samples.legal()[OpKind.VIEW]
    cost = _cost(replace(workload, ops=(replace(workload.ops[0], rescales=True),)))
    assert cost.latency.nominal == (1200 + 3 * 3136) * PS_A_CYCLE
    assert dict(cost.bytes_moved) == {"sram": 2 * 3136}


def test_view_rests_on_no_memory_figure() -> None:
    workload = samples.legal()[OpKind.VIEW]
    marks = [
        load_system("host", (f"{key}=1",)).device("host").cost(workload.ops[0], HOST.modes()[0], workload).marks
        for key in ("host.memory_rate", "sram.read_energy", "host.view_overhead")
    ]
    assert ["user" in m for m in marks] == [False, False, True]


def test_resize_pays_for_every_image_of_the_batch() -> None:
    one = samples.legal()[OpKind.RESIZE]
    many = replace(one, tensors=tuple(replace(t, shape=(4, *t.shape[1:])) for t in one.tensors))
    fixed = _cost(replace(one, tensors=tuple(replace(t, shape=(0, *t.shape[1:])) for t in one.tensors)))
    single, batch = (_cost(w).terms[0].latency.nominal for w in (one, many))
    assert batch == pytest.approx(4 * single, rel=1e-3)
    assert fixed.terms[0].latency.nominal < single


def test_long_products_are_worth_more_than_short_ones() -> None:
    """The same MACs in fewer results: what a result costs is shared by more products."""
    short, long = (conv_workload(channels, 16 * 96 // channels, (16, 16), (1, 1)) for channels in (16, 96))
    assert short.ops[0].macs == long.ops[0].macs
    assert _cost(short).latency.nominal > 2 * _cost(long).latency.nominal


CORES = {"m4": "host-m4", "m7": "host-m7", "m33": "host-m33", "m55": "host", "m85": "host-m85"}


@pytest.mark.parametrize("target", CORES.values(), ids=CORES)
def test_no_rate_beats_the_peak(target: str) -> None:
    """Of 8-bit products; and a vector core's peak is that of four scalar ones."""
    spec = load_device(target).spec
    assert spec.mac_peak.value == (8 if target in ("host", "host-m85") else 2)
    rates = spec.rates.int8.macs
    assert all(getattr(rates, name).high <= spec.mac_peak.value for name in type(rates).model_fields)


def test_cores_order_as_they_were_built() -> None:
    """Cycles of one convolution: M4 and M33 alike, then M7, then those with vectors."""
    workload = conv_workload(32, 32, (32, 32), (3, 3))
    cycles = {
        core: load_device(target).cost(workload.ops[0], HOST.modes()[0], workload).cycles
        for core, target in CORES.items()
    }
    assert cycles["m85"] < cycles["m7"] < min(cycles["m4"], cycles["m33"])
    assert cycles["m55"] < cycles["m7"]
    assert cycles["m33"] == pytest.approx(cycles["m4"], rel=0.25)


@pytest.mark.parametrize("target", CORES.values(), ids=CORES)
def test_half_precision_is_dearer_than_single_without_vectors(target: str) -> None:
    """It runs by conversion there, and at twice the rate of single precision on MVE."""
    half, single = (
        load_device(target).cost(w.ops[0], HOST.modes()[0], w).latency.nominal
        for w in (conv_workload(32, 32, (16, 16), (3, 3), dtype=t) for t in ("float16", "float32"))
    )
    assert (half > single) == (target not in ("host", "host-m85"))


@pytest.mark.parametrize("target", CORES.values(), ids=CORES)
def test_area_and_what_hides(target: str) -> None:
    host = load_device(target)
    low, nominal, high = host.area_mm2()
    assert 0 < low < nominal < high < 10
    workload = fc_workload(1, 1024, 1000)
    assert host.hidden(workload.ops[0], workload.ops[0], workload) == ZERO
    assert dict(host.summary())["area"].endswith("guess")


@pytest.mark.parametrize("target", ["host-m4", "host"])
def test_every_bound_reaches_an_interval(target: str) -> None:
    host = load_device(target)
    idle = idle_bounds((host.spec,), lambda spec: _intervals(replace(host, spec=spec)))
    assert [path for path in idle if not path.startswith("shared.bus.")] == []  # the core has a port of its own


def _intervals(host: CortexM) -> list[object]:
    """Every interval that the device gives for operators of every kind, in every class of element types."""
    found: list[object] = [host.area_mm2(), host.leakage_w()]
    for dtype in ("int8", "float16", "float32", "int64"):
        for workload in (*samples.legal().values(), *OTHERS):
            op = replace(workload.ops[0], dtype=dtype)
            cost = host.cost(op, host.modes()[0], workload)
            found += [cost.latency, cost.energy]
    return found


GROWN = samples.move(OpKind.MOVE, "pad")
REQUANTISED = replace(samples.legal()[OpKind.VIEW].ops[0], rescales=True)
OTHERS = (  # what the legal samples do not ask for
    samples.elementwise(OpKind.ELEMENTWISE, "pow"),
    samples.elementwise(OpKind.ELEMENTWISE, "where", inputs=40),  # so many bytes a result that the port sets the time
    samples.resize("linear"),
    samples.resize("cubic"),
    replace(GROWN, ops=(replace(GROWN.ops[0], input_bytes=GROWN.ops[0].output_bytes // 2),)),
    replace(samples.legal()[OpKind.VIEW], ops=(REQUANTISED,)),
)


@pytest.mark.parametrize("target", CORES.values(), ids=CORES)
def test_guesses_have_bounds_and_facts_say_where_they_are_from(target: str) -> None:
    for path, quantity in quantities(load_device(target).spec):
        if path.startswith("shared."):
            continue
        if quantity.mark == "guess":
            assert quantity.low < quantity.high, path
        else:
            assert quantity.mark in ("published", "derived"), path
        assert len(quantity.source) > 10, path
