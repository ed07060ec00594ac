"""The least of all plans that weight stores do not bind: shortest paths through the layers of a `frontier`.

With prices on stored bytes (`prices`) the same paths minimise  weighted cost + sum over stores of price * bytes held.
Sums are floats: exact for a single objective without prices as long as they stay below 2**53, else to about 1e-13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h4hc.costtypes import Mode
from h4hc.planning.frontier import Frontier, Ints, Layer
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, Weights
from h4hc.system import HOST

Floats = NDArray[np.float64]
NO_PRICES = np.zeros(0)


@dataclass(frozen=True)
class Choices:
    """The modes of all operators in one row: by position, then by device, then as they were allowed.

    pairs: latency and energy of each; loads: by store, the bytes that each holds in all units together; groups: where
    the modes of one operator on one device begin; ops: where the groups of each operator begin, and their end.
    """

    modes: tuple[Mode, ...]
    pairs: Floats
    loads: Floats
    groups: Ints
    ops: tuple[int, ...]

    @staticmethod
    def of(costs: PlanCosts, frontier: Frontier, allowed: Sequence[Sequence[Mode]], stores: Sequence[str]) -> Choices:
        """All allowed modes. stores: devices whose weight store can overflow."""
        modes: list[Mode] = []
        pairs: list[Pair] = []
        loads: list[list[int]] = [[] for _ in stores]
        groups, ops = [], [0]
        for at, options in enumerate(allowed):
            for name in sorted({m.device for m in options}):
                groups.append(len(modes))
                paid = frontier.paid.get((at, name), NOTHING)
                for mode in [m for m in options if m.device == name]:
                    own = costs.op[at][mode]
                    modes.append(mode)
                    pairs.append((own[0] + paid[0], own[1] + paid[1]))
                    for load, store in zip(loads, stores, strict=True):
                        load.append(mode.units * costs.unit_bytes[at][mode] if name == store else 0)
            ops.append(len(groups))
        table = np.array(loads, float).reshape(len(stores), len(modes))
        return Choices(tuple(modes), np.array(pairs, float), table, np.array(groups), tuple(ops))


@dataclass(frozen=True)
class Path:
    """A plan of least priced cost. value: that cost, with all that no choice changes; chosen: numbers of its modes.

    states, reached: by operator the state behind it, and the priced cost up to there.
    """

    value: float
    chosen: Ints
    states: Ints
    reached: Floats


class _Step(NamedTuple):
    """One operator: its layer, what its ways cost beside the operator itself [S, D], and its groups of modes."""

    layer: Layer
    around: Floats
    begin: int
    end: int


class Walk:
    """Shortest paths for one weighting of latency and energy, at any prices."""

    def __init__(self, costs: PlanCosts, frontier: Frontier, choices: Choices, weights: Weights) -> None:
        self.choices = choices
        self.fixed = float(weights.of(frontier.fixed))
        self.own: Floats = choices.pairs @ np.array(weights, float)
        around = _around(costs, frontier, weights)
        ops = zip(frontier.passages, around, choices.ops, choices.ops[1:], strict=False)
        self.steps = [_Step(passage.layer, grid, begin, end) for passage, grid, begin, end in ops]
        sizes = np.diff(choices.groups, append=len(choices.modes))
        self.group_of = np.repeat(np.arange(len(sizes)), sizes)

    def _priced(self, prices: Floats) -> tuple[Floats, Floats]:
        """Priced cost of each mode, and the least of each group."""
        each = self.own + prices @ self.choices.loads if len(prices) else self.own
        return each, np.minimum.reduceat(each, self.choices.groups)

    def _forward(self, least: Floats) -> tuple[list[Floats], list[Floats]]:
        """Least cost of each state before each operator, and of those at the end; cost of each way, as in `order`."""
        value = np.zeros(1)
        values, ways = [value], []
        for layer, around, begin, end in self.steps:
            grid = around + least[begin:end]
            grid += value[:, None]
            by_target = grid.take(layer.order)
            value = np.minimum.reduceat(by_target, layer.starts)
            values.append(value)
            ways.append(by_target)
        return values, ways

    def least(self, prices: Floats = NO_PRICES) -> Path:
        """A plan of least priced cost; of several, the one that comes first in the order of states and modes."""
        each, least = self._priced(prices)
        values, ways = self._forward(least)
        state = int(values[-1].argmin())
        groups, states = [], []
        for (layer, _, begin, end), by_target in zip(self.steps[::-1], ways[::-1], strict=True):
            states.append(state)
            start, stop = layer.spans[state]
            way = layer.order[start + by_target[start:stop].argmin()]
            state, device = divmod(int(way), end - begin)
            groups.append(begin + device)
        numbers = np.where(each == least[self.group_of], np.arange(len(each)), len(each))
        chosen = np.minimum.reduceat(numbers, self.choices.groups)[groups[::-1]]
        reached = np.array([value[state] for value, state in zip(values[1:], states[::-1], strict=True)])
        return Path(float(reached[-1]) + self.fixed, chosen, np.array(states[::-1]), reached)

    def marginals(self, prices: Floats = NO_PRICES) -> Floats:
        """For each mode the least priced cost of the plans that use it."""
        each, least = self._priced(prices)
        values, _ = self._forward(least)
        behind = np.zeros(len(values[-1]))
        through = np.empty(len(least))  # by group, without the operator itself
        for (layer, around, begin, end), before in zip(self.steps[::-1], values[-2::-1], strict=True):
            ways = around + behind[layer.target]
            through[begin:end] = (ways + before[:, None]).min(axis=0)
            behind = (ways + least[begin:end]).min(axis=1)
        return through[self.group_of] + each + self.fixed


def _around(costs: PlanCosts, frontier: Frontier, weights: Weights) -> list[Floats]:
    """By operator, for each state before and each device: stay, what hides, moves. Alike ones share an array."""
    names = frontier.devices
    prices = np.array(frontier.prices, float).reshape(-1, 2) @ np.array(weights, float)
    stay = [0.0 if name == HOST else float(weights.of(costs.stay[name])) for name in names]
    arrive = np.array(
        [[0.0 if here == before else stay[here] for here in range(len(names))] for before in range(len(names))]
    )
    known: dict[tuple[int, tuple[int, ...]], Floats] = {}
    found = []
    for at, (layer, bases) in enumerate(frontier.passages):
        grid = known.get((id(layer), bases))
        if grid is None:
            grid = arrive[layer.before[:, None], layer.devices]
            for base, numbers in zip(bases, layer.moves, strict=True):
                grid += prices[base + numbers]
            known[id(layer), bases] = grid
        hidden = [weights.of(costs.hidden.get((at, names[d]), NOTHING)) for d in layer.devices]
        if any(hidden):
            grid = grid - (layer.before[:, None] == layer.devices) * np.array(hidden, float)
        found.append(grid)
    return found
