"""Goals and budgets as options give them: units, every mistake at once, and texts that go in again."""

from __future__ import annotations

import pytest

from h4hc.errors import UserError
from h4hc.goals import LIMITABLE, UNITS, Budget, Goal, parse_budget, parse_goals
from h4hc.units import ENERGY_UNITS, SIZE_UNITS, TIME_UNITS, parse_amount


@pytest.mark.parametrize(
    ("text", "units", "amount"),
    [
        ("5ms", TIME_UNITS, 5 * 10**9),
        ("0.1 us", TIME_UNITS, 100_000),
        ("1.0009ns", TIME_UNITS, 1000),  # down: a budget never grows
        ("2s", TIME_UNITS, 2 * 10**12),
        ("1mJ", ENERGY_UNITS, 10**9),
        ("3.5pJ", ENERGY_UNITS, 3),
        ("256K", SIZE_UNITS, 262_144),
        ("256KiB", SIZE_UNITS, 262_144),
        ("1.5M", SIZE_UNITS, 1_572_864),
        ("100B", SIZE_UNITS, 100),
        *((text, TIME_UNITS, None) for text in ("5", "ms", "-5ms", "5 m s", "5MS", "1e3ms", "0ms", "0.5ps", "5mJ", "")),
        *((text, SIZE_UNITS, None) for text in ("256", "256k", "256KB", "0.5B", "9999999999999999999B", "inf")),
        ("٣ms", TIME_UNITS, None),
        ("5ms\n", TIME_UNITS, None),
    ],
)
def test_amounts_have_units(text: str, units: dict[str, int], amount: int | None) -> None:
    assert parse_amount(text, units) == amount


def test_budgets_are_lists_that_may_be_repeated() -> None:
    assert parse_budget(["latency=5ms, sram=256K", "energy=1mJ"]) == Budget(5 * 10**9, 10**9, 262_144)
    assert parse_budget([]) == Budget()


def test_all_bad_budgets_are_named() -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(["latency=5,edp=3pJ,sram", "energy=1mJ,energy=2mJ", "power=1W,"])
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for part in ("'latency=5': not an amount", "'edp=3pJ'", "'sram'", "limits energy twice", "'power=1W'", "''"):
        assert part in text


@pytest.mark.parametrize("goal", LIMITABLE)
def test_an_exact_amount_goes_in_again(goal: Goal) -> None:
    assert parse_amount(goal.exact(1_234_567), UNITS[goal]) == 1_234_567


def test_goals_are_in_order_and_each_once() -> None:
    assert parse_goals("latency, energy") == (Goal.LATENCY, Goal.ENERGY)
    assert parse_goals("sram,edp") == (Goal.SRAM, Goal.EDP)
    with pytest.raises(UserError) as caught:
        parse_goals("edp,speed,latency,latency")
    assert len(caught.value.problems) == 3


def test_tighter_limits_win() -> None:
    budget = Budget(latency_ps=10).within(Goal.LATENCY, 20).within(Goal.SRAM, 7)
    assert budget.limits == ((Goal.LATENCY, 10), (Goal.SRAM, 7))
    assert budget.limit(Goal.EDP) is None
