"""Weight stores by prices: a bound, plans near it, and the modes that no better plan uses (Lagrangian relaxation).

With a price lambda >= 0 on each byte that a store holds, and the store's room given back,

    L(lambda) = min over plans of  weighted cost + sum over stores of lambda * (bytes held - room)

is below every plan that fits. L is concave; each plan is a straight line above it. The best price of a store lies where
a line that rises (a plan that overflows) and one that falls (a plan that fits) meet, unless some plan has less there,
whose line then replaces one of the two. The plan that fits is a good one: what it misses of the bound is about what one
operator makes, so the more operators, the nearer it is. Several stores take turns.

The least priced cost of the plans that use a mode is found for all modes at once (`Walk.marginals`). Where it exceeds
the best plan known, no better plan uses the mode.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h4hc.planning.splice import Trail, best_mixture
from h4hc.planning.walk import Floats, Walk

MEETS = 1e-10  # relative: lines this near to L are on it
ROUNDING = 1e-11  # relative: more than what sums over a plan lose in double precision
RAISE = 8.0  # factor on a price at which no plan fits yet
BASES = 4  # plans that fit which are mixed with others
TURNS = 20  # of several stores


class Line(NamedTuple):
    """A plan as L sees it: its weighted cost, and by store the bytes it holds above the room."""

    cost: float
    over: Floats
    trail: Trail | None  # None for a plan known from elsewhere


class Relaxation:
    """The search for the best prices, for one weighting.

    room: bytes of each store; known: plans to start from; enough: whether the bound will do, asked after each walk.
    bound: largest L so far; fitting: plans that fit in all units together, in the order they were found.
    """

    def __init__(
        self, walk: Walk, room: Floats, known: Sequence[Line], enough: Callable[[Relaxation], bool], deadline: float
    ) -> None:
        self.walk, self.room, self.enough, self.deadline = walk, room, enough, deadline
        self.lines = list(known)
        self.fitting: list[Line] = []
        self.bound, self.prices = 0.0, np.zeros(len(room))
        self.done = False

    def run(self) -> None:
        """Raise the bound as far as prices can, or until it is enough, or until the time is over."""
        if not len(self.room):
            self._ask(self.prices)
        for _ in range(TURNS):
            before = self.bound
            for store in range(len(self.room)):
                self._ascend(store)
            if self.done or len(self.room) < 2 or self.bound <= before * (1 + MEETS):
                return

    def _ask(self, prices: Floats) -> Line:
        """The plan of least priced cost: its line and its bound are kept."""
        path = self.walk.least(prices)
        held = np.cumsum(self.walk.choices.loads[:, path.chosen], axis=1)
        load = held[:, -1]
        trail = Trail(path.chosen, path.states, path.reached - prices @ held, held)
        line = Line(path.value - float(prices @ load), load - self.room, trail)
        bound = path.value - float(prices @ self.room)
        if bound > self.bound or len(self.lines) == 0:
            self.bound, self.prices = bound, prices
        self.lines.append(line)
        if (line.over <= 0).all():
            self.fitting.append(line)
        self.done = self.enough(self) or time.monotonic() > self.deadline
        return line

    def _ascend(self, store: int) -> None:
        """The best price of one store, all others as they are."""
        prices = self.prices.copy()
        prices[store] = 0.0

        def at_zero(line: Line) -> float:
            return line.cost + float(prices @ line.over)

        def least(price: float) -> Line:
            return min(self.lines, key=lambda line: at_zero(line) + price * line.over[store])

        high = min((li for li in self.lines if li.over[store] > 0), key=at_zero, default=None)  # overflows
        low = min((li for li in self.lines if li.over[store] <= 0), key=at_zero, default=None)  # fits
        if high is None:
            high = self._ask(prices)
            if self.done or high.over[store] <= 0:
                return
        price = 0.0
        while not self.done:
            if low is None:
                price = max(price * RAISE, at_zero(high) / max(1.0, self.room[store]))
                if price > np.finfo(float).max ** 0.5:
                    return  # no plan fits
            else:
                price = max(0.0, (at_zero(low) - at_zero(high)) / (high.over[store] - low.over[store]))
            model = at_zero(high) + price * high.over[store]
            line = least(price)
            if at_zero(line) + price * line.over[store] >= model * (1 - MEETS) or line is high or line is low:
                asked = prices.copy()
                asked[store] = price
                line = self._ask(asked)
                met = at_zero(line) + price * line.over[store] >= model * (1 - MEETS)
                if (met and low is not None) or (price == 0.0 and line.over[store] <= 0):
                    return
            if line.over[store] > 0:
                high = line
            else:
                low = line

    def splice(self) -> None:
        """Mix the best plans that fit with all others: what they make is added to `fitting`."""
        if self.done:
            return
        lines = [line for line in self.lines if line.trail is not None]
        lines.sort(key=lambda line: line.cost + float(self.prices @ line.over))
        for start in sorted(self.fitting, key=lambda line: line.cost)[:BASES]:
            assert start.trail is not None
            mixed = start.trail
            for line in lines:
                assert line.trail is not None
                mixed = best_mixture(mixed, line.trail, self.room, self.prices)
            if mixed is not start.trail:
                gain = float(mixed.cost[-1] - start.trail.cost[-1])
                self.fitting.append(Line(start.cost + gain, mixed.held[:, -1] - self.room, mixed))

    def brim(self) -> Line | None:
        """Of the plans found that overflow, the least at the best prices."""
        over = [line for line in self.lines if line.trail is not None and (line.over > 0).any()]
        return min(over, key=lambda line: line.cost + float(self.prices @ line.over), default=None)

    def useful(self, best: int) -> NDArray[np.bool_]:
        """For each mode whether a plan of less than `best` may use it."""
        paid = float(self.prices @ self.room)
        least = self.walk.marginals(self.prices) - paid
        return least - ROUNDING * (best + paid) <= best - 1
