"""Fronts against enumeration: every point that no plan dominates, and nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest

from h4hc.assignment import Case, Objective
from h4hc.errors import InfeasibleError, UserError
from h4hc.goals import Budget, Goal, parse_pair
from h4hc.pareto import pareto_front
from h4hc.partition import PartitionOptions, partition
from tests.planning.test_budgets import fitting, values
from tests.random_plans import Enumeration, random_problem
from tests.sram_plans import MemoryEnumeration, random_memory_problem


def front_of(every: Enumeration, among: np.ndarray, goals: tuple[Goal, Goal]) -> list[tuple[int, int]]:
    """All nondominated pairs of values."""
    pairs = sorted({(int(values(every, goals[0])[n]), int(values(every, goals[1])[n])) for n in np.flatnonzero(among)})
    return [p for p in pairs if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in pairs)]


@pytest.mark.parametrize("case", list(Case))
def test_fronts_of_latency_and_energy_equal_enumeration(case: Case) -> None:
    points = 0
    for seed in range(12):
        workload, table = random_problem(seed, max_ops=6)
        every = Enumeration(workload, table, worst=case is Case.WORST)
        among = fitting(every)
        if not among.any():
            continue
        goals = (Goal.LATENCY, Goal.ENERGY) if seed % 2 else (Goal.ENERGY, Goal.LATENCY)
        budget = Budget()
        if seed % 3 == 0:
            limit = int(np.median(every.energy[among]))
            budget, among = Budget(energy_pj=limit), among & (every.energy <= limit)
        found = pareto_front(workload, table, PartitionOptions(case=case, budget=budget), goals)
        assert found.complete, f"seed {seed}"
        assert [point.values for point in found.points] == front_of(every, among, goals), f"seed {seed}"
        for point in found.points:
            plan = every.plan(tuple(p.mode for p in point.assignment.placements))
            assert among[plan], f"seed {seed}"
            assert tuple(int(values(every, goal)[plan]) for goal in goals) == point.values, f"seed {seed}"
        points += len(found.points)
    assert points > 20


@pytest.mark.parametrize("goals", [(Goal.SRAM, Goal.LATENCY), (Goal.ENERGY, Goal.SRAM)], ids=",".join)
def test_fronts_with_sram_equal_enumeration(goals: tuple[Goal, Goal]) -> None:
    several = bound = 0
    for seed in range(20):
        rng = random.Random(seed)
        workload, table, memory = random_memory_problem(seed, max_ops=4)
        every = MemoryEnumeration(workload, table, memory)
        if not every.fitting.any():
            continue
        room = int(rng.choice(np.unique(every.live[every.fitting])))
        small = type(memory)(room, memory.line_bytes, memory.resident)
        found = pareto_front(workload, table, PartitionOptions(memory=small), goals)
        among = every.fitting & (every.live <= room)
        assert found.complete, f"seed {seed}"
        assert [point.values for point in found.points] == front_of(every, among, goals), f"seed {seed}"
        several += len(found.points) > 1
        bound += front_of(every, every.fitting, goals) != front_of(every, among, goals)
    assert several > 1
    assert bound > 0


def test_a_limit_of_points_is_said_and_spans_the_front() -> None:
    limited = 0
    for seed in range(40):
        workload, table = random_problem(seed, max_ops=7)
        try:
            whole = pareto_front(workload, table, PartitionOptions(), (Goal.LATENCY, Goal.ENERGY), 200)
        except InfeasibleError:
            continue
        if len(whole.points) < 4:
            continue
        some = pareto_front(workload, table, PartitionOptions(), (Goal.LATENCY, Goal.ENERGY), 3)
        ends = {whole.points[0].values, whole.points[-1].values}
        assert (some.stopped, some.complete, len(some.points)) == ("points", False, 3)
        assert ends <= {p.values for p in some.points} <= {p.values for p in whole.points}
        limited += 1
        if limited == 4:
            return
    pytest.fail("no front of four points")


def test_the_plan_of_each_objective_lies_on_the_front() -> None:
    workload, table = random_problem(3, max_ops=7)
    found = pareto_front(workload, table, PartitionOptions(), (Goal.LATENCY, Goal.ENERGY), 200)
    products = [a * b for a, b in (point.values for point in found.points)]
    assert partition(workload, table, PartitionOptions(Objective.EDP)).assignment.value == min(products)


@pytest.mark.parametrize("text", ["latency", "latency,latency", "latency,edp", "latency,energy,sram", "", "a,b"])
def test_a_pair_is_two_goals(text: str) -> None:
    with pytest.raises(UserError, match="is no pair of goals"):
        parse_pair(text)
