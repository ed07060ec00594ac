"""Phases and learning rates over a run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from nas.space.space import SearchSpace
from nas.training.config import Budget, TrainConfig
from nas.training.phases import FIRST_RATE, Plan, Spent


def _plan(space: SearchSpace, config: TrainConfig) -> Plan:
    return Plan(config, space, lambda arch: 1)


def test_shares_become_spans(space: SearchSpace, config: Callable[..., TrainConfig]) -> None:
    shares = [0.1] * 10
    plan = _plan(space, config(phases=[{"name": f"p{i}", "share": s} for i, s in enumerate(shares)]))
    budget = Budget(steps=30)
    names = [plan.at(Spent(steps=step).of(budget)).number for step in range(30)]
    assert names == [i for i in range(10) for _ in range(3)]
    assert plan.at(1.0).number == 9


def test_one_cycle_over_the_run(space: SearchSpace, config: Callable[..., TrainConfig]) -> None:
    plan = _plan(space, config(optimizer={"lr": 2.0, "warmup": 0.1, "final": 0.01}))
    rates = [plan.rates(k / 1000)["conv"] for k in range(1001)]
    assert rates[0] == pytest.approx(2 * FIRST_RATE)
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) == 100
    assert all(a <= b for a, b in pairwise(rates[:101]))
    assert all(a >= b for a, b in pairwise(rates[100:]))
    assert rates[550] == pytest.approx(1.01)  # half way down
    assert rates[-1] == pytest.approx(0.02)


def test_cycles_of_a_group(space: SearchSpace, config: Callable[..., TrainConfig]) -> None:
    phases = [
        {"name": "conv", "share": 0.4, "lr": {"conv": {"cycle": "phase"}}},
        {"name": "grow", "share": 0.2, "lr": {"attention": {"cycle": "phase", "factor": 2}}},
        {"name": "all", "share": 0.4, "lr": {"attention": {"cycle": "grow"}, "shared": {"factor": 0.5}}},
    ]
    plan = _plan(space, config(phases=phases, optimizer={"lr": 1.0, "warmup": 0.0}))
    half = [plan.rates(k)["conv"] for k in (0.0, 0.2, 0.4 - 1e-6)]
    assert half == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    assert plan.rates(0.4)["attention"] == pytest.approx(2.0)
    assert plan.rates(0.5)["attention"] == pytest.approx(1.0)
    assert plan.rates(0.7)["attention"] == pytest.approx(0.5)  # the middle of 0.4 to 1
    assert plan.rates(0.7)["shared"] == pytest.approx(plan.rates(0.7)["conv"] / 2)


def test_budgets_are_parts_of_one() -> None:
    spent = Spent(steps=5, macs=10**12, seconds=90.0)
    assert spent.of(Budget(steps=10)) == 0.5
    assert spent.of(Budget(macs=4e12)) == 0.25
    assert spent.of(Budget(minutes=3)) == 0.5
    assert spent.of(Budget(minutes=1)) == 1.0
