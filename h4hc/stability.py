"""stability: a proved plan -> by how much each device's cost model may be wrong before another plan is better.

Every plan's objective is a straight line in the factor that multiplies one device's operator costs (`cost_error`), so
the least objective over all plans is concave, and the chosen plan is best on one interval of factors around 1. Each
end of it is found by a discrete Newton iteration: at a factor where another plan is better, the factor at which the
two are equal is nearer to 1 and replaces it, until the program proves that no plan is better there. Every crossing
is an exact fraction; that nothing crosses earlier holds as far as the solver's proof does (1e-7 relative).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from h4hc.assignment import Objective, Status
from h4hc.cost import CostTable
from h4hc.costtypes import Mode
from h4hc.partition import Partitioning, PartitionOptions
from h4hc.planning.baselines import Baseline, Plan, improve
from h4hc.planning.carry import Carried
from h4hc.planning.cost_error import ONE, Line, Quantity, scaled, split
from h4hc.planning.demands import allowed_modes
from h4hc.planning.dominance import tight_devices
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.search import VALUE, Search, Task, proved_value
from h4hc.planning.stores import Stores
from h4hc.workload import Workload

LARGEST = Fraction(1000)  # factors are searched from 0 to here: no cost model worth the name is further off
QUANTITIES: dict[Objective, tuple[Quantity, ...]] = {
    Objective.LATENCY: ("latency",),
    Objective.ENERGY: ("energy",),
    Objective.EDP: ("latency", "energy"),  # one at a time
}


@dataclass(frozen=True)
class Flip:
    """An operator that runs elsewhere in the plan that takes over."""

    op: str
    before: Mode
    after: Mode


@dataclass(frozen=True)
class End:
    """One end of the factors at which the chosen plan is best.

    factor: beyond it the plan with these `flips` is better; None: no such plan was found down to 0 or up to LARGEST.
    proved: no plan is better nearer to 1; False when the time ended first.
    """

    factor: Fraction | None
    proved: bool
    flips: tuple[Flip, ...] = ()


@dataclass(frozen=True)
class Radius:
    """Both ends for one device and one quantity of its cost model."""

    device: str
    quantity: Quantity
    low: End
    high: End


@dataclass(frozen=True)
class BreakEven:
    """The factors on a device's costs at which a baseline beats the chosen plan: above or below `factor`.

    objective: what the two are compared in; the quantity itself, or EDP if that was minimised.
    """

    device: str
    quantity: Quantity
    baseline: str
    objective: Objective
    wins: Literal["above", "below", "always", "never"]
    factor: Fraction | None


@dataclass(frozen=True)
class Stability:
    """radii is empty for a plan that is not proved optimal, or that something beside the objective binds: it has no
    interval of its own."""

    radii: tuple[Radius, ...]
    break_evens: tuple[BreakEven, ...]


def stability(workload: Workload, table: CostTable, found: Partitioning, options: PartitionOptions) -> Stability:
    """Radii and break-evens of a plan, in the case (nominal or worst) and for the objective it was made for.

    options.time_limit_s holds for all solves together, shared out evenly over what is left to find.
    """
    costs = PlanCosts(table, options.case)
    chosen = found.assignment
    modes = tuple(p.mode for p in chosen.placements)
    plan: Plan = (modes, {at: p.units for at, p in enumerate(chosen.placements) if p.units})
    devices = sorted(costs.capacity)
    even = _break_evens(costs, modes, found.baselines, devices, options.objective)
    if chosen.status is not Status.OPTIMAL or not modes or chosen.budget.limits or chosen.stages:
        return Stability((), even)
    allowed = allowed_modes(workload, table, options.pins, options.forbids)
    tight = tight_devices(costs, allowed)
    deadline = time.monotonic() + options.time_limit_s
    task = Task(options.objective, allowed, tight, 0.0, options.time_limit_s, deadline)
    known = [(b.modes, b.units) for b in found.baselines if b.modes]
    asked = [(d, q) for d in devices for q in QUANTITIES[options.objective]]
    base = Search(costs, _share(task, 2 * len(asked) + 1), [plan])
    if options.objective is Objective.EDP:
        base.best()
        known += [(point.modes, point.units) for point in base.points]
    radii = []
    for number, (device, quantity) in enumerate(asked):
        carried = Carried(costs, device, quantity, base.points)
        ends = []
        for left, limit in ((2, Fraction(0)), (1, LARGEST)):
            share = _share(task, 2 * (len(asked) - number - 1) + left)
            ends.append(_Probe(costs, share, plan, known, carried, limit).end())
        radii.append(Radius(device, quantity, *ends))
    return Stability(tuple(radii), even)


def _share(task: Task, parts: int) -> Task:
    """The task with one of the parts of the time that is left."""
    now = time.monotonic()
    return replace(task, deadline=now + max(0.0, task.deadline - now) / parts)


class _Probe:
    """The search for one end. `known` grows by every plan that was found to be better somewhere, `carried` by every
    cut that was solved."""

    def __init__(
        self, costs: PlanCosts, task: Task, plan: Plan, known: list[Plan], carried: Carried, limit: Fraction
    ) -> None:
        self.costs, self.task, self.plan, self.known = costs, task, plan, known
        self.carried, self.device, self.quantity, self.limit = carried, carried.device, carried.quantity, limit
        self.own = self._line(plan)

    def end(self) -> End:
        """Newton's iteration from the nearest crossing with a plan that is known already, else from the limit."""
        if self.limit > 1 and self.own.on == 0:
            return End(None, True)  # it does not use the device: dearer operators there change nothing
        rival: Plan | None = None
        factor = self.limit
        for other in self.known:
            crossing = self._crossing(other)
            if crossing is not None and (rival is None or abs(crossing - 1) < abs(factor - 1)):
                rival, factor = other, crossing
        proved = True
        while factor != 1:
            better, proved = self._better(factor)
            if better is None:
                break
            self.known.append(better)
            crossing = self._crossing(better)
            assert crossing is not None, "a plan that is better at a factor crosses the chosen one before it"
            rival, factor = better, crossing
        if rival is None:
            return End(None, proved)
        rival = self._pruned(rival, factor)
        nearest = self._crossing(rival)
        return End(factor if nearest is None else nearest, proved, self._flips(rival))

    def _line(self, plan: Plan) -> Line:
        return self.carried.split(plan[0]).line(self.task.objective)

    def _crossing(self, other: Plan) -> Fraction | None:
        """The factor nearest to 1, between it and the limit, beyond which `other` is better; None if there is none."""
        theirs = self._line(other)
        if theirs.at(ONE) < self.own.at(ONE):
            return ONE  # the proof's tolerance left a better plan
        meeting = self.own.meets(theirs)
        if meeting is None or (theirs.on < self.own.on) != (self.limit > 1):
            return None
        between = 1 <= meeting < self.limit if self.limit > 1 else self.limit < meeting <= 1
        return meeting if between else None

    def _better(self, factor: Fraction) -> tuple[Plan | None, bool]:
        """A plan that is better than the chosen one at `factor`, or None and whether it is proved that none is.

        Single moves from the chosen plan first: they cost little and often find the operators that flip.
        """
        if time.monotonic() > self.task.deadline:
            return None, False
        costs = scaled(self.costs, self.device, self.quantity, factor)
        value = VALUE[self.task.objective]
        pair = costs.total(self.plan[0])
        directions = {Objective.LATENCY: Weights(1, 0), Objective.ENERGY: Weights(0, 1)}
        weights = directions.get(self.task.objective, Weights(pair[1], pair[0]))  # EDP: its slope at the plan
        moved = improve(costs, self.task.allowed, self.task.tight, self.plan, weights)
        if value(costs.total(moved[0])) < value(pair):
            return moved, True
        nearest = min(self.known, key=lambda plan: self._line(plan).at(factor), default=self.plan)
        search = Search(costs, self.task, [self.plan, nearest])
        point, bound = search.best(self.carried.cuts(factor))
        self.carried.add(factor, search.points)
        if value(point.pair) < value(pair):
            return (point.modes, point.units), True
        return None, proved_value(value(pair), bound) == value(pair)

    def _pruned(self, rival: Plan, factor: Fraction) -> Plan:
        """The rival with every operator back in its chosen mode that makes it no worse, at `factor` and beyond."""
        beyond = factor * 2 if self.limit > 1 else factor / 2
        both = [scaled(self.costs, self.device, self.quantity, f) for f in (factor, beyond)]
        parts = {Objective.LATENCY: (0,), Objective.ENERGY: (1,)}.get(self.task.objective, (0, 1))
        modes = list(rival[0])
        stores = Stores(self.costs, self.task.tight)
        stores.fill(modes, rival[1])
        changed = True
        while changed:
            changed = False
            for at, mode in enumerate(self.plan[0]):
                idle = modes[at] != mode and all(_no_worse(costs, modes, at, mode, parts) for costs in both)
                if idle and stores.place(at, mode):
                    modes[at], changed = mode, True
        return tuple(modes), stores.units(modes)

    def _flips(self, rival: Plan) -> tuple[Flip, ...]:
        rows = zip(self.costs.ids, self.plan[0], rival[0], strict=True)
        return tuple(Flip(op, before, after) for op, before, after in rows if before != after)


