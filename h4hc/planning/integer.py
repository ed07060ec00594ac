"""Placements by the integer program: the modes that are left to choose from, for any weighting of the objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from h4hc.costtypes import Mode
from h4hc.planning.baselines import Allowed, Plan, Tight
from h4hc.planning.ilp import UNLIMITED, Effort, Solution, SolveStatus
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.program import PlanProgram
from h4hc.planning.stores import Units, pack_device

MIN_SOLVE_S = 0.1  # what the solver gets even when the time is over, to find a first plan and bound
Rule = Callable[[PlanProgram], None]
ENDS = (Weights(1, 0), Weights(0, 1))
PACKING_NODES = 200  # of the search for a packing of equal cost; after that the units join the whole program
SCALED_OPTIMUM = 1e5  # objectives are scaled to about this, far from both ends of HiGHS' absolute tolerances


@dataclass(frozen=True)
class Outcome:
    """What one solve gave: how it stopped, a plan if there is one, and what no plan of these modes can be below.

    interrupted: Ctrl-C ended it, in a search that may be stopped.
    """

    status: SolveStatus
    plan: Plan | None
    bound: float
    interrupted: bool = False


class Integer:
    """The programs over one choice of modes, built when they are first needed."""

    def __init__(
        self,
        costs: PlanCosts,
        modes: Allowed,
        tight: Tight,
        deadline: float,
        stoppable: bool = False,
        rules: Sequence[Rule] = (),
    ) -> None:
        """stoppable: Ctrl-C ends a solve, not the program; rules: add rows to each program."""
        self.rules = rules
        self.costs, self.modes, self.tight = costs, modes, tight
        self.deadline, self.stoppable = deadline, stoppable

    @cached_property
    def program(self) -> PlanProgram:
        """Weights in all units together."""
        return self._ruled(exact_units=False)

    @cached_property
    def exact(self) -> PlanProgram:
        """Weights in single units."""
        return self._ruled(exact_units=True)

    def _ruled(self, exact_units: bool) -> PlanProgram:
        program = PlanProgram(self.costs, self.modes, self.tight, exact_units=exact_units)
        for rule in self.rules:
            rule(program)
        return program

    def minimise(self, weights: Weights, gap: float, about: int | None, known: float = 0.0) -> Outcome:
        """Best plan for weighted latency and energy.

        gap: relative to the whole objective; about: the value of a plan, if one is known; known: a bound that holds.
        """
        found = self._solve(self.program, weights, gap, about, known)
        solved = found.status in (SolveStatus.OPTIMAL, SolveStatus.FEASIBLE)
        if found.plan is None and solved and not found.interrupted:
            found = self._solve(self.exact, weights, gap, about, found.bound)  # not packed: decide the units as well
        return found

    def least(self, count: Callable[[PlanProgram], int]) -> Outcome:
        """The plan with the least value of a variable, which `count` adds to each program with its rows."""
        found = Outcome(SolveStatus.NONE, None, 0.0)
        for exact in (False, True):
            program = self._ruled(exact_units=exact)
            solution = program.program.solve({count(program): 1.0}, gap=0.0, effort=self._effort())
            if solution.status is SolveStatus.INFEASIBLE:
                return Outcome(solution.status, None, math.inf, solution.interrupted)
            modes = program.chosen(solution) if solution.values else ()
            units = program.units(solution, modes) if modes else None
            plan = None if units is None else (modes, units)
            found = Outcome(solution.status, plan, max(found.bound, solution.bound), solution.interrupted)
            if plan is not None or solution.interrupted or not solution.values:
                return found
        return found

    def _solve(self, program: PlanProgram, weights: Weights, gap: float, about: int | None, known: float) -> Outcome:
        """One run of the solver. The plan is None also where one was found that cannot be packed; the bound holds for
        plans that can be packed too."""
        scale = max(1.0, about / SCALED_OPTIMUM) if about else 1.0
        fixed = sum(weights.of(pair) for pair in program.fixed)
        if about is not None and about > fixed:  # the solver sees what is not fixed, and takes the gap of that
            gap = min(1.0, gap * about / (about - fixed))
        lower = (known - fixed) / scale if known > 0 else -math.inf
        solution = program.solve(weights, scale, gap=gap, effort=self._effort(), known=lower)
        if solution.status is SolveStatus.INFEASIBLE:
            return Outcome(solution.status, None, math.inf, solution.interrupted)
        plan = self._packed(program, solution, weights) if solution.values else None
        bound = max(known, fixed + max(0.0, solution.bound * scale))
        return Outcome(solution.status, plan, bound, solution.interrupted)

    def _packed(self, program: PlanProgram, solution: Solution, weights: Weights) -> Plan | None:
        """The solver's plan with its units; if they cannot be found, one of equal cost with its weights cut anew."""
        modes = program.chosen(solution)
        units = program.units(solution, modes)
        return (modes, units) if units is not None else self.repacked(modes, weights)

    def repacked(self, modes: Sequence[Mode], weights: Weights) -> Plan | None:
        """A plan on the same devices that costs no more and goes into single units; None if none is found."""
        alike = [self._alike(at, mode, weights) for at, mode in enumerate(modes)]
        packing = PlanProgram(self.costs, alike, self.tight, exact_units=True)
        found = packing.solve(Weights(0, 0), 1.0, gap=0.0, effort=self._effort(PACKING_NODES))
        if not found.values:
            return None
        cut = packing.chosen(found)
        units = packing.units(found, cut)
        assert units is not None, "exact units are always known"
        return cut, units

    def _alike(self, at: int, mode: Mode, weights: Weights) -> list[Mode]:
        """The modes of the same device that cost no more; where rules hold, neither in latency nor in energy."""
        own = self.costs.op[at]
        worth = [w.of(own[mode]) for w in (ENDS if self.rules else (weights,))]
        weighed = [(m, [w.of(own[m]) for w in (ENDS if self.rules else (weights,))]) for m in self.modes[at]]
        return [
            m
            for m, values in weighed
            if m.device == mode.device and all(v <= most for v, most in zip(values, worth, strict=True))
        ]

    def _effort(self, nodes: int = UNLIMITED) -> Effort:
        return Effort(max(MIN_SOLVE_S, self.deadline - time.monotonic()), nodes, self.stoppable)


def pack_plan(costs: PlanCosts, modes: Sequence[Mode]) -> Units | None:
    """Units for every operator of a plan; None if no packing was found."""
    placed: Units = {}
    for device in sorted(costs.capacity):
        packed = pack_device(costs, device, modes)
        if packed is None:
            return None
        placed.update(packed)
    return placed
