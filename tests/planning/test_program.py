"""Weights in single units against enumeration, on three units of which a share may take one, two or all."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from h4hc.assignment import Objective, Status
from h4hc.cost import CostTable, OpRow
from h4hc.costtypes import Capacity, Mode
from h4hc.errors import InfeasibleError
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.planning.baselines import Plan
from h4hc.planning.ilp import Effort, Program, Solution
from h4hc.planning.integer import Integer
from h4hc.planning.plan_cost import Weights
from h4hc.planning.program import WEIGHINGS, PlanProgram, weighing
from h4hc.planning.search import VALUE, Search
from h4hc.planning.stores import Units
from h4hc.schedule import schedule
from tests.random_plans import Enumeration, random_problem

UNITS, UNIT_BYTES = 3, 10


def on_three_units(rng: random.Random, table: CostTable) -> CostTable:
    """The table with weights of few sizes, cut over one to three units; where they cost the same, only units matter."""
    rows = []
    for row in table.rows:
        model = next((c for c in row.costs if c.mode.device == "cim"), None)
        if model is None:
            rows.append(row)
            continue
        weight, alike = rng.choice([6, 9, 12]), rng.random() < 0.5
        costs = [c for c in row.costs if c.mode.device != "cim"]
        for units in (1, 2, 3):
            dearer = 0 if alike else rng.randint(0, 3)
            latency = replace(model.latency, high=model.latency.high + dearer, nominal=model.latency.nominal + dearer)
            share = -(-weight // units)
            costs.append(replace(model, mode=Mode("cim", units), latency=latency, unit_weight_bytes=share))
        rows.append(OpRow(row.op, tuple(costs), ()))
    capacities = tuple(Capacity("cim", UNITS, UNIT_BYTES) if c.device == "cim" else c for c in table.capacities)
    return replace(table, rows=tuple(rows), capacities=capacities, follow_ups=())


@pytest.mark.parametrize("first", range(0, 60, 20))
@pytest.mark.parametrize("route", ["paths first", "as it is", "packed beside", "in the program"])
def test_units_decided_by_a_program_equal_brute_force(first: int, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes: shortest paths first; the program alone, as it is; the plan of its aggregated rows never packs by itself;
    nor by a program that only packs it."""
    decided = 0
    units, packed, solve = PlanProgram.units, Integer._packed, PlanProgram.solve

    def no_units(self: PlanProgram, solution: Solution, modes: Sequence[Mode]) -> Units | None:
        return units(self, solution, modes) if self.exact_units or not any(self.tight.values()) else None

    def not_packed(self: Integer, program: PlanProgram, solution: Solution, weights: Weights) -> Plan | None:
        exact = program.exact_units or not any(program.tight.values())
        return packed(self, program, solution, weights) if exact else None

    def counted(self: PlanProgram, *args: Any, **more: Any) -> Solution:
        nonlocal decided
        decided += self.exact_units
        return solve(self, *args, **more)

    monkeypatch.setattr(PlanProgram, "solve", counted)
    if route != "paths first":
        monkeypatch.setattr(Search, "paths", None)
    if route == "packed beside":
        monkeypatch.setattr(PlanProgram, "units", no_units)
    if route == "in the program":
        monkeypatch.setattr(Integer, "_packed", not_packed)
    for seed in range(first, first + 20):
        rng = random.Random(seed)
        workload, table = random_problem(seed, max_ops=5)
        table = on_three_units(rng, table)
        every = Enumeration(workload, table)
        for objective in Objective:
            best = every.best(VALUE[objective])
            if best is None:
                with pytest.raises(InfeasibleError):
                    partition(workload, table, PartitionOptions(objective))
                continue
            found = partition(workload, table, PartitionOptions(objective)).assignment
            assert (found.value, found.status) == (best, Status.OPTIMAL), f"seed {seed}, {objective}"
            assert check_plan(workload, table, found, schedule(workload, found, table)) == (), f"seed {seed}"
    assert decided > (0 if route in ("paths first", "as it is") else 20)


def test_weighings_hold_for_whatever_fits_into_a_unit() -> None:
    """All multisets of shares that fill a unit of 12 bytes weigh 1 at most, and each weighing refuses some sum."""
    size = 12

    def fillings(left: int, largest: int) -> list[list[int]]:
        return [[]] + [[s, *rest] for s in range(1, min(left, largest) + 1) for rest in fillings(left - s, s)]

    for step in range(WEIGHINGS):
        assert max(sum(weighing(step, s, size) for s in held) for held in fillings(size, size)) == 1
    for step in range(1, WEIGHINGS):  # step + 1 shares of just over 1/(step + 1) never fit
        share = size // (step + 1) + 1
        assert (step + 1) * weighing(step, share, size) > 1


def test_columns_stay_in_the_order_in_which_they_were_added() -> None:
    """The first variable is named by the last row alone."""
    program = Program()
    late, early = program.count("late", 9), program.binary("early")
    program.row([(early, 1.0)], 1.0, 1.0, "first")
    program.row([(late, 1.0), (early, -7.0)], 0.0, math.inf, "second")
    found = program.solve({late: 1.0}, gap=0.0, effort=Effort(10.0))
    assert (round(found.values[late]), round(found.values[early]), round(found.bound)) == (7, 1, 7)
