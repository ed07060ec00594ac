"""conflict: demands that no plan meets -> the smallest set of them that conflict, and what would make it fit.

A set conflicts when no plan meets all of it; that is proved by the same search that plans. First all sets of one demand
are tried, then of two, and so on: the first that conflicts is the smallest there is. Where there are too many sets, a
deletion filter takes one demand after another away as long as the rest conflicts (Chinneck and Dravnieks, 1991): what
is left is irreducible, which means that none of it can be left out, though another set may be smaller.

Conflicts that share no demand are all found. The change of one demand is computed with all others as they are; where
these conflict among themselves, with those of its own conflict alone, and that is said.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from h4hc.cost import CostTable
from h4hc.errors import H4hcError, InfeasibleError, LimitError, Problem
from h4hc.goals import Budget, Goal
from h4hc.planning.baselines import Allowed, baselines
from h4hc.planning.bounded import Bounded
from h4hc.planning.demands import allowed_modes, matched
from h4hc.planning.dominance import tight_devices
from h4hc.planning.edp import Point
from h4hc.planning.live import Live
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.pursue import value_of
from h4hc.planning.search import Task
from h4hc.workload import Workload

if TYPE_CHECKING:
    from h4hc.partition import PartitionOptions

MOST_SETS = 64  # tried for the smallest one
MOST_UNITS = 4096  # of a store, looked at for one that is large enough
UNIT_LETTERS = "psJB"  # of exact amounts
ANY_PLAN = 1.0  # a relative gap that any plan is within
CHECK_S = 10.0  # for one set, whatever is left of the user's time: each is a small search of its own


@dataclass(frozen=True)
class Demand:
    """One thing asked of a plan. kind: which sort; text: the option, or the device of a store."""

    kind: Literal["pin", "forbid", "store", "budget"]
    text: str
    where: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """In the user's terms."""
        if self.kind == "store":
            return f"the weight store of {self.text}"
        if self.kind == "budget":
            goal, amount = self.text.split("=")
            goal_of = Goal(goal)
            return f"--budget {self.text} ({goal_of.text(int(amount.rstrip(UNIT_LETTERS)))})"
        return f"--{self.kind} {self.text}"


@dataclass(frozen=True)
class Conflict:
    """demands: no plan meets all of them. smallest: no smaller set conflicts; else none of it can be left out.

    proved: False where the time ended before each check did.
    """

    demands: tuple[Demand, ...]
    smallest: bool
    proved: bool


class Lever(NamedTuple):
    """A change of one demand that resolves a conflict. change: relative, infinite for dropping the demand; value: the
    least amount or number of units, None for dropping it; text: in the user's terms."""

    demand: Demand
    change: float
    value: int | None
    text: str


