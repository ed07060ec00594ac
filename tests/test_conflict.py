"""Conflicting demands against enumeration: the set is a smallest one, and each change is the least that resolves it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from h4hc.conflict import Conflicts, Demand
from h4hc.errors import InfeasibleError
from h4hc.goals import Budget, Goal
from h4hc.partition import PartitionOptions, partition
from tests.planning.test_budgets import values
from tests.random_plans import DEVICES
from tests.sram_plans import MemoryEnumeration, random_memory_problem


def keeps(every: MemoryEnumeration, demand: Demand) -> np.ndarray:
    """The plans that meet one demand."""
    if demand.kind == "store":
        return every.fitting
    name, amount = demand.text.split("=")
    if demand.kind == "budget":
        return np.asarray(values(every, Goal(name)) <= int(amount.rstrip("psJB")))
    at = int(name.removeprefix("op"))
    there = every.device[at] == DEVICES.index(amount)
    return np.asarray(there if demand.kind == "pin" else ~there)


def met(every: MemoryEnumeration, demands: tuple[Demand, ...]) -> np.ndarray:
    """The plans that meet all demands."""
    among = np.ones(every.choice.shape[1], dtype=bool)
    for demand in demands:
        among &= keeps(every, demand)
    return among


def demanding(rng: random.Random, every: MemoryEnumeration) -> PartitionOptions:
    """Options that often contradict each other."""
    count = len(every.table.rows)
    pins = tuple({f"op{at}={rng.choice(DEVICES)}" for at in range(count) if rng.random() < 0.3})
    forbids = tuple({f"op{at}={rng.choice(DEVICES)}" for at in range(count) if rng.random() < 0.2})
    budget = Budget()
    for goal in (Goal.LATENCY, Goal.ENERGY, Goal.SRAM):
        if rng.random() < 0.5:
            span = values(every, goal)
            budget = budget.with_limit(goal, max(1, int(np.quantile(span, rng.choice([0.0, 0.02, 0.2])))))
    return PartitionOptions(pins=tuple(sorted(pins)), forbids=tuple(sorted(forbids)), budget=budget)


def test_conflicts_are_smallest_and_levers_least() -> None:
    sizes: list[int] = []
    levers = 0
    for seed in range(60):
        rng = random.Random(seed)
        workload, table, memory = random_memory_problem(seed, max_ops=4)
        every = MemoryEnumeration(workload, table, memory)
        options = demanding(rng, every)
        options = PartitionOptions(pins=options.pins, forbids=options.forbids, budget=options.budget, memory=memory)
        try:
            search = Conflicts(workload, table, options)
        except InfeasibleError:
            continue
        if met(every, search.all).any():
            assert search.error() is None, f"seed {seed}"
            continue
        found = search.find(search.all)
        assert not met(every, found.demands).any(), f"seed {seed}"
        smaller = (s for n in range(len(found.demands)) for s in itertools.combinations(search.all, n))
        assert all(met(every, some).any() for some in smaller), f"seed {seed}: {found}"
        assert found.smallest, f"seed {seed}"
        assert found.proved, f"seed {seed}"
        sizes.append(len(found.demands))
        for lever in search.levers(found):
            alone = lever.text.endswith("for this conflict alone")
            others = tuple(d for d in (found.demands if alone else search.all) if d is not lever.demand)
            among = met(every, others)
            assert among.any(), f"seed {seed}: {lever}"
            if lever.demand.kind == "budget":
                goal = Goal(lever.demand.text.partition("=")[0])
                assert lever.value == values(every, goal)[among].min(), f"seed {seed}: {lever}"
                levers += 1
    assert len(sizes) > 10
    assert max(sizes) > 1
    assert levers > 8


def test_a_deletion_filter_leaves_nothing_that_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h4hc.conflict.MOST_SETS", 0)
    filtered = 0
    for seed in range(40):
        workload, table, memory = random_memory_problem(seed, max_ops=4)
        every = MemoryEnumeration(workload, table, memory)
        options = demanding(random.Random(seed), every)
        options = PartitionOptions(pins=options.pins, forbids=options.forbids, budget=options.budget, memory=memory)
        search = Conflicts(workload, table, options)
        if met(every, search.all).any():
            continue
        found = search.find(search.all)
        assert not found.smallest
        assert not met(every, found.demands).any(), f"seed {seed}"
        for demand in found.demands:
            assert met(every, tuple(d for d in found.demands if d is not demand)).any(), f"seed {seed}: {demand}"
        filtered += 1
    assert filtered > 8


def test_the_error_speaks_the_users_language() -> None:
    workload, table, memory = random_memory_problem(7, max_ops=5)
    every = MemoryEnumeration(workload, table, memory)
    least = int(every.energy[every.fitting].min())
    options = PartitionOptions(budget=Budget(energy_pj=least - 1), memory=memory)
    with pytest.raises(InfeasibleError) as caught:
        partition(workload, table, options)
    (problem,) = caught.value.problems
    assert f"--budget energy={least - 1}pJ" in problem.what
    assert f"--budget energy={least}pJ" in problem.hint
    assert "the least there is" in problem.hint
    assert "the smallest set" in problem.why


def test_macros_are_counted_until_the_weights_fit() -> None:
    """One operator more than the macros hold, all pinned to the CIM."""
    counted = 0
    for seed in range(200):
        workload, table, memory = random_memory_problem(seed, max_ops=5)
        every = MemoryEnumeration(workload, table, memory)
        on_cim = [all(c.mode.device != "cim" for c in row.costs) is False for row in table.rows]
        if not all(on_cim) or len(table.rows) < 2:
            continue
        pins = ("op*=cim",)
        options = PartitionOptions(pins=pins, memory=memory)
        pinned = (every.device == DEVICES.index("cim")).all(axis=0)
        if (pinned & every.fitting).any():
            continue
        search = Conflicts(workload, table, options)
        found = search.find(search.all)
        if {d.kind for d in found.demands} != {"pin", "store"}:
            continue
        cap = table.capacities[0]
        assert cap.unit_bytes is not None
        lever = next((lever for lever in search.levers(found) if lever.demand.kind == "store"), None)
        if lever is None:  # a share is larger than a unit
            assert any(
                all(c.unit_weight_bytes > cap.unit_bytes for c in row.costs if c.mode.device == "cim")
                for row in table.rows
            ), f"seed {seed}"
            continue
        assert lever.value is not None
        for units, fits in ((lever.value, True), (lever.value - 1, False)):
            more = tuple(type(c)(c.device, units, c.unit_bytes) if c.device == "cim" else c for c in table.capacities)
            larger = replace(table, capacities=more)
            wider = MemoryEnumeration(workload, larger, memory)
            assert (pinned & wider.fitting).any() == fits, f"seed {seed}: {units}"
        counted += 1
        if counted == 3:
            return
    pytest.fail("no such problem")
