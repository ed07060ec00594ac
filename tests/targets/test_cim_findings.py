"""Findings of others on compute-in-memory, reproduced by the one cost model.

KU Leuven (arXiv 2405.14978): small digital macros beat large analog ones on depthwise layers, large ones win on
convolution and pointwise layers. DIANA: the published latency equations of its analog core (PLiNIO's cost model).
H4H (ASP-DAC 2025): several compute units a bank save energy, a bank with one wastes it.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from h4hc.costtypes import Mode
from h4hc.workload import Workload
from targets.cim.device import Cim
from tests.targets.test_cim import cim_device
from tests.targets.test_cim_presets import device_of
from tests.targets.vela_layers import conv_workload, fc_workload

# --- KU Leuven: digital or analog ------------------------------------------------------------------------------

LARGE_LAYERS = {
    "conv": conv_workload(112, 512, (14, 14), (3, 3)),
    "pointwise": conv_workload(1024, 512, (14, 14), (1, 1)),
}
DEPTHWISE = conv_workload(512, 512, (14, 14), (3, 3), groups=512)
NATIVE = 7 * 2 / (8 * 8)  # 7-bit inputs and 2-bit weights of the analog macro, in MACs of 8 x 8 bits


def _of_the_macro(device: Cim, workload: Workload) -> tuple[float, float]:
    """(energy [pJ/MAC], silicon time [mm2 ps/MAC]) of array and converters: no bus, no start, no reload."""
    op = workload.ops[0]
    macros = min(device.spec.macros, 512)
    terms = {t.name: t for t in device.cost(op, Mode("cim", macros), workload).terms}
    post = device.spec.post_energy.value * 512 * 14 * 14
    fill = device.spec.fill.value * 1000
    energy = terms["compute"].energy.nominal - post + (terms["convert"].energy.nominal if "convert" in terms else 0)
    time = (terms["compute"].latency.nominal - fill) * device.area_mm2()[1]
    return energy / op.macs, time / op.macs


@pytest.mark.parametrize("small", ["dimc1", "dimc2", "dimc3"])
def test_small_digital_wins_depthwise_large_analog_wins_the_rest(small: str, tmp_path: Path) -> None:
    """Both at the analog macro's precision: the digital figures are taken in its favour, in proportion to the bits."""
    digital, analog = device_of(small, tmp_path), device_of("aimc1", tmp_path)
    for workload in LARGE_LAYERS.values():
        (energy_d, time_d), (energy_a, time_a) = (_of_the_macro(d, workload) for d in (digital, analog))
        assert energy_a < energy_d * NATIVE
        assert time_a < time_d * NATIVE
    (energy_d, time_d), (energy_a, time_a) = (_of_the_macro(d, DEPTHWISE) for d in (digital, analog))
    assert energy_d < energy_a / NATIVE  # even with the analog macro's low precision for nothing
    assert energy_d * NATIVE < energy_a / 2
    assert time_d * NATIVE < time_a


def test_a_conversion_costs_the_same_for_nine_rows_as_for_a_thousand(tmp_path: Path) -> None:
    """Why: energy a MAC of the converters falls with the filter, as K."""
    analog = device_of("aimc1", tmp_path)
    drawn = []
    for workload in (DEPTHWISE, LARGE_LAYERS["pointwise"]):
        op = workload.ops[0]
        terms = {t.name: t for t in analog.cost(op, Mode("cim"), workload).terms}
        drawn.append(terms["convert"].energy.nominal / op.macs)
    assert drawn[0] / drawn[1] == pytest.approx(1024 / 9, rel=1e-3)


# --- DIANA: 1152 x 512 analog array, 70 ns a product, 8 cycles a row of weights at 260 MHz --------------------------

DIANA_ARRAY = (
    f"cim.read_bits={1152 * 512 * 2}", f"cim.bank_bits={64 * 1152 * 512 * 2}", "cim.diagonal=false",
    "cim.adc.rows=1152", "cim.read_cycle=35", "cim.adc.conversion=35", "cim.fill=0",
    f"cim.write_bandwidth={512 * 2 / 8 / 8 * 260e6}", "flash.bandwidth=1e12", "bus.bandwidth=1e12",
)  # fmt: skip


