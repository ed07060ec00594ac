"""partition: (Workload, CostTable, options) -> Assignment. Exact placement by integer programming."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from h4hc.assignment import Assignment, Case, Objective, Placement, Schema, Stage, Status
from h4hc.cost import CostTable
from h4hc.costtypes import Mode
from h4hc.diagnostics import Diagnostic
from h4hc.errors import InfeasibleError
from h4hc.goals import NO_BUDGET, Budget, Goal
from h4hc.planning.baselines import Baseline, baselines
from h4hc.planning.bounded import NoPlan
from h4hc.planning.demands import allowed_modes
from h4hc.planning.dominance import tight_devices
from h4hc.planning.edp import Point
from h4hc.planning.live import Live, Memory
from h4hc.planning.parallel.index import ActivityIndex
from h4hc.planning.parallel.search import ParallelOutcome, ParallelTask, best_parallel, parallel_total
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.pursue import Pursued, in_target_sram, pursue
from h4hc.planning.search import VALUE, Task
from h4hc.planning.stores import Units
from h4hc.workload import Workload

INTERRUPTED = "H4W140"
SCHEMA_CHOSEN = "H4W141"
START_GAP = 1e-4  # of the sequential plan that a parallel search starts from


@dataclass(frozen=True)
class PartitionOptions:
    """What to minimise, what the user demands, and when to stop. gap is relative; time_limit_s is wall time.

    schema: see `Schema`. case: the nominal numbers, or the worst of their intervals (`--robust`). stoppable: Ctrl-C
    ends the search, and the best plan so far is the result; else it is raised as ever.

    goals: several in order, or `sram`; none: the objective alone, else the objective is the first that is not `sram`.
    budget: what a plan may take at most, in that case. memory: the target's SRAM, which binds the plan where a plan
    that fits exists; None where it is not known, and then neither goals nor budget may name `sram`. A parallel plan
    knows no goals, budget or memory: they hold for the sequential plan that it starts from.
    """

    objective: Objective = Objective.LATENCY
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float = 0.0
    time_limit_s: float = 60.0
    case: Case = Case.NOMINAL
    stoppable: bool = False
    schema: Schema = Schema.SEQUENTIAL
    goals: tuple[Goal, ...] = ()
    budget: Budget = NO_BUDGET
    memory: Memory | None = None


@dataclass(frozen=True)
class Partitioning:
    """The assignment, and the baselines on the same table and case under the same demands.

    remarks: a warning where the search was interrupted.
    """

    assignment: Assignment
    baselines: tuple[Baseline, ...]
    remarks: tuple[Diagnostic, ...] = ()


def partition(workload: Workload, table: CostTable, options: PartitionOptions) -> Partitioning:
    """Place every operator: minimise the objective over all legal plans for this execution order.

    Hard constraints: one legal mode an operator, pins and forbids, the weight store of every unit. The value is
    recomputed in exact integers; status says what was proved about it.

    Raises: UserError (bad pin or forbid), InfeasibleError (resource, demand, bound, levers).
    """
    deadline = time.monotonic() + options.time_limit_s
    costs = PlanCosts(table, options.case)
    allowed = allowed_modes(workload, table, options.pins, options.forbids)
    goals = options.goals or (Goal(options.objective),)
    live = Live(workload, table, options.memory) if options.memory is not None and workload.ops else None
    if not workload.ops:  # the model hands its inputs on: there is one plan
        nothing = Point((), {}, costs.total(()), Weights(0, 0), 0.0)
        return Partitioning(_only(table, nothing, options), ())
    tight = tight_devices(costs, allowed)
    simple = baselines(costs, allowed, tight, VALUE[options.objective])
    demanded = bool(options.pins or options.forbids)
    limit_s, stoppable = options.time_limit_s, options.stoppable
    gap = options.gap if options.schema is Schema.SEQUENTIAL else min(options.gap, START_GAP)
    task = Task(options.objective, allowed, tight, gap, limit_s, deadline, demanded, stoppable)
    starts = [(b.modes, b.units) for b in simple if b.modes]
    try:
        found = pursue(costs, task, starts, goals, options.budget, live)
    except InfeasibleError as error:
        raise _explained(workload, table, options, error) from error
    if live is not None:
        found = in_target_sram(found, costs, task, starts, goals, live)
    alone = Partitioning(_assignment(table, found, options), simple)
    if options.schema is not Schema.SEQUENTIAL:
        starts = [(found.point.modes, found.point.units), *starts]
        beside = ParallelTask(options.objective, options.case, options.gap, deadline, stoppable, starts, found.prices)
        if found.interrupted:  # what is known is timed, and nothing more is looked for
            beside = replace(beside, deadline=-math.inf)
        return _overlapped(table, alone, best_parallel(table, costs, allowed, tight, beside), found, options)
    return replace(alone, remarks=(_interruption(alone.assignment),) if found.interrupted else ())


def _overlapped(
    table: CostTable, alone: Partitioning, beside: ParallelOutcome, found: Pursued, options: PartitionOptions
) -> Partitioning:
    """The parallel plan, or the better of the two, with the sequential one as a baseline."""
    one, assignment = alone.assignment, _parallel(table, beside, options)
    baseline = Baseline("sequential", found.point.modes, found.point.units, one.latency_ps, one.energy_pj)
    remarks: list[Diagnostic] = []
    if options.schema is Schema.AUTO:
        remarks.append(_chosen(one, assignment))
        assignment = assignment if assignment.value < one.value else one
    if beside.interrupted or found.interrupted:
        remarks.append(_interruption(assignment))
    return Partitioning(assignment, (baseline, *alone.baselines), tuple(remarks))


def _chosen(alone: Assignment, beside: Assignment) -> Diagnostic:
    """Why one schema was taken."""
    if beside.value < alone.value:
        less = 1 - beside.value / alone.value
        what = f"operators run in parallel: {less:.2%} less {alone.objective} than one at a time"
    else:
        proof = f"at most {beside.gap:.2%} is open" if beside.gap else "proved"
        what = f"operators run one at a time: no overlap saves {alone.objective} ({proof})"
    return Diagnostic(SCHEMA_CHOSEN, "note", what)


def _explained(
    workload: Workload, table: CostTable, options: PartitionOptions, error: InfeasibleError
) -> InfeasibleError:
    """What conflicts, in the user's terms; for a store that is too small, its bytes beside that."""
    from h4hc.conflict import Conflicts

    found = Conflicts(workload, table, options).error()
    if found is None:
        return error
    stores = () if isinstance(error, NoPlan) else error.problems
    return InfeasibleError.of((*found.problems, *stores))