class Conflicts:
    """Looks for conflicts in one problem. known: of the sets checked, whether they can be met."""

    def __init__(self, workload: Workload, table: CostTable, options: PartitionOptions) -> None:
        self.workload, self.table, self.options = workload, table, options
        self.costs = PlanCosts(table, options.case)
        self.live = Live(workload, table, options.memory) if options.memory is not None else None
        self.known: dict[frozenset[Demand], bool] = {}
        self.unsure = False
        self.all = (
            *(Demand("pin", text, matched(workload, text)) for text in dict.fromkeys(options.pins)),
            *(Demand("forbid", text, matched(workload, text)) for text in dict.fromkeys(options.forbids)),
            *(Demand("budget", f"{goal}={goal.exact(limit)}") for goal, limit in options.budget.limits),
            *(Demand("store", name) for name, cap in sorted(self.costs.capacity.items()) if cap.unit_bytes is not None),
        )

    def error(self) -> InfeasibleError | None:
        """All conflicts found, side by side; None where the demands can be met after all, or it is not known."""
        problems, left = [], self.all
        while left and not self._meets(left):
            found = self.find(left)
            problems.append(self._problem(found))
            left = tuple(demand for demand in left if demand not in found.demands)
        return InfeasibleError.of(tuple(problems)) if problems else None

    def find(self, demands: Sequence[Demand]) -> Conflict:
        """The smallest conflict among demands that cannot all be met, or an irreducible one."""
        sets = 0
        for size in range(1, len(demands) + 1):
            sets += math.comb(len(demands), size)
            if sets > MOST_SETS:
                break
            for some in itertools.combinations(demands, size):
                if not self._meets(some):
                    return Conflict(some, True, not self.unsure)
        left = list(demands)
        for demand in demands:
            rest = [other for other in left if other is not demand]
            if not self._meets(rest):
                left = rest
        return Conflict(tuple(left), False, not self.unsure)

    # --- whether a set can be met ---------------------------------------------------------------------------

    def _meets(self, demands: Sequence[Demand]) -> bool:
        """Whether some plan meets them; also True where the time for it ended, which is noted."""
        key = frozenset(demands)
        if key not in self.known:
            try:
                self._any(demands)
                self.known[key] = True
            except InfeasibleError:
                self.known[key] = False
            except LimitError:
                self.unsure = self.known[key] = True
        return self.known[key]

    def _any(self, demands: Sequence[Demand]) -> Point:
        search = self._search(demands, self._budget(demands))
        return search.minimise(Weights(0, 1) if search.budget.energy_pj is not None else Weights(1, 0))

    def _budget(self, demands: Sequence[Demand]) -> Budget:
        budget = Budget()
        for goal, limit in self.options.budget.limits:
            if any(d.kind == "budget" and d.text == f"{goal}={goal.exact(limit)}" for d in demands):
                budget = budget.with_limit(goal, limit)
        return budget

    def _search(self, demands: Sequence[Demand], budget: Budget, units: dict[str, int] | None = None) -> Bounded:
        """A search in which only these demands hold. units: of stores, in place of those there are."""
        pins, forbids = ([d.text for d in demands if d.kind == kind] for kind in ("pin", "forbid"))
        allowed = allowed_modes(self.workload, self.table, pins, forbids)
        costs = self._stores(allowed, demands, units or {})
        tight = tight_devices(costs, allowed)
        deadline = time.monotonic() + min(CHECK_S, self.options.time_limit_s)
        task = Task(self.options.objective, allowed, tight, ANY_PLAN, self.options.time_limit_s, deadline)
        starts = [(b.modes, b.units) for b in baselines(costs, allowed, tight, lambda pair: pair[0]) if b.modes]
        return Bounded(costs, task, starts, budget, self.live)

    def _stores(self, allowed: Allowed, demands: Sequence[Demand], units: dict[str, int]) -> PlanCosts:
        """The costs with stores that hold everything where the store is not among the demands."""
        held = {d.text for d in demands if d.kind == "store"}
        costs = PlanCosts(self.table, self.options.case)
        for name, cap in costs.capacity.items():
            if cap.unit_bytes is None:
                continue
            if name in units:
                costs.capacity[name] = replace(cap, units=units[name])
            elif name not in held:
                most = sum(max((costs.unit_bytes[at][m] for m in modes), default=0) for at, modes in enumerate(allowed))
                costs.capacity[name] = replace(cap, unit_bytes=max(cap.unit_bytes, most))
        return costs

    # --- what would make it fit -----------------------------------------------------------------------------

    def _problem(self, found: Conflict) -> Problem:
        levers = sorted(self.levers(found), key=lambda lever: lever.change)
        names = " and ".join(d.spelling for d in found.demands)
        what = f"no plan keeps {names}" if len(found.demands) == 1 else f"these demands conflict: {names}"
        kind = "the smallest set that conflicts" if found.smallest else "none of them can be left out of the conflict"
        proof = "proved" if found.proved else "as far as the time went"
        where = tuple(dict.fromkeys(name for d in found.demands for name in d.where))
        shown = [lever.text for lever in levers]
        hint = "; or ".join([f"the least change: {shown[0]}", *shown[1:]] if len(shown) > 1 else shown)
        return Problem(what, where, f"{kind} ({proof}){self._stores_say(found)}", hint or "drop one of them")

    def _stores_say(self, found: Conflict) -> str:
        caps = [self.costs.capacity[d.text] for d in found.demands if d.kind == "store"]
        return "".join(f"; {cap.device} has {cap.units} units of {cap.unit_bytes} bytes" for cap in caps)

    def levers(self, found: Conflict) -> list[Lever]:
        """For each demand of a conflict the least change that resolves it, where one does."""
        levers = []
        for demand in found.demands:
            every = [other for other in self.all if other is not demand]
            own = [other for other in found.demands if other is not demand]
            lever = self._lever(demand, every)
            if lever is None and len(own) < len(every) and (lever := self._lever(demand, own)):
                lever = lever._replace(text=f"{lever.text}, for this conflict alone")
            if lever is not None:
                levers.append(lever)
        return levers

    def _lever(self, demand: Demand, others: Sequence[Demand]) -> Lever | None:
        try:
            if demand.kind == "budget":
                return self._looser(demand, others)
            if demand.kind == "store":
                return self._larger(demand, others)
            self._any(others)
        except H4hcError:
            return None
        return Lever(demand, math.inf, None, f"drop {demand.spelling}")

    def _looser(self, demand: Demand, others: Sequence[Demand]) -> Lever:
        goal = Goal(demand.text.partition("=")[0])
        limit = self.options.budget.limit(goal)
        assert limit is not None
        search = self._search(others, self._budget(others))
        search.task = replace(search.task, gap=0.0)
        search.gap = 0.0
        if goal is Goal.SRAM:
            point, bound = search.least_sram()
        else:
            point = search.minimise(Weights(1, 0) if goal is Goal.LATENCY else Weights(0, 1))
            bound = point.bound
        value = value_of(goal, point, self.live)
        least = "the least there is" if bound > value * (1 - 1e-7) - 1 else "the least found"
        text = f"--budget {goal}={goal.exact(value)} ({goal.text(value)}, {least}"
        if goal is Goal.SRAM and self.live is not None:
            text += f", reached at {self.live.peak_op(point.modes)!r}; a layout may need more"
        return Lever(demand, (value - limit) / limit, value, f"{text})")

    def _larger(self, demand: Demand, others: Sequence[Demand]) -> Lever | None:
        """The fewest units that hold it, by doubling and halving: more units never hold less."""
        device = demand.text
        there = self.costs.capacity[device].units

        def fits(units: int) -> bool:
            try:
                search = self._search([*others, demand], self._budget(others), {device: units})
                search.minimise(Weights(1, 0))
            except InfeasibleError:
                return False
            return True

        low, high = there, 2 * there
        while not fits(high):
            if high > MOST_UNITS:
                return None
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        text = f"--set {device}.macros={high} (the fewest that hold the weights, at the costs of now)"
        return Lever(demand, (high - there) / there, high, text)