@pytest.mark.parametrize("cin", [128, 256, 512])
@pytest.mark.parametrize("cout", [64, 512, 513, 1024])
@pytest.mark.parametrize("size", [(8, 8), (14, 7)])
def test_products_of_diana(cin: int, cout: int, size: tuple[int, int], tmp_path: Path) -> None:
    """ceil(Cout / 512) * ceil(Cin / 128) * ox * oy products of 70 ns for 3x3, one output column at a time."""
    device = device_of("aimc1", tmp_path, *DIANA_ARRAY)
    workload = conv_workload(cin, cout, size, (3, 3))
    terms = {t.name: t for t in device.cost(workload.ops[0], Mode("cim"), workload).terms}
    products = ceil(cout / 512) * ceil(cin / 128) * size[0] * size[1]
    assert terms["compute"].latency.nominal == products * 70_000
    if cout <= 512:  # the published load has no factor for more
        cycles = 8 * cin * 3 * 3
        assert terms["reload"].latency.nominal == pytest.approx(cycles / 260e6 * 1e12, abs=1)


def test_where_diana_and_we_differ(tmp_path: Path) -> None:
    """Its load writes only rows that hold weights, ours whole words. Cin = 16: 144 of 1152 rows, eight times longer."""
    device = device_of("aimc1", tmp_path, *DIANA_ARRAY)
    workload = conv_workload(16, 64, (8, 8), (3, 3))
    terms = {t.name: t for t in device.cost(workload.ops[0], Mode("cim"), workload).terms}
    assert terms["reload"].latency.nominal == pytest.approx(8 * (8 * 16 * 9) / 260e6 * 1e12, abs=1)


# --- H4H: compute units -------------------------------------------------------------------------------------------

MOBILENET_LAYERS = {
    "pointwise 24 to 144": conv_workload(24, 144, (56, 56), (1, 1)),
    "depthwise 144": conv_workload(144, 144, (56, 56), (3, 3), groups=144),
    "pointwise 112 to 672": conv_workload(112, 672, (14, 14), (1, 1)),
    "depthwise 672": conv_workload(672, 672, (14, 14), (3, 3), groups=672),
    "pointwise 960 to 160": conv_workload(960, 160, (7, 7), (1, 1)),
    "tokens": fc_workload(196, 128, 512),
}


@pytest.mark.parametrize("name", sorted(MOBILENET_LAYERS))
def test_four_compute_units_read_a_quarter_and_save_energy(name: str) -> None:
    """Vanilla reads a word and moves all inputs for each window: most of its energy, and what the other one shares."""
    workload = MOBILENET_LAYERS[name]
    op = workload.ops[0]
    vanilla = cim_device(system="npu+cim-1x1").cost(op, Mode("cim"), workload)
    multi = cim_device(system="npu+cim-1x4").cost(op, Mode("cim"), workload)
    reads = [dict(c.bytes_moved)["bank"] for c in (vanilla, multi)]
    assert reads[0] / reads[1] == pytest.approx(4, rel=0.07)  # positions do not always divide by four
    assert multi.energy.nominal < 0.45 * vanilla.energy.nominal
    assert multi.latency.nominal < vanilla.latency.nominal
    moved = {t.name: t for t in vanilla.terms}["io"].energy.nominal
    assert 8 * reads[0] * 0.23 + moved > 0.75 * vanilla.energy.nominal


def test_more_macros_save_time_but_no_reads() -> None:
    """Macros share a layer's channels: the same words, read by more ports at once."""
    workload = MOBILENET_LAYERS["pointwise 112 to 672"]
    op, device = workload.ops[0], cim_device("cim.bank_bits=83886080")
    one, four = (device.cost(op, Mode("cim", m), workload) for m in (1, 4))
    assert dict(one.bytes_moved)["bank"] == dict(four.bytes_moved)["bank"]
    assert four.cycles * 4 == one.cycles
    assert four.energy.nominal == one.energy.nominal
