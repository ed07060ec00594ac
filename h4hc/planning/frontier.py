"""The states that a placement passes through, operator by operator: what the rest of the order can see of the past.

That is the device of the operator before, and for every port that is still to be read what bringing it to each device
will cost from here on: nothing where it was brought already. Choices that agree in this are one state, so the least
cost of a whole plan is a shortest path through layers of states, one layer an operator (`walk`). Frontiers of networks
are small: the work grows with the number of operators. Where they are not, `build` gives none.

A state is a row of small numbers: the device before, then for each open port one number a device, which stands for one
of the port's prices; 0 = nothing to pay. Ports whose prices have the same pattern share these numbers, so operators in
alike surroundings share a `Layer`, and a network that repeats its blocks has few of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from h4hc.costtypes import Mode
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, PortCost
from h4hc.system import HOST

Ints = NDArray[np.intp]
Rows = NDArray[np.uint8]
MOST_STEPS = 2**18  # from one operator's states to the next's
MOST_STEPS_IN_ALL = 2**22  # 32 MiB for each array of them
MOST_DEVICES = 15  # so that a port has fewer than 256 different prices


class Layer(NamedTuple):
    """From the S states before an operator, by one of the D devices it may run on, to those behind it.

    before [S]: device of the operator before; devices [D]; target [S, D]: state behind. order: the S * D ways sorted by
    the state they lead to; starts, spans: where each state's ways begin, and end. moves: for each port that the
    operator reads the price to pay [S, D], as a number within the port's prices.
    """

    before: Ints
    devices: Ints
    target: Ints
    order: Ints
    starts: Ints
    spans: tuple[tuple[int, int], ...]
    moves: tuple[Ints, ...]


class Passage(NamedTuple):
    """One operator: its layer, and where the prices of the ports it reads begin in `Frontier.prices`."""

    layer: Layer
    bases: tuple[int, ...]


@dataclass(frozen=True)
class Frontier:
    """All layers, and the costs that no state changes.

    prices: of ports, by number; paid: what an operator pays on a device beside its own cost (model outputs brought to
    the host), by position and device where it is not nothing; fixed: what every plan pays.
    """

    devices: tuple[str, ...]
    passages: tuple[Passage, ...]
    prices: tuple[Pair, ...]
    paid: Mapping[tuple[int, str], Pair]
    fixed: Pair


def build(costs: PlanCosts, allowed: Sequence[Sequence[Mode]]) -> Frontier | None:
    """The frontier of an order of operators; None where it has too many states. Deterministic."""
    devices = tuple(sorted(costs.capacity))
    return _Builder(costs, allowed, devices).run() if len(devices) <= MOST_DEVICES else None


class _Pattern(NamedTuple):
    """A port's prices: numbers [from, to], and where they begin among all prices."""

    numbers: Rows
    base: int


@dataclass
class _Open:
    """A port with reads to come. masks: after each read the devices of those still to come; next: the one due."""

    pattern: _Pattern
    masks: Sequence[Rows]
    next: int = 0


@dataclass
class _Opened:
    """By position: ports that are made there, and ports that are read there."""

    made: list[list[int]]
    read: list[list[int]]
    paid: dict[tuple[int, str], Pair] = field(default_factory=dict)


