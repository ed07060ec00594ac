"""The best plan for an objective on one index of costs: integer programs, polished and recomputed in exact integers.

Latency and energy are one program each. EDP, a product, is minimised over the supported points of the
(latency, energy) plane: a product of positive sums is quasi-concave, so its minimum over any finite set of plans
lies on a vertex of their lower convex hull, and every such vertex minimises some weighted sum of the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from h4hc.assignment import Objective
from h4hc.costtypes import Mode
from h4hc.errors import LimitError
from h4hc.planning.baselines import Allowed, Plan, Tight, improve
from h4hc.planning.dominance import undominated
from h4hc.planning.ilp import SolveStatus
from h4hc.planning.overflow import overflow_error
from h4hc.planning.plan_cost import Pair, PlanCosts
from h4hc.planning.program import PlanProgram, Weights
from h4hc.planning.stores import Units

PROOF_TOLERANCE = 1e-7  # relative: the dual tolerance of the solver in double precision
MIN_SOLVE_S = 0.1  # what the solver gets even when the time is over, to find a first plan and bound
SCALED_OPTIMUM = 1e5  # objectives are scaled to about this, far from both ends of HiGHS' absolute tolerances

VALUE: dict[Objective, Callable[[Pair], int]] = {
    Objective.LATENCY: lambda pair: pair[0],
    Objective.ENERGY: lambda pair: pair[1],
    Objective.EDP: lambda pair: pair[0] * pair[1],
}


@dataclass(frozen=True)
class Task:
    """What to search for: objective, demands' outcome, effort. gap is relative; deadline is of `time.monotonic`.

    allowed: modes by position; tight: devices whose weight store can overflow; time_limit_s: as the user gave it.
    """

    objective: Objective
    allowed: Allowed
    tight: Tight
    gap: float
    time_limit_s: float
    deadline: float
    demanded: bool = False


@dataclass(frozen=True)
class Point:
    """A plan with its exact totals, and the value of `weights` that no plan can beat."""

    modes: tuple[Mode, ...]
    units: Units
    pair: Pair
    weights: Weights
    bound: float


class Search:
    """Solves weighted objectives on one index of costs, within one time budget, never worse than where it starts."""

    def __init__(self, costs: PlanCosts, task: Task, starts: Sequence[Plan]) -> None:
        self.costs, self.task = costs, task
        self.starts = [(plan, costs.total(plan[0])) for plan in starts]
        self.modes = undominated(costs, task.allowed, task.tight)
        self.program = PlanProgram(costs, self.modes, task.tight, exact_units=False)
        self.exact: PlanProgram | None = None
        self.stopped = SolveStatus.OPTIMAL
        self.gap = task.gap

    def best(self) -> tuple[Point, float]:
        """Best plan for the task's objective, and what no plan can be below.

        Raises: LimitError when there is none in time, InfeasibleError when there is none at all.
        """
        if self.task.objective is Objective.EDP:
            return minimise_edp(self)
        point = self.minimise(Weights(1, 0) if self.task.objective is Objective.LATENCY else Weights(0, 1))
        return point, point.bound

    def minimise(self, weights: Weights) -> Point:
        """Best plan for weighted latency and energy, with its bound."""
        start = min(self.starts, key=lambda known: weights.of(known[1]), default=None)
        scale = max(1.0, weights.of(start[1]) / SCALED_OPTIMUM) if start else 1.0
        point = self._solve(self.program, weights, scale, start)
        if point is None:  # the aggregated optimum cannot be packed: decide the units as well
            self.exact = self.exact or PlanProgram(self.costs, self.modes, self.task.tight, exact_units=True)
            point = self._solve(self.exact, weights, scale, start)
        if point is None and self.stopped is SolveStatus.NONE:
            raise LimitError(
                "the solver found no plan in time",
                why=f"--time-limit {self.task.time_limit_s:g} s",
                hint="raise the limit, or loosen the pins so that a baseline plan exists",
            )
        if point is None:
            raise overflow_error(self.costs, self.task.allowed, self.task.demanded)
        return point

    def start_points(self) -> list[Point]:
        """The starts as they are, without a bound, so that no objective ends above one of them."""
        return [Point(*plan, pair, Weights(1, 1), 0.0) for plan, pair in self.starts]

    def _solve(
        self, program: PlanProgram, weights: Weights, scale: float, start: tuple[Plan, Pair] | None
    ) -> Point | None:
        """One run of the solver; None if its plan cannot be packed, or if there is no plan at all.

        The solver's plan is polished by single moves; one that a limit stopped competes with the polished `start`.
        """
        left = max(MIN_SOLVE_S, self.task.deadline - time.monotonic())
        solution = program.solve(weights, scale, gap=self.gap, time_limit_s=left)
        self.stopped = solution.status
        if solution.status is SolveStatus.INFEASIBLE:
            return None
        plans: list[Plan] = []
        if solution.values:
            modes = program.chosen(solution)
            units = program.units(solution, modes)
            if units is None:
                return None
            plans.append(self._improve((modes, units), weights))
        if solution.status is not SolveStatus.OPTIMAL and start is not None:
            plans.append(self._improve(start[0], weights))
        if not plans:
            return None
        best, units = min(plans, key=lambda plan: weights.of(self.costs.total(plan[0])))
        bound = max(0.0, solution.bound * scale) + sum(weights.of(pair) for pair in program.fixed)
        return Point(best, units, self.costs.total(best), weights, bound)

    def _improve(self, plan: Plan, weights: Weights) -> Plan:
        return improve(self.costs, self.task.allowed, self.task.tight, plan, weights)


def proved_value(value: int, bound: float) -> int:
    """The least value that a plan may still have, given the solver's bound on it.

    Every plan's value is an integer, so a bound between two of them proves the upper one; 1e-9 absorbs rounding, and
    PROOF_TOLERANCE is what the solver's own arithmetic leaves open.
    """
    proved = value if bound >= value else min(value, math.ceil(bound * (1 - 1e-9)))
    return value if value - proved <= PROOF_TOLERANCE * value else proved


def minimise_edp(search: Search) -> tuple[Point, float]:
    """Walk the supported points between the latency and the energy optimum, cutting what cannot beat the best.

    Between two points, every unknown supported point lies in the triangle they form with the corner where their
    supporting lines meet; the product is quasi-concave, so its minimum there is at a vertex, and a corner no
    better than the incumbent closes the interval.
    """
    allowed_gap = search.task.gap
    search.gap = 1 - math.sqrt(1 - allowed_gap)  # both ends within it: their product within the gap asked for
    left, right = search.minimise(Weights(1, 0)), search.minimise(Weights(0, 1))
    best = min(left, right, *search.start_points(), key=lambda p: _edp(p.pair))
    open_intervals = [(left, right)]
    closed_bound = float("inf")
    while open_intervals:
        open_intervals.sort(key=lambda pair: -_corner(*pair))
        first, second = open_intervals.pop()
        corner = _corner(first, second)
        out_of_time = time.monotonic() > search.task.deadline
        weights = Weights(first.pair[1] - second.pair[1], second.pair[0] - first.pair[0])
        nothing_between = weights.latency <= 0 or weights.energy <= 0  # one of the two dominates the other
        cannot_win = corner >= _edp(best.pair) * (1 - max(allowed_gap, PROOF_TOLERANCE))
        if cannot_win or nothing_between or out_of_time:
            closed_bound = min(closed_bound, corner)
            continue
        middle = search.minimise(weights)
        best = min(best, middle, key=lambda p: _edp(p.pair))
        if weights.of(middle.pair) >= weights.of(first.pair):  # no plan found below the segment: close both halves
            closed_bound = min(closed_bound, _corner(first, middle), _corner(middle, second))
            continue
        open_intervals += [(first, middle), (middle, second)]
    return best, min(float(_edp(best.pair)), closed_bound)


_edp = VALUE[Objective.EDP]


def _corner(first: Point, second: Point) -> float:
    """Product at the meeting point of two supporting lines a*T + b*E = bound; 0 if they do not meet."""
    (a, b), (c, d) = first.weights, second.weights
    determinant = a * d - b * c
    if determinant == 0:
        return 0.0
    latency = (first.bound * d - b * second.bound) / determinant
    energy = (a * second.bound - first.bound * c) / determinant
    return max(0.0, latency) * max(0.0, energy)
