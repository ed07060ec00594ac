"""Whole networks on the cost models, against published and first-order figures.

References for MobileNetV2 1.0, 224, int8: Vela 5.2.0 estimates 7.56 M cycles on U55-128 Shared_Sram, 5.81 M Sram_Only,
and 11.30 ms on U55-256 Shared_Sram at 500 MHz. The savings by CIM were worked out by hand from the equations in
targets/cim/README.md, with unlimited capacity and the best device for each operator.
"""

from __future__ import annotations

import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.cost import op_row
from h4hc.target_file import load_system
from h4hc.workload import Workload
from h4hc.zoo.build import build_model

UNLIMITED = f"cim.bank_bits={1024**3}"


@pytest.fixture(scope="module")
def mobilenet() -> Workload:
    model = build_model("mobilenet-v2").SerializeToString()
    workload = compile_model(model, CompileOptions("host"), stop_after="workload").workload
    assert workload is not None
    return workload


def _npu_only(workload: Workload, *sets: str) -> tuple[int, int]:
    """Latency [ps] and energy [pJ] with every operator on the NPU."""
    system = load_system("npu", sets)
    mode = system.device("npu").modes()[0]
    costs = [op_row(op, system, workload).cost(mode) for op in workload.ops]
    return sum(c.latency.nominal for c in costs), sum(c.energy.nominal for c in costs)


@pytest.mark.parametrize(
    ("macs", "mode", "mega_cycles"),
    [(128, "Shared_Sram", 7.56), (128, "Sram_Only", 5.81), (256, "Shared_Sram", 5.65)],
)
def test_npu_total_is_the_vendor_tools(mobilenet: Workload, macs: int, mode: str, mega_cycles: float) -> None:
    latency, _ = _npu_only(mobilenet, f"npu.macs={macs}", f"npu.memory_mode={mode}")
    assert latency / 2000 / 1e6 == pytest.approx(mega_cycles, rel=0.01)


@pytest.mark.parametrize(
    ("system", "sets", "saved_latency", "saved_energy", "apart"),
    [  # apart: how far the model's energy saving may be from the one worked out by hand
        ("npu+cim-1x1", ("cim.dedup=true",), 0.340, -0.255, 0.13),
        ("npu+cim-1x4", (), 0.587, 0.419, 0.03),
        ("npu+cim-1x1", ("cim.dedup=true", "cim.macros=4"), 0.592, -1.027, 0.15),
        ("npu+cim", (), 0.656, 0.411, 0.03),
    ],
)
def test_cim_saves_what_the_first_order_says(
    mobilenet: Workload, system: str, sets: tuple[str, ...], saved_latency: float, saved_energy: float, apart: float
) -> None:
    """The story of H4H: a vanilla macro saves time and wastes energy, a multi-CU macro saves both."""
    target = load_system(system, (*sets, UNLIMITED))
    latency = energy = 0
    for op in mobilenet.ops:
        costs = [c for c in op_row(op, target, mobilenet).costs if c.mode.device != "host"]
        best = min(costs, key=lambda c: c.latency.nominal)
        latency, energy = latency + best.latency.nominal, energy + best.energy.nominal
    npu_latency, npu_energy = _npu_only(mobilenet)
    assert 1 - latency / npu_latency == pytest.approx(saved_latency, abs=0.025)
    assert 1 - energy / npu_energy == pytest.approx(saved_energy, abs=apart)
