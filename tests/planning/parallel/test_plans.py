"""Parallel plans against enumeration of all modes and breaks, each timed by the timeline, and checked apart."""

from __future__ import annotations

import pytest

from h4hc.assignment import Case, Objective, Schema, Status
from h4hc.cost import CostTable
from h4hc.costtypes import Mode
from h4hc.partition import SCHEMA_CHOSEN, PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.planning.parallel.index import ActivityIndex
from h4hc.planning.parallel.search import parallel_total
from h4hc.schedule import schedule
from h4hc.workload import Workload
from tests.parallel_plans import as_assignment, every_plan, parallel_problem
from tests.random_plans import Enumeration

BOUND = {Case.NOMINAL: "nominal", Case.WORST: "high"}


def fitting(workload: Workload, table: CostTable) -> set[tuple[Mode, ...]]:
    """The choices of modes whose weights fit into units."""
    all_modes = Enumeration(workload, table)
    plans = range(all_modes.choice.shape[1])
    return {
        tuple(row.costs[c].mode for row, c in zip(table.rows, all_modes.choice[:, plan], strict=True))
        for plan in plans
        if all_modes.fits(plan)
    }


def least(workload: Workload, table: CostTable, case: Case) -> dict[Objective, int]:
    """Least value of each objective, every plan timed by the timeline."""
    fits, best = fitting(workload, table), dict[Objective, int]()
    for modes, breaks in every_plan(table):
        if modes not in fits:
            continue
        laid = schedule(workload, as_assignment(table, modes, breaks), table)
        latency, energy = getattr(laid.latency, BOUND[case]), getattr(laid.energy, BOUND[case])
        values = {Objective.LATENCY: latency, Objective.ENERGY: energy, Objective.EDP: latency * energy}
        for objective, value in values.items():
            best[objective] = min(best.get(objective, value), value)
    return best


def agree(seed: int, max_ops: int) -> None:
    print(f"seed {seed}")
    workload, table = parallel_problem(seed, max_ops)
    for case in Case:
        for objective, value in least(workload, table, case).items():
            options = PartitionOptions(objective, case=case, schema=Schema.PARALLEL)
            found = partition(workload, table, options).assignment
            assert (found.value, found.status) == (value, Status.OPTIMAL), (case, objective)
            assert check_plan(workload, table, found, schedule(workload, found, table)) == ()


@pytest.mark.parametrize("seed", range(40))
def test_the_plan_is_the_best_of_all(seed: int) -> None:
    agree(seed, 4)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_the_plan_is_the_best_of_all_500(first: int) -> None:
    for seed in range(first, first + 50):
        agree(seed, 4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2012))
def test_the_plan_is_the_best_of_all_with_more_operators(seed: int) -> None:
    agree(seed, 6)


@pytest.mark.parametrize("seed", range(100, 125))
def test_two_ways_to_time_a_plan_agree(seed: int) -> None:
    """The clock that plans and the timeline that lays out; and overlap never makes a plan slower."""
    workload, table = parallel_problem(seed, 5)
    for case in Case:
        index = ActivityIndex(table, case)
        for number, (modes, breaks) in enumerate(every_plan(table)):
            if number % 11:
                continue
            laid = schedule(workload, as_assignment(table, modes, breaks), table)
            latency, energy = parallel_total(index, modes, breaks)
            assert (getattr(laid.latency, BOUND[case]), getattr(laid.energy, BOUND[case])) == (latency, energy)
            if not any(breaks):
                alone = schedule(workload, as_assignment(table, modes, breaks, Schema.SEQUENTIAL), table)
                assert laid.latency.low <= alone.latency.low
                assert laid.latency.nominal <= alone.latency.nominal
                assert laid.latency.high <= alone.latency.high
                assert laid.energy.nominal <= alone.energy.nominal + len(alone.steps)  # leakage is rounded up once
            assert laid.latency.nominal <= laid.work.nominal


@pytest.mark.parametrize("seed", range(60, 90))
def test_auto_takes_the_better_and_says_why(seed: int) -> None:
    workload, table = parallel_problem(seed, 4)
    alone = partition(workload, table, PartitionOptions()).assignment
    beside = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment
    chosen = partition(workload, table, PartitionOptions(schema=Schema.AUTO))
    assert beside.value <= alone.value
    assert chosen.assignment.value == beside.value
    wanted = Schema.PARALLEL if beside.value < alone.value else Schema.SEQUENTIAL
    assert chosen.assignment.schema is wanted
    (note,) = chosen.remarks
    assert note.code == SCHEMA_CHOSEN
    assert ("in parallel" in note.what) == (wanted is Schema.PARALLEL)
    assert chosen.baselines[0].name == "sequential"
    assert chosen.baselines[0].latency_ps == alone.latency_ps


def test_overlap_is_found() -> None:
    """A share of the random problems must gain, else these tests compare nothing."""
    gains = 0
    for seed in range(40):
        workload, table = parallel_problem(seed, 4)
        alone = partition(workload, table, PartitionOptions()).assignment
        beside = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment
        gains += beside.value < alone.value
    assert gains > 10


@pytest.mark.parametrize("seed", [*range(200, 208), *range(210, 217)])
def test_a_gap_is_kept(seed: int) -> None:
    workload, table = parallel_problem(seed, 5)
    best = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment.value
    found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL, gap=0.2)).assignment
    assert found.bound <= best <= found.value
    assert found.value - found.bound <= 0.2 * found.value


def test_no_time_gives_the_plan_it_began_with() -> None:
    workload, table = parallel_problem(7, 5)
    options = PartitionOptions(schema=Schema.PARALLEL, time_limit_s=0.0)
    found = partition(workload, table, options).assignment
    assert check_plan(workload, table, found, schedule(workload, found, table)) == ()
    best = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment
    assert found.bound <= best.value <= found.value
