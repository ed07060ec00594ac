"""A small integer-programming layer: rows in, PuLP and HiGHS, solution and bound out. The only user of PuLP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import highspy
import numpy as np
import pulp

THREADS = 1  # HiGHS is deterministic with one thread; the count is global to the process, so it is fixed here
# In these programs that heuristic takes half of the time at the root and finds nothing the others do not (HiGHS 1.15).
HEURISTICS = {"mip_heuristic_run_root_reduced_cost": False}


class SolveStatus(Enum):
    """How the solver stopped."""

    OPTIMAL = "optimal"  # within the gap asked for
    FEASIBLE = "feasible"  # a limit came first; the incumbent is feasible
    NONE = "none"  # a limit came first, no incumbent
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Solution:
    """values by variable index (empty if there is none); objective and a bound no solution can beat."""

    status: SolveStatus
    values: tuple[float, ...]
    objective: float
    bound: float


@dataclass
class Program:
    """min c x subject to rows, over binaries and non-negative continuous variables up to 1."""

    names: list[str] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[tuple[list[tuple[int, float]], float, float, str]] = field(default_factory=list)

    def binary(self, name: str) -> int:
        """Add a 0/1 variable and return its index."""
        return self._variable(name, True)

    def indicator(self, name: str) -> int:
        """Add a continuous variable in [0, 1] that rows push up and a positive cost pushes down."""
        return self._variable(name, False)

    def _variable(self, name: str, integer: bool) -> int:
        self.names.append(name)
        self.integer.append(integer)
        return len(self.names) - 1

    def row(self, terms: list[tuple[int, float]], low: float, high: float, name: str) -> None:
        """Add low <= sum(coefficient * variable) <= high. A variable appears at most once in `terms`."""
        self.rows.append((terms, low, high, name))

    def solve(self, cost: dict[int, float], *, gap: float, time_limit_s: float) -> Solution:
        """Minimise sum(cost[i] * x[i]).

        gap: relative gap at which the solver may stop; time_limit_s: wall time. A proof holds to the solver's
        own tolerances (1e-6 on integrality and feasibility), so callers re-evaluate plans in integers.
        """
        problem = pulp.LpProblem("plan", pulp.LpMinimize)
        variables = [
            problem.add_variable(f"x{i}", 0, 1, pulp.LpInteger if integer else pulp.LpContinuous)
            for i, integer in enumerate(self.integer)
        ]
        problem += pulp.LpAffineExpression([(variables[i], c) for i, c in sorted(cost.items())])
        for index, (terms, low, high, _) in enumerate(self.rows):
            expression = pulp.LpAffineExpression([(variables[i], c) for i, c in terms])
            if low == high:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintEQ, f"r{index}", low))
            elif low > -np.inf:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintGE, f"r{index}", low))
            else:
                problem.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintLE, f"r{index}", high))
        problem.solve(_BatchHiGHS(msg=False, timeLimit=time_limit_s, gapRel=gap, threads=THREADS, **HEURISTICS))
        return _read(problem, variables)


class _BatchHiGHS(pulp.HiGHS):  # type: ignore[misc]
    """pulp.HiGHS that passes the whole model at once; PuLP's own loop adds columns and rows one by one."""

    def buildSolverModel(self, lp: pulp.LpProblem) -> None:
        variables = lp.variables()
        for index, variable in enumerate(variables):
            variable.index = index
        constraints = list(lp._constraints.values())
        starts: list[int] = [0]
        columns: list[int] = []
        values: list[float] = []
        low: list[float] = []
        high: list[float] = []
        for index, constraint in enumerate(constraints):
            constraint.index = index
            columns.extend(v.index for v in constraint)
            values.extend(constraint.values())
            starts.append(len(columns))
            bounds = constraint.getLb(), constraint.getUb()
            low.append(-highspy.kHighsInf if bounds[0] is None else bounds[0])
            high.append(highspy.kHighsInf if bounds[1] is None else bounds[1])
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(variables), len(constraints)
        cost = np.zeros(len(variables))
        for variable, coefficient in lp.objective.items():
            cost[variable.index] = coefficient
        model.col_cost_ = cost
        model.col_lower_ = np.zeros(len(variables))
        model.col_upper_ = np.ones(len(variables))
        model.row_lower_, model.row_upper_ = np.array(low, dtype=float), np.array(high, dtype=float)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.num_col_, model.a_matrix_.num_row_ = len(variables), len(constraints)
        model.a_matrix_.start_ = np.array(starts, dtype=np.int32)
        model.a_matrix_.index_ = np.array(columns, dtype=np.int32)
        model.a_matrix_.value_ = np.array(values, dtype=float)
        model.integrality_ = [
            highspy.HighsVarType.kInteger if v.cat == pulp.LpInteger else highspy.HighsVarType.kContinuous
            for v in variables
        ]
        lp.solverModel.passModel(model)


def _read(problem: pulp.LpProblem, variables: list[pulp.LpVariable]) -> Solution:
    """PuLP 3.3 calls a run that hit its time limit optimal, so the status is HiGHS' own."""
    highs = problem.solverModel
    info, status = highs.getInfo(), highs.getModelStatus()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    if status == highspy.HighsModelStatus.kInfeasible:
        return Solution(SolveStatus.INFEASIBLE, (), float("inf"), float("inf"))
    bound = float(info.mip_dual_bound)
    if not found:
        return Solution(SolveStatus.NONE, (), float("inf"), bound)
    done = status == highspy.HighsModelStatus.kOptimal
    return Solution(
        SolveStatus.OPTIMAL if done else SolveStatus.FEASIBLE,
        tuple(float(v.varValue or 0.0) for v in variables),
        float(info.objective_function_value),
        bound,
    )
