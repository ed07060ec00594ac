"""Plans within budgets, and goals in order, against enumeration."""

from __future__ import annotations

import random

import numpy as np
import pytest

from h4hc.assignment import Case, Objective, Status
from h4hc.errors import InfeasibleError
from h4hc.goals import Budget, Goal
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.schedule import schedule
from tests.random_plans import Enumeration, random_problem
from tests.sram_plans import MemoryEnumeration, random_memory_problem


def values(every: Enumeration, goal: Goal) -> np.ndarray:
    """One goal's value in each plan."""
    if goal is Goal.SRAM:
        assert isinstance(every, MemoryEnumeration)
        return np.asarray(every.live)
    of_costs = {Goal.LATENCY: every.latency, Goal.ENERGY: every.energy, Goal.EDP: every.latency * every.energy}
    return np.asarray(of_costs[goal])


def between(rng: random.Random, least: int, most: int) -> int:
    """A limit that some plans keep and some do not, or none, or all."""
    return max(1, rng.randint(int(least * 0.98), int(most * 1.02)))


def fitting(every: Enumeration) -> np.ndarray:
    return np.array([every.fits(plan) for plan in range(every.choice.shape[1])], dtype=bool)


def lexicographic(every: Enumeration, among: np.ndarray, goals: tuple[Goal, ...]) -> tuple[int, ...]:
    """The least values, one goal after another."""
    found = []
    for goal in goals:
        least = values(every, goal)[among].min()
        among = among & (values(every, goal) == least)
        found.append(int(least))
    return tuple(found)


@pytest.mark.parametrize("case", list(Case))
@pytest.mark.parametrize("first", range(0, 45, 15))
def test_budgets_of_latency_and_energy_equal_enumeration(first: int, case: Case) -> None:
    kept = empty = bound = 0
    for seed in range(first, first + 15):
        rng = random.Random(seed)
        workload, table = random_problem(seed, max_ops=7, scale=1 + (seed % 3) * 999_983)
        every = Enumeration(workload, table, worst=case is Case.WORST)
        fits = fitting(every)
        if not fits.any():
            continue
        for objective in Objective:
            budget, among = Budget(), fits
            for goal in rng.choice([(Goal.LATENCY,), (Goal.ENERGY,), (Goal.LATENCY, Goal.ENERGY)]):
                span = values(every, goal)[fits]
                limit = between(rng, int(span.min()), int(np.median(span)))
                budget, among = budget.with_limit(goal, limit), among & (values(every, goal) <= limit)
            options = PartitionOptions(objective, case=case, budget=budget)
            if not among.any():
                with pytest.raises(InfeasibleError):
                    partition(workload, table, options)
                empty += 1
                continue
            found = partition(workload, table, options).assignment
            goal = Goal(objective)
            assert found.value == values(every, goal)[among].min(), f"seed {seed}, {objective}, {budget}"
            assert found.status is Status.OPTIMAL, f"seed {seed}, {objective}, {budget}: {found.gap}"
            assert among[every.plan(tuple(p.mode for p in found.placements))], f"seed {seed}"
            assert check_plan(workload, table, found, schedule(workload, found, table)) == (), f"seed {seed}"
            kept += 1
            bound += found.value > values(every, goal)[fits].min()
    assert kept > 10
    assert empty > 0
    assert bound > 3  # the budget changed the plan


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_sram_budgets_equal_enumeration(first: int) -> None:
    kept = bound = empty = 0
    for seed in range(first, first + 20):
        rng = random.Random(seed)
        workload, table, memory = random_memory_problem(seed, max_ops=5)
        every = MemoryEnumeration(workload, table, memory)
        if not every.fitting.any():
            continue
        live = every.live[every.fitting]
        for limit in {int(rng.choice(np.unique(live))), int(live.min()), int(live.min()) - 1}:
            among = every.fitting & (every.live <= limit)
            budget = Budget(sram_bytes=limit)
            if rng.random() < 0.5:
                most = between(rng, int(every.energy.min()), int(every.energy.max()))
                budget, among = budget.with_limit(Goal.ENERGY, most), among & (every.energy <= most)
            options = PartitionOptions(budget=budget, memory=memory)
            if not among.any():
                with pytest.raises(InfeasibleError):
                    partition(workload, table, options)
                empty += 1
                continue
            found = partition(workload, table, options).assignment
            assert found.value == every.latency[among].min(), f"seed {seed}, {budget}"
            assert found.status is Status.OPTIMAL, f"seed {seed}, {budget}: {found.gap}"
            assert among[every.plan(tuple(p.mode for p in found.placements))], f"seed {seed}, {budget}"
            kept += 1
            bound += found.value > every.latency[every.fitting].min()
    assert kept > 20
    assert bound > 3
    assert empty > 5


GOALS = [
    (Goal.LATENCY, Goal.ENERGY),
    (Goal.ENERGY, Goal.LATENCY),
    (Goal.SRAM, Goal.LATENCY, Goal.ENERGY),
    (Goal.LATENCY, Goal.SRAM),
    (Goal.SRAM, Goal.EDP),
]


@pytest.mark.parametrize("goals", GOALS, ids=",".join)
def test_goals_in_order_equal_enumeration(goals: tuple[Goal, ...]) -> None:
    differ = 0
    objective = next(Objective(goal) for goal in goals if goal is not Goal.SRAM)
    for seed in range(30):
        workload, table, memory = random_memory_problem(seed, max_ops=5)
        every = MemoryEnumeration(workload, table, memory)
        if not every.fitting.any():
            continue
        wanted = lexicographic(every, every.fitting, goals)
        found = partition(workload, table, PartitionOptions(objective, goals=goals, memory=memory)).assignment
        assert tuple(stage.value for stage in found.stages) == wanted, f"seed {seed}"
        assert [stage.status for stage in found.stages] == [Status.OPTIMAL] * len(goals), f"seed {seed}"
        plan = every.plan(tuple(p.mode for p in found.placements))
        assert tuple(int(values(every, goal)[plan]) for goal in goals) == wanted, f"seed {seed}"
        differ += lexicographic(every, every.fitting, goals[::-1]) != wanted[::-1]
    assert differ > 0


def test_the_target_sram_binds_only_where_a_plan_fits() -> None:
    fits = 0
    for seed in range(40):
        workload, table, memory = random_memory_problem(seed, max_ops=5)
        every = MemoryEnumeration(workload, table, memory)
        if not every.fitting.any():
            continue
        fastest = int(every.latency[every.fitting].min())
        least = int(every.live[every.fitting].min())
        for room in (least, least - 1):
            small = type(memory)(room, memory.line_bytes, memory.resident)
            found = partition(workload, table, PartitionOptions(memory=small)).assignment
            among = every.fitting & (every.live <= room)
            wanted = int(every.latency[among].min()) if among.any() else fastest
            assert found.value == wanted, f"seed {seed}"
            assert found.status is Status.OPTIMAL, f"seed {seed}"
            assert (found.budget.sram_bytes is not None) == (among.any() and not _alone(every, room)), f"seed {seed}"
            fits += wanted > fastest
    assert fits > 3


def _alone(every: MemoryEnumeration, room: int) -> bool:
    """Whether every fastest plan keeps to the room by itself: then nothing bound the plan."""
    fastest = every.fitting & (every.latency == every.latency[every.fitting].min())
    return bool((every.live[fastest] <= room).all())
