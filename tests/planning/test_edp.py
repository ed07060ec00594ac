"""The walk by cuts against enumeration, and cuts carried over an error of a device's costs."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from h4hc.assignment import Objective
from h4hc.errors import InfeasibleError
from h4hc.planning.carry import Carried
from h4hc.planning.cost_error import Quantity, scaled
from h4hc.planning.dominance import tight_devices
from h4hc.planning.edp import Cut, Point, minimise_edp
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.search import Search, Task
from tests.random_plans import DEVICES, Enumeration, random_problem


class Cloud:
    """A search over given plans, exact unless it is said by how much it stops early."""

    def __init__(self, pairs: list[Pair], gap: float = 0.0) -> None:
        self.pairs, self.gap, self.solves = pairs, gap, 0
        self.task = Task(Objective.EDP, (), {}, gap, 60.0, float("inf"))

    def start_points(self) -> list[Point]:
        return [Point((), {}, self.pairs[0], Weights(1, 1), 0.0)]

    def minimise(self, weights: Weights) -> Point:
        self.solves += 1
        least = min(weights.of(pair) for pair in self.pairs)
        good = [pair for pair in self.pairs if weights.of(pair) * (1 - self.gap) <= least]
        return Point((), {}, max(good), weights, float(least))


def _cloud(rng: random.Random) -> list[Pair]:
    return [(rng.randint(1, 10**6), rng.randint(1, 10**6)) for _ in range(rng.choice([1, 2, 30, 300]))]


def test_least_product_of_many_plans() -> None:
    for seed in range(200):
        pairs = _cloud(random.Random(seed))
        point, bound = minimise_edp(Cloud(pairs))
        best = min(a * b for a, b in pairs)
        assert point.pair[0] * point.pair[1] == best, f"seed {seed}"
        assert best * (1 - 1e-6) <= bound <= best, f"seed {seed}"


def test_a_bound_holds_when_solves_stop_early() -> None:
    for seed in range(200):
        pairs = _cloud(random.Random(seed))
        _, bound = minimise_edp(Cloud(pairs, gap=0.2))
        assert bound <= min(a * b for a, b in pairs), f"seed {seed}"


def test_known_cuts_save_solves_and_change_nothing() -> None:
    saved = 0
    for seed in range(100):
        rng = random.Random(seed)
        pairs = _cloud(rng)
        alone, helped = Cloud(pairs), Cloud(pairs)
        first, _ = minimise_edp(alone)
        cuts = []
        for weights in (Weights(1, 0), Weights(0, 1), Weights(1, 1), Weights(2, 3)):
            point = alone.minimise(weights)
            lower = point.bound * rng.choice([0.9, 1.0])  # a bound that holds, but that no plan need meet
            cuts.append(Cut(weights, lower, point if lower == point.bound else None))
        second, bound = minimise_edp(helped, cuts)
        product = first.pair[0] * first.pair[1]
        assert second.pair[0] * second.pair[1] == product, f"seed {seed}"
        assert product * (1 - 1e-6) <= bound <= product, f"seed {seed}"
        saved += alone.solves - 4 - helped.solves
    assert saved > 50


def test_carried_cuts_hold_for_every_plan_that_fits() -> None:
    met = 0
    for seed in range(40):
        rng = random.Random(seed)
        workload, table = random_problem(seed, max_ops=5)
        every, costs = Enumeration(workload, table), PlanCosts(table)
        allowed = tuple(tuple(cost.mode for cost in row.costs) for row in table.rows)
        plans = [plan for plan in range(every.choice.shape[1]) if every.fits(plan)]
        task = Task(Objective.EDP, allowed, tight_devices(costs, allowed), 0.0, 60.0, float("inf"))
        base = Search(costs, task, [])
        try:
            base.best()
        except InfeasibleError:
            continue
        device = rng.choice(DEVICES)
        quantity: Quantity = rng.choice(["latency", "energy"])
        carried = Carried(costs, device, quantity, base.points)
        for factor in (Fraction(0), Fraction(7, 3), Fraction(1, 2), Fraction(10, 9), Fraction(9)):
            here = scaled(costs, device, quantity, factor)
            pairs = [_pair(every, plan, device, quantity, factor) for plan in plans]
            for cut in carried.cuts(factor):
                least = min(cut.weights.of(pair) for pair in pairs)
                assert cut.bound <= least * (1 + 1e-6), f"seed {seed}, {factor}"
                assert cut.point is None or cut.weights.of(cut.point.pair) == least, f"seed {seed}, {factor}"
                met += cut.point is not None
            search = Search(here, task, [])
            search.minimise(Weights(rng.randint(0, 3), rng.randint(1, 3)))
            carried.add(factor, search.points)
    assert met > 100


def _pair(every: Any, plan: int, device: str, quantity: Quantity, factor: Fraction) -> Pair:
    """A plan's sums under the error, the erring quantity times the denominator."""
    part = 0 if quantity == "latency" else 1
    totals = [int(every.latency[plan]), int(every.energy[plan])]
    on = int(every.on[device][part][plan])
    totals[part] = (totals[part] - on) * factor.denominator + on * factor.numerator
    return totals[0], totals[1]
