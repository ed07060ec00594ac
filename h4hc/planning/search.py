"""The best plan for an objective on one index of costs: integer programs, polished and recomputed in exact integers.

Latency and energy are one program each; EDP, their product, is several (`edp`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from h4hc.assignment import Objective
from h4hc.costtypes import Mode
from h4hc.errors import LimitError
from h4hc.planning.baselines import Allowed, Plan, Tight, improve
from h4hc.planning.dominance import undominated
from h4hc.planning.edp import PROOF_TOLERANCE, Cut, Point, minimise_edp
from h4hc.planning.ilp import UNLIMITED, Effort, Solution, SolveStatus
from h4hc.planning.overflow import overflow_error
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.program import PlanProgram

MIN_SOLVE_S = 0.1  # what the solver gets even when the time is over, to find a first plan and bound
PACKING_NODES = 200  # of the search for a packing of equal cost; after that the units join the whole program
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


class Search:
    """Solves weighted objectives on one index of costs, within one time budget, never worse than where it starts."""

    def __init__(self, costs: PlanCosts, task: Task, starts: Sequence[Plan]) -> None:
        self.costs, self.task = costs, task
        self.starts = [(plan, costs.total(plan[0])) for plan in starts]
        self.points: list[Point] = []  # all that was solved
        self.stopped = SolveStatus.OPTIMAL
        self.unpacked: float | None = None  # bound of a plan that was found but not packed
        self.gap = task.gap

    @cached_property
    def modes(self) -> tuple[tuple[Mode, ...], ...]:
        """Those that may be in the best plan, by position."""
        return undominated(self.costs, self.task.allowed, self.task.tight)

    @cached_property
    def program(self) -> PlanProgram:
        """Weights in all units together."""
        return PlanProgram(self.costs, self.modes, self.task.tight, exact_units=False)

    @cached_property
    def exact(self) -> PlanProgram:
        """Weights in single units."""
        return PlanProgram(self.costs, self.modes, self.task.tight, exact_units=True)

    def best(self, known: Sequence[Cut] = ()) -> tuple[Point, float]:
        """Best plan for the task's objective, and what no plan can be below. known: cuts that hold, for EDP.

        Raises: LimitError when there is none in time, InfeasibleError when there is none at all.
        """
        if self.task.objective is Objective.EDP:
            return minimise_edp(self, known)
        point = self.minimise(Weights(1, 0) if self.task.objective is Objective.LATENCY else Weights(0, 1))
        return point, point.bound

    def minimise(self, weights: Weights) -> Point:
        """Best plan for weighted latency and energy, with its bound."""
        start = min(self.starts, key=lambda known: weights.of(known[1]), default=None)
        scale = max(1.0, weights.of(start[1]) / SCALED_OPTIMUM) if start else 1.0
        point = self._solve(self.program, weights, scale, start)
        if point is None and self.unpacked is not None:  # decide the units as well
            point = self._solve(self.exact, weights, scale, start, self.unpacked)
        if point is None and self.stopped is SolveStatus.NONE:
            raise LimitError(
                "the solver found no plan in time",
                why=f"--time-limit {self.task.time_limit_s:g} s",
                hint="raise the limit, or loosen the pins so that a baseline plan exists",
            )
        if point is None:
            raise overflow_error(self.costs, self.task.allowed, self.task.demanded)
        self.points.append(point)
        return point

    def start_points(self) -> list[Point]:
        """The starts as they are, without a bound, so that no objective ends above one of them."""
        return [Point(*plan, pair, Weights(1, 1), 0.0) for plan, pair in self.starts]

    def _solve(
        self,
        program: PlanProgram,
        weights: Weights,
        scale: float,
        start: tuple[Plan, Pair] | None,
        known: float = -math.inf,
    ) -> Point | None:
        """One run of the solver; None if there is no plan, or none in time, or if the one found cannot be packed.

        In the last case `unpacked` is its bound, which holds for plans that can be packed too; it comes back as
        `known`. The solver's plan is polished by single moves; one that a limit stopped competes with the polished
        `start`.
        """
        solution = program.solve(weights, scale, gap=self.gap, effort=self._effort(), known=known)
        self.stopped, self.unpacked = solution.status, None
        if solution.status is SolveStatus.INFEASIBLE:
            return None
        plans: list[Plan] = []
        if solution.values:
            plan = self._packed(program, solution, weights)
            if plan is None:
                self.unpacked = solution.bound
                return None
            plans.append(improve(self.costs, self.modes, self.task.tight, plan, weights))
        if solution.status is not SolveStatus.OPTIMAL and start is not None:
            plans.append(improve(self.costs, self.task.allowed, self.task.tight, start[0], weights))
        if not plans:
            return None
        best, units = min(plans, key=lambda plan: weights.of(self.costs.total(plan[0])))
        bound = max(0.0, solution.bound * scale) + sum(weights.of(pair) for pair in program.fixed)
        return Point(best, units, self.costs.total(best), weights, bound)

    def _packed(self, program: PlanProgram, solution: Solution, weights: Weights) -> Plan | None:
        """The solver's plan with its units; if they cannot be found, one of equal cost with its weights cut anew."""
        modes = program.chosen(solution)
        units = program.units(solution, modes)
        if units is not None:
            return modes, units
        alike = [self._alike(at, mode, weights) for at, mode in enumerate(modes)]
        packing = PlanProgram(self.costs, alike, self.task.tight, exact_units=True)
        found = packing.solve(Weights(0, 0), 1.0, gap=0.0, effort=self._effort(PACKING_NODES))
        if not found.values:
            return None
        modes = packing.chosen(found)
        units = packing.units(found, modes)
        assert units is not None, "exact units are always known"
        return modes, units

    def _alike(self, at: int, mode: Mode, weights: Weights) -> list[Mode]:
        """The modes of the same device that cost no more."""
        own = self.costs.op[at]
        worth = weights.of(own[mode])
        return [m for m in self.modes[at] if m.device == mode.device and weights.of(own[m]) <= worth]

    def _effort(self, nodes: int = UNLIMITED) -> Effort:
        return Effort(max(MIN_SOLVE_S, self.task.deadline - time.monotonic()), nodes)


def proved_value(value: int, bound: float) -> int:
    """The least value that a plan may still have, given the solver's bound on it.

    Every plan's value is an integer, so a bound between two of them proves the upper one; 1e-9 absorbs rounding, and
    PROOF_TOLERANCE is what the solver's own arithmetic leaves open.
    """
    proved = value if bound >= value else min(value, math.ceil(bound * (1 - 1e-9)))
    return value if value - proved <= PROOF_TOLERANCE * value else proved
