"""The best parallel plan of a cost table: labels without the weight stores first, with them where they bind."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from h4hc.assignment import Case, Objective
from h4hc.cost import CostTable
from h4hc.costtypes import Capacity, Mode
from h4hc.planning.baselines import Allowed, Plan, Tight
from h4hc.planning.integer import pack_plan
from h4hc.planning.parallel.clock import Clock, State
from h4hc.planning.parallel.index import ActivityIndex, Choice
from h4hc.planning.parallel.labels import Goal, LabelSearch, ParallelPlan
from h4hc.planning.parallel.storage import Storage, Totals, Unbounded, Units
from h4hc.planning.parallel.tails import Prices
from h4hc.planning.plan_cost import PlanCosts
from h4hc.planning.stores import Units as HeldBy

GOAL: dict[Objective, Goal] = {
    Objective.LATENCY: lambda latency, energy: latency,
    Objective.ENERGY: lambda latency, energy: energy,
    Objective.EDP: lambda latency, energy: latency * energy,
}


@dataclass(frozen=True)
class ParallelOutcome:
    """The best plan found, the units that hold its weights, and what no plan is below. interrupted: by Ctrl-C."""

    plan: ParallelPlan
    units: HeldBy
    bound: int
    interrupted: bool


@dataclass(frozen=True)
class ParallelTask:
    """What to search for; see `h4hc.partition.PartitionOptions`.

    starts: plans known, the first of which fits. prices: of a stored byte, by device, as the sequential search found
    them.
    """

    objective: Objective
    case: Case
    gap: float
    deadline: float
    stoppable: bool
    starts: Sequence[Plan]
    prices: Mapping[str, float]


def best_parallel(
    table: CostTable, costs: PlanCosts, allowed: Allowed, tight: Tight, task: ParallelTask
) -> ParallelOutcome:
    """Least makespan, energy or EDP over all modes and breaks, for this execution order.

    The order of the operators, and of the activities on each engine, is that of the workload. Never worse than any of
    the plans it starts from.
    """
    run = _Run(table, costs, allowed, tight, task)
    try:
        run.search()
        run.spare()
    except KeyboardInterrupt:
        if not task.stoppable or run.best is None:
            raise
        run.interrupted = True
    assert run.best is not None, "a plan to start from fits"
    units = pack_plan(costs, run.best.modes)
    assert units is not None
    return ParallelOutcome(run.best, units, run.bound, run.interrupted)


class _Run:
    """The searches for one task, and the best plan at any moment."""

    def __init__(self, table: CostTable, costs: PlanCosts, allowed: Allowed, tight: Tight, task: ParallelTask) -> None:
        self.costs, self.task = costs, task
        self.index, self.goal = ActivityIndex(table, task.case), GOAL[task.objective]
        self.stores = [self.index.capacity[name] for name in sorted(tight) if tight[name]]
        self.legal = [
            [choice for choice in op.choices if choice.mode in modes]
            for op, modes in zip(self.index.ops, allowed, strict=True)
        ]
        self.best: ParallelPlan | None = None
        self.bound = 0
        self.interrupted = False

    def _fits(self, modes: tuple[Mode, ...]) -> bool:
        return pack_plan(self.costs, modes) is not None

    def search(self) -> None:
        """Labels under views of the weight stores, each more exact than the one before, until the gap is closed.

        Of the time left each gets an equal part.
        """
        task, with_energy = self.task, self.task.objective is not Objective.LATENCY
        stored = frozenset(cap.device for cap in self.stores)
        choices = [_useful(options, stored, with_energy) for options in self.legal]
        views: list[Storage] = [Unbounded()]
        if self.stores:
            views += [Totals(self.stores), Units(self.stores)]
        for number, view in enumerate(views):
            now = time.monotonic()
            deadline = now + max(0.0, task.deadline - now) / (len(views) - number)
            prices = _prices(task, [cap for cap in self.stores if cap.device in view.owners])
            search = LabelSearch(
                self.index, choices, view, self.goal, self._fits, deadline, task.gap, with_energy, prices
            )
            try:
                for modes, _ in task.starts:
                    search.know(modes)
                if self.best is not None:
                    search.know(self.best.modes, self.best.breaks)
                search.run()
            finally:
                self.best, self.bound = search.best, max(self.bound, search.bound)
            if self.best is None or self.bound >= self.best.value - math.floor(task.gap * self.best.value):
                return

    def spare(self) -> None:
        """The same value, or a better one, with less energy and then less latency: one operator's mode after the other.

        What runs beside the critical path may as well be slow and cheap.
        """
        plan, clock = self.best, Clock(self.index)
        assert plan is not None
        modes, breaks = list(plan.modes), plan.breaks
        mode_of = [{choice.mode: choice for choice in op.choices} for op in self.index.ops]
        stored = frozenset(cap.device for cap in self.stores)
        state, best = clock.begin(), (plan.value, plan.energy_pj, plan.latency_ps)
        for at, options in enumerate(self.legal):
            for choice in _useful(options, stored, True):
                if choice.mode == modes[at] or choice.device != mode_of[at][modes[at]].device:
                    continue
                if time.monotonic() > self.task.deadline:
                    return
                end = _play(clock, clock.step(state, at, choice, breaks[at]), at + 1, modes, mode_of, breaks)
                latency, energy = clock.finish(end)
                found = (self.goal(latency, energy), energy, latency)
                changed = (*modes[:at], choice.mode, *modes[at + 1 :])
                if found < best and self._fits(changed):
                    best, modes = found, list(changed)
                    self.best = ParallelPlan(changed, breaks, latency, energy, found[0])
            state = clock.step(state, at, mode_of[at][modes[at]], breaks[at])


def _prices(task: ParallelTask, stores: Sequence[Capacity]) -> Prices:
    """Of the stores that a view knows. A product of latency and energy has none."""
    if task.objective is Objective.EDP:
        return Prices({cap.device: 0.0 for cap in stores})
    of = {cap.device: task.prices.get(cap.device, 0.0) for cap in stores}
    back = sum(of[cap.device] * cap.units * (cap.unit_bytes or 0) for cap in stores)
    return Prices(of, back, task.objective)


def parallel_total(index: ActivityIndex, modes: Sequence[Mode], breaks: Sequence[bool]) -> tuple[int, int]:
    """Makespan [ps] and energy [pJ] of a whole plan."""
    clock = Clock(index)
    mode_of = [{choice.mode: choice for choice in op.choices} for op in index.ops]
    return clock.finish(_play(clock, clock.begin(), 0, modes, mode_of, breaks))


def _useful(choices: Sequence[Choice], stored: frozenset[str], with_energy: bool) -> list[Choice]:
    """The modes that another one of the same device does not beat in time, energy, units and stored bytes."""

    def terms(choice: Choice) -> tuple[int, ...]:
        storage = (choice.mode.units, choice.unit_bytes) if choice.mode.device in stored else ()
        return (choice.ps, *((choice.pj,) if with_energy else ()), *storage)

    def beaten(number: int) -> bool:
        mine, device = terms(choices[number]), choices[number].device
        for other, choice in enumerate(choices):
            if choice.device == device and other != number:
                theirs = terms(choice)
                if all(a <= b for a, b in zip(theirs, mine, strict=True)) and (theirs != mine or other < number):
                    return True
        return False

    return [choice for number, choice in enumerate(choices) if not beaten(number)]


def _play(
    clock: Clock,
    state: State,
    first: int,
    modes: Sequence[Mode],
    mode_of: Sequence[dict[Mode, Choice]],
    breaks: Sequence[bool],
) -> State:
    """The rest of a plan, from the operator at `first` on."""
    for at in range(first, len(modes)):
        state = clock.step(state, at, mode_of[at][modes[at]], breaks[at])
    return state
