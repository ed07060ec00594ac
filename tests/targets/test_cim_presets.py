"""Presets of published macros against the figures they cite; area, wake-up, wear and honesty of a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from h4hc.cost import device_rejection
from h4hc.costtypes import ZERO, Mode
from h4hc.system_spec import Shared
from h4hc.target_file import list_targets, load_system
from h4hc.workload import OpKind
from targets.cim import upkeep
from targets.cim.chips import Published, at_precision, read_published
from targets.cim.device import Cim
from targets.cim.full_use import at_full_use
from targets.cim.spec import CimSpec, Residency
from tests.targets import samples
from tests.targets.bounds import idle_bounds
from tests.targets.test_cim import cim_device
from tests.targets.vela_layers import conv_workload, fc_workload

PUBLISHED = read_published(Path(__file__).parents[1] / "data" / "cim_macros.csv")
PRESETS = {e.name.partition("/")[2] for e in list_targets() if e.kind == "device" and e.name.startswith("cim/")}
DENSE = [p for p in PUBLISHED if p.dense]
NARROW = {"aimc1": "cim.weight_bits", "sinangil": "cim.weight_bits", "neurram": "cim.weight_bits"}


def device_of(name: str, folder: Path, *sets: str) -> Cim:
    """The preset as the CIM device of the system `cim`."""
    file = folder / "one.toml"
    file.write_text(f'extends = "cim"\ntitle = "{name}"\n[devices.cim]\npreset = "cim/{name}"\n')
    device = load_system(str(file), sets).device("cim")
    assert isinstance(device, Cim)
    return device


def test_every_dense_macro_has_a_preset_and_no_sparse_one_has() -> None:
    assert {p.id for p in DENSE} <= PRESETS
    assert not {p.id for p in PUBLISHED if not p.dense} & PRESETS


@pytest.mark.parametrize("chip", DENSE, ids=lambda p: p.id)
def test_preset_agrees_with_the_figures_it_cites(chip: Published, tmp_path: Path) -> None:
    """At full use: the nominal is the published figure (0.5 %), or, for ranges, the interval holds it."""
    spec = device_of(chip.id, tmp_path).spec
    assert spec.kind == chip.kind
    silicon = at_precision(chip, spec.input_bits, spec.weight_bits, spec.input_cycles)
    compared = 0
    for figure, (low, nominal, high) in at_full_use(spec).items():
        known = silicon[figure]
        if known is None:
            continue
        compared += 1
        assert low <= known * 1.001, figure
        assert known <= high * 1.001, figure
        best_case = chip.id in ("mram22nmc", "mram22dig") or (chip.id, figure) == ("colonnade", "energy")
        if not best_case:  # those cite the best of a published range, and plan with its worst
            assert nominal == pytest.approx(known, rel=0.005), figure
    assert compared >= 1


WITH_TOPS = [p for p in DENSE if p.row["tops"] and p.id != "colonnade"]  # its TOPS is of another supply than its energy


@pytest.mark.parametrize("chip", WITH_TOPS, ids=lambda p: p.id)
def test_throughput_follows_from_the_structure(chip: Published, tmp_path: Path) -> None:
    """2 x MACs of a product / its time, at the precision of the row."""
    device = device_of(chip.id, tmp_path)
    spec = device.spec
    bits = spec.input_bits * spec.weight_bits / (int(chip.row["act_bits"]) * int(chip.row["weight_bits"]))
    peak = next(r for r in device.ridge_points() if r.memory == "sram").peak_macs_per_s
    assert 2 * peak * bits / 1e12 == pytest.approx(float(chip.row["tops"]), rel=0.02)


def test_throughput_is_compared_where_it_is_published() -> None:
    assert {p.id for p in WITH_TOPS} == {"dimc1", "dimc2", "jia", "sinangil", "wang"}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_preset_plans_int8_or_says_why_not(name: str, tmp_path: Path) -> None:
    device = device_of(name, tmp_path)
    workload = conv_workload(8, 8, (6, 6), (1, 1))
    rejection = device_rejection(workload.ops[0], device, workload)
    assert (rejection.code if rejection else None) == NARROW.get(name)
    if rejection is None:
        assert device.cost(workload.ops[0], Mode("cim"), workload).latency.low > 0
    note = device.inexact()
    assert (note is not None) == device.spec.kind.endswith("analog")
    assert dict(device.summary())["outputs"] == (note or "bit-exact")


def test_narrow_inputs_are_refused() -> None:
    workload = fc_workload(4, 16, 16)
    device = cim_device("cim.input_bits=7", "cim.bits_per_cycle=7")
    rejection = device_rejection(workload.ops[0], device, workload)
    assert rejection is not None
    assert rejection.code == "cim.input_bits"
    assert any(r.code == "cim.input_bits" and r.always for r in device.rules())


# --- area, wake-up, wear ---------------------------------------------------------------------------------------


def test_area_grows_with_macros_units_and_bank() -> None:
    """By hand: 4 macros of 8 Mb of 0.22 um2, and 4 x 128 lanes of 239.2 um2 each."""
    low, nominal, high = cim_device().area_mm2()
    assert nominal == pytest.approx(4 * (8388608 * 0.22 + 4 * 128 * 239.2) / 1e6)
    assert low < nominal < high
    one_unit = cim_device("cim.cus=1").area_mm2()[1]
    assert nominal - one_unit == pytest.approx(4 * 3 * 128 * 239.2 / 1e6)
    assert cim_device("cim.macros=8").area_mm2()[1] == pytest.approx(2 * nominal)
    assert cim_device("cim.bank_bits=4194304").area_mm2()[1] < nominal


def test_converters_take_area_and_sharing_saves_it() -> None:
    device = cim_device(system="npu+cim-analog")
    shared = cim_device("cim.adc.columns_per_adc=4", system="npu+cim-analog")
    adc = device.spec.adc
    assert adc is not None
    saved = device.area_mm2()[1] - shared.area_mm2()[1]
    assert saved == pytest.approx(8 * (96 - 24) * adc.area.value / 1e6)
    workload = fc_workload(4, 64, 64)
    slow, fast = (d.cost(workload.ops[0], Mode("cim"), workload).latency.nominal for d in (shared, device))
    assert slow > fast


def test_nothing_hides_and_resident_macros_neither_wake_nor_wear() -> None:
    device, workload = cim_device(), fc_workload(4, 64, 64)
    assert device.hidden(workload.ops[0], workload.ops[0], workload) == ZERO
    assert device.wake_up()[:2] == (ZERO, ZERO)
    assert upkeep.life_years(device.spec) is None
    assert "never rewritten" in dict(device.summary())["life"]


BUSY = (  # bound by the macro, by the bus, and a view
    samples.legal()[OpKind.DEPTHWISE],
    fc_workload(1, 16, 16),
    conv_workload(64, 64, (56, 56), (1, 1)),
    fc_workload(64, 512, 8),
    samples.legal()[OpKind.VIEW],
)


@pytest.mark.parametrize("residency", ["resident", "per_wake_up", "per_inference"])
@pytest.mark.parametrize("name", ["mram-4x4", "mram-1x1", "sram-8", "analog-8", "rram-8", "neurram"])
def test_every_bound_reaches_an_interval_or_is_named_as_idle(name: str, residency: Residency, tmp_path: Path) -> None:
    """Cost, area, leakage, share of the wake-up, life, inexactness. Also with memories so fast that the write port
    shows, and a bus so slow."""
    spec = device_of(name, tmp_path).spec
    given = {field: getattr(spec, field) for field in type(spec).model_fields}
    fast, slow = dict.fromkeys(("low", "value", "high"), 1e13), {"low": 1e5}
    variants = [
        spec.shared,
        _with_bandwidths(spec.shared, flash=fast, bus=fast),
        _with_bandwidths(spec.shared, flash={}, bus=slow),
    ]
    # made anew: a copy would keep what its source remembers of the old residency
    kept = tuple(CimSpec.model_construct(**{**given, "shared": v, "residency": residency}) for v in variants)
    idle = set(idle_bounds(kept, _intervals))
    silent = tuple(f"{number}." for number in upkeep.without_effect(kept[0]))
    expected = {path for path in idle if path.startswith(silent)}
    if residency == "resident":
        expected |= {path for path in idle if path.startswith("shared.flash.")}
    assert idle == expected
    assert all(any(path.startswith(s) for path in idle) for s in silent)


def _with_bandwidths(shared: Shared, flash: dict[str, float], bus: dict[str, float]) -> Shared:
    changed = {
        name: group.model_copy(update={"bandwidth": group.bandwidth.model_copy(update=update)})
        for name, group, update in (("flash", shared.flash, flash), ("bus", shared.bus, bus))
    }
    return shared.model_copy(update=changed)


def _intervals(spec: CimSpec) -> list[object]:
    device = Cim("cim", spec, ())
    found: list[object] = [device.area_mm2(), device.leakage_w(), device.wake_up()[:2]]
    found += [upkeep.life_years(spec), device.inexact()]
    for workload in BUSY:
        cost = device.cost(workload.ops[0], Mode("cim"), workload)
        found += [cost.latency, cost.energy]
    return found


def test_numbers_without_effect_are_shown() -> None:
    shown = dict(cim_device().summary())
    assert shown["without effect while resident"].split(", ") == [
        "write_bandwidth", "write_energy", "wake_ups_per_s", "endurance", "wake_up", "wake_up_energy",
    ]  # fmt: skip
    awake = dict(cim_device("cim.residency=per_wake_up").summary())
    assert not [row for row in awake if row.startswith("without effect")]
    assert awake["wake-up, share of one inference"] == (
        "10000000 [1000000 to 392000000] ps, 400000 [4000 to 40000000] pJ"
    )


def test_life_of_rewritten_mram_by_hand() -> None:
    """1e14 writes at 30 a second are about 105,600 years; 1e6 at 30 a second 9.3 hours."""
    wake = cim_device("cim.residency=per_wake_up", "cim.wake_ups_per_s=30")
    low, nominal, high = upkeep.life_years(wake.spec) or (0, 0, 0)
    assert nominal == pytest.approx(105_625, rel=1e-3)
    assert high == nominal
    assert low * 365.25 * 24 == pytest.approx(1e6 / 30 / 3600)
    each = cim_device("cim.residency=per_inference", "cim.wake_ups_per_s=30", "cim.inferences_per_wake_up=10")
    shorter = upkeep.life_years(each.spec)
    assert shorter is not None
    assert shorter[1] == pytest.approx(nominal / 10)
    assert "years" in dict(wake.summary())["life"]


def test_writing_mram_each_inference_is_dearer_than_computing() -> None:
    """One MiB at 54 MB/s is 19 ms; kept over 100 inferences a hundredth of it."""
    workload = fc_workload(1, 1024, 1024)
    op, mode = workload.ops[0], Mode("cim", 4)
    stays, each, awake = (
        cim_device(*sets).cost(op, mode, workload)
        for sets in (
            (),
            ("cim.residency=per_inference",),
            ("cim.residency=per_wake_up", "cim.inferences_per_wake_up=100"),
        )
    )
    reload = {t.name: t for t in each.terms}["reload"]
    assert reload.latency.nominal == pytest.approx(1024 * 1024 / 54e6 * 1e12, abs=1)
    assert reload.latency.nominal > 100 * stays.latency.nominal
    assert reload.energy.nominal > 8 * 1024 * 1024 * 25
    assert awake.latency.nominal - stays.latency.nominal == pytest.approx(reload.latency.nominal / 100, abs=2)
    assert (stays.unit_weight_bytes, each.unit_weight_bytes) == (1024 * 1024 // 4, 0)
    assert awake.unit_weight_bytes == stays.unit_weight_bytes
    assert cim_device("cim.residency=per_inference").capacity().unit_bytes is None
    assert cim_device("cim.residency=per_wake_up").capacity().unit_bytes == 1024 * 1024


def test_wake_up_is_shared_by_the_inferences_of_a_wake_up() -> None:
    sets = ("cim.residency=per_wake_up", "cim.wake_up=10", "cim.wake_up_energy=1000")
    latency, energy, _ = cim_device(*sets).wake_up()
    assert (latency.nominal, energy.nominal) == (10_000_000, 4000)
    latency, energy, _ = cim_device(*sets, "cim.inferences_per_wake_up=10").wake_up()
    assert (latency.nominal, energy.nominal) == (1_000_000, 400)


def test_nominal_figures_of_the_default_device_are_pinned() -> None:
    """A 3x3 convolution by hand: 1152 weights = 9 words an output, 64 outputs on 4 macros, 196 positions by 4."""
    workload = conv_workload(128, 64, (14, 14), (3, 3))
    cost = cim_device().cost(workload.ops[0], Mode("cim", 4), workload)
    assert cost.cycles == 9 * 16 * 49
    assert cost.latency.nominal == 9 * 16 * 49 * 3000 + 30_000 + 500_000
    assert dict(cost.bytes_moved)["bank"] == 9 * 64 * 49 * 128
