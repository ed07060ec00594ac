"""Energy of the NPU: work and bytes are charged whatever the time, the clock for each calibrated cycle."""

from __future__ import annotations

import functools
from itertools import product

import pytest

from h4hc.cost import device_rejection
from h4hc.costtypes import CLOCK, ZERO, Cost, Interval
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import OpKind, Workload
from targets.ethos_u.device import EthosU
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload

FREE = {OpKind.VIEW: "nothing moves", OpKind.MOVE: "a transpose is copied by DMA: its bytes are charged"}
ENERGIES = (
    "npu.mac_energy", "npu.output_energy", "npu.cycle_energy", "npu.flash_port.write_energy",
    "sram.read_energy", "sram.write_energy", "flash.read_energy",
)  # fmt: skip


@functools.cache
def _npu(*sets: str) -> EthosU:
    device = load_system("npu128", sets).device("npu")
    assert isinstance(device, EthosU)
    return device


def _cost(device: EthosU, workload: Workload) -> Cost:
    return device.cost(workload.ops[0], device.modes()[0], workload)


def _counted(energy: str, workload: Workload) -> int:
    """How often one energy is charged: all others are zero."""
    return _cost(_npu(*(f"{name}={1 if name == energy else 0}" for name in ENERGIES)), workload).energy.nominal


def _runs() -> dict[OpKind, Workload]:
    device = _npu()
    return {k: w for k, w in samples.legal().items() if device_rejection(w.ops[0], device, w) is None}


# --- work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "workload",
    [
        conv_workload(16, 32, (14, 14), (3, 3)),
        conv_workload(32, 32, (14, 14), (3, 3), groups=32),
        conv_workload(32, 32, (14, 14), (3, 3), groups=4),
        fc_workload(4, 64, 96),
    ],
    ids=["conv", "depthwise", "grouped", "fully connected"],
)
def test_each_mac_of_a_layer_with_weights_is_charged_once(workload: Workload) -> None:
    assert _counted("npu.mac_energy", workload) == workload.ops[0].macs
    (name,) = workload.outputs
    assert _counted("npu.output_energy", workload) == workload.tensor[name].elements


def test_products_of_activations_are_charged_as_they_are_carried_out() -> None:
    """Column by column: each row times it, to int32 through the output stage; then the sums, in the array."""
    batch, m, k, n = 2, 12, 20, 7
    multiplied = added = results = 0
    for _ in product(range(batch), range(n)):
        for _ in range(m):
            multiplied += k
            added += k
            results += 1
    workload = samples.matmul(batch, m, k, n)
    assert added == workload.ops[0].macs
    assert _counted("npu.mac_energy", workload) == added
    assert _counted("npu.output_energy", workload) == multiplied + results


def test_a_product_of_activations_costs_more_than_one_with_weights() -> None:
    """The same MACs, and every product through SRAM: never cheaper, at any bound."""
    weights, activations = (_cost(_npu(), w).energy for w in (fc_workload(64, 64, 64), samples.matmul(1, 64, 64, 64)))
    assert weights.low < activations.low
    assert weights.nominal < activations.nominal
    assert weights.high < activations.high


@pytest.mark.parametrize("kind", sorted(_runs()))
def test_no_operator_is_carried_out_without_work(kind: OpKind) -> None:
    """Every result passes the output stage, or nothing is computed."""
    workload = _runs()[kind]
    (name,) = workload.outputs
    results = _counted("npu.output_energy", workload)
    assert results == 0 if kind in FREE else results >= workload.tensor[name].elements


def test_a_pooling_is_charged_what_its_windows_hold() -> None:
    for function in ("max", "average"):
        assert _counted("npu.mac_energy", samples.pool(function, 3, 2, 15, 16)) == 3 * 3 * 7 * 7 * 16


# --- time --------------------------------------------------------------------------------------------------


def _terms(cost: Cost) -> tuple[Interval, list[Interval]]:
    """Energy of the clock, and of the other terms."""
    (clock,) = (t.energy for t in cost.terms if t.resource == CLOCK)
    return clock, [t.energy for t in cost.terms if t.resource != CLOCK and t.energy != ZERO]


@pytest.mark.parametrize("kind", sorted(_runs()))
def test_calibration_scales_time_and_what_goes_with_it(kind: OpKind) -> None:
    workload = _runs()[kind]
    plain, slow = (_cost(_npu(f"npu.calibration={by}"), workload) for by in (1, 1.5))
    assert slow.latency.nominal == pytest.approx(1.5 * plain.latency.nominal, abs=2)
    assert slow.cycles == pytest.approx(1.5 * plain.cycles, abs=1.5)
    assert _terms(slow)[0].nominal == pytest.approx(1.5 * _terms(plain)[0].nominal, abs=2)
    assert _terms(slow)[1] == _terms(plain)[1]
    assert slow.bytes_moved == plain.bytes_moved


@pytest.mark.parametrize("kind", sorted(_runs()))
@pytest.mark.parametrize("by", [1, 1.3])
def test_cycles_are_the_latency(kind: OpKind, by: float) -> None:
    cost = _cost(_npu(f"npu.calibration={by}"), _runs()[kind])
    assert cost.cycles == pytest.approx(cost.latency.nominal * cost.clock_hz / PS_PER_S, abs=1)


@pytest.mark.parametrize("kind", sorted(_runs()))
def test_energy_spans_its_terms(kind: OpKind) -> None:
    """The clock's bounds are a cycle's bounds times the cycles of the latency's own bounds."""
    device = _npu()
    cost, each = _cost(device, _runs()[kind]), device.spec.cycle_energy
    clock, others = _terms(cost)
    for bound, energy in (("low", each.low), ("nominal", each.value), ("high", each.high)):
        ticks = getattr(cost.latency, bound) * cost.clock_hz / PS_PER_S
        assert getattr(clock, bound) == pytest.approx(energy * ticks, rel=1e-3, abs=1)
        assert getattr(cost.energy, bound) == getattr(clock, bound) + sum(getattr(e, bound) for e in others)
    assert cost.energy.low < cost.energy.nominal < cost.energy.high
