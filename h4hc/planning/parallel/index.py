"""Costs of a table as activities: each occupies one engine for a time. What the overlapping schemas plan with.

Engines are the devices and whatever else moves tensors (the DMA). An activity's energy is *dynamic*: without what all
devices leak while it runs, because activities overlap and leakage follows the makespan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple, Protocol

from h4hc.assignment import Case
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, Border, CostTable
from h4hc.costtypes import Capacity, Interval, Mode
from h4hc.planning.plan_cost import Pair
from h4hc.system import HOST

INPUT = -1  # producer position of model inputs: their number among the inputs is subtracted


class Activity(NamedTuple):
    """engine: its number; time [ps]; dynamic energy [pJ]."""

    engine: int
    ps: int
    pj: int


class Choice(NamedTuple):
    """An operator in one mode: device number, time, dynamic energy, bytes that stay in each unit."""

    mode: Mode
    device: int
    ps: int
    pj: int
    unit_bytes: int


@dataclass(frozen=True)
class PortWork:
    """A port. producer: position, or INPUT - number of the model input. last: position of its last reader.

    moves[src, dst]: activities in order; pairs without any are left out. is_output: its reader is the model's end.
    """

    producer: int
    last: int
    moves: dict[tuple[int, int], tuple[Activity, ...]]
    is_output: bool


@dataclass(frozen=True)
class OpWork:
    """An operator: its modes, the ports it reads, and what hides behind the operator before it, by device."""

    name: str
    choices: tuple[Choice, ...]
    reads: tuple[int, ...]
    hidden: dict[int, Pair]


class _Costed(Protocol):
    @property
    def latency(self) -> Interval: ...
    @property
    def energy(self) -> Interval: ...


class ActivityIndex:
    """A cost table in one case of its intervals, by positions in the order and numbers of engines.

    engines: devices first, sorted; then the others. inputs: activities before each model input is on the host;
    wake_ups: what every engine does first; ends: for each model output the port to bring and the activities behind
    (the port None for an input handed on, whose number follows).
    """

    def __init__(self, table: CostTable, case: Case = Case.NOMINAL) -> None:
        self.table, self.case = table, case
        at = 1 if case is Case.NOMINAL else 2
        self._leak_w = table.leakage_w[at]
        self._saved_leak_w = table.leakage_w[1 if case is Case.NOMINAL else 0]
        self._cost: Callable[[_Costed], Pair] = (
            attrgetter("latency.nominal", "energy.nominal")
            if case is Case.NOMINAL
            else attrgetter("latency.high", "energy.high")
        )
        self._saving: Callable[[_Costed], Pair] = (
            self._cost if case is Case.NOMINAL else attrgetter("latency.low", "energy.low")
        )
        self.devices = tuple(sorted(c.device for c in table.capacities))
        self.engines = (*self.devices, *sorted(self._other_engines()))
        self.number = {name: i for i, name in enumerate(self.engines)}
        self.host = self.number[HOST]
        self.capacity: dict[str, Capacity] = {c.device: c for c in table.capacities}
        self.position = {row.op: i for i, row in enumerate(table.rows)}
        self.switch = {self.number[s.device]: self._activity(self.host, s) for s in table.switches if s.device != HOST}
        self._inputs()
        self.ports = tuple(self._ports())
        self.ops = tuple(self._ops())
        self._ends()

    def leakage(self, makespan_ps: int) -> int:
        """Energy [pJ] that all devices leak in that time, rounded up."""
        return math.ceil(makespan_ps * self._leak_w)

    def _other_engines(self) -> set[str]:
        steps = [s for port in self.table.ports for move in port.moves for s in move.steps]
        steps += [s for border in (*self.table.arrivals, *self.table.departures) for s in border.steps]
        return {s.engine for s in steps} - set(self.devices)

    def _activity(self, engine: int, cost: _Costed) -> Activity:
        ps, pj = self._cost(cost)
        return Activity(engine, ps, pj - math.ceil(ps * self._leak_w))

    def _steps(self, border: Border) -> tuple[Activity, ...]:
        return tuple(self._activity(self.number[s.engine], s) for s in border.steps)

    def _inputs(self) -> None:
        """Model inputs get their numbers in the order in which they arrive, then in that of the ports."""
        self.input_number: dict[str, int] = {}
        self.wake_ups: list[Activity] = []
        self.inputs: list[tuple[Activity, ...]] = []
        for border in self.table.arrivals:
            if any(s.kind == "wake_up" for s in border.steps):
                self.wake_ups += self._steps(border)
            else:
                self._input(border.tensor)
                self.inputs[self.input_number[border.tensor]] += self._steps(border)
        for port in self.table.ports:
            if port.producer == MODEL_INPUT:
                self._input(port.tensor)
        made = {port.tensor for port in self.table.ports if port.consumers == (MODEL_OUTPUT,)}
        for border in self.table.departures:
            if border.tensor not in made:  # an input handed on
                self._input(border.tensor)

    def _input(self, tensor: str) -> None:
        if tensor not in self.input_number:
            self.input_number[tensor] = len(self.inputs)
            self.inputs.append(())

    def _ports(self) -> list[PortWork]:
        found = []
        for port in self.table.ports:
            is_input = port.producer == MODEL_INPUT
            producer = INPUT - self.input_number[port.tensor] if is_input else self.position[port.producer]
            is_output = port.consumers == (MODEL_OUTPUT,)
            last = len(self.position) if is_output else max(self.position[c] for c in port.consumers)
            moves = {
                (self.number[m.src], self.number[m.dst]): tuple(
                    self._activity(self.number[s.engine], s) for s in m.steps
                )
                for m in port.moves
                if m.steps
            }
            found.append(PortWork(producer, last, moves, is_output))
        return found

    def _ops(self) -> list[OpWork]:
        reads: list[list[int]] = [[] for _ in self.position]
        for number, port in enumerate(self.table.ports):
            for consumer in port.consumers if port.consumers != (MODEL_OUTPUT,) else ():
                reads[self.position[consumer]].append(number)
        hidden: list[dict[int, Pair]] = [{} for _ in self.position]
        for saving in self.table.follow_ups:
            ps, pj = self._saving(saving)
            hidden[self.position[saving.op]][self.number[saving.device]] = (
                ps,
                pj - math.ceil(ps * self._saved_leak_w),
            )
        found = []
        for at, row in enumerate(self.table.rows):
            choices = []
            for cost in row.costs:
                device = self.number[cost.mode.device]
                activity = self._activity(device, cost)
                choices.append(Choice(cost.mode, device, activity.ps, activity.pj, cost.unit_weight_bytes))
            found.append(OpWork(row.op, tuple(choices), tuple(reads[at]), hidden[at]))
        return found

    def _ends(self) -> None:
        outputs = [number for number, port in enumerate(self.ports) if port.is_output]
        self.outputs = tuple(outputs)
        by_tensor = {self.table.ports[number].tensor: number for number in outputs}
        ends: list[tuple[int | None, int, tuple[Activity, ...]]] = []
        for border in self.table.departures:
            port = by_tensor.get(border.tensor)
            source = 0 if port is not None else self.input_number[border.tensor]
            ends.append((port, source, self._steps(border)))
        self.departures = tuple(ends)

    @cached_property
    def live_after(self) -> tuple[tuple[int, ...], ...]:
        """By position, the ports that are still to be read behind the operator there (outputs among them)."""
        found: list[tuple[int, ...]] = []
        for at in range(len(self.ops)):
            found.append(tuple(n for n, p in enumerate(self.ports) if p.producer <= at < p.last))
        return tuple(found)
