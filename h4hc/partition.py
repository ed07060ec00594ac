"""partition: (Workload, CostTable, options) -> Assignment. Exact placement by integer programming.

Latency and energy are one program each. EDP, a product, is minimised over the supported points of the
(latency, energy) plane: a product of positive sums is quasi-concave, so its minimum over any finite set of plans
lies on a vertex of their lower convex hull, and every such vertex minimises some weighted sum of the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from h4hc.assignment import Assignment, Objective, Placement, Status
from h4hc.cost import CostTable
from h4hc.costtypes import Capacity, Mode
from h4hc.errors import InfeasibleError, LimitError, PlanError, Problem
from h4hc.planning.baselines import Allowed, Baseline, Plan, baselines, improve
from h4hc.planning.demands import allowed_modes
from h4hc.planning.dominance import tight_devices, undominated
from h4hc.planning.ilp import SolveStatus
from h4hc.planning.plan_cost import Pair, PlanCosts
from h4hc.planning.program import PlanProgram, Weights
from h4hc.planning.stores import Units
from h4hc.workload import Workload

PROOF_TOLERANCE = 1e-7  # relative: the dual tolerance of the solver in double precision
MIN_SOLVE_S = 0.1  # what the solver gets even when the time is over, to find a first plan and bound
SCALED_OPTIMUM = 1e5  # objectives are scaled to about this, far from both ends of HiGHS' absolute tolerances


VALUE: dict[Objective, Callable[[Pair], int]] = {
    Objective.LATENCY: lambda pair: pair[0],
    Objective.ENERGY: lambda pair: pair[1],
    Objective.EDP: lambda pair: pair[0] * pair[1],
}


@dataclass(frozen=True)
class PartitionOptions:
    """What to minimise, what the user demands, and when to stop. gap is relative; time_limit_s is wall time."""

    objective: Objective = Objective.LATENCY
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float = 0.0
    time_limit_s: float = 60.0


@dataclass(frozen=True)
class Partitioning:
    """The assignment, and the baselines on the same table under the same demands."""

    assignment: Assignment
    baselines: tuple[Baseline, ...]


@dataclass(frozen=True)
class _Point:
    """A plan with its exact totals, and the value of `weights` that no plan can beat."""

    modes: tuple[Mode, ...]
    units: Units
    pair: Pair
    weights: Weights
    bound: float


class _Search:
    """Solves weighted objectives on one table, within one time budget, never worse than the plans it starts from."""

    def __init__(self, costs: PlanCosts, allowed: Allowed, options: PartitionOptions) -> None:
        self.costs, self.allowed, self.options = costs, allowed, options
        self.deadline = time.monotonic() + options.time_limit_s
        self.tight = tight_devices(costs, allowed)
        self.modes = undominated(costs, allowed, self.tight)
        self.program = PlanProgram(costs, self.modes, self.tight, exact_units=False)
        self.exact: PlanProgram | None = None
        self.baselines = baselines(costs, allowed, self.tight, VALUE[options.objective])
        self.stopped = SolveStatus.OPTIMAL
        self.gap = options.gap

    def minimise(self, weights: Weights) -> _Point:
        """Best plan for weighted latency and energy, with its bound."""
        start = min(
            (b for b in self.baselines if b.modes), key=lambda b: weights.of((b.latency_ps, b.energy_pj)), default=None
        )
        scale = max(1.0, weights.of((start.latency_ps, start.energy_pj)) / SCALED_OPTIMUM) if start else 1.0
        point = self._solve(self.program, weights, scale, start)
        if point is None:  # the aggregated optimum cannot be packed: decide the units as well
            self.exact = self.exact or PlanProgram(self.costs, self.modes, self.tight, exact_units=True)
            point = self._solve(self.exact, weights, scale, start)
        if point is None and self.stopped is SolveStatus.NONE:
            raise LimitError(
                "the solver found no plan in time",
                why=f"--time-limit {self.options.time_limit_s:g} s",
                hint="raise the limit, or loosen the pins so that a baseline plan exists",
            )
        if point is None:
            raise _overflow(self.costs, self.allowed, self.options)
        return point

    def baseline_points(self) -> list[_Point]:
        """Baselines as they are, without a bound, so that no objective ends above one of them."""
        return [
            _Point(b.modes, b.units, (b.latency_ps, b.energy_pj), Weights(1, 1), 0.0) for b in self.baselines if b.modes
        ]

    def _solve(self, program: PlanProgram, weights: Weights, scale: float, start: Baseline | None) -> _Point | None:
        """One run of the solver; None if its plan cannot be packed, or if there is no plan at all.

        The solver's plan is polished by single moves; one that a limit stopped competes with the polished `start`.
        """
        left = max(MIN_SOLVE_S, self.deadline - time.monotonic())
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
            plans.append(self._improve((start.modes, start.units), weights))
        if not plans:
            return None
        best, units = min(plans, key=lambda plan: weights.of(self.costs.total(plan[0])))
        bound = max(0.0, solution.bound * scale) + sum(weights.of(pair) for pair in program.fixed)
        return _Point(best, units, self.costs.total(best), weights, bound)

    def _improve(self, plan: Plan, weights: Weights) -> Plan:
        return improve(self.costs, self.allowed, self.tight, plan, weights)


def partition(workload: Workload, table: CostTable, options: PartitionOptions) -> Partitioning:
    """Place every operator: minimise the objective over all legal plans for this execution order.

    Hard constraints: one legal mode an operator, pins and forbids, the weight store of every unit. The value is
    recomputed in exact integers; status says what was proved about it.

    Raises: UserError (bad pin or forbid), InfeasibleError (resource, demand, bound, levers).
    """
    costs = PlanCosts(table)
    allowed = allowed_modes(workload, table, options.pins, options.forbids)
    if not workload.ops:  # the model hands its inputs on: there is one plan
        pair = costs.total(())
        nothing = _Point((), {}, pair, Weights(0, 0), 0.0)
        return Partitioning(_assignment(costs, nothing, float(VALUE[options.objective](pair)), options), ())
    search = _Search(costs, allowed, options)
    if options.objective is Objective.EDP:
        point, bound = _minimise_edp(search)
    else:
        point = search.minimise(Weights(1, 0) if options.objective is Objective.LATENCY else Weights(0, 1))
        bound = point.bound
    return Partitioning(_assignment(costs, point, bound, options), search.baselines)


def _assignment(costs: PlanCosts, point: _Point, bound: float, options: PartitionOptions) -> Assignment:
    value = VALUE[options.objective](point.pair)
    if bound > value * (1 + 10 * PROOF_TOLERANCE) + 1:
        raise PlanError("the solver's bound exceeds its own plan", why=f"bound {bound}, value {value}")
    # every plan's value is an integer, so a bound between two of them proves the upper one; 1e-9 absorbs rounding
    proved = value if bound >= value else min(value, math.ceil(bound * (1 - 1e-9)))
    gap = (value - proved) / value if value else 0.0
    if gap <= PROOF_TOLERANCE:
        proved, gap, status = value, 0.0, Status.OPTIMAL
    elif gap <= options.gap:
        status = Status.WITHIN_GAP
    else:
        status = Status.FEASIBLE
    placements = tuple(
        Placement(op, mode, point.units.get(at, ()))
        for at, (op, mode) in enumerate(zip(costs.ids, point.modes, strict=True))
    )
    return Assignment(options.objective, placements, *point.pair, value, proved, gap, status, "HiGHS through PuLP")


def _minimise_edp(search: _Search) -> tuple[_Point, float]:
    """Walk the supported points between the latency and the energy optimum, cutting what cannot beat the best.

    Between two points, every unknown supported point lies in the triangle they form with the corner where their
    supporting lines meet; the product is quasi-concave, so its minimum there is at a vertex, and a corner no
    better than the incumbent closes the interval.
    """
    search.gap = 1 - math.sqrt(1 - search.options.gap)  # both ends within it: their product within the gap asked for
    left, right = search.minimise(Weights(1, 0)), search.minimise(Weights(0, 1))
    best = min(left, right, *search.baseline_points(), key=lambda p: _edp(p.pair))
    open_intervals = [(left, right)]
    closed_bound = float("inf")
    while open_intervals:
        open_intervals.sort(key=lambda pair: -_corner(*pair))
        first, second = open_intervals.pop()
        corner = _corner(first, second)
        out_of_time = time.monotonic() > search.deadline
        weights = Weights(first.pair[1] - second.pair[1], second.pair[0] - first.pair[0])
        nothing_between = weights.latency <= 0 or weights.energy <= 0  # one of the two dominates the other
        cannot_win = corner >= _edp(best.pair) * (1 - max(search.options.gap, PROOF_TOLERANCE))
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


def _corner(first: _Point, second: _Point) -> float:
    """Product at the meeting point of two supporting lines a*T + b*E = bound; 0 if they do not meet."""
    (a, b), (c, d) = first.weights, second.weights
    determinant = a * d - b * c
    if determinant == 0:
        return 0.0
    latency = (first.bound * d - b * second.bound) / determinant
    energy = (a * second.bound - first.bound * c) / determinant
    return max(0.0, latency) * max(0.0, energy)


def _overflow(costs: PlanCosts, allowed: Allowed, options: PartitionOptions) -> InfeasibleError:
    """Explain why no plan fits: only a weight store can be the reason, through operators with nowhere else to go."""
    problems = []
    for device in sorted(costs.capacity):
        cap = costs.capacity[device]
        if cap.unit_bytes is None:
            continue
        bound_here = _captives(costs, allowed, device)
        if bound_here:
            problems.append(_overflow_problem(costs, cap, bound_here, options))
    if not problems:
        raise PlanError("the solver found no plan, and no weight store explains it", hint="this is a bug of h4hc")
    return InfeasibleError.of(tuple(problems))


def _captives(costs: PlanCosts, allowed: Allowed, device: str) -> list[tuple[int, int]]:
    """(bytes, position) of operators that may run on `device` only, largest first; bytes in their leanest mode."""
    found = []
    for at, modes in enumerate(allowed):
        if all(m.device == device for m in modes):
            found.append((min(m.units * costs.unit_bytes[at][m] for m in modes), at))
    return sorted(found, key=lambda item: (-item[0], item[1]))


def _overflow_problem(
    costs: PlanCosts, cap: Capacity, captives: Sequence[tuple[int, int]], options: PartitionOptions
) -> Problem:
    assert cap.unit_bytes is not None
    demand, supply = sum(size for size, _ in captives), cap.units * cap.unit_bytes
    names = tuple(costs.ids[at] for _, at in captives)
    need = -(-demand // cap.unit_bytes)
    more = f"--set {cap.device}.macros={max(need, cap.units + 1)} or more (shares are rounded up in each macro)"
    levers = [more, f"a larger {cap.device}.bank_bits"]
    if options.pins or options.forbids:
        levers.append("drop a --pin or --forbid of the operators named")
    return Problem(
        f"the weights of {len(names)} operators that can run only on {cap.device} do not fit",
        names,
        f"resource {cap.device} weight store: demand {demand} bytes, bound {supply} bytes "
        f"({cap.units} units of {cap.unit_bytes}); each operator's share must fit in single units",
        " or ".join(levers),
    )
