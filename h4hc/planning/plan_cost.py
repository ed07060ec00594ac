"""What a complete choice of modes costs, in exact integers: the sums that the solver minimises and baselines share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from h4hc.assignment import Case
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable
from h4hc.costtypes import Mode
from h4hc.system import HOST

Pair = tuple[int, int]  # latency [ps], energy [pJ]
NOTHING: Pair = (0, 0)


class Weights(NamedTuple):
    """Objective = latency * ps + energy * pj, a non-negative integer combination."""

    latency: int
    energy: int

    def of(self, pair: Pair) -> int:
        """Value of a (latency, energy) pair."""
        return self.latency * pair[0] + self.energy * pair[1]


@dataclass(frozen=True)
class PortCost:
    """A port reduced to what the sums need. producer: position in the order, or None for a model input.

    consumers: positions, empty for a model output. cost[src, dst] in (ps, pJ), zero pairs left out.
    """

    producer: int | None
    consumers: tuple[int, ...]
    cost: Mapping[tuple[str, str], Pair]


class PlanCosts:
    """Index of a CostTable by position in the execution order, in one case of its intervals.

    total = sum of operators - what hides behind the operator before on the same device + sum of stays on devices
    other than the host + for each port and each device its consumers run on, one move from the producer's device +
    the model's borders, which no choice changes.
    """

    def __init__(self, table: CostTable, case: Case = Case.NOMINAL) -> None:
        bounds = ("nominal", "nominal") if case is Case.NOMINAL else ("high", "low")  # of costs, of savings
        pair, saved = (attrgetter(f"latency.{bound}", f"energy.{bound}") for bound in bounds)
        self.ids = tuple(row.op for row in table.rows)
        position = {op: i for i, op in enumerate(self.ids)}
        self.op: tuple[dict[Mode, Pair], ...] = tuple({c.mode: pair(c) for c in row.costs} for row in table.rows)
        self.unit_bytes: tuple[dict[Mode, int], ...] = tuple(
            {c.mode: c.unit_weight_bytes for c in row.costs} for row in table.rows
        )
        self.hidden: dict[tuple[int, str], Pair] = {}
        for saving in table.follow_ups:
            if saved(saving) != NOTHING:
                self.hidden[position[saving.op], saving.device] = saved(saving)
        self.stay: dict[str, Pair] = {s.device: pair(s) for s in table.switches if s.device != HOST}
        self.capacity = {c.device: c for c in table.capacities}
        self.ports = tuple(
            PortCost(
                None if port.producer == MODEL_INPUT else position[port.producer],
                () if port.consumers == (MODEL_OUTPUT,) else tuple(position[c] for c in port.consumers),
                {(m.src, m.dst): cost for m in port.moves if (cost := _sum(map(pair, m.steps))) != NOTHING},
            )
            for port in table.ports
        )
        self.border = _sum(pair(s) for border in (*table.arrivals, *table.departures) for s in border.steps)
        self.ports_at: list[list[int]] = [[] for _ in self.ids]
        for index, port in enumerate(self.ports):
            touched = {*port.consumers, *(() if port.producer is None else (port.producer,))}
            for at in sorted(touched):
                self.ports_at[at].append(index)

    def port(self, index: int, devices: Sequence[str]) -> Pair:
        """Cost of one port under a choice of devices."""
        port = self.ports[index]
        if not port.cost:
            return NOTHING
        src = HOST if port.producer is None else devices[port.producer]
        consumers = port.consumers
        if len(consumers) <= 1:
            return port.cost.get((src, devices[consumers[0]] if consumers else HOST), NOTHING)
        return _sum(port.cost.get((src, dst), NOTHING) for dst in {devices[c] for c in consumers})

    def arrive(self, at: int, before: str, here: str) -> Pair:
        """Cost of coming to position `at` on device `here` from `before`: a stay, or minus what hides there."""
        if here == before:
            hidden = self.hidden.get((at, here))
            return NOTHING if hidden is None else (-hidden[0], -hidden[1])
        return NOTHING if here == HOST else self.stay[here]

    def enter(self, at: int, devices: Sequence[str]) -> Pair:
        """The same for a choice of devices; nothing behind the last operator."""
        if at >= len(devices):
            return NOTHING
        return self.arrive(at, devices[at - 1] if at else HOST, devices[at])

    def total(self, modes: Sequence[Mode]) -> Pair:
        """Latency [ps] and energy [pJ] of a whole plan."""
        devices = [m.device for m in modes]
        parts = [self.op[i][m] for i, m in enumerate(modes)]
        parts += [self.enter(i, devices) for i in range(len(modes))]
        parts += [self.port(i, devices) for i in range(len(self.ports))]
        parts.append(self.border)
        return _sum(parts)

    def elsewhere(self, at: int, devices: Sequence[str]) -> Pair:
        """The part of the total outside the operator at `at` that depends on its device: stays, what hides, moves."""
        here, behind = self.enter(at, devices), self.enter(at + 1, devices)
        latency, energy = here[0] + behind[0], here[1] + behind[1]
        for index in self.ports_at[at]:
            pair = self.port(index, devices)
            latency, energy = latency + pair[0], energy + pair[1]
        return latency, energy

    def neighbours(self, at: int) -> set[int]:
        """Positions whose `elsewhere` depends on the device of the operator at `at`."""
        found = {at - 1, at + 1}
        for index in self.ports_at[at]:
            port = self.ports[index]
            found.update(port.consumers if port.producer is None else (port.producer, *port.consumers))
        return {n for n in found if 0 <= n < len(self.ids) and n != at}


def _sum(pairs: Iterable[Pair]) -> Pair:
    latency = energy = 0
    for pair in pairs:
        latency += pair[0]
        energy += pair[1]
    return latency, energy
