"""Each fault of a parallel schedule, made on purpose, is found under its name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from h4hc.assignment import Schema
from h4hc.costtypes import Interval
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.schedule import Schedule, Step, schedule
from tests.parallel_plans import parallel_problem

Change = Callable[[Schedule], Schedule | None]


def change_step(plan: Schedule, index: int, **fields: object) -> Schedule:
    steps = list(plan.steps)
    steps[index] = replace(steps[index], **fields)  # type: ignore[arg-type]
    return replace(plan, steps=tuple(steps))


def first(plan: Schedule, wanted: Callable[[Step], bool]) -> Step | None:
    return next((step for step in plan.steps if wanted(step)), None)


def too_early(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.start_ps > 0 and bool(s.after))
    return None if step is None else change_step(plan, step.index, start_ps=step.start_ps - 1)


def waits_for_itself(plan: Schedule) -> Schedule | None:
    return change_step(plan, 0, after=(0,))


def forgets_its_engine(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.kind == "switch" and bool(s.after))
    return None if step is None else change_step(plan, step.index, after=())


def forgets_its_input(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.kind == "op" and s.device == "host" and len(s.after) > 1)
    return None if step is None else change_step(plan, step.index, after=step.after[:1])


def quicker(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.kind == "op" and s.latency.low > 0)
    if step is None:
        return None
    low, nominal, high = step.latency.low, step.latency.nominal, step.latency.high
    return change_step(plan, step.index, latency=Interval(low - 1, nominal, high))


def without_a_move(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.kind == "transfer")
    return None if step is None else change_step(plan, step.index, subject="another")


def idles_in_its_stay(plan: Schedule) -> Schedule | None:
    for one, two in itertools.pairwise(plan.steps):
        inside = one.partition == two.partition and one.device == two.device != "host" and two.after == (one.index,)
        if inside and one.kind == two.kind == "op":
            return change_step(plan, two.index, start_ps=two.start_ps + 1)
    return None


def leaks_less(plan: Schedule) -> Schedule | None:
    step = first(plan, lambda s: s.kind == "leakage")
    return None if step is None else change_step(plan, step.index, energy=Interval(0, 0, 0))


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (too_early, {"waits"}),
        (waits_for_itself, {"waits"}),
        (forgets_its_engine, {"engine", "data", "waits"}),
        (forgets_its_input, {"data", "engine"}),
        (quicker, {"steps"}),
        (without_a_move, {"steps", "data"}),
        (idles_in_its_stay, {"stay", "waits", "engine"}),
        (leaks_less, {"totals"}),
    ],
)
def test_a_fault_is_found(change: Change, rules: set[str]) -> None:
    tried = 0
    for seed in range(80):
        workload, table = parallel_problem(seed, 6)
        found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment
        plan = schedule(workload, found, table)
        broken = change(plan)
        if broken is None:
            continue
        tried += 1
        named = {fault.rule for fault in check_plan(workload, table, found, broken)}
        assert named & rules, (seed, named)
        if tried == 8:
            break
    assert tried >= 5


def test_another_total_is_found() -> None:
    workload, table = parallel_problem(3, 5)
    found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment
    plan = schedule(workload, found, table)
    for wrong in (
        replace(found, latency_ps=found.latency_ps + 1),
        replace(found, energy_pj=found.energy_pj + 1),
        replace(found, value=found.value + 1),
    ):
        assert "totals" in {f.rule for f in check_plan(workload, table, wrong, plan)}
        assert {f.rule for f in check_plan(workload, table, wrong, plan)} <= {"totals", "proof"}
