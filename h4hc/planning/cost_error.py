"""What an error of one device's cost model does to plans: every plan's objective is a straight line in the factor.

A factor f multiplies all operator costs of one device, what hides there included, in latency or in energy. A plan's
latency (or energy) is then `rest + f * on`, its EDP that line times the other total, which the factor leaves alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from h4hc.assignment import Objective
from h4hc.costtypes import Mode
from h4hc.planning.plan_cost import Pair, PlanCosts, PortCost

Quantity = Literal["latency", "energy"]
ONE = Fraction(1)
PART: dict[Quantity, int] = {"latency": 0, "energy": 1}  # which component of a Pair


class Line(NamedTuple):
    """Objective of one plan as a function of the factor: rest + f * on."""

    rest: int
    on: int

    def at(self, factor: Fraction) -> Fraction:
        """Its value."""
        return self.rest + factor * self.on

    def meets(self, other: Line) -> Fraction | None:
        """The factor at which both have the same value; None for parallel lines."""
        return None if self.on == other.on else Fraction(other.rest - self.rest, self.on - other.on)


class Split(NamedTuple):
    """A plan's latency (or energy) as rest + f * on, and its energy (or latency), which the factor leaves alone."""

    rest: int
    on: int
    other: int

    def scaled(self, factor: Fraction, quantity: Quantity) -> Pair:
        """Its sums on costs `scaled` by the factor."""
        part = self.rest * factor.denominator + self.on * factor.numerator
        return (part, self.other) if quantity == "latency" else (self.other, part)

    def line(self, objective: Objective) -> Line:
        """Its objective. For one of a single quantity, the split must be of that one."""
        weight = self.other if objective is Objective.EDP else 1
        return Line(self.rest * weight, self.on * weight)


def split(costs: PlanCosts, modes: Sequence[Mode], device: str, quantity: Quantity) -> Split:
    """The sums of a plan, with what the device's operators make of one quantity apart."""
    part, total = PART[quantity], costs.total(modes)
    on = 0
    for at, mode in enumerate(modes):
        if mode.device == device:
            on += costs.op[at][mode][part]
            if at and modes[at - 1].device == device:
                on += costs.arrive(at, device, device)[part]
    return Split(total[part] - on, on, total[1 - part])


def scaled(costs: PlanCosts, device: str, quantity: Quantity, factor: Fraction) -> PlanCosts:
    """The same sums after the error, with all of that quantity multiplied by the factor's denominator.

    So they stay whole numbers, and the order of plans is exact.
    """
    part, (of_device, of_rest) = PART[quantity], factor.as_integer_ratio()

    def times(pair: Pair, number: int) -> Pair:
        return (pair[0] * number, pair[1]) if part == 0 else (pair[0], pair[1] * number)

    def number(name: str) -> int:
        return of_device if name == device else of_rest

    result = copy.copy(costs)
    result.op = tuple({m: times(pair, number(m.device)) for m, pair in row.items()} for row in costs.op)
    result.hidden = {key: times(pair, number(key[1])) for key, pair in costs.hidden.items()}
    result.stay = {name: times(pair, of_rest) for name, pair in costs.stay.items()}
    result.ports = tuple(
        PortCost(p.producer, p.consumers, {key: times(pair, of_rest) for key, pair in p.cost.items()})
        for p in costs.ports
    )
    result.border = times(costs.border, of_rest)
    return result