def _interruption(found: Assignment) -> Diagnostic:
    what = f"the search was interrupted: the plan is the best so far, {found.status.value}, gap {found.gap:.2g}"
    return Diagnostic(INTERRUPTED, "warning", what, hint="run again without interrupting, or with a --gap to stop at")


def _only(table: CostTable, nothing: Point, options: PartitionOptions) -> Assignment:
    """The assignment of a model without operators, whose cost no choice changes."""
    value = VALUE[options.objective](nothing.pair)
    stage = Stage(Goal(options.objective), value, value, 0.0, Status.OPTIMAL)
    return _assignment(table, Pursued(nothing, (stage,), options.budget, False), options)


def _assignment(table: CostTable, found: Pursued, options: PartitionOptions) -> Assignment:
    point = found.point
    main = next(stage for stage in found.stages if stage.goal is Goal(options.objective))
    placements = _placements(table, point.modes, point.units)
    nominal = PlanCosts(table).total(point.modes) if options.case is Case.WORST else point.pair
    stages = found.stages if len(found.stages) > 1 else ()
    return Assignment(
        options.objective,
        options.case,
        placements,
        *nominal,
        main.value,
        main.bound,
        main.gap,
        found.status,
        "shortest paths, HiGHS (PuLP)",
        stages=stages,
        budget=found.budget,
    )


def _parallel(table: CostTable, found: ParallelOutcome, options: PartitionOptions) -> Assignment:
    plan = found.plan
    nominal = (plan.latency_ps, plan.energy_pj)
    if options.case is Case.WORST:
        nominal = parallel_total(ActivityIndex(table), plan.modes, plan.breaks)
    proved, gap, status = _proof(plan.value, min(plan.value, found.bound), options.gap)
    broken = tuple(row.op for row, new_stay in zip(table.rows, plan.breaks, strict=True) if new_stay)
    placements = _placements(table, plan.modes, found.units)
    name = "labels over the order"
    return Assignment(
        options.objective,
        options.case,
        placements,
        *nominal,
        plan.value,
        proved,
        gap,
        status,
        name,
        Schema.PARALLEL,
        broken,
    )


def _proof(value: int, proved: int, wanted_gap: float) -> tuple[int, float, Status]:
    """Bound, gap and status."""
    gap = (value - proved) / value if value else 0.0
    if proved == value:
        return proved, gap, Status.OPTIMAL
    return proved, gap, Status.WITHIN_GAP if gap <= wanted_gap else Status.FEASIBLE


def _placements(table: CostTable, modes: Sequence[Mode], units: Units) -> tuple[Placement, ...]:
    ids = (row.op for row in table.rows)
    return tuple(Placement(op, mode, units.get(at, ())) for at, (op, mode) in enumerate(zip(ids, modes, strict=True)))
