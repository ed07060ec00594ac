"""minimise_edp: the least latency x energy, by cuts into the plane of the two.

Every plan lies above every cut `a * latency + b * energy >= bound`, so the least product over what all cuts leave, at
one of its corners (the product is quasi-concave), is a bound. The best plan is a vertex of the plans' lower convex
hull, which minimises some such sum. So the corner of least product is cut off, by a solve in the direction of its two
neighbours' plans, until no corner is below the best plan found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, Protocol

from h4hc.costtypes import Mode
from h4hc.planning.plan_cost import Pair, Weights
from h4hc.planning.stores import Units

PROOF_TOLERANCE = 1e-7  # relative: the dual tolerance of the solver in double precision
ENDS = (Weights(1, 0), Weights(0, 1))


@dataclass(frozen=True)
class Point:
    """A plan with its exact totals, and the value of `weights` that no plan can beat."""

    modes: tuple[Mode, ...]
    units: Units
    pair: Pair
    weights: Weights
    bound: float


class Cut(NamedTuple):
    """No plan has less than `bound` of the weights, which have no common divisor; point: a plan that has about that
    much, None where no such plan is known."""

    weights: Weights
    bound: float
    point: Point | None

    def at(self, corner: tuple[float, float]) -> float:
        """The weighted sum at a place in the plane."""
        return self.weights.latency * corner[0] + self.weights.energy * corner[1]


class Solver(Protocol):
    """What the walk needs of a `Search`."""

    gap: float

    @property
    def task(self) -> Limits: ...
    def start_points(self) -> list[Point]: ...
    def minimise(self, weights: Weights) -> Point: ...


class Limits(Protocol):
    """What it needs of a `Task`."""

    @property
    def gap(self) -> float: ...
    @property
    def deadline(self) -> float: ...


def minimise_edp(search: Solver, known: Sequence[Cut] = ()) -> tuple[Point, float]:
    """The plan of least product, and what no product can be below.

    known: cuts that hold already; without a plan on any of them the search must have one to start from.

    A corner whose neighbours' plans leave no direction to search in, or where nothing was found, stays as it is: with
    a gap allowed the solver's bounds need not meet its plans.
    """
    allowed = search.task.gap
    search.gap = 1 - math.sqrt(1 - allowed)  # both ends within it: their product within the gap asked for
    cuts = {cut.weights: cut for cut in known}
    points = [*search.start_points(), *(cut.point for cut in known if cut.point)]
    for end in ENDS:
        if end not in cuts:
            points.append(_solve(search, cuts, end))
    done: set[tuple[Weights, Weights]] = set()
    while True:
        best = min(points, key=lambda p: _edp(p.pair))
        corners = _corners(cuts)
        open_ = [c for c in corners if (c.first.weights, c.second.weights) not in done]
        corner = min(open_, key=lambda c: c.product, default=None)
        enough = _edp(best.pair) * (1 - max(allowed, PROOF_TOLERANCE))
        if corner is None or corner.product >= enough or time.monotonic() > search.task.deadline:
            return best, min(float(_edp(best.pair)), *(c.product for c in corners))
        weights, theirs = corner.direction()
        if weights is None or (weights in cuts and cuts[weights].point is not None):
            done.add((corner.first.weights, corner.second.weights))
            continue
        points.append(_solve(search, cuts, weights))
        if theirs is not None and weights.of(points[-1].pair) >= theirs:  # nothing below the neighbours' plans
            done |= {(corner.first.weights, weights), (weights, corner.second.weights)}


def _solve(search: Solver, cuts: dict[Weights, Cut], weights: Weights) -> Point:
    point = search.minimise(weights)
    before = cuts[weights].bound if weights in cuts else 0.0
    cuts[weights] = Cut(weights, max(before, point.bound), point)
    return point


class _Corner(NamedTuple):
    """Where two cuts meet. first: the one with more weight on latency."""

    first: Cut
    second: Cut
    product: float

    def direction(self) -> tuple[Weights | None, int | None]:
        """What to minimise so as to find plans here, and how much of it the neighbours' plans have.

        A neighbour without a plan comes first. No direction: the plan of one neighbour dominates the other's.
        """
        if self.first.point is None or self.second.point is None:
            return (self.second if self.first.point else self.first).weights, None
        one, other = self.first.point.pair, self.second.point.pair
        latency, energy = one[1] - other[1], other[0] - one[0]
        if latency <= 0 or energy <= 0:
            return None, None
        weights = coprime(latency, energy)
        return weights, weights.of(one)


def coprime(latency: int, energy: int) -> Weights:
    """Weights in this proportion without a common divisor."""
    divisor = math.gcd(latency, energy)
    return Weights(latency // divisor, energy // divisor)


def _corners(cuts: Mapping[Weights, Cut]) -> list[_Corner]:
    """The corners of what all cuts leave, from least latency to least energy."""
    kept: list[Cut] = []
    for cut in sorted(cuts.values(), key=lambda c: Fraction(c.weights.energy, sum(c.weights))):
        while len(kept) > 1 and kept[-1].at(_meeting(kept[-2], cut)) >= kept[-1].bound:  # the middle one cuts nothing
            kept.pop()
        kept.append(cut)
    found = []
    for first, second in pairwise(kept):
        latency, energy = _meeting(first, second)
        found.append(_Corner(first, second, max(0.0, latency) * max(0.0, energy)))
    return found


def _meeting(first: Cut, second: Cut) -> tuple[float, float]:
    """The place with both weighted sums at their bounds; two cuts never have the same direction."""
    (a, b), (c, d) = first.weights, second.weights
    determinant = a * d - b * c
    return (first.bound * d - b * second.bound) / determinant, (a * second.bound - first.bound * c) / determinant


def _edp(pair: Pair) -> int:
    return pair[0] * pair[1]
