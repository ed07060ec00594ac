"""The best plan for an objective on one index of costs: integer programs, polished and recomputed in exact integers.

Latency and energy are one program each; EDP, their product, is several (`edp`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from h4hc.assignment import Objective
from h4hc.errors import LimitError
from h4hc.planning.baselines import Allowed, Plan, Tight, improve
from h4hc.planning.dominance import undominated
from h4hc.planning.edp import PROOF_TOLERANCE, Cut, Point, minimise_edp
from h4hc.planning.ilp import SolveStatus
from h4hc.planning.integer import Integer, pack_plan
from h4hc.planning.overflow import overflow_error
from h4hc.planning.paths import Paths
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.relaxation import MEETS, Relaxation

PACKINGS = 5  # plans of a relaxation that are tried for a packing

VALUE: dict[Objective, Callable[[Pair], int]] = {
    Objective.LATENCY: lambda pair: pair[0],
    Objective.ENERGY: lambda pair: pair[1],
    Objective.EDP: lambda pair: pair[0] * pair[1],
}


@dataclass(frozen=True)
class Task:
    """What to search for: objective, demands' outcome, effort. gap is relative; deadline is of `time.monotonic`.

    allowed: modes by position; tight: devices whose weight store can overflow; time_limit_s: as the user gave it.
    stoppable: Ctrl-C ends the search, not the program, as soon as a plan is known.
    """

    objective: Objective
    allowed: Allowed
    tight: Tight
    gap: float
    time_limit_s: float
    deadline: float
    demanded: bool = False
    stoppable: bool = False


class Search:
    """Solves weighted objectives on one index of costs, within one time budget, never worse than where it starts."""

    def __init__(self, costs: PlanCosts, task: Task, starts: Sequence[Plan]) -> None:
        self.costs, self.task = costs, task
        self.starts = [(plan, costs.total(plan[0])) for plan in starts]
        self.points: list[Point] = []  # all that was solved
        self.gap = task.gap
        self.interrupted = False
        self.prices: dict[str, float] = {}  # of a stored byte, by device, in the last relaxation
        self._bound = 0.0  # known so far in the solve that is under way

    @cached_property
    def paths(self) -> Paths | None:
        """Shortest paths; None where there are too many states for them."""
        paths = Paths.of(self.costs, self.task.allowed, self.task.tight)
        if paths is not None:
            for plan, pair in self.starts:
                paths.know(plan[0], pair)
        return paths

    @cached_property
    def flat(self) -> Integer:
        """The integer program over all modes that may be in the best plan."""
        return self._integer(self.task.allowed)

    def _integer(self, modes: Allowed) -> Integer:
        left = undominated(self.costs, modes, self.task.tight)
        return Integer(self.costs, left, self.task.tight, self.task.deadline, self.task.stoppable)

    def best(self, known: Sequence[Cut] = ()) -> tuple[Point, float]:
        """Best plan for the task's objective, and what no plan can be below. known: cuts that hold, for EDP.

        Raises: LimitError when there is none in time, InfeasibleError when there is none at all.
        """
        if self.task.objective is Objective.EDP:
            return minimise_edp(self, known)
        point = self.minimise(Weights(1, 0) if self.task.objective is Objective.LATENCY else Weights(0, 1))
        return point, point.bound

    def minimise(self, weights: Weights) -> Point:
        """Best plan for weighted latency and energy, with its bound; when interrupted, the best one known."""
        self._bound = 0.0
        try:
            if not self.interrupted:
                return self._minimised(weights)
        except KeyboardInterrupt:
            if not self.task.stoppable or not self._known():
                raise
            self._interrupt()
        best = min(self._known(), key=lambda known: weights.of(known[1]))
        return self._kept(best, weights, self._bound)

    def _interrupt(self) -> None:
        self.interrupted = True
        self.task = replace(self.task, deadline=-math.inf)

    def _minimised(self, weights: Weights) -> Point:
        """Shortest paths first. What they leave open goes to the integer program, over the modes still of use."""
        start = min(self._known(), key=lambda known: weights.of(known[1]), default=None)
        if self.paths is None:
            return self._decided(self.flat, weights, start, 0.0, math.inf)
        relaxed = self._relaxed(self.paths, weights, start)
        self.prices = dict(zip(self.paths.stores, map(float, relaxed.prices), strict=True))
        start = self._nearby(self.paths, relaxed, weights, start)
        if start is None:
            return self._decided(self.flat, weights, None, relaxed.bound, math.inf)
        value = weights.of(start[1])
        if self._closed(value, relaxed.bound) or time.monotonic() > self.task.deadline:
            return self._kept(start, weights, relaxed.bound)
        left = self.paths.useful(relaxed, value)
        if not all(left):  # no plan is better
            return self._kept(start, weights, float(value))
        return self._decided(self._integer(left), weights, start, relaxed.bound, float(value))

    def _known(self) -> list[tuple[Plan, Pair]]:
        """The starts and what was found since."""
        return [*self.starts, *(((point.modes, point.units), point.pair) for point in self.points)]

    def start_points(self) -> list[Point]:
        """The starts as they are, without a bound, so that no objective ends above one of them."""
        return [Point(*plan, pair, Weights(1, 1), 0.0) for plan, pair in self.starts]

    def _closed(self, value: float, bound: float) -> bool:
        """Whether a bound is near enough to a value."""
        return value < math.inf and value - bound <= max(self.gap, MEETS) * value

    def _relaxed(self, paths: Paths, weights: Weights, start: tuple[Plan, Pair] | None) -> Relaxation:
        value = math.inf if start is None else float(weights.of(start[1]))

        def enough(found: Relaxation) -> bool:
            self._bound = found.bound
            return self._closed(min([value, *(line.cost for line in found.fitting)]), found.bound)

        return paths.relax(weights, enough, self.task.deadline)

    def _nearby(
        self, paths: Paths, relaxed: Relaxation, weights: Weights, start: tuple[Plan, Pair] | None
    ) -> tuple[Plan, Pair] | None:
        """The best plan that the relaxation came by, packed into single units and polished, or the start if better."""
        lines = sorted(relaxed.fitting, key=lambda line: line.cost)[:PACKINGS]
        plans = ((modes, units) for line in lines if (units := pack_plan(self.costs, modes := paths.modes(line))))
        plan = next(plans, None)
        if plan is None and lines:
            whole = Integer(self.costs, self.task.allowed, self.task.tight, self.task.deadline)
            plan = whole.repacked(paths.modes(lines[0]), weights)
        if plan is None:
            plan = start and start[0]
        if plan is None:
            return None
        plan = improve(self.costs, self.task.allowed, self.task.tight, plan, weights)
        found = plan, self.costs.total(plan[0])
        return found if start is None or weights.of(found[1]) <= weights.of(start[1]) else start

    def _decided(
        self, integer: Integer, weights: Weights, start: tuple[Plan, Pair] | None, known: float, others: float
    ) -> Point:
        """By the integer program. known: a bound on every plan; others: on plans with modes outside the program."""
        found = integer.minimise(weights, self.gap, start and weights.of(start[1]), known)
        if found.interrupted:
            self._interrupt()
        plans: list[Plan] = []
        if found.plan is not None:
            plans.append(improve(self.costs, integer.modes, self.task.tight, found.plan, weights))
        if start is not None and others < math.inf:  # it was polished before
            plans.append(start[0])
        elif start is not None and found.status is not SolveStatus.OPTIMAL:
            plans.append(improve(self.costs, self.task.allowed, self.task.tight, start[0], weights))
        if not plans and found.interrupted:
            raise KeyboardInterrupt
        if not plans and found.status is SolveStatus.NONE:
            raise LimitError(
                "the solver found no plan in time",
                why=f"--time-limit {self.task.time_limit_s:g} s",
                hint="raise the limit, or loosen the pins so that a baseline plan exists",
            )
        if not plans:
            raise overflow_error(self.costs, self.task.allowed, self.task.demanded)
        totals = [(plan, self.costs.total(plan[0])) for plan in plans]
        best = min(totals, key=lambda known: weights.of(known[1]))
        return self._kept(best, weights, max(known, min(others, found.bound)))

    def _kept(self, found: tuple[Plan, Pair], weights: Weights, bound: float) -> Point:
        (modes, units), pair = found
        point = Point(modes, units, pair, weights, bound)
        self.points.append(point)
        if not self.interrupted and self.paths is not None:
            self.paths.know(modes, pair)
        return point


def proved_value(value: int, bound: float) -> int:
    """The least value that a plan may still have, given the solver's bound on it.

    Every plan's value is an integer, so a bound between two of them proves the upper one; 1e-9 absorbs rounding, and
    PROOF_TOLERANCE is what the solver's own arithmetic leaves open.
    """
    proved = value if bound >= value else min(value, math.ceil(bound * (1 - 1e-9)))
    return value if value - proved <= PROOF_TOLERANCE * value else proved
