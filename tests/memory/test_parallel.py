"""Memory plans of parallel schedules: buffers share bytes only where the order of the steps keeps them apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.assignment import Schema
from h4hc.memory.check import check_memory
from h4hc.memory.planner import plan_memory
from h4hc.partition import PartitionOptions, partition
from h4hc.schedule import schedule
from h4hc.zoo.build import build_model
from tests.parallel_plans import parallel_problem


class Sram:
    """As much of a system as the memory planner asks for."""

    devices: tuple[Any, ...] = ()
    sram_bytes, line_bytes = 2**20, 4

    def device(self, name: str) -> Any:
        return type("Device", (), {"weights_in_sram": lambda self: False})()


@pytest.mark.parametrize("seed", range(60))
def test_no_two_steps_meet_on_the_same_bytes(seed: int) -> None:
    workload, table = parallel_problem(seed, 8)
    found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL, gap=0.2)).assignment
    plan = schedule(workload, found, table)
    system: Any = Sram()
    assert check_memory(workload, plan, system, plan_memory(workload, plan, system)) == ()


def test_a_race_is_found() -> None:
    """The plan for the same steps one at a time shares bytes that steps at the same time may not share."""
    races = 0
    system: Any = Sram()
    for seed in range(60):
        workload, table = parallel_problem(seed, 8)
        found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL, gap=0.2)).assignment
        plan = schedule(workload, found, table)
        alone = plan_memory(workload, replace(plan, schema=Schema.SEQUENTIAL), system)
        races += any(fault.rule == "race" for fault in check_memory(workload, plan, system, alone))
    assert races >= 3


@pytest.mark.slow
def test_a_network_in_parallel_is_planned_checked_and_reported(tmp_path: Any) -> None:
    from h4hc.api import verify_folder, write_folder

    model = build_model("fpn-detector", int8=True).SerializeToString()
    options = CompileOptions("npu+cim", schema=Schema.PARALLEL, gap=0.05)
    done = compile_model(model, options)
    assert done.assignment is not None
    assert done.schedule is not None
    report = write_folder(done, tmp_path / "out")
    assert report["totals"]["work_ps"]["nominal"] > report["totals"]["latency_ps"]["nominal"]
    assert sum(row["energy_pj"]["nominal"] for row in report["ledger"]) == done.assignment.energy_pj
    assert report["totals"]["latency_ps"]["nominal"] == done.assignment.latency_ps
    sequential = next(row for row in report["baselines"] if row["name"] == "sequential")
    assert sequential["value_ratio"] > 1
    assert verify_folder(tmp_path / "out").status == "verified"
