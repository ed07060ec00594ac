"""Stability against enumeration: every end of every interval, in exact fractions, and every break-even."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.assignment import Case, Objective, Status
from h4hc.cost import Border, CostTable, Move
from h4hc.costtypes import Interval, Mode
from h4hc.errors import InfeasibleError
from h4hc.partition import Partitioning, PartitionOptions, partition
from h4hc.partitioned import model_bytes
from h4hc.planning.plan_cost import PlanCosts
from h4hc.stability import LARGEST, QUANTITIES, BreakEven, End, stability
from h4hc.workload import Workload
from h4hc.zoo.build import build_model
from tests.random_plans import DEVICES, Enumeration, random_problem


def lines(every: Enumeration, device: str, quantity: str, objective: Objective) -> tuple[list[int], list[int]]:
    """By plan: what stays and what the factor multiplies, of the objective."""
    part = 0 if quantity == "latency" else 1
    totals = (every.latency, every.energy)
    weight = totals[1 - part] if objective is Objective.EDP else np.ones_like(totals[0])
    on = every.on[device][part]
    return [int(v) for v in (totals[part] - on) * weight], [int(v) for v in on * weight]


def brute_force_end(rest: list[int], on: list[int], chosen: int, plans: list[int], *, upward: bool) -> Fraction | None:
    """First crossing of the chosen plan's line with one of smaller (upward) or larger (downward) slope."""
    crossings = [
        Fraction(rest[p] - rest[chosen], on[chosen] - on[p])
        for p in plans
        if (on[p] < on[chosen] if upward else on[p] > on[chosen])
    ]
    if upward:
        nearest = min(crossings, default=LARGEST)
        return nearest if nearest < LARGEST else None
    nearest = max(crossings, default=Fraction(0))
    return nearest if nearest > 0 else None


def flipped(result: Partitioning, end: End, every: Enumeration) -> int:
    """The plan that takes over, put together from the flips."""
    mode = {f.op: f.after for f in end.flips}
    for placement in result.assignment.placements:
        was = [f.before for f in end.flips if f.op == placement.op]
        assert was in ([], [placement.mode])
    return every.plan(tuple(mode.get(p.op, p.mode) for p in result.assignment.placements))


@pytest.mark.slow
@pytest.mark.parametrize("case", list(Case))
@pytest.mark.parametrize("objective", list(Objective))
def test_ends_equal_brute_force_in_exact_fractions(objective: Objective, case: Case) -> None:
    inner = 0
    for seed in range(25):
        workload, table = random_problem(seed, max_ops=6, scale=1 + (seed % 3) * 9_973)
        every = Enumeration(workload, table, worst=case is Case.WORST)
        plans = [plan for plan in range(every.choice.shape[1]) if every.fits(plan)]
        options = PartitionOptions(objective, case=case, time_limit_s=1e5)
        try:
            result = partition(workload, table, options)
        except InfeasibleError:
            continue
        chosen = every.plan(tuple(p.mode for p in result.assignment.placements))
        found = stability(workload, table, result, options)
        assert [(r.device, r.quantity) for r in found.radii] == [(d, q) for d in DEVICES for q in QUANTITIES[objective]]
        for radius in found.radii:
            rest, on = lines(every, radius.device, radius.quantity, objective)
            for end, upward in ((radius.low, False), (radius.high, True)):
                where = f"seed {seed}, {radius.device}, {radius.quantity}, upward {upward}"
                assert end.proved, where
                assert end.factor == brute_force_end(rest, on, chosen, plans, upward=upward), where
                if end.factor is None:
                    assert end.flips == (), where
                    continue
                inner += 1
                heir = flipped(result, end, every)
                assert every.fits(heir), where
                assert rest[heir] + end.factor * on[heir] == rest[chosen] + end.factor * on[chosen], where
                assert on[heir] < on[chosen] if upward else on[heir] > on[chosen], where
    assert inner > 30


@pytest.mark.parametrize("objective", list(Objective))
def test_break_evens_hold_on_both_sides(objective: Objective) -> None:
    sides: set[str] = set()
    for seed in range(25):
        workload, table = random_problem(seed, max_ops=6)
        every = Enumeration(workload, table)
        try:
            result = partition(workload, table, PartitionOptions(objective))
        except InfeasibleError:
            continue
        chosen = every.plan(tuple(p.mode for p in result.assignment.placements))
        for row in stability(workload, table, result, PartitionOptions(objective, time_limit_s=1e-6)).break_evens:
            rest, on = lines(every, row.device, row.quantity, row.objective)
            other = every.plan(next(b.modes for b in result.baselines if b.name == row.baseline))
            for factor in _samples(row):
                better = rest[other] + factor * on[other] < rest[chosen] + factor * on[chosen]
                assert better == _says(row, factor), f"seed {seed}, {row}, {factor}"
            sides.add(row.wins)
    assert sides >= {"above", "below", "never"}


def _samples(row: BreakEven) -> list[Fraction]:
    if row.factor is None:
        return [Fraction(0), Fraction(1), Fraction(10**6)]
    return [row.factor, *(row.factor * Fraction(n, 1000) for n in (0, 999, 1001, 10**7))]


def _says(row: BreakEven, factor: Fraction) -> bool:
    if row.factor is None:
        return row.wins == "always"
    return factor > row.factor if row.wins == "above" else factor < row.factor


