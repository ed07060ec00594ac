"""pareto: the front of two goals, point by point, each with its plan and its proof (epsilon-constraint method).

A plan is on the front when none is as good in both goals and better in one. The least of goal f among plans with
g <= epsilon, and of those the least g, is such a plan (Haimes, Lasdon and Wismer, 1971). Between two neighbours found,
epsilon is first the middle of their g, so that few points already span the front; where that gives nothing new, one
below the upper neighbour's g, which finds a point between them or proves that there is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from h4hc.assignment import Assignment, Objective, Status
from h4hc.cost import CostTable
from h4hc.errors import LimitError
from h4hc.goals import MOST_POINTS, Budget, Goal
from h4hc.partition import PartitionOptions, partition
from h4hc.planning.live import Live
from h4hc.workload import Workload

ROOMY = 2**62  # bytes of SRAM that bind no plan
Stop = Literal["", "points", "time"]


@dataclass(frozen=True)
class FrontPoint:
    """A plan that none dominates. values: of both goals [ps, pJ, bytes], in the case planned for."""

    values: tuple[int, int]
    assignment: Assignment

    @property
    def proved(self) -> bool:
        """Whether it is proved to be on the front, within the gap allowed."""
        return self.assignment.status is not Status.FEASIBLE


@dataclass(frozen=True)
class Front:
    """Points from least to most of the first goal. stopped: what ended the search, "" where no point is missing.

    budget: what bound all points: the user's, and the target's SRAM where a plan fits it.
    """

    goals: tuple[Goal, Goal]
    points: tuple[FrontPoint, ...]
    stopped: Stop
    budget: Budget

    @property
    def complete(self) -> bool:
        """Whether all points of the front are there, each proved."""
        return not self.stopped and all(point.proved for point in self.points)


class _Box(NamedTuple):
    """Between two neighbours: plans with low < g <= high. probed: the middle gave nothing new."""

    left: FrontPoint
    right: FrontPoint
    low: int
    high: int
    probed: bool

    @property
    def area(self) -> int:
        return (self.right.values[0] - self.left.values[0]) * (self.high - self.low)


def pareto_front(
    workload: Workload,
    table: CostTable,
    options: PartitionOptions,
    goals: tuple[Goal, Goal],
    most_points: int = MOST_POINTS,
) -> Front:
    """Up to `most_points` points of the front, the widest gaps first; all of them where there are no more.

    options: demands, budget, gap, case; its time limit is for the whole front, its own goals play no part.
    Raises: InfeasibleError, LimitError when there is not even a first point.
    """
    return _Search(workload, table, options, goals, most_points).run()


class _Search:
    def __init__(
        self, workload: Workload, table: CostTable, options: PartitionOptions, goals: tuple[Goal, Goal], most: int
    ) -> None:
        self.workload, self.table, self.options, self.goals, self.most = workload, table, options, goals, most
        self.deadline = time.monotonic() + options.time_limit_s
        self.live = Live(workload, table, options.memory) if options.memory is not None else None

    def run(self) -> Front:
        first = self._solve(self.goals, None)
        self._fix_memory(first)
        points = [first]
        stopped: Stop = ""
        try:
            last = self._solve(self.goals[::-1], None)
            if last.values[1] < first.values[1]:
                points.append(last)
                stopped = self._between(points)
        except LimitError:
            stopped = "time"
        return Front(self.goals, _undominated(points), stopped, self.options.budget)

    def _fix_memory(self, first: FrontPoint) -> None:
        """The target's SRAM binds all points or none: all, where the first one fits."""
        memory = self.options.memory
        if memory is None or self.live is None:
            return
        modes = tuple(p.mode for p in first.assignment.placements)
        budget = self.options.budget
        if not modes or self.live.peak(modes) <= memory.sram_bytes:
            budget = budget.within(Goal.SRAM, memory.sram_bytes)
        self.options = replace(self.options, budget=budget, memory=replace(memory, sram_bytes=ROOMY))

    def _between(self, points: list[FrontPoint]) -> Stop:
        left, right = points
        boxes = [_Box(left, right, right.values[1], left.values[1] - 1, False)]
        while boxes := [box for box in boxes if box.low < box.high]:
            if len(points) >= self.most:
                return "points"
            if time.monotonic() > self.deadline:
                return "time"
            box = max(boxes, key=lambda b: (b.area, -b.left.values[0]))
            boxes.remove(box)
            epsilon = box.high if box.probed else (box.low + box.high + 1) // 2
            found = self._solve(self.goals, epsilon)
            if found.values[0] >= box.right.values[0]:
                boxes.append(box._replace(low=epsilon, probed=True))
                continue
            points.append(found)
            boxes.append(_Box(box.left, found, epsilon, box.high, False))
            boxes.append(_Box(found, box.right, box.low, found.values[1] - 1, False))
        return ""

    def _solve(self, goals: Sequence[Goal], epsilon: int | None) -> FrontPoint:
        """The plan of least `goals`, in this order, with at most epsilon of the front's second goal."""
        budget = self.options.budget if epsilon is None else self.options.budget.within(self.goals[1], epsilon)
        left = max(0.0, self.deadline - time.monotonic())
        objective = next(Objective(goal) for goal in goals if goal is not Goal.SRAM)
        wish = replace(self.options, objective=objective, goals=tuple(goals), budget=budget, time_limit_s=left)
        found = partition(self.workload, self.table, wish).assignment
        value = {stage.goal: stage.value for stage in found.stages} or dict.fromkeys(goals, 0)
        return FrontPoint((value[self.goals[0]], value[self.goals[1]]), found)


def _undominated(points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    """By the first goal; with a gap allowed, one found early may be dominated by a later one."""
    kept: list[FrontPoint] = []
    for point in sorted(points, key=lambda p: p.values):
        if not kept or point.values[1] < kept[-1].values[1]:
            kept.append(point)
    return tuple(kept)
