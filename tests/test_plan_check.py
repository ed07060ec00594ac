"""The validator finds each kind of fault; a solver's plan has none."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from h4hc.assignment import Assignment, Case, Placement
from h4hc.cost import CostTable
from h4hc.costtypes import Interval, Mode
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.schedule import Partition, Schedule, schedule
from h4hc.workload import Workload
from tests.random_plans import random_problem

Problem = tuple[Workload, CostTable, Assignment, Schedule]


@pytest.fixture
def good() -> Problem:
    for seed in range(1000):
        workload, table = random_problem(seed, 7)
        if len(workload.ops) < 4 or table.capacities[0].unit_bytes != 1000:
            continue
        found = partition(workload, table, PartitionOptions()).assignment
        together = {p.op: p.mode.device for q, p in itertools.pairwise(found.placements) if q.mode == p.mode}
        hides = any(f.latency.nominal and together.get(f.op) == f.device for f in table.follow_ups)
        if hides and any(p.mode.device == "cim" for p in found.placements):
            return workload, table, found, schedule(workload, found, table)
    raise AssertionError("no such problem")


def _rules(workload: Workload, table: CostTable, assignment: Assignment, plan: Schedule) -> set[str]:
    return {fault.rule for fault in check_plan(workload, table, assignment, plan)}


def _with(assignment: Assignment, at: int, placement: Placement) -> Assignment:
    placements = list(assignment.placements)
    placements[at] = placement
    return replace(assignment, placements=tuple(placements))


def test_a_good_plan_has_no_fault(good: Problem) -> None:
    assert check_plan(*good) == ()


def test_coverage(good: Problem) -> None:
    workload, table, assignment, plan = good
    assert _rules(workload, table, replace(assignment, placements=assignment.placements[1:]), plan) == {"coverage"}
    swapped = (assignment.placements[1], assignment.placements[0], *assignment.placements[2:])
    assert _rules(workload, table, replace(assignment, placements=swapped), plan) == {"coverage"}


def test_order(good: Problem) -> None:
    workload, table, assignment, plan = good
    backwards = replace(workload, ops=workload.ops[::-1])
    turned = replace(assignment, placements=assignment.placements[::-1])
    assert _rules(backwards, table, turned, plan) == {"order"}


def test_legality_units_and_totals(good: Problem) -> None:
    workload, table, assignment, plan = good
    wrong = _with(assignment, 0, Placement("op0", Mode("gpu")))
    assert _rules(workload, table, wrong, plan) >= {"legality"}
    assert _rules(workload, table, _with(assignment, 0, Placement("op0", Mode("npu", 3))), plan) >= {"legality"}
    at = next(i for i, p in enumerate(assignment.placements) if p.mode.device == "cim")
    placed = assignment.placements[at]
    assert "units" in _rules(workload, table, _with(assignment, at, replace(placed, units=())), plan)
    assert "units" in _rules(workload, table, _with(assignment, at, replace(placed, units=(7,))), plan)
    assert _rules(workload, table, replace(assignment, latency_ps=assignment.latency_ps + 1), plan) == {"totals"}


def test_a_value_that_is_not_the_objective_of_the_case(good: Problem) -> None:
    workload, table, assignment, plan = good
    other = replace(assignment, value=assignment.value + 1, bound=assignment.bound + 1)
    assert _rules(workload, table, other, plan) == {"totals"}
    assert _rules(workload, table, replace(assignment, case=Case.WORST), plan) == {"totals"}


def test_what_hides_is_taken_off_once_and_only_between_neighbours(good: Problem) -> None:
    workload, table, assignment, plan = good
    pairs = itertools.pairwise(assignment.placements)
    together = [(p.op, p.mode.device) for q, p in pairs if q.mode.device == p.mode.device]
    paid = [f for f in table.follow_ups if (f.op, f.device) in together and f.latency.nominal]
    idle = [f for f in table.follow_ups if (f.op, f.device) not in together]
    assert paid
    assert idle
    without = tuple(f for f in table.follow_ups if f is not paid[0])
    assert _rules(workload, replace(table, follow_ups=without), assignment, plan) == {"totals"}
    assert check_plan(workload, replace(table, follow_ups=tuple(paid)), assignment, plan) == ()


def test_capacity(good: Problem) -> None:
    workload, table, assignment, plan = good
    store = replace(table.capacities[0], unit_bytes=-1)
    small = replace(table, capacities=(store, *table.capacities[1:]))
    assert _rules(workload, small, assignment, plan) == {"capacity"}


def test_demands(good: Problem) -> None:
    workload, table, assignment, plan = good
    device = assignment.mode["op0"].device
    other = "npu" if device != "npu" else "host"
    assert check_plan(workload, table, assignment, plan, (f"op0={device}",), (f"op[0]={other}",)) == ()
    for pins, forbids in (((f"op0={other}",), ()), ((), (f"Test={device}",))):
        faults = check_plan(workload, table, assignment, plan, pins, forbids)
        assert {f.rule for f in faults} == {"demands"}


def test_steps_and_partitions_on_other_devices(good: Problem) -> None:
    workload, table, assignment, plan = good
    at = next(i for i, s in enumerate(plan.steps) if s.kind == "op")
    moved = replace(plan.steps[at], device="gpu")
    assert _rules(
        workload, table, assignment, replace(plan, steps=(*plan.steps[:at], moved, *plan.steps[at + 1 :]))
    ) == {"coverage"}
    elsewhere = tuple(replace(part, device="gpu") for part in plan.partitions)
    assert _rules(workload, table, assignment, replace(plan, partitions=elsewhere)) == {"coverage"}


def test_a_ledger_that_does_not_add_up(good: Problem) -> None:
    workload, table, assignment, plan = good
    first = replace(plan.steps[0], latency=plan.steps[0].latency + Interval.exact(1))
    assert _rules(workload, table, assignment, replace(plan, steps=(first, *plan.steps[1:]))) == {"totals"}


def test_partitions_that_wait_for_each_other(good: Problem) -> None:
    workload, table, assignment, plan = good
    ids = [op.id for op in workload.ops]
    chain = next(op for op in workload.ops if any(name in workload.producer for name in op.inputs))
    maker = workload.producer[next(name for name in chain.inputs if name in workload.producer)]
    rest = tuple(i for i in ids if i not in (maker, chain.id))
    reader = next(
        (op.id for op in workload.ops if set(op.inputs) & set(workload.ops[ids.index(chain.id)].outputs)), None
    )
    assert reader is not None
    tangled = (
        Partition("p0", "host", tuple(i for i in (maker, reader, *rest) if i != chain.id and (i in (maker, reader)))),
        Partition("p1", "host", (chain.id,)),
        Partition("p2", "host", tuple(i for i in rest if i != reader)),
    )
    assert "convexity" in _rules(workload, table, assignment, replace(plan, partitions=tangled))


def test_claims_of_proof(good: Problem) -> None:
    workload, table, assignment, plan = good
    assert _rules(workload, table, replace(assignment, bound=assignment.bound - 1), plan) == {"proof"}
    assert _rules(workload, table, replace(assignment, bound=assignment.value + 1), plan) == {"proof"}
