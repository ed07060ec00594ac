"""The partitioner against enumeration, its own validator and the baselines."""

from __future__ import annotations

import pytest

from h4hc.assignment import Assignment, Objective, Status
from h4hc.errors import InfeasibleError
from h4hc.partition import VALUE, PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.schedule import schedule
from tests.random_plans import Enumeration, random_problem

DAGS = 500


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, DAGS, 50))
def test_equals_brute_force_in_each_objective(first: int) -> None:
    for seed in range(first, first + 50):
        workload, table = random_problem(seed, max_ops=9, scale=1 + (seed % 3) * 999_983)
        every = Enumeration(workload, table)
        for objective in Objective:
            best = every.best(VALUE[objective])
            if best is None:
                with pytest.raises(InfeasibleError):
                    partition(workload, table, PartitionOptions(objective))
                continue
            result = partition(workload, table, PartitionOptions(objective))
            found = result.assignment
            assert found.value == best, f"seed {seed}, {objective}"
            assert found.status is Status.OPTIMAL, f"seed {seed}, {objective}: gap {found.gap}"
            assert check_plan(workload, table, found, schedule(workload, found, table)) == (), f"seed {seed}"
            for baseline in result.baselines:
                if baseline.modes:
                    value = VALUE[objective]((baseline.latency_ps, baseline.energy_pj))
                    assert found.value <= value, f"seed {seed}: worse than {baseline.name}"
                    plan = every.plan(baseline.modes)
                    assert every.fits(plan), f"seed {seed}: {baseline.name} does not fit"
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
