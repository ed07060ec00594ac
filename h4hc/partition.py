"""partition: (Workload, CostTable, options) -> Assignment. Exact placement by integer programming."""

from __future__ import annotations

import time
from dataclasses import dataclass

from h4hc.assignment import Assignment, Case, Objective, Placement, Stage, Status
from h4hc.cost import CostTable
from h4hc.diagnostics import Diagnostic
from h4hc.errors import InfeasibleError
from h4hc.goals import NO_BUDGET, Budget, Goal
from h4hc.planning.baselines import Baseline, baselines
from h4hc.planning.bounded import NoPlan
from h4hc.planning.demands import allowed_modes
from h4hc.planning.dominance import tight_devices
from h4hc.planning.edp import Point
from h4hc.planning.live import Live, Memory
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.pursue import Pursued, in_target_sram, pursue
from h4hc.planning.search import VALUE, Task
from h4hc.workload import Workload

INTERRUPTED = "H4W140"


@dataclass(frozen=True)
class PartitionOptions:
    """What to minimise, what the user demands, and when to stop. gap is relative; time_limit_s is wall time.

    case: the nominal numbers, or the worst of their intervals (`--robust`). stoppable: Ctrl-C ends the search, and the
    best plan so far is the result; else it is raised as ever.

    goals: several in order, or `sram`; none: the objective alone, else the objective is the first that is not `sram`.
    budget: what a plan may take at most, in that case. memory: the target's SRAM, which binds the plan where a plan
    that fits exists; None where it is not known, and then neither goals nor budget may name `sram`.
    """

    objective: Objective = Objective.LATENCY
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float = 0.0
    time_limit_s: float = 60.0
    case: Case = Case.NOMINAL
    stoppable: bool = False
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
    task = Task(options.objective, allowed, tight, options.gap, limit_s, deadline, demanded, stoppable)
    starts = [(b.modes, b.units) for b in simple if b.modes]
    try:
        found = pursue(costs, task, starts, goals, options.budget, live)
    except InfeasibleError as error:
        raise _explained(workload, table, options, error) from error
    if live is not None:
        found = in_target_sram(found, costs, task, starts, goals, live)
    assignment = _assignment(table, found, options)
    return Partitioning(assignment, simple, (_interruption(assignment),) if found.interrupted else ())


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
    ids = (row.op for row in table.rows)
    placements = tuple(
        Placement(op, mode, point.units.get(at, ())) for at, (op, mode) in enumerate(zip(ids, point.modes, strict=True))
    )
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
        "HiGHS through PuLP",
        stages,
        found.budget,
    )
