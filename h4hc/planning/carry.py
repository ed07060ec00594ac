"""Cuts carried from one error of a device's costs to another: bounds that need no solve of their own.

The least weighted sum over all plans, as a function of the factor on a device's latency (or energy), is the least of
straight lines that do not fall: so it is concave, and at a factor between two solved ones it is at least what joins
them; below the least solved one at least its share, since it is not negative at 0; above the last at least that one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from h4hc.costtypes import Mode
from h4hc.planning.cost_error import ONE, Quantity, Split, split
from h4hc.planning.edp import Cut, Point, coprime
from h4hc.planning.plan_cost import PlanCosts, Weights

MEETS = 1e-12  # relative: a plan this near to the bound is as good as on it, in double precision


class Solved(NamedTuple):
    """At this factor no plan has less than `bound` of some weights."""

    factor: Fraction
    bound: float


class Carried:
    """What was solved for one device and quantity, by weights of true ps and pJ without a common divisor."""

    def __init__(self, costs: PlanCosts, device: str, quantity: Quantity, base: Sequence[Point]) -> None:
        """base: solved without an error."""
        self.costs, self.device, self.quantity = costs, device, quantity
        self.solved: dict[Weights, list[Solved]] = {}
        self.points: dict[Weights, list[Point]] = {}  # plans that have the least of them at some factor
        self._splits: dict[tuple[Mode, ...], Split] = {}
        self.add(ONE, base)

    def add(self, factor: Fraction, points: Sequence[Point]) -> None:
        """Take over what was solved on costs `scaled` by the factor, where the quantity counts `denominator` times."""
        for point in points:
            a, b = point.weights
            true = (a * factor.denominator, b) if self.quantity == "latency" else (a, b * factor.denominator)
            weights = coprime(*true)
            insort(self.solved.setdefault(weights, []), Solved(factor, point.bound / math.gcd(*true)))
            self.points.setdefault(weights, []).append(point)

    def split(self, modes: tuple[Mode, ...]) -> Split:
        """The sums of a plan, worked out once."""
        if modes not in self._splits:
            self._splits[modes] = split(self.costs, modes, self.device, self.quantity)
        return self._splits[modes]

    def cuts(self, factor: Fraction) -> list[Cut]:
        """What holds at this factor, on costs `scaled` by it."""
        times, found = factor.denominator, []
        for (a, b), known in self.solved.items():
            here = (a, b * times) if self.quantity == "latency" else (a * times, b)
            weights, bound = coprime(*here), _between(known, factor) * times / math.gcd(*here)
            pairs = [self.split(p.modes).scaled(factor, self.quantity) for p in self.points[Weights(a, b)]]
            least, point = min(zip(pairs, self.points[Weights(a, b)], strict=True), key=lambda it: weights.of(it[0]))
            met = weights.of(least) <= bound * (1 + MEETS)
            found.append(Cut(weights, bound, replace(point, pair=least) if met else None))
        return found


def _between(known: Sequence[Solved], factor: Fraction) -> float:
    """The bound that those at other factors, in rising order, leave at this one."""
    after = bisect_left(known, factor, key=lambda solved: solved.factor)
    if after == len(known):
        return known[-1].bound
    if known[after].factor == factor:
        return known[after].bound
    left = known[after - 1] if after else Solved(Fraction(0), 0.0)
    share = float((factor - left.factor) / (known[after].factor - left.factor))
    return left.bound + share * (known[after].bound - left.bound)
