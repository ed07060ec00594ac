"""The best plan within budgets: prices on what is limited, then the integer program with the budgets as rows.

A price p on what a plan takes of a budget G gives the bound

    least of (objective + p * taken) over all plans  -  p * G     <=  objective of every plan within the budget

The least priced sum is one of weighted latency and energy, so it is a relaxation of `paths` as any other. The best
price lies where a plan that keeps the budget and one that breaks it meet, unless some plan is below both, which then
replaces one of them. What the price leaves open goes to the program, over the modes that a better plan may use.

Bytes of SRAM are a maximum over time and no sum, so they have no price: see `live`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from h4hc.costtypes import Mode
from h4hc.errors import InfeasibleError, LimitError
from h4hc.goals import Budget
from h4hc.planning.baselines import Allowed, Plan, improve
from h4hc.planning.edp import Point, coprime
from h4hc.planning.ilp import SolveStatus
from h4hc.planning.integer import Integer, Outcome, Rule
from h4hc.planning.live import Live
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.program import PlanProgram
from h4hc.planning.relaxation import MEETS, Relaxation
from h4hc.planning.search import Search, Task

WHOLE = 1e-6  # of the solver's numbers
TURNS = 20  # of the search for a price
Known = tuple[Plan, Pair]


class NoPlan(InfeasibleError):
    """No plan meets all demands: said before it is known which of them conflict."""


class _Priced(NamedTuple):
    """A relaxation of times * objective + price * taken; refund: price * budget."""

    relaxed: Relaxation
    times: int
    refund: int
    found: Known | None

    @property
    def bound(self) -> float:
        """On the objective of every plan within the budget."""
        return (self.relaxed.bound - self.refund) / self.times if self.times else 0.0


class Bounded(Search):
    """A search among the plans within a budget. live: counts bytes of SRAM; None where they are not limited."""

    def __init__(
        self, costs: PlanCosts, task: Task, starts: Sequence[Plan], budget: Budget, live: Live | None = None
    ) -> None:
        self.budget, self.live = budget, live
        self.limits = [
            (part, limit) for part, limit in enumerate((budget.latency_ps, budget.energy_pj)) if limit is not None
        ]
        super().__init__(costs, task, starts)
        self.cuts: list[Rule] = []
        self.starts = [known for known in self.starts if self._within(known)]

    def _within(self, known: Known) -> bool:
        (modes, _), pair = known
        if any(pair[part] > limit for part, limit in self.limits):
            return False
        return self.live is None or self.budget.sram_bytes is None or self.live.peak(modes) <= self.budget.sram_bytes

    def _minimised(self, weights: Weights) -> Point:
        best = self._better(weights, None, self._known())
        if self.paths is None:
            return self._programmed(self.task.allowed, weights, best, 0.0, math.inf)
        asked = [self._ask(weights, 1, None)]
        for part, limit in self.limits:
            asked += self._ascend(weights, part, limit, asked[0])
        best = self._better(weights, best, [priced.found for priced in asked])
        bound = max(priced.bound for priced in asked)
        self._bound = bound
        if best is not None:
            late = time.monotonic() > self.task.deadline
            if late or self._closed(weights.of(best[1]), bound):
                return self._kept(best, weights, bound)
        left = self._useful(asked, best and weights.of(best[1]))
        if not all(left):
            if best is None:
                raise NoPlan("no plan keeps the budgets")
            return self._kept(best, weights, float(weights.of(best[1])))
        others = math.inf if best is None else float(weights.of(best[1]))
        return self._programmed(left, weights, best, bound, others)

    def _better(self, weights: Weights, best: Known | None, found: Sequence[Known | None]) -> Known | None:
        """The best of the plans that keep the budgets."""
        fitting = [known for known in found if known is not None and self._within(known)]
        return min([best, *fitting] if best else fitting, key=lambda known: weights.of(known[1]), default=None)

    # --- prices ---------------------------------------------------------------------------------------------

    def _ask(self, weights: Weights, times: int, price: tuple[int, int, int] | None) -> _Priced:
        """price: (part, of one unit, budget)."""
        assert self.paths is not None
        total, refund = [times * weights.latency, times * weights.energy], 0
        if price is not None:
            part, each, limit = price
            total[part] += each
            refund = each * limit
        priced = Weights(*total)

        def enough(found: Relaxation) -> bool:
            return self._closed(min((line.cost for line in found.fitting), default=math.inf), found.bound)

        relaxed = self.paths.relax(priced, enough, self.task.deadline)
        if times:
            self._bound = max(self._bound, (relaxed.bound - refund) / times)
        return _Priced(relaxed, times, refund, self._nearby(self.paths, relaxed, priced, None))

    def _ascend(self, weights: Weights, part: int, limit: int, free: _Priced) -> list[_Priced]:
        """The best price on one budget: relaxations on the way to it; none where the free optimum keeps it.

        Raises: NoPlan where even the least that is taken is too much.
        """
        if free.found is not None and free.found[1][part] <= limit:
            return []
        least = self._ask(Weights(0, 0), 1, (part, 1, 0))
        if math.ceil(least.relaxed.bound * (1 - 1e-9)) > limit:
            raise NoPlan("no plan keeps the budgets")
        asked = [_Priced(least.relaxed, 0, limit, least.found)]
        if free.found is None or least.found is None:
            return asked
        high, low = free.found[1], least.found[1]
        for _ in range(TURNS):
            times, each = high[part] - low[part], weights.of(low) - weights.of(high)
            if times <= 0 or each <= 0 or low[part] > limit or time.monotonic() > self.task.deadline:
                break
            times, each = coprime(times, each)
            asked.append(priced := self._ask(weights, times, (part, each, limit)))
            if priced.found is None:
                break
            pair = priced.found[1]
            if times * weights.of(pair) + each * pair[part] >= (times * weights.of(high) + each * high[part]) * (
                1 - MEETS
            ):
                break
            high, low = (pair, low) if pair[part] > limit else (high, pair)
        return asked

    def _useful(self, asked: Sequence[_Priced], best: int | None) -> Allowed:
        """The modes that a plan within the budgets and below `best` may use."""
        assert self.paths is not None
        left = [set(modes) for modes in self.task.allowed]
        tightest = max(asked, key=lambda priced: priced.bound)
        for priced in [p for p in asked if p is tightest or not p.times]:
            if priced.times and best is None:
                continue
            below = priced.times * ((best or 1) - 1) + priced.refund + 1
            for modes, useful in zip(left, self.paths.useful(priced.relaxed, below), strict=True):
                modes &= set(useful)
        return [tuple(m for m in modes if m in kept) for modes, kept in zip(self.task.allowed, left, strict=True)]

    # --- the program ----------------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """The budgets as rows."""
        found: list[Rule] = [partial(_at_most, part=part, limit=limit) for part, limit in self.limits]
        if self.live is not None and self.budget.sram_bytes is not None:
            found.append(partial(self.live.at_most, limit=self.budget.sram_bytes))
        return [*found, *self.cuts]

    def _forbid(self, known: Known) -> None:
        """Cut a plan off that the program took for one within the budgets."""
        (modes, _), pair = known
        if any(pair[part] > limit for part, limit in self.limits):
            self.cuts.append(partial(_other_than, modes=modes))
        else:
            assert self.live is not None
            self.live.learn(modes)

    def _programmed(self, modes: Allowed, weights: Weights, best: Known | None, known: float, others: float) -> Point:
        """By the integer program, again for each plan that breaks a budget all the same: by a maximum of bytes that its
        rows did not say, or by what the solver's tolerances let through. known, others: see `Search._decided`."""
        about = int(known) or None if best is None else weights.of(best[1])
        self._bound = known
        while True:
            integer = Integer(self.costs, modes, self.task.tight, self.task.deadline, self.task.stoppable, self.rules())
            found = integer.minimise(weights, self.gap, about, known)
            if found.interrupted:
                self._interrupt()
            known = max(known, min(found.bound, others))
            self._bound = known
            if found.plan is None:
                break
            plan = found.plan[0], found.plan[1]
            whole = plan, self.costs.total(plan[0])
            if self._within(whole):
                polished = improve(self.costs, modes, self.task.tight, plan, weights)
                best = self._better(weights, best, [whole, (polished, self.costs.total(polished[0]))])
                break
            self._forbid(whole)
            if found.interrupted or time.monotonic() > self.task.deadline:
                break
        if best is not None:
            return self._kept(best, weights, known)
        raise self._none(found)

    def least_sram(self) -> tuple[Point, float]:
        """The plan of fewest live bytes, and what no plan's are below. No prices: bytes at a time are no sum.

        Raises: NoPlan, LimitError as `minimise`.
        """
        assert self.live is not None
        live, best = self.live, min(self._known(), key=self._bytes, default=None)
        known = 0.0
        while True:
            integer = Integer(
                self.costs, self.task.allowed, self.task.tight, self.task.deadline, self.task.stoppable, self.rules()
            )
            try:
                found = integer.least(live.least)
            except KeyboardInterrupt:
                if not self.task.stoppable or best is None:
                    raise
                found = Outcome(SolveStatus.NONE, None, 0.0, True)
            if found.interrupted:
                self._interrupt()
            known = max(known, live.bytes_of(math.ceil(found.bound - WHOLE)) if found.bound < math.inf else math.inf)
            if found.plan is None:
                break
            whole = found.plan, self.costs.total(found.plan[0])
            if self._within(whole):
                best = min([whole, *([best] if best else [])], key=self._bytes)
                if self._bytes(best) <= known:
                    break
            self._forbid(whole)
            if found.interrupted or time.monotonic() > self.task.deadline:
                break
        if best is None:
            raise self._none(found)
        return self._kept(best, Weights(0, 0), 0.0), min(known, float(self._bytes(best)))

    def _bytes(self, known: Known) -> int:
        assert self.live is not None
        return self.live.peak(known[0][0])

    def _none(self, found: Outcome) -> BaseException:
        """What to raise where the program gave no plan."""
        if found.interrupted:
            return KeyboardInterrupt()
        if found.status is SolveStatus.INFEASIBLE:
            return NoPlan("no plan keeps the budgets")
        return LimitError(
            "the solver found no plan within the budgets in time",
            why=f"--time-limit {self.task.time_limit_s:g} s",
            hint="raise the limit, or loosen the budgets",
        )


def _at_most(program: PlanProgram, *, part: int, limit: int) -> None:
    program.at_most(part, limit)


def _other_than(program: PlanProgram, *, modes: Sequence[Mode]) -> None:
    """At least one operator in another mode."""
    here = [row.get(mode) for row, mode in zip(program.x, modes, strict=True)]
    if None not in here:
        program.row([(v, 1.0) for v in here if v is not None], -math.inf, len(here) - 1.0, "another plan")
