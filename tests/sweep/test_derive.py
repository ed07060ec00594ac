"""Pareto front against its definition; break-even ratio against a table in which all overhead is that much dearer."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from h4hc.assignment import Placement
from h4hc.cost import CostTable, cost_table
from h4hc.costtypes import ZERO, Interval
from h4hc.partition import PartitionOptions, partition
from h4hc.schedule import schedule
from h4hc.sweep.derive import Measure, balance, pareto
from h4hc.sweep.evaluate import evaluate, prepare
from h4hc.sweep.row import PlanFigures, Point, Row
from h4hc.system import MoveStep
from h4hc.target_file import load_system


def row(latency: int | None, energy: int, area: int) -> Row:
    plan = None
    if latency is not None:
        plan = PlanFigures(Interval.exact(latency), Interval.exact(energy), ZERO, ZERO, 0, 0, ())
    return Row(Point(model="m", target="t"), "", "", (area, area, area), plan)


@pytest.mark.parametrize("seed", range(100))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    rng = random.Random(seed)
    triples = [
        (rng.choice((None, 1, 2, 3, 4)), rng.randint(1, 4), rng.randint(1, 4)) for _ in range(rng.randint(0, 12))
    ]

    def beats(one: tuple[int | None, int, int], other: tuple[int | None, int, int]) -> bool:
        if one[0] is None or other[0] is None:
            return False
        return one != other and one[0] <= other[0] and one[1] <= other[1] and one[2] <= other[2]

    expected = tuple(t[0] is not None and not any(beats(other, t) for other in triples) for t in triples)
    assert pareto([row(*t) for t in triples]) == expected


@pytest.mark.parametrize("measure", ["latency", "energy"])
def test_where_all_overhead_is_dearer_by_the_ratio_the_plan_equals_npu_only(measure: Measure) -> None:
    point = Point(model="ds-cnn", target="npu+cim", sets=("cim.cus=2",))
    workload = prepare(point).workload
    table = cost_table(workload, load_system(point.target, point.sets))
    chosen = partition(workload, table, PartitionOptions())
    npu = next(b for b in chosen.baselines if b.name == "npu-only")
    row = evaluate(point)
    found = balance(row, row.plan, measure)
    assert found is not None
    assert found.break_even_ratio is not None
    assert found.break_even_ratio > 0
    dear = _dearer(table, found.break_even_ratio)
    theirs = replace(
        chosen.assignment,
        placements=tuple(Placement(op.id, mode) for op, mode in zip(workload.ops, npu.modes, strict=True)),
    )
    totals = [schedule(workload, plan, dear) for plan in (chosen.assignment, theirs)]
    mine, other = (s.latency.nominal if measure == "latency" else s.energy.nominal for s in totals)
    assert mine == pytest.approx(other, rel=1e-4)
    before = [schedule(workload, plan, table) for plan in (chosen.assignment, theirs)]
    assert before[0].latency.nominal < before[1].latency.nominal  # so that equality above is no accident


def test_npu_only_itself_is_at_the_origin() -> None:
    row = evaluate(Point(model="ds-cnn", target="npu+cim"))
    found = balance(row, row.baseline("npu-only"), "latency")
    assert found is not None
    assert (found.saved, found.overhead, found.break_even_ratio) == (0, 0, None)


def test_without_an_npu_there_is_no_balance() -> None:
    row = evaluate(Point(model="ds-cnn", target="cim"))
    assert balance(row, row.plan, "energy") is None


def _dearer(table: CostTable, ratio: float) -> CostTable:
    """The table with every switch and every move times `ratio`."""

    def times(value: Interval) -> Interval:
        return Interval(round(value.low * ratio), round(value.nominal * ratio), round(value.high * ratio))

    def step(given: MoveStep) -> MoveStep:
        return replace(given, latency=times(given.latency), energy=times(given.energy))

    switches = tuple(replace(s, latency=times(s.latency), energy=times(s.energy)) for s in table.switches)
    ports = tuple(
        replace(port, moves=tuple(replace(move, steps=tuple(step(s) for s in move.steps)) for move in port.moves))
        for port in table.ports
    )
    return replace(table, switches=switches, ports=ports)
