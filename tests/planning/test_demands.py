"""--pin and --forbid: what they match, what they refuse, and what the plan makes of them."""

from __future__ import annotations

import pytest

from h4hc.cost import CostTable
from h4hc.costtypes import Mode
from h4hc.errors import InfeasibleError, UserError
from h4hc.partition import PartitionOptions, partition
from h4hc.planning.demands import allowed_modes
from h4hc.workload import Workload
from tests.random_plans import random_problem


def _problem() -> tuple[Workload, CostTable]:
    """A problem of at least three operators that may all run on the host, the NPU and the CIM."""
    for seed in range(1000):
        workload, table = random_problem(seed, 5)
        legal = [{c.mode.device for c in row.costs} for row in table.rows]
        if len(legal) >= 3 and all(devices >= {"host", "npu", "cim"} for devices in legal):
            return workload, table
    raise AssertionError("no such problem")


def test_a_pin_holds_and_costs_no_less() -> None:
    workload, table = _problem()
    free = partition(workload, table, PartitionOptions()).assignment
    pinned = partition(workload, table, PartitionOptions(pins=("op1=npu",), forbids=("op0=host",))).assignment
    assert pinned.mode["op1"] == Mode("npu")
    assert pinned.mode["op0"].device != "host"
    assert pinned.value >= free.value


def test_patterns_match_ids_types_kinds_and_globs() -> None:
    workload, table = _problem()
    for pattern in ("op*", "Test", "generic"):
        allowed = allowed_modes(workload, table, (f"{pattern}=npu",), ())
        assert all(modes == (Mode("npu"),) for modes in allowed), pattern
    one = allowed_modes(workload, table, (), ("op[0]=npu",))
    assert [Mode("npu") in modes for modes in one][:2] == [False, True]


def test_all_mistakes_at_once() -> None:
    workload, table = _problem()
    with pytest.raises(UserError) as caught:
        allowed_modes(workload, table, ("op0", "op0=gpu", "nothing=npu"), ("=npu",))
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    for part in ("is not NODE=DEVICE", "no device or mode 'gpu'", "matches no operator"):
        assert part in text


def test_an_operator_without_a_device_is_named_with_its_rule() -> None:
    workload, table = _problem()
    with pytest.raises(InfeasibleError) as caught:
        allowed_modes(workload, table, ("op0=npu", "op2=npu"), ("op0=npu", "op2=npu"))
    assert [p.where for p in caught.value.problems] == [("op0",), ("op2",)]


def test_an_overflow_names_resource_demand_bound_and_levers() -> None:
    workload, table = next(
        (w, t)
        for w, t in (random_problem(seed, 6) for seed in range(1000))
        if t.capacities[0].unit_bytes == 4
        and sum(_cim_bytes(t)) > 8
        and all(any(c.mode == Mode("cim") for c in row.costs) for row in t.rows)
    )
    with pytest.raises(InfeasibleError) as caught:
        partition(workload, table, PartitionOptions(pins=("op*=cim",)))
    text = str(caught.value)
    for part in ("cim weight store", "demand", "bound 8 bytes", "--set cim.macros=", "--pin"):
        assert part in text


def _cim_bytes(table: CostTable) -> list[int]:
    return [
        min((c.mode.units * c.unit_weight_bytes for c in row.costs if c.mode.device == "cim"), default=0)
        for row in table.rows
    ]
