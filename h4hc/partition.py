"""partition: (Workload, CostTable, options) -> Assignment. Exact placement by integer programming."""

from __future__ import annotations

import time
from dataclasses import dataclass

from h4hc.assignment import Assignment, Case, Objective, Placement, Status
from h4hc.cost import CostTable
from h4hc.diagnostics import Diagnostic
from h4hc.errors import PlanError
from h4hc.planning.baselines import Baseline, baselines
from h4hc.planning.demands import allowed_modes
from h4hc.planning.dominance import tight_devices
from h4hc.planning.edp import PROOF_TOLERANCE, Point
from h4hc.planning.plan_cost import PlanCosts, Weights
from h4hc.planning.search import VALUE, Search, Task, proved_value
from h4hc.workload import Workload

INTERRUPTED = "H4W140"


@dataclass(frozen=True)
class PartitionOptions:
    """What to minimise, what the user demands, and when to stop. gap is relative; time_limit_s is wall time.

    case: the nominal numbers, or the worst of their intervals (`--robust`). stoppable: Ctrl-C ends the search, and the
    best plan so far is the result; else it is raised as ever.
    """

    objective: Objective = Objective.LATENCY
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float = 0.0
    time_limit_s: float = 60.0
    case: Case = Case.NOMINAL
    stoppable: bool = False


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
    if not workload.ops:  # the model hands its inputs on: there is one plan
        nothing = Point((), {}, costs.total(()), Weights(0, 0), 0.0)
        return Partitioning(_assignment(table, nothing, float(VALUE[options.objective](nothing.pair)), options), ())
    tight = tight_devices(costs, allowed)
    simple = baselines(costs, allowed, tight, VALUE[options.objective])
    demanded = bool(options.pins or options.forbids)
    limit_s, stoppable = options.time_limit_s, options.stoppable
    task = Task(options.objective, allowed, tight, options.gap, limit_s, deadline, demanded, stoppable)
    search = Search(costs, task, [(b.modes, b.units) for b in simple if b.modes])
    assignment = _assignment(table, *search.best(), options)
    return Partitioning(assignment, simple, (_interruption(assignment),) if search.interrupted else ())


def _interruption(found: Assignment) -> Diagnostic:
    what = f"the search was interrupted: the plan is the best so far, {found.status.value}, gap {found.gap:.2g}"
    return Diagnostic(INTERRUPTED, "warning", what, hint="run again without interrupting, or with a --gap to stop at")


def _assignment(table: CostTable, point: Point, bound: float, options: PartitionOptions) -> Assignment:
    value = VALUE[options.objective](point.pair)
    if bound > value * (1 + 10 * PROOF_TOLERANCE) + 1:
        raise PlanError("the solver's bound exceeds its own plan", why=f"bound {bound}, value {value}")
    proved = proved_value(value, bound)
    gap = (value - proved) / value if value else 0.0
    if proved == value:
        status = Status.OPTIMAL
    elif gap <= options.gap:
        status = Status.WITHIN_GAP
    else:
        status = Status.FEASIBLE
    ids = (row.op for row in table.rows)
    placements = tuple(
        Placement(op, mode, point.units.get(at, ())) for at, (op, mode) in enumerate(zip(ids, point.modes, strict=True))
    )
    nominal = PlanCosts(table).total(point.modes) if options.case is Case.WORST else point.pair
    name = "HiGHS through PuLP"
    return Assignment(options.objective, options.case, placements, *nominal, value, proved, gap, status, name)
