"""A small integer-programming layer: rows in, PuLP and HiGHS, solution and bound out. The only user of PuLP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import highspy
import numpy as np
import pulp

THREADS = 1  # HiGHS is deterministic with one thread; the count is global to the process, so it is fixed here
# In these programs that heuristic takes half of the time at the root and finds nothing the others do not (HiGHS 1.15).
HEURISTICS = {"mip_heuristic_run_root_reduced_cost": False}
UNLIMITED = 2**31 - 1  # nodes: the largest number HiGHS takes
LISTEN_S = 0.1  # how often Ctrl-C is heard
KNOWN_SLACK = 1e-9  # relative: two solvers' sums of the same plan differ by rounding


class SolveStatus(Enum):
    """How the solver stopped."""

    OPTIMAL = "optimal"  # within the gap asked for
    FEASIBLE = "feasible"  # a limit came first; the incumbent is feasible
    NONE = "none"  # a limit came first, no incumbent
    INFEASIBLE = "infeasible"


class Effort(NamedTuple):
    """When to stop without a proof: wall time, nodes of the search tree, and whether Ctrl-C ends the solve alone."""

    time_limit_s: float
    nodes: int = UNLIMITED
    stoppable: bool = False


@dataclass(frozen=True)
class Solution:
    """values by variable index (empty if there is none); objective and a bound no solution can beat.

    interrupted: Ctrl-C ended the solve, which the effort allowed.
    """

    status: SolveStatus
    values: tuple[float, ...]
    objective: float
    bound: float
    interrupted: bool = False


@dataclass
class Program:
    """min c x subject to rows, over whole numbers and non-negative continuous variables up to 1.

    Rows and variables are handed to the solver once, at the first solve; later solves change the costs alone.
    """

    names: list[str] = field(default_factory=list)
    tops: list[int] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[list[tuple[int, float]], float, float, str]] = field(default_factory=list)
    _built: pulp.LpProblem | None = None

    def binary(self, name: str) -> int:
        """Add a 0/1 variable and return its index."""
        return self._variable(name, 1, True)

    def count(self, name: str, top: int) -> int:
        """Add a whole number from 0 to `top`."""
        return self._variable(name, top, True)

    def indicator(self, name: str) -> int:
        """Add a continuous variable in [0, 1] that rows push up and a positive cost pushes down."""
        return self._variable(name, 1, False)

    def _variable(self, name: str, top: int, whole: bool) -> int:
        self._built = None
        self.names.append(name)
        self.tops.append(top)
        self.whole.append(whole)
        return len(self.names) - 1

    def row(self, terms: list[tuple[int, float]], low: float, high: float, name: str) -> None:
        """Add low <= sum(coefficient * variable) <= high. A variable appears at most once in `terms`."""
        self._built = None
        self.rows.append((terms, low, high, name))

    def solve(self, cost: dict[int, float], *, gap: float, effort: Effort, known: float = -np.inf) -> Solution:
        """Minimise sum(cost[i] * x[i]).

        gap: relative gap at which the solver may stop; known: a bound from elsewhere, at which a solution is the best
        there is. A proof holds to the solver's own tolerances (1e-6 on integrality and feasibility), so callers
        re-evaluate plans in integers.
        """
        problem = self._built = self._built or self._problem()
        variables = problem.variables()
        terms = sorted(cost.items()) or [(0, 0.0)]  # PuLP would give an empty objective a variable of its own
        problem.setObjective(pulp.LpAffineExpression([(variables[i], c) for i, c in terms]))
        limits = {"timeLimit": effort.time_limit_s, "mip_max_nodes": effort.nodes, "gapRel": gap}
        problem.stoppable = effort.stoppable
        target = known + KNOWN_SLACK * abs(known) if known > -np.inf else known
        problem.solve(_BatchHiGHS(msg=False, threads=THREADS, objective_target=target, **limits, **HEURISTICS))
        return _read(problem, known)

    def _problem(self) -> pulp.LpProblem:
        problem = _Problem("plan", pulp.LpMinimize)
        variables = [
            problem.add_variable(f"x{i:07d}", 0, top, pulp.LpInteger if whole else pulp.LpContinuous)
            for i, (top, whole) in enumerate(zip(self.tops, self.whole, strict=True))
        ]
        problem.columns = variables
        for index, (terms, low, high, _) in enumerate(self.rows):
            expression = pulp.LpAffineExpression([(variables[i], c) for i, c in terms])
            if low == high:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintEQ, f"r{index}", low))
            elif low > -np.inf:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintGE, f"r{index}", low))
            else:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintLE, f"r{index}", high))
        return problem


class _Problem(pulp.LpProblem):  # type: ignore[misc]
    """A problem whose variables and rows are complete: `highs` holds them, made at the first solve."""

    columns: list[pulp.LpVariable]
    highs: highspy.HighsLp | None = None
    stoppable = False
    interrupted = False

    def variables(self) -> list[pulp.LpVariable]:
        """By index; PuLP's own are in the order in which rows name them first."""
        return self.columns


