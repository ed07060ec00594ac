"""The NPU's cycles against Vela 5.2.0 on operators that it makes many passes of: strides, resizes, moves, norms."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest

from h4hc.cost import device_rejection
from h4hc.units import PS_PER_S
from targets.ethos_u.device import EthosU
from targets.ethos_u.vendor.estimates import operator_estimate
from tests.targets.other_ops import CASES, OTHER_OPS
from tests.targets.vela_layers import Row, conv_workload, npu, npu_of, rows

REACHED = 0.04  # of every operator and mode
REACHED_MEDIAN = 0.01


def _error(row: Row) -> float:
    device, workload = npu_of(row), CASES[row["case"]]()
    op = workload.ops[0]
    assert device_rejection(op, device, workload) is None, row["case"]
    cost = device.cost(op, device.modes()[0], workload)
    reference_ps = int(row["total_cycles"]) * PS_PER_S // cost.clock_hz
    assert cost.latency.low <= reference_ps <= cost.latency.high, row["case"]
    return cost.latency.nominal / reference_ps - 1


def test_cycles_are_the_vendor_tools(record_property: Callable[[str, object], None]) -> None:
    found = [(_error(row), row) for row in rows(OTHER_OPS)]
    assert {row["case"] for _, row in found} == set(CASES)
    assert len({(row["accel"], row["memmode"]) for _, row in found}) == 3
    found.sort(key=lambda item: -abs(item[0]))
    lines = [f"  {row['case']:32} {row['accel']} {row['memmode']:12} {error:+.2%}" for error, row in found]
    record_property("summary", "\n".join(("Other operators against Vela 5.2.0, the ten worst:", *lines[:10])))
    assert abs(found[0][0]) <= REACHED, lines[0]
    assert median(abs(error) for error, _ in found) <= REACHED_MEDIAN


@pytest.mark.slow
def test_figures_are_those_of_the_tool() -> None:
    """The table says what the tool says of the same operators; encoded weights vary a little with their values."""
    for row in rows(OTHER_OPS):
        device, workload = npu_of(row), CASES[row["case"]]()
        assert isinstance(device, EthosU)
        told = operator_estimate(device.spec, workload.ops[0], workload)
        assert told.cycles.total == int(row["total_cycles"]), row["case"]
        assert told.cpu_ops == 0, row["case"]


def test_a_long_stride_costs_more_than_its_work() -> None:
    """Stride 4 takes a pass for each position, with the weights read anew: dearer than all positions of stride 3."""
    device = npu("ethos-u55-128", "", "Sram_Only")
    cycles = []
    for stride in (3, 4):
        workload = conv_workload(16, 32, (32, 32), (4, 4), stride, same=False)
        cycles.append(device.cost(workload.ops[0], device.modes()[0], workload).cycles or 0)
    assert cycles[1] > 2 * cycles[0]