def _no_worse(costs: PlanCosts, modes: Sequence[Mode], at: int, mode: Mode, parts: tuple[int, ...]) -> bool:
    """Whether one operator's mode can change to `mode` without more latency (part 0) or energy (part 1)."""
    devices = [m.device for m in modes]
    old, now = costs.elsewhere(at, devices), costs.op[at][modes[at]]
    devices[at] = mode.device
    new, then = costs.elsewhere(at, devices), costs.op[at][mode]
    return all(new[p] + then[p] <= old[p] + now[p] for p in parts)


def _break_evens(
    costs: PlanCosts, modes: Sequence[Mode], simple: Sequence[Baseline], devices: Sequence[str], objective: Objective
) -> tuple[BreakEven, ...]:
    quantities: tuple[Quantity, ...] = ("latency", "energy")
    found = []
    for device in devices:
        for quantity in quantities:
            measure = Objective.EDP if objective is Objective.EDP else Objective(quantity)
            own = split(costs, modes, device, quantity).line(measure)
            for baseline in simple:
                if baseline.modes:
                    theirs = split(costs, baseline.modes, device, quantity).line(measure)
                    found.append(BreakEven(device, quantity, baseline.name, measure, *_wins(own, theirs)))
    return tuple(found)


def _wins(own: Line, theirs: Line) -> tuple[Literal["above", "below", "always", "never"], Fraction | None]:
    """At which factors >= 0 the other line is below the chosen plan's."""
    meeting = own.meets(theirs)
    if meeting is None:
        return ("always" if theirs.rest < own.rest else "never"), None
    if theirs.on < own.on:
        return ("above", meeting) if meeting >= 0 else ("always", None)
    return ("below", meeting) if meeting > 0 else ("never", None)
