"""Goals one after another, each among the plans that are as good as can be in those before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from h4hc.assignment import Objective, Stage, Status
from h4hc.errors import LimitError, PlanError
from h4hc.goals import Budget, Goal
from h4hc.planning.baselines import Plan
from h4hc.planning.bounded import Bounded, NoPlan
from h4hc.planning.edp import PROOF_TOLERANCE, Point
from h4hc.planning.live import Live
from h4hc.planning.plan_cost import PlanCosts
from h4hc.planning.search import VALUE, Search, Task, proved_value

WEAKEST = (Status.FEASIBLE, Status.WITHIN_GAP, Status.OPTIMAL)


@dataclass(frozen=True)
class Pursued:
    """The plan, what is proved of each goal, the budget it was found in, and whether the search was interrupted.

    prices: of a stored byte, by device, where a relaxation found them.
    """

    point: Point
    stages: tuple[Stage, ...]
    budget: Budget
    interrupted: bool
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The weakest of all stages."""
        return min((stage.status for stage in self.stages), key=WEAKEST.index)


def pursue(
    costs: PlanCosts, task: Task, starts: Sequence[Plan], goals: Sequence[Goal], budget: Budget, live: Live | None
) -> Pursued:
    """The plan that is least in the first goal, then in the next among plans with that value, and so on.

    With a gap g allowed a later goal may choose among all plans that are proved to be within it: those of at most
    bound / (1 - g). Raises: NoPlan, LimitError, InfeasibleError.
    """
    left, bounds, point = budget, [], None
    interrupted = False
    prices: Mapping[str, float] = {}
    for goal in goals:
        if interrupted or (point is not None and time.monotonic() > task.deadline):
            bounds.append(0.0)
            continue
        known = [*starts, *([(point.modes, point.units)] if point else [])]
        found, bound, interrupted, prices = _one(costs, task, known, goal, left, live)
        bounds.append(bound)
        value = value_of(goal, found, live)
        point = found
        if goal is not Goal.EDP:
            proved = proved_value(value, bound)
            least = int(proved / (1 - task.gap)) if task.gap < 1 else value
            left = left.within(goal, max(value, least))
    assert point is not None
    stages = tuple(
        _stage(goal, value_of(goal, point, live), bound, task.gap) for goal, bound in zip(goals, bounds, strict=True)
    )
    return Pursued(point, stages, budget, interrupted, prices)


def _one(
    costs: PlanCosts, task: Task, starts: Sequence[Plan], goal: Goal, budget: Budget, live: Live | None
) -> tuple[Point, float, bool, Mapping[str, float]]:
    """One goal: plan, bound, whether it was interrupted, prices of stored bytes."""
    if goal is Goal.SRAM:
        search = Bounded(costs, task, starts, budget, live)
        point, bound = search.least_sram()
        return point, bound, search.interrupted, {}
    task = replace(task, objective=Objective(goal))
    free = Bounded(costs, task, starts, budget, live) if budget.limits else Search(costs, task, starts)
    point, bound = free.best()
    return point, bound, free.interrupted, free.prices if isinstance(free, Search) else {}


def value_of(goal: Goal, point: Point, live: Live | None) -> int:
    """A goal's value in a plan, in the case that is planned for."""
    if goal is Goal.SRAM:
        assert live is not None
        return live.peak(point.modes)
    return VALUE[Objective(goal)](point.pair)


def _stage(goal: Goal, value: int, bound: float, gap_allowed: float) -> Stage:
    if bound > value * (1 + 10 * PROOF_TOLERANCE) + 1:
        raise PlanError("the solver's bound exceeds its own plan", why=f"{goal}: bound {bound}, value {value}")
    proved = proved_value(value, bound)
    gap = (value - proved) / value if value else 0.0
    status = Status.WITHIN_GAP if gap <= gap_allowed else Status.FEASIBLE
    status = Status.OPTIMAL if proved == value else status
    return Stage(goal, value, proved, gap, status)


def in_target_sram(
    found: Pursued, costs: PlanCosts, task: Task, starts: Sequence[Plan], goals: Sequence[Goal], live: Live
) -> Pursued:
    """The plan itself where it fits the target's SRAM or where none does, else the best one that fits."""
    room = live.memory.sram_bytes
    if live.peak(found.point.modes) <= room or found.interrupted:
        return found
    try:
        return pursue(costs, task, starts, goals, found.budget.within(Goal.SRAM, room), live)
    except (NoPlan, LimitError):
        return found
