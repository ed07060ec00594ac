"""The partitioner against enumeration, its own validator and the baselines."""

from __future__ import annotations

import pytest

from h4hc.assignment import Assignment, Case, Objective, Status
from h4hc.cost import CostTable
from h4hc.costtypes import ZERO, Capacity
from h4hc.errors import InfeasibleError, LimitError
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.planning.edp import Point, minimise_edp
from h4hc.planning.plan_cost import Weights
from h4hc.planning.search import VALUE, Task
from h4hc.schedule import schedule
from h4hc.system import Switch
from h4hc.workload import Workload
from tests.random_plans import Enumeration, random_problem

DAGS = 500


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, DAGS, 50))
def test_equals_brute_force_in_each_objective(first: int) -> None:
    for seed in range(first, first + 50):
        workload, table = random_problem(seed, max_ops=9, scale=1 + (seed % 3) * 999_983)
        against_brute_force(workload, table, Case.NOMINAL, f"seed {seed}")


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_robust_plans_equal_brute_force_over_the_worst_case(first: int) -> None:
    dearer = 0
    for seed in range(first, first + 20):
        workload, table = random_problem(seed, max_ops=7, scale=1 + (seed % 3) * 999_983)
        against_brute_force(workload, table, Case.WORST, f"seed {seed}")
        every = Enumeration(workload, table, worst=True)
        best = every.best(VALUE[Objective.LATENCY])
        if best is not None:
            nominal = partition(workload, table, PartitionOptions()).assignment
            dearer += every.latency[every.plan(tuple(p.mode for p in nominal.placements))] > best
    assert dearer > 5  # robust plans differ from nominal ones in the cases seen here


def against_brute_force(workload: Workload, table: CostTable, case: Case, which: str) -> None:
    every = Enumeration(workload, table, worst=case is Case.WORST)
    nominal = Enumeration(workload, table)
    for objective in Objective:
        best = every.best(VALUE[objective])
        if best is None:
            with pytest.raises(InfeasibleError):
                partition(workload, table, PartitionOptions(objective, case=case))
            continue
        result = partition(workload, table, PartitionOptions(objective, case=case))
        found = result.assignment
        assert found.value == best, f"{which}, {objective}"
        assert found.status is Status.OPTIMAL, f"{which}, {objective}: gap {found.gap}"
        plan = every.plan(tuple(p.mode for p in found.placements))
        assert (found.latency_ps, found.energy_pj) == (nominal.latency[plan], nominal.energy[plan]), which
        laid = schedule(workload, found, table)
        assert check_plan(workload, table, found, laid) == (), which
        assert VALUE[objective]((laid.latency.high, laid.energy.high)) == best or case is Case.NOMINAL, which
        for baseline in result.baselines:
            if baseline.modes:
                value = VALUE[objective]((baseline.latency_ps, baseline.energy_pj))
                assert found.value <= value, f"{which}: worse than {baseline.name}"
                plan = every.plan(baseline.modes)
                assert every.fits(plan), f"{which}: {baseline.name} does not fit"
                assert (every.latency[plan], every.energy[plan]) == (baseline.latency_ps, baseline.energy_pj)


def test_same_problem_same_bytes() -> None:
    for seed in range(20):
        workload, table = random_problem(seed, max_ops=9)
        try:
            runs = {partition(workload, table, PartitionOptions()).assignment.to_json() for _ in range(3)}
        except InfeasibleError:
            continue
        assert len(runs) == 1
        assert Assignment.from_json(runs.pop()).placements


@pytest.mark.parametrize("gap", [0.05, 0.3])
def test_a_gap_is_kept_and_its_bound_holds(gap: float) -> None:
    for seed in range(60):
        workload, table = random_problem(seed, max_ops=8)
        every = Enumeration(workload, table)
        for objective in Objective:
            best = every.best(VALUE[objective])
            if best is None:
                continue
            found = partition(workload, table, PartitionOptions(objective, gap=gap)).assignment
            assert found.bound <= best <= found.value, f"seed {seed}, {objective}"
            assert found.value - found.bound <= gap * found.value * (1 + 1e-9), f"seed {seed}, {objective}"
            assert found.status in (Status.OPTIMAL, Status.WITHIN_GAP), f"seed {seed}, {objective}"
            assert (found.status is Status.OPTIMAL) == (found.bound == found.value), f"seed {seed}, {objective}"


def test_no_time_still_gives_a_plan_with_an_honest_bound() -> None:
    for seed in range(12):
        workload, table = random_problem(seed, max_ops=40)
        for objective in Objective:
            try:
                result = partition(workload, table, PartitionOptions(objective, time_limit_s=1e-6))
            except (InfeasibleError, LimitError):
                continue
            found = result.assignment
            assert found.bound <= found.value
            assert check_plan(workload, table, found, schedule(workload, found, table)) == ()
            for baseline in result.baselines:
                if baseline.modes:
                    assert found.value <= VALUE[objective]((baseline.latency_ps, baseline.energy_pj))


class _Plans:
    """A search over three known plans whose latency solve stops early, as a gap allows."""

    task = Task(Objective.EDP, (), {}, 0.3, 60.0, float("inf"))
    gap = 0.0
    PAIRS = ((1000, 10000), (750, 12000), (10000, 1000))

    def start_points(self) -> list[object]:
        return []

    def minimise(self, weights: Weights) -> Point:
        exact = min(self.PAIRS, key=weights.of)
        early = (1000, 10000) if weights == Weights(1, 0) else exact
        return Point((), {}, early, weights, weights.of(exact))


def test_edp_does_not_trust_ends_that_stopped_early() -> None:
    point, bound = minimise_edp(_Plans())  # type: ignore[arg-type]
    optimum = min(a * b for a, b in _Plans.PAIRS)
    assert bound <= optimum <= point.pair[0] * point.pair[1]


def test_a_model_without_operators_has_one_plan() -> None:
    workload = Workload("wire", "as stored", (), (), (), ())
    switches = tuple(Switch(d, ZERO, ZERO, ()) for d in ("host", "npu"))
    table = CostTable("t", (), (), (), (), switches, (Capacity("host", 1, None),), (), (0.0, 0.0, 0.0))
    for objective in Objective:
        found = partition(workload, table, PartitionOptions(objective)).assignment
        assert (found.value, found.status, found.placements) == (0, Status.OPTIMAL, ())