def with_factor(table: CostTable, device: str, factor: Fraction) -> CostTable:
    """The table itself with one device's operator latencies times the factor, all latencies times its denominator."""

    def times(part: Any, number: int) -> Any:
        low, nominal, high = part.latency.low, part.latency.nominal, part.latency.high
        return replace(part, latency=Interval(low * number, nominal * number, high * number))

    def number(name: str) -> int:
        return factor.numerator if name == device else factor.denominator

    def border(b: Border) -> Border:
        return replace(b, steps=tuple(times(s, factor.denominator) for s in b.steps))

    def move(m: Move) -> Move:
        return replace(m, steps=tuple(times(s, factor.denominator) for s in m.steps))

    return replace(
        table,
        rows=tuple(replace(r, costs=tuple(times(c, number(c.mode.device)) for c in r.costs)) for r in table.rows),
        ports=tuple(replace(p, moves=tuple(move(m) for m in p.moves)) for p in table.ports),
        arrivals=tuple(border(b) for b in table.arrivals),
        departures=tuple(border(b) for b in table.departures),
        switches=tuple(times(s, factor.denominator) for s in table.switches),
        follow_ups=tuple(times(f, number(f.device)) for f in table.follow_ups),
    )


@pytest.mark.parametrize("name", ["ds-cnn", "resnet8", pytest.param("mobilenet-v3-small", marks=pytest.mark.slow)])
def test_a_real_plan_changes_at_the_ends_and_not_before(name: str) -> None:
    """On a network's own table: the partitioner keeps the plan's value within the range and beats it beyond."""
    done = compile_model(model_bytes(build_model(name, seed=0, int8=True)), CompileOptions("npu+cim", stability=True))
    workload, table, chosen = done.workload, done.table, done.assignment
    assert workload is not None
    assert table is not None
    assert chosen is not None
    assert done.stability is not None
    modes, seen = tuple(p.mode for p in chosen.placements), 0
    for radius in done.stability.radii:
        for end in (radius.low, radius.high):
            assert end.proved
            for factor in () if end.factor is None else (end.factor + (1 - end.factor) / 8, end.factor * end.factor):
                moved = with_factor(table, radius.device, factor)
                best = partition(workload, moved, PartitionOptions()).assignment
                assert best.status is Status.OPTIMAL
                old = PlanCosts(moved).total(modes)[0]
                beyond = end.factor is not None and abs(factor - 1) > abs(end.factor - 1)
                assert best.value < old if beyond else best.value == old, (radius.device, factor)
                seen += 1
    assert seen >= 4


def _problem() -> tuple[Workload, CostTable]:
    return random_problem(3, max_ops=9)


def test_out_of_time_claims_nothing_it_did_not_prove() -> None:
    bounds = 0
    for seed in range(15):
        workload, table = random_problem(seed, max_ops=6)
        every = Enumeration(workload, table)
        plans = [plan for plan in range(every.choice.shape[1]) if every.fits(plan)]
        try:
            result = partition(workload, table, PartitionOptions())
        except InfeasibleError:
            continue
        chosen = every.plan(tuple(p.mode for p in result.assignment.placements))
        for radius in stability(workload, table, result, PartitionOptions(time_limit_s=1e-9)).radii:
            rest, on = lines(every, radius.device, radius.quantity, Objective.LATENCY)
            for end, upward in ((radius.low, False), (radius.high, True)):
                truth = brute_force_end(rest, on, chosen, plans, upward=upward)
                if end.proved:
                    assert end.factor == truth
                elif end.factor is not None:  # another plan wins beyond it; the true end may be nearer to 1
                    assert truth is not None
                    assert abs(truth - 1) <= abs(end.factor - 1)
                    bounds += 1
    assert bounds > 10


def test_a_plan_without_proof_has_no_radius() -> None:
    workload, table = _problem()
    result = partition(workload, table, PartitionOptions())
    doubtful = replace(result, assignment=replace(result.assignment, status=Status.FEASIBLE))
    found = stability(workload, table, doubtful, PartitionOptions())
    assert found.radii == ()
    assert found.break_evens


def test_a_plan_with_an_equal_rival_has_radius_zero() -> None:
    """Two devices that cost the same: any error at all moves the operator."""
    workload, table = next((w, t) for w, t in (random_problem(s, 1) for s in range(100)) if _runs_on_npu(t))
    cost = table.rows[0].cost(Mode("host"))
    same = tuple(replace(cost, mode=Mode(d)) for d in ("host", "npu"))
    zero = Interval.exact(0)
    free = replace(
        table,
        rows=(replace(table.rows[0], costs=same),),
        ports=tuple(replace(p, moves=tuple(replace(m, steps=()) for m in p.moves)) for p in table.ports),
        switches=tuple(replace(s, latency=zero, energy=zero) for s in table.switches),
    )
    result = partition(workload, free, PartitionOptions())
    here = result.assignment.placements[0].mode.device
    radius = next(r for r in stability(workload, free, result, PartitionOptions()).radii if r.device == here)
    assert radius.high.factor == 1
    assert [f.after.device for f in radius.high.flips] == [{"host": "npu", "npu": "host"}[here]]


def _runs_on_npu(table: CostTable) -> bool:
    devices = {c.mode.device for c in table.rows[0].costs}
    return devices >= {"host", "npu"} and table.rows[0].cost(Mode("host")).latency.nominal > 0
