"""What a plan would cost if one operator alone ran elsewhere: the answer to "why not there?".

Everything else stays as planned. The difference counts the operator itself, the moves of the tensors it reads
and writes, the stays that begin or end with it and what hides behind the operator before, by the same sums the
solver minimises (`plan_cost`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.assignment import Assignment, Case
from h4hc.cost import CostTable
from h4hc.costtypes import Capacity, Cost, Mode
from h4hc.planning.plan_cost import Pair, PlanCosts
from h4hc.planning.search import VALUE


@dataclass(frozen=True)
class Alternative:
    """An operator in another legal mode, all others as planned.

    delta_*_ps, delta_*_pj: change of the plan's nominal total, negative if it got better; delta_value: change of the
    objective, in the case that was minimised. misfit: why its weights have no room
    beside those already placed, empty if they have. ruled_out: which demand of the user forbids it, or empty;
    better than the chosen plan is only what a budget or an earlier goal rules out.
    """

    cost: Cost
    delta_latency_ps: int
    delta_energy_pj: int
    delta_value: int
    misfit: str
    ruled_out: str


class WhatIf:
    """Answers for one plan; `others(op)` takes time in proportion to the operator's modes and ports."""

    def __init__(self, table: CostTable, assignment: Assignment, allowed: Sequence[Sequence[Mode]]) -> None:
        """allowed: modes of each operator, by position, that the user's pins and forbids leave."""
        self._table, self._allowed = table, allowed
        self._sums = PlanCosts(table)
        self._minimised = PlanCosts(table, assignment.case) if assignment.case is Case.WORST else self._sums
        self._at = {op: i for i, op in enumerate(self._sums.ids)}
        self._modes = [assignment.mode[op] for op in self._sums.ids]
        self._devices = [m.device for m in self._modes]
        self._whole, self._value = self._minimised.total(self._modes), VALUE[assignment.objective]
        self._units = {p.op: p.units for p in assignment.placements}
        self._bound = bool(assignment.budget.limits or assignment.stages)
        self._capacity = {c.device: c for c in table.capacities}
        self._used = used_bytes(table, assignment)

    def others(self, op: str) -> tuple[Alternative, ...]:
        """Every legal mode of `op` but the chosen one, in the table's order."""
        at = self._at[op]
        chosen = self._modes[at]
        before, minimised_before = self._around(at, chosen)
        found = []
        for cost in self._table.row[op].costs:
            if cost.mode == chosen:
                continue
            after, minimised_after = self._around(at, cost.mode)
            ruled_out = "" if cost.mode in self._allowed[at] else "excluded by --pin or --forbid"
            delta = after[0] - before[0], after[1] - before[1]
            change = self._change(minimised_before, minimised_after)
            if not ruled_out and change < 0 and self._bound:
                ruled_out = "over a budget, or worse in a goal that comes first"
            found.append(Alternative(cost, *delta, change, self._misfit(op, cost, chosen), ruled_out))
        self._devices[at] = chosen.device
        return tuple(found)

    def _around(self, at: int, mode: Mode) -> tuple[Pair, Pair]:
        """The part of the total that depends on the mode of one operator: nominal, and in the case minimised."""
        self._devices[at] = mode.device
        nominal = self._part(self._sums, at, mode)
        return nominal, nominal if self._minimised is self._sums else self._part(self._minimised, at, mode)

    def _part(self, sums: PlanCosts, at: int, mode: Mode) -> Pair:
        own, elsewhere = sums.op[at][mode], sums.elsewhere(at, self._devices)
        return own[0] + elsewhere[0], own[1] + elsewhere[1]

    def _change(self, before: Pair, after: Pair) -> int:
        """Change of the objective when one part of the plan's total becomes another."""
        whole = self._whole[0] + after[0] - before[0], self._whole[1] + after[1] - before[1]
        return self._value(whole) - self._value(self._whole)

    def _misfit(self, op: str, cost: Cost, chosen: Mode) -> str:
        capacity = self._capacity[cost.mode.device]
        if capacity.unit_bytes is None or cost.unit_weight_bytes == 0:
            return ""
        free = [capacity.unit_bytes - used for used in self._used[capacity.device]]
        if chosen.device == capacity.device:  # its own share would be given back
            own = self._table.row[op].cost(chosen).unit_weight_bytes
            for unit in self._units[op]:
                free[unit] += own
        room = sum(f >= cost.unit_weight_bytes for f in free)
        if room >= cost.mode.units:
            return ""
        return (
            f"needs {cost.unit_weight_bytes} B free in each of {cost.mode.units} units of {capacity.device}; "
            f"{room} of {capacity.units} have that beside the other operators' weights"
        )


def used_bytes(table: CostTable, assignment: Assignment) -> dict[str, list[int]]:
    """Bytes of resident weights in each unit of each device that keeps weights."""
    used = {c.device: [0] * c.units for c in table.capacities if _keeps(c)}
    for placement in assignment.placements:
        share = table.row[placement.op].cost(placement.mode).unit_weight_bytes
        if placement.mode.device in used and share:
            for unit in placement.units:
                used[placement.mode.device][unit] += share
    return used


def _keeps(capacity: Capacity) -> bool:
    return capacity.unit_bytes is not None
