"""The relaxed placement on one index of costs: a frontier, made once, and its prices for each weighting asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from h4hc.costtypes import Mode
from h4hc.planning.baselines import Allowed, Tight
from h4hc.planning.frontier import Frontier, build
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.relaxation import Line, Relaxation
from h4hc.planning.walk import Choices, Floats, Walk


class Paths:
    """Relaxations for any weights. Plans seen at one weighting are lines to start from at the next."""

    def __init__(self, costs: PlanCosts, frontier: Frontier, modes: Allowed, tight: Tight) -> None:
        self.costs, self.frontier = costs, frontier
        self.stores = tuple(device for device in sorted(tight) if tight[device])
        self.choices = Choices.of(costs, frontier, modes, self.stores)
        self.room = np.array([self._room(n, store) for n, store in enumerate(self.stores)], float)
        self.seen: list[tuple[Pair, Floats]] = []
        self.last: Relaxation | None = None

    @staticmethod
    def of(costs: PlanCosts, allowed: Allowed, tight: Tight) -> Paths | None:
        """None where there are too many states, or an operator that its store cannot hold in any mode."""
        modes = [tuple(m for m in options if _fits(costs, at, m)) for at, options in enumerate(allowed)]
        frontier = build(costs, modes) if all(modes) else None
        return None if frontier is None else Paths(costs, frontier, modes, tight)

    def _room(self, number: int, store: str) -> int:
        """Bytes in all units: each holds whole multiples of the shares' common divisor."""
        cap = self.costs.capacity[store]
        assert cap.unit_bytes is not None
        shares = [
            int(load) // mode.units
            for mode, load in zip(self.choices.modes, self.choices.loads[number], strict=True)
            if load
        ]
        grain = int(np.gcd.reduce(shares)) if shares else 1
        return cap.units * (cap.unit_bytes - cap.unit_bytes % grain)

    def know(self, modes: Sequence[Mode], pair: Pair) -> None:
        """Take a plan as a line to start from. pair: its totals."""
        unit_bytes = self.costs.unit_bytes
        held = [sum(m.units * unit_bytes[at][m] for at, m in enumerate(modes) if m.device == s) for s in self.stores]
        self.seen.append((pair, np.array(held, float) - self.room))

    def relax(self, weights: Weights, enough: Callable[[Relaxation], bool], deadline: float) -> Relaxation:
        """The best bound that prices give, or the first that is enough."""
        brim = None if self.last is None else self.last.brim()
        if brim is not None:
            self.know(modes := self.modes(brim), self.costs.total(modes))
        known = [Line(float(weights.of(pair)), over, None) for pair, over in self.seen]
        walk = Walk(self.costs, self.frontier, self.choices, weights)
        relaxation = Relaxation(walk, self.room, known, enough, deadline)
        relaxation.run()
        relaxation.splice()
        self.last = relaxation
        return relaxation

    def modes(self, line: Line) -> tuple[Mode, ...]:
        """The modes of a plan, by position."""
        assert line.trail is not None
        return tuple(self.choices.modes[number] for number in line.trail.chosen)

    def useful(self, relaxation: Relaxation, best: int) -> list[tuple[Mode, ...]]:
        """By position, the modes that a plan of less than `best` may use."""
        keep, modes = relaxation.useful(best).tolist(), self.choices.modes
        groups, ops = [*self.choices.groups.tolist(), len(modes)], self.choices.ops
        spans = [range(groups[begin], groups[end]) for begin, end in pairwise(ops)]
        return [tuple(modes[number] for number in span if keep[number]) for span in spans]


def _fits(costs: PlanCosts, at: int, mode: Mode) -> bool:
    room = costs.capacity[mode.device].unit_bytes
    return room is None or costs.unit_bytes[at][mode] <= room
