"""Presolve against enumeration: dropping modes loses no trade-off between latency and energy."""

from __future__ import annotations

from h4hc.planning.dominance import tight_devices, undominated
from h4hc.planning.plan_cost import PlanCosts
from tests.random_plans import Enumeration, random_problem


def _front(every: Enumeration, plans: list[int]) -> list[tuple[int, int]]:
    """The (latency, energy) pairs of plans that no other plan that fits beats in both."""
    front: list[tuple[int, int]] = []
    for pair, plan in sorted(((int(every.latency[p]), int(every.energy[p])), p) for p in plans):
        if (not front or pair[1] < front[-1][1]) and every.fits(plan):
            front.append(pair)
    return front


def test_every_point_of_the_front_survives() -> None:
    gone_within, gone_across = 0, 0
    for seed in range(150):
        workload, table = random_problem(seed, max_ops=6)
        every, costs = Enumeration(workload, table), PlanCosts(table)
        allowed = [tuple(cost.mode for cost in row.costs) for row in table.rows]
        kept = undominated(costs, allowed, tight_devices(costs, allowed))
        plans = range(every.choice.shape[1])
        left = [
            plan
            for plan in plans
            if all(modes[i] in keep for modes, i, keep in zip(allowed, every.choice[:, plan], kept, strict=True))
        ]
        assert _front(every, left) == _front(every, list(plans)), f"seed {seed}"
        for modes, keep in zip(allowed, kept, strict=True):
            devices = {mode.device for mode in keep}
            gone_within += sum(m not in keep and m.device in devices for m in modes)
            gone_across += sum(m.device not in devices for m in modes)
    assert gone_within > 50  # the presolve did something in the cases seen here, of both sorts
    assert gone_across > 50
