"""Ctrl-C in the middle of a search: the best plan so far where that was asked for, else the interrupt itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import highspy
import pytest

from h4hc.assignment import Objective, Schema
from h4hc.costtypes import Mode
from h4hc.partition import INTERRUPTED, PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.planning.ilp import Effort, Program, SolveStatus
from h4hc.planning.parallel.clock import Clock
from h4hc.planning.search import VALUE, Search
from h4hc.planning.walk import Walk
from h4hc.schedule import schedule
from tests.parallel_plans import parallel_problem
from tests.random_plans import random_problem


def _interrupting(times: int) -> Callable[..., Any]:
    """Walk.least that the user interrupts at the given call."""
    least, calls = Walk.least, 0

    def walk(self: Walk, *prices: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == times:
            os.kill(os.getpid(), signal.SIGINT)
        return least(self, *prices)

    return walk


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("times", [1, 2])
def test_the_best_plan_so_far_comes_back_with_its_gap(
    objective: Objective, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = 0
    for seed in range(20):
        workload, table = random_problem(seed, max_ops=9)
        if any(all(c.mode != Mode("host") for c in row.costs) for row in table.rows):
            continue  # no baseline may be known
        best = partition(workload, table, PartitionOptions(objective)).assignment.value
        with monkeypatch.context() as patch:
            patch.setattr(Walk, "least", _interrupting(times))
            found = partition(workload, table, PartitionOptions(objective, stoppable=True))
        plan = found.assignment
        assert plan.bound <= best <= plan.value, f"seed {seed}"
        assert check_plan(workload, table, plan, schedule(workload, plan, table)) == ()
        for baseline in found.baselines:
            if baseline.modes:
                assert plan.value <= VALUE[objective]((baseline.latency_ps, baseline.energy_pj))
        if found.remarks:
            assert [(r.code, r.severity) for r in found.remarks] == [(INTERRUPTED, "warning")]
            stopped += 1
    assert stopped > (4 if times == 1 else 0)


def test_an_interrupt_goes_through_where_nobody_asked_to_keep_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, table = random_problem(0, max_ops=9)
    monkeypatch.setattr(Walk, "least", _interrupting(1))
    with pytest.raises(KeyboardInterrupt):
        partition(workload, table, PartitionOptions())


def test_an_interrupt_inside_the_solver_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stoppable solve hears it while HiGHS runs; its bound holds, and so does that of the plan made of it."""
    program = Program()
    cells = [[program.binary(f"x[{i},{j}]") for j in range(40)] for i in range(40)]
    for line in (*cells, *zip(*cells, strict=True)):
        program.row([(v, 1.0) for v in line], 1.0, 1.0, "one")
    cost = {v: float((i * 37 + j * 91) % 101) for i, row in enumerate(cells) for j, v in enumerate(row)}
    alone = program.solve(cost, gap=0.0, effort=Effort(60.0))
    heard = program.solve(cost, gap=0.0, effort=Effort(60.0, stoppable=True))
    assert (heard.status, heard.objective) == (SolveStatus.OPTIMAL, alone.objective)
    assert not heard.interrupted
    wait, calls = highspy.Highs.wait, 0

    def interrupted(self: highspy.Highs, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return wait(self, *args)

    monkeypatch.setattr(highspy.Highs, "wait", interrupted)
    stopped = program.solve(cost, gap=0.0, effort=Effort(60.0, stoppable=True))
    assert stopped.interrupted
    assert stopped.bound <= alone.objective
    calls = 0
    monkeypatch.setattr(Search, "paths", None)
    workload, table = random_problem(1, max_ops=9)
    found = partition(workload, table, PartitionOptions(stoppable=True))
    assert [r.code for r in found.remarks] == [INTERRUPTED]
    assert found.assignment.bound <= found.assignment.value
    assert check_plan(workload, table, found.assignment, schedule(workload, found.assignment, table)) == ()


@pytest.mark.parametrize("times", [1, 40])
def test_a_parallel_search_can_be_stopped_as_well(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, stopped = Clock.step, 0
    for seed in range(20):
        workload, table = parallel_problem(seed, 6)
        best = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL)).assignment.value
        calls = 0

        def interrupted(self: Clock, *given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == times + len(workload.ops) * 6:  # noqa: B023 - behind the timing of what is known
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Clock, "step", interrupted)
            try:
                found = partition(workload, table, PartitionOptions(schema=Schema.PARALLEL, stoppable=True))
            except KeyboardInterrupt:
                pytest.fail("a plan was known")
        plan = found.assignment
        assert plan.bound <= best <= plan.value, f"seed {seed}"
        assert check_plan(workload, table, plan, schedule(workload, plan, table)) == ()
        stopped += bool(found.remarks)
    assert stopped
