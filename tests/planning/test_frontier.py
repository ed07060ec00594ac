"""Shortest paths, prices and the whole search against enumeration: branches, residuals, tensors with many readers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.assignment import Case, Objective, Status
from h4hc.cost import CostTable, cost_table
from h4hc.costtypes import Capacity, Mode
from h4hc.errors import InfeasibleError
from h4hc.partition import PartitionOptions, partition
from h4hc.planning import frontier
from h4hc.planning.dominance import tight_devices
from h4hc.planning.frontier import build
from h4hc.planning.paths import Paths
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.search import VALUE, Search
from h4hc.planning.walk import Choices, Walk
from h4hc.workload import Workload
from tests.fake_compilation import fake_system, fake_workload
from tests.random_plans import Enumeration, random_problem
from tests.synthetic_plans import synthetic

WEIGHTS = (Weights(1, 0), Weights(0, 1), Weights(3, 2))
SEEDS = st.integers(0, 10**6)


def allowed_of(table: CostTable) -> list[tuple[Mode, ...]]:
    return [tuple(cost.mode for cost in row.costs) for row in table.rows]


def loads(every: Enumeration, table: CostTable) -> np.ndarray:
    """By plan: bytes in all units of the CIM together."""
    total = np.zeros(every.choice.shape[1], dtype=np.int64)
    for row, choice in zip(table.rows, every.choice, strict=True):
        own = [c.mode.units * c.unit_weight_bytes if c.mode.device == "cim" else 0 for c in row.costs]
        total += np.array(own)[choice]
    return total


@pytest.mark.parametrize("case", list(Case))
def test_paths_and_marginals_equal_enumeration_at_any_price(case: Case) -> None:
    for seed in range(60):
        workload, table = random_problem(seed, max_ops=7)
        costs, allowed = PlanCosts(table, case), allowed_of(table)
        every = Enumeration(workload, table, worst=case is Case.WORST)
        states = build(costs, allowed)
        assert states is not None
        choices = Choices.of(costs, states, allowed, ("cim",))
        for weights in WEIGHTS:
            walk = Walk(costs, states, choices, weights)
            for price in (0.0, 0.75):
                values = weights.latency * every.latency + weights.energy * every.energy + price * loads(every, table)
                path = walk.least(np.array([price]))
                assert path.value == values.min(), f"seed {seed}, {weights}, price {price}"
                assert values[every.plan(tuple(choices.modes[n] for n in path.chosen))] == path.value
                marginals = walk.marginals(np.array([price])).tolist()
                groups = np.searchsorted(choices.ops, walk.group_of, side="right") - 1
                for at, mode, least in zip(groups.tolist(), choices.modes, marginals, strict=True):
                    assert values[every.choice[at] == allowed[at].index(mode)].min() == least, f"seed {seed}"


def test_prices_bound_every_plan_that_fits_and_spare_every_better_mode() -> None:
    gone = 0
    for seed in range(120):
        workload, table = random_problem(seed, max_ops=7)
        costs, allowed = PlanCosts(table), allowed_of(table)
        every, tight = Enumeration(workload, table), tight_devices(costs, allowed)
        paths = Paths.of(costs, allowed, tight)
        if paths is None or not paths.stores:
            continue
        fitting = [plan for plan in range(every.choice.shape[1]) if every.fits(plan)]
        for weights in WEIGHTS:
            relaxed = paths.relax(weights, lambda _: False, float("inf"))
            values = weights.latency * every.latency + weights.energy * every.energy
            assert not fitting or relaxed.bound <= values[fitting].min() * (1 + 1e-9), f"seed {seed}"
            for line in relaxed.fitting:
                plan = every.plan(paths.modes(line))
                assert loads(every, table)[plan] <= paths.room[0]
                assert values[plan] == pytest.approx(line.cost)
            limit = int(np.median(values[fitting])) if fitting else 0
            useful = paths.useful(relaxed, limit)
            for plan in fitting:
                if values[plan] < limit:
                    modes = [options[i] for options, i in zip(allowed, every.choice[:, plan], strict=True)]
                    assert all(mode in left for mode, left in zip(modes, useful, strict=True)), f"seed {seed}"
            gone += sum(map(len, allowed)) - sum(map(len, useful))
    assert gone > 100


def test_mixtures_are_the_plans_they_say_and_none_of_their_segments_is_better() -> None:
    """Every plan that a relaxation ends with has the cost and the bytes it claims, and mixing improves some."""
    better = 0
    for seed in range(15):
        _, table = synthetic(40, seed, 0.4)
        costs, allowed = PlanCosts(table), allowed_of(table)
        paths = Paths.of(costs, allowed, tight_devices(costs, allowed))
        assert paths is not None
        for weights in WEIGHTS:
            relaxed = paths.relax(weights, lambda _: False, float("inf"))
            before = min(line.cost for line in relaxed.fitting if any(line is known for known in relaxed.lines))
            for line in relaxed.fitting:
                modes = paths.modes(line)
                assert weights.of(costs.total(modes)) == pytest.approx(line.cost, rel=1e-9), f"seed {seed}"
                held = sum(m.units * costs.unit_bytes[at][m] for at, m in enumerate(modes) if m.device == "cim")
                assert line.over[0] == held - paths.room[0] <= 0
            better += min(line.cost for line in relaxed.fitting) < before * (1 - 1e-9)
    assert better > 8


@settings(deadline=None, max_examples=60, print_blob=True)
@given(SEEDS, st.sampled_from(list(Objective)), st.sampled_from(list(Case)), st.booleans())
def test_paths_the_program_and_enumeration_agree(seed: int, objective: Objective, case: Case, roomy: bool) -> None:
    workload, table = random_problem(seed, max_ops=8)
    if roomy:
        table = replace(table, capacities=(Capacity("cim", 2, 10**6), *table.capacities[1:]))
    best = Enumeration(workload, table, worst=case is Case.WORST).best(VALUE[objective])
    options = PartitionOptions(objective, case=case)
    with pytest.MonkeyPatch.context() as patch:
        found = _value(workload, table, options)
        patch.setattr(Search, "paths", None)
        assert found == _value(workload, table, options) == best


def _value(workload: Workload, table: CostTable, options: PartitionOptions) -> int | None:
    try:
        found = partition(workload, table, options).assignment
    except InfeasibleError:
        return None
    assert found.status is Status.OPTIMAL
    return found.value


def test_too_many_states_leave_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, table = random_problem(3, max_ops=9)
    expected = _value(workload, table, PartitionOptions())
    monkeypatch.setattr(frontier, "MOST_STEPS", 5)
    assert build(PlanCosts(table), allowed_of(table)) is None
    assert _value(workload, table, PartitionOptions()) == expected


def test_alike_surroundings_share_a_layer() -> None:
    """The same block again and again: states and layers do not grow with the order."""
    counts = []
    for length in (30, 300):
        table = cost_table(fake_workload(length), fake_system())
        states = build(PlanCosts(table), allowed_of(table))
        assert states is not None
        assert len(states.passages) == length
        counts.append(len({id(passage.layer) for passage in states.passages}))
    assert counts[0] == counts[1] < 12


@pytest.mark.parametrize("tight", [0.15, 0.5, 1.5])
def test_on_graphs_of_networks_paths_and_the_program_agree(tight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention, residuals and joins of branches; a store that is tight, half full, or never full."""
    problems = [synthetic(40, seed, tight) for seed in range(2)]
    found = [_value(*problem, PartitionOptions(objective)) for problem in problems for objective in Objective]
    monkeypatch.setattr(Search, "paths", None)
    assert found == [_value(*problem, PartitionOptions(objective)) for problem in problems for objective in Objective]