class _Builder:
    def __init__(self, costs: PlanCosts, allowed: Sequence[Sequence[Mode]], devices: tuple[str, ...]) -> None:
        self.costs, self.names = costs, devices
        number = {name: i for i, name in enumerate(devices)}
        self.host = number[HOST]
        self.sets = [tuple(sorted({number[m.device] for m in modes})) for modes in allowed]
        self.prices: list[Pair] = []
        self.patterns: dict[object, _Pattern] = {}
        self.fixed = costs.border
        self.layers: dict[object, tuple[Layer, int]] = {}
        self.spaces: list[Rows] = [np.full((1, 1), self.host, np.uint8)]
        self.space_ids: dict[tuple[tuple[int, ...], bytes], int] = {}

    def run(self) -> Frontier | None:
        at_op = self._ports()
        open_: dict[int, _Open] = {}
        space, steps, passages = 0, 0, []
        for at, devices in enumerate(self.sets):
            for index in at_op.read[at]:  # a model input is open from its first read on
                if index not in open_:
                    open_[index] = self._open(self.costs.ports[index])
                    space = self._widened(space, open_[index].pattern.numbers[self.host] * open_[index].masks[0])
            if len(self.spaces[space]) * len(devices) > MOST_STEPS:
                return None
            passage, space = self._pass(space, devices, at_op.made[at], at_op.read[at], open_)
            passages.append(passage)
            steps += passage.layer.target.size
            if steps > MOST_STEPS_IN_ALL:
                return None
        return Frontier(self.names, tuple(passages), tuple(self.prices), at_op.paid, self.fixed)

    def _ports(self) -> _Opened:
        """Ports by position; those without reads are settled here."""
        found = _Opened([[] for _ in self.sets], [[] for _ in self.sets])
        for index, port in enumerate(self.costs.ports):
            if not port.consumers and port.producer is None:
                pair = port.cost.get((HOST, HOST), NOTHING)
                self.fixed = self.fixed[0] + pair[0], self.fixed[1] + pair[1]
            elif not port.consumers:
                assert port.producer is not None
                for name in self.names:
                    pair, old = port.cost.get((name, HOST), NOTHING), found.paid.get((port.producer, name), NOTHING)
                    if pair != NOTHING:
                        found.paid[port.producer, name] = (old[0] + pair[0], old[1] + pair[1])
            elif port.cost:
                if port.producer is not None:
                    found.made[port.producer].append(index)
                for at in port.consumers:
                    found.read[at].append(index)
        return found

    def _open(self, port: PortCost) -> _Open:
        """masks[k]: devices that the reads from the k-th on may ask for."""
        masks = [np.zeros(len(self.names), np.uint8)]
        for at in sorted(port.consumers, reverse=True):
            mask = masks[-1].copy()
            mask[list(self.sets[at])] = 1
            masks.append(mask)
        return _Open(self._pattern(port), masks[::-1])

    def _pattern(self, port: PortCost) -> _Pattern:
        key = tuple(sorted(port.cost.items()))
        if key not in self.patterns:
            numbers = np.zeros((len(self.names), len(self.names)), np.uint8)
            known: dict[Pair, int] = {NOTHING: 0}
            for i, src in enumerate(self.names):
                for j, dst in enumerate(self.names):
                    numbers[i, j] = known.setdefault(port.cost.get((src, dst), NOTHING), len(known))
            self.patterns[key] = _Pattern(numbers, len(self.prices))
            self.prices += known
        return self.patterns[key]

    def _widened(self, space: int, row: Rows) -> int:
        """The states with the numbers of one more port, which are the same in all."""
        rows = self.spaces[space]
        return self._space(np.hstack([rows, np.tile(row, (len(rows), 1))]))

    def _space(self, rows: Rows) -> int:
        key = (rows.shape, rows.tobytes())
        if key not in self.space_ids:
            self.space_ids[key] = len(self.spaces)
            self.spaces.append(rows)
        return self.space_ids[key]

    def _pass(
        self, space: int, devices: tuple[int, ...], made: Sequence[int], read: Sequence[int], open_: dict[int, _Open]
    ) -> tuple[Passage, int]:
        """Through one operator; `open_` becomes what is open behind it."""
        slots = list(open_)
        reads = tuple(slots.index(index) for index in read)
        bases = tuple(open_[index].pattern.base for index in read)
        masks: list[Rows | None] = [None] * len(slots)  # of ports that were read; an empty one closes the port
        for slot, index in zip(reads, read, strict=True):
            port = open_[index]
            port.next += 1
            masks[slot] = port.masks[port.next]
            if port.next == len(port.masks) - 1:
                del open_[index]
        rows = []
        for index in made:
            open_[index] = self._open(self.costs.ports[index])
            rows.append(open_[index].pattern.numbers * open_[index].masks[0])
        key = (
            space,
            devices,
            reads,
            tuple(m if m is None else m.tobytes() for m in masks),
            tuple(row.tobytes() for row in rows),
        )
        if key not in self.layers:
            layer, behind = _layer(self.spaces[space], np.array(devices, np.intp), reads, masks, rows)
            self.layers[key] = layer, self._space(behind)
        layer, behind_id = self.layers[key]
        return Passage(layer, bases), behind_id


def _layer(
    space: Rows, devices: Ints, reads: Sequence[int], masks: Sequence[Rows | None], rows: Sequence[Rows]
) -> tuple[Layer, Rows]:
    """The layer behind a space of states, and the states it leads to.

    masks: by open port, the devices still of use where the port was read; rows: numbers of new ports by device.
    """
    states, here = len(space), np.arange(len(devices))
    grid = np.repeat(space[:, None, :], len(devices), axis=1)
    count = (space.shape[1] - 1) // len(masks) if masks else 0
    moves = []
    for slot in reads:
        columns = 1 + slot * count + devices
        moves.append(grid[:, here, columns].astype(np.intp))
        grid[:, here, columns] = 0
    kept = [devices.astype(np.uint8) * np.ones((states, 1), np.uint8)]
    parts = [kept[0][:, :, None]]
    for slot, mask in enumerate(masks):
        if mask is None or mask.any():
            part = grid[:, :, 1 + slot * count : 1 + (slot + 1) * count]
            parts.append(part if mask is None else part * mask)
    parts += [np.broadcast_to(row[devices], (states, len(devices), row.shape[1])) for row in rows]
    flat = np.ascontiguousarray(np.concatenate(parts, axis=2).reshape(states * len(devices), -1))
    found, target = np.unique(flat.view(np.dtype((np.void, flat.shape[1]))).ravel(), return_inverse=True)
    behind = found.view(np.uint8).reshape(len(found), -1)
    order = np.argsort(target, kind="stable")
    starts = np.searchsorted(target[order], np.arange(len(found)))
    spans = tuple(pairwise([*starts.tolist(), len(order)]))
    before, grid_target = space[:, 0].astype(np.intp), target.reshape(states, len(devices))
    return Layer(before, devices, grid_target, order, starts, spans, tuple(moves)), behind