class _BatchHiGHS(pulp.HiGHS):  # type: ignore[misc]
    """pulp.HiGHS that passes the whole model at once; PuLP's own loop adds columns and rows one by one."""

    def actualSolve(self, lp: _Problem) -> int:
        """Configure and run; what came out is read by `_read`, not by PuLP."""
        self.createAndConfigureSolver(lp)
        lp.highs = lp.highs or _matrix(lp)
        cost = np.zeros(lp.highs.num_col_)
        for variable, coefficient in lp.objective.items():
            cost[variable.index] = coefficient
        lp.highs.col_cost_ = cost
        lp.solverModel.passModel(lp.highs)
        self.callSolver(lp)
        return int(pulp.LpStatusNotSolved)

    def callSolver(self, lp: _Problem) -> None:
        """Run; HiGHS itself hears no Ctrl-C, so a run that may be stopped has a thread of its own."""
        lp.interrupted = False
        if not lp.stoppable:
            lp.solverModel.run()
            return
        lp.solverModel.HandleUserInterrupt = True
        lp.solverModel.startSolve()
        while True:
            try:
                if lp.solverModel.wait(LISTEN_S)[0]:
                    return
            except KeyboardInterrupt:
                lp.interrupted = True
                lp.solverModel.cancelSolve()


def _matrix(lp: _Problem) -> highspy.HighsLp:
    """Variables and rows in HiGHS' own form; each variable's index is its column."""
    variables = lp.variables()
    for index, variable in enumerate(variables):
        variable.index = index
    constraints = list(lp._constraints.values())
    starts: list[int] = [0]
    columns: list[int] = []
    values: list[float] = []
    for constraint in constraints:
        columns.extend(v.index for v in constraint)
        values.extend(constraint.values())
        starts.append(len(columns))
    bounds = [(constraint.getLb(), constraint.getUb()) for constraint in constraints]
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(variables), len(constraints)
    model.col_lower_ = np.zeros(len(variables))
    model.col_upper_ = np.array([float(v.upBound) for v in variables])
    model.row_lower_ = np.array([-highspy.kHighsInf if low is None else low for low, _ in bounds], dtype=float)
    model.row_upper_ = np.array([highspy.kHighsInf if high is None else high for _, high in bounds], dtype=float)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.num_col_, model.a_matrix_.num_row_ = len(variables), len(constraints)
    model.a_matrix_.start_ = np.array(starts, dtype=np.int32)
    model.a_matrix_.index_ = np.array(columns, dtype=np.int32)
    model.a_matrix_.value_ = np.array(values, dtype=float)
    model.integrality_ = [
        highspy.HighsVarType.kInteger if v.cat == pulp.LpInteger else highspy.HighsVarType.kContinuous
        for v in variables
    ]
    return model


def _read(problem: pulp.LpProblem, known: float) -> Solution:
    """PuLP 3.3 calls a run that hit its time limit optimal, so the status is HiGHS' own."""
    highs = problem.solverModel
    info, status = highs.getInfo(), highs.getModelStatus()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    if status == highspy.HighsModelStatus.kInfeasible:
        return Solution(SolveStatus.INFEASIBLE, (), float("inf"), float("inf"), problem.interrupted)
    bound = max(known, float(info.mip_dual_bound))
    if not found:
        return Solution(SolveStatus.NONE, (), float("inf"), bound, problem.interrupted)
    done = status in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kObjectiveTarget)
    return Solution(
        SolveStatus.OPTIMAL if done else SolveStatus.FEASIBLE,
        tuple(highs.getSolution().col_value),
        float(info.objective_function_value),
        bound,
        problem.interrupted,
    )
