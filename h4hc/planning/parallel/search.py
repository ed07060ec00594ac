"""The best parallel plan of a cost table: labels without the weight stores first, with them where they bind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h4hc.assignment import Case, Objective
from h4hc.cost import CostTable
from h4hc.costtypes import Capacity, Mode
from h4hc.planning.baselines import Allowed, Plan, Tight
from h4hc.planning.integer import pack_plan
from h4hc.planning.parallel.clock import Clock, State
from h4hc.planning.parallel.index import ActivityIndex, Choice
from h4hc.planning.parallel.labels import Goal, LabelSearch, ParallelPlan, Prices
from h4hc.planning.parallel.storage import Storage, Totals, Unbounded, Units
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
    index, goal = ActivityIndex(table, task.case), GOAL[task.objective]
    with_energy = task.objective is not Objective.LATENCY
    stores = [index.capacity[name] for name in sorted(tight) if tight[name]]
    stored = frozenset(cap.device for cap in stores)
    legal = [
        [choice for choice in op.choices if choice.mode in modes] for op, modes in zip(index.ops, allowed, strict=True)
    ]
    choices = [_useful(options, stored, with_energy) for options in legal]
    bound, interrupted = 0, False
    best: ParallelPlan | None = None

    def fits(modes: tuple[Mode, ...]) -> bool:
        return pack_plan(costs, modes) is not None

    views: list[Storage] = [Unbounded()]
    if stores:
        views += [Totals(stores), Units(stores)]
    for number, view in enumerate(views):  # each more exact than the one before; of the time left an equal part each
        now = time.monotonic()
        deadline = now + max(0.0, task.deadline - now) / (len(views) - number)
        prices = _prices(task, [cap for cap in stores if cap.device in view.owners])
        search = LabelSearch(index, choices, view, goal, fits, deadline, task.gap, with_energy, prices)
        for modes, _ in task.starts:
            search.know(modes)
        if best is not None:
            search.know(best.modes, best.breaks)
        try:
            search.run()
        except KeyboardInterrupt:
            if not task.stoppable or search.best is None:
                raise
            interrupted = True
        best, bound = search.best, max(bound, search.bound)
        if interrupted or best is None or best.value - bound <= task.gap * best.value:
            break
    assert best is not None, "a plan to start from fits"
    best = thrifty(index, [_useful(options, stored, True) for options in legal], goal, best, fits, task.deadline)
    units = pack_plan(costs, best.modes)
    assert units is not None
    return ParallelOutcome(best, units, bound, interrupted)


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


def thrifty(
    index: ActivityIndex,
    choices: Sequence[Sequence[Choice]],
    goal: Goal,
    plan: ParallelPlan,
    fits: Callable[[tuple[Mode, ...]], bool],
    deadline: float,
) -> ParallelPlan:
    """The same value, or a better one, with less energy and then less latency: one operator's mode after the other.

    What runs beside the critical path may as well be slow and cheap.
    """
    clock, modes, breaks = Clock(index), list(plan.modes), plan.breaks
    mode_of = [{choice.mode: choice for choice in op.choices} for op in index.ops]
    state = clock.begin()
    best = (plan.value, plan.energy_pj, plan.latency_ps)
    for at, options in enumerate(choices):
        for choice in options:
            if choice.mode == modes[at] or choice.device != mode_of[at][modes[at]].device:
                continue
            if time.monotonic() > deadline:
                return ParallelPlan(tuple(modes), breaks, best[2], best[1], best[0])
            end = _play(clock, clock.step(state, at, choice, breaks[at]), at + 1, modes, mode_of, breaks)
            latency, energy = clock.finish(end)
            found = (goal(latency, energy), energy, latency)
            changed = (*modes[:at], choice.mode, *modes[at + 1 :])
            if found < best and fits(changed):
                best, modes = found, list(changed)
        state = clock.step(state, at, mode_of[at][modes[at]], breaks[at])
    return ParallelPlan(tuple(modes), breaks, best[2], best[1], best[0])


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
