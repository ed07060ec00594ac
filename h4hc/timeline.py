"""timeline: a parallel plan -> Schedule: the steps of straight-line host code, each after those it must wait for.

In the workload's order the host brings what an operator needs, issues stays and runs its own operators. An engine takes
its steps in this order. A *stay* is the operators of one partition on a device other than the host, with the layout
changes that the device does for them: it begins when its device is free, everything that any of its operators reads
from outside is there, and the host has issued it (the switch, a step of the host); what it makes can be read when it
ends. So nothing waits inside a stay. A layout change between two of its operators that another engine must do cuts it;
the second half is not issued again, since that step pays for the way back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from h4hc.assignment import Assignment, Schema
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, Border, CostTable, Port, less_hidden
from h4hc.costtypes import ZERO, Interval
from h4hc.schedule import ALL_DEVICES, BOUNDS, Schedule, Step, StepKind, ends, partitions
from h4hc.system import HOST, MoveStep
from h4hc.workload import Op, Workload

Steps = tuple[int, ...]  # indices of steps


@dataclass
class _Pending:
    """A step of the open stay, not yet laid out."""

    kind: StepKind
    subject: str
    origin: tuple[str, ...]
    size_bytes: int
    latency: Interval
    energy: Interval


@dataclass
class _Stay:
    """The stay under way. waits: the steps that its inputs wait for; made: operators that have run in it."""

    device: str
    partition: str
    origin: tuple[str, ...]
    resumed: bool
    work: list[_Pending] = field(default_factory=list)
    waits: set[int] = field(default_factory=set)
    made: list[str] = field(default_factory=list)


def timeline(workload: Workload, assignment: Assignment, table: CostTable) -> Schedule:
    """Lay a parallel plan out; its latency is the assignment's makespan, its energy the assignment's, exactly."""
    line = _Timeline(workload, assignment, table)
    for border in table.arrivals:
        line.arrive(border)
    for op in workload.ops:
        line.run(op)
    line.close()
    line.finish()
    return Schedule(line.with_leakage(), line.parts, Schema.PARALLEL)


class _Timeline:
    """Collects steps. ready: what a reader of a tensor on a device waits for; last: each engine's last step."""

    def __init__(self, workload: Workload, assignment: Assignment, table: CostTable) -> None:
        self.workload, self.assignment, self.table = workload, assignment, table
        self.parts = partitions(workload, assignment)
        self.part_of = {op: part.id for part in self.parts for op in part.ops}
        self.device_of = {op.id: assignment.mode[op.id].device for op in workload.ops}
        self.ports: dict[str, list[Port]] = {}
        for port in table.ports:
            for consumer in port.consumers:
                self.ports.setdefault(consumer, []).append(port)
        self.steps: list[Step] = []
        self.last: dict[str, int] = {}
        self.made: dict[str, Steps] = {}  # by operator, or by model input
        self.brought: dict[tuple[str, str, str], Steps] = {}  # by tensor, layout and device
        self.stay: _Stay | None = None
        self.before = HOST  # device of the operator before

    def arrive(self, border: Border) -> None:
        """A device wakes up, or an input is converted."""
        waits: Steps = ()
        for s in border.steps:
            waits = (self._add(s.kind, s.engine, border.tensor, "", (), s.size_bytes, s.latency, s.energy, waits),)
        if not any(s.kind == "wake_up" for s in border.steps):
            self.made[_input(border.tensor)] = waits

    def run(self, op: Op) -> None:
        """Bring what the operator reads, and put it into its stay or run it on the host."""
        device, part = self.device_of[op.id], self.part_of[op.id]
        joins = self.stay is not None and self.stay.partition == part
        if not joins or self._is_cut(op, device):
            self.close()
            self.stay = None if device == HOST else _Stay(device, part, op.origin, resumed=joins)
        waits: set[int] = set()
        for port in self.ports.get(op.id, ()):
            waits |= self._bring(port, device, part, op.origin)
        cost = self.table.row[op.id].cost(self.assignment.mode[op.id])
        latency, energy = cost.latency, self._dynamic(cost.latency, cost.energy)
        hides = self.table.follow_up.get((op.id, device))
        if hides is not None and device == self.before and op.id not in self.assignment.breaks:
            latency, energy = (
                less_hidden(latency, hides.latency),
                less_hidden(energy, self._dynamic(hides.latency, hides.energy)),
            )
        self.before = device
        moved = op.input_bytes + op.weight_bytes + op.output_bytes
        if self.stay is None:
            step = self._add("op", device, op.id, part, op.origin, moved, latency, energy, tuple(waits), dynamic=True)
            self.made[op.id] = (step,)
            return
        self.stay.waits |= waits
        self.stay.work.append(_Pending("op", op.id, op.origin, moved, latency, energy))
        self.stay.made.append(op.id)

    def close(self) -> None:
        """Issue the open stay and lay its work out."""
        stay, self.stay = self.stay, None
        if stay is None:
            return
        free = [self.last[stay.device]] if stay.device in self.last else []
        waits = tuple(sorted({*stay.waits, *free}))
        if not stay.resumed:
            switch = self.table.switch(stay.device)
            issued = self._add(
                "switch", HOST, stay.device, stay.partition, stay.origin, 0, switch.latency, switch.energy, waits
            )
            waits = (issued,)
        for work in stay.work:
            step = self._add(
                work.kind, stay.device, work.subject, stay.partition, work.origin, work.size_bytes, work.latency,
                work.energy, waits, dynamic=True,
            )  # fmt: skip
            waits = (step,)
        for op in stay.made:
            self.made[op] = waits

    def finish(self) -> None:
        """Bring the model's outputs to the host, then convert them."""
        there: dict[str, Steps] = {}
        for port in self.ports.get(MODEL_OUTPUT, ()):
            there[port.tensor] = tuple(sorted(self._bring(port, HOST, "", ())))
        for border in self.table.departures:
            waits = there.get(border.tensor, self.made.get(_input(border.tensor), ()))
            for s in border.steps:
                waits = (self._add(s.kind, s.engine, border.tensor, "", (), s.size_bytes, s.latency, s.energy, waits),)

    def with_leakage(self) -> tuple[Step, ...]:
        """The steps at their times, and one for what all devices leak in the makespan."""
        times = ends(self.steps, "nominal")
        steps = [
            replace(step, start_ps=end - step.latency.nominal) for step, end in zip(self.steps, times, strict=True)
        ]
        low, nominal, high = (
            math.ceil(max(ends(steps, bound), default=0) * watts)
            for bound, watts in zip(BOUNDS, self.table.leakage_w, strict=True)
        )
        if high:
            end = max(times, default=0)
            leaks = Interval(low, nominal, high)
            after = tuple(index for index, time in enumerate(times) if time == end)[:1]
            steps.append(Step(len(steps), "leakage", ALL_DEVICES, ALL_DEVICES, "", (), end, 0, ZERO, leaks, after))
        return tuple(steps)

    def _source(self, port: Port) -> tuple[str, str]:
        """The device that made a port's tensor, and under which name `made` holds it."""
        if port.producer == MODEL_INPUT:
            return HOST, _input(port.tensor)
        return self.device_of[port.producer], port.producer

    def _steps(self, port: Port, device: str) -> tuple[Sequence[MoveStep], Sequence[MoveStep]]:
        """The moves of a port to a device: those before its stay, and its own share within."""
        steps = port.move(self._source(port)[0], device).steps
        own = 0
        while device != HOST and own < len(steps) and steps[-1 - own].engine == device:
            own += 1
        return steps[: len(steps) - own], steps[len(steps) - own :]

    def _is_cut(self, op: Op, device: str) -> bool:
        """Whether the open stay must end before this operator of it, because another engine works in between."""
        assert self.stay is not None
        for port in self.ports.get(op.id, ()):
            if _key(port, device) in self.brought:
                continue
            outside = self._steps(port, device)[0]
            inside = self._source(port)[1] in self.stay.made
            if outside and (inside or any(step.engine == device for step in outside)):
                return True
        return False

    def _bring(self, port: Port, device: str, part: str, origin: tuple[str, ...]) -> set[int]:
        """What a reader on `device` waits for; the moves are made if they have not been."""
        key = _key(port, device)
        if key in self.brought:
            return set(self.brought[key])
        source = self._source(port)[1]
        where = self.workload.op[port.producer].origin if port.producer != MODEL_INPUT else origin
        outside, own = self._steps(port, device)
        inside = self.stay is not None and source in self.stay.made
        waits = () if inside else self.made.get(source, ())
        for s in outside:
            waits = (self._add(s.kind, s.engine, port.tensor, part, where, s.size_bytes, s.latency, s.energy, waits),)
        if self.stay is not None:
            self.stay.work += [
                _Pending(s.kind, port.tensor, where, s.size_bytes, s.latency, self._dynamic(s.latency, s.energy))
                for s in own
            ]
        self.brought[key] = waits
        return set(waits)

    def _add(
        self,
        kind: StepKind,
        device: str,
        subject: str,
        partition: str,
        origin: tuple[str, ...],
        size_bytes: int,
        latency: Interval,
        energy: Interval,
        waits: Steps,
        dynamic: bool = False,
    ) -> int:
        """Lay one step out behind the last one of its engine; its index. dynamic: the energy is without leakage."""
        index = len(self.steps)
        after = tuple(sorted({*waits, *([self.last[device]] if device in self.last else [])}))
        if not dynamic:
            energy = self._dynamic(latency, energy)
        self.steps.append(Step(index, kind, device, subject, partition, origin, 0, size_bytes, latency, energy, after))
        self.last[device] = index
        return index

    def _dynamic(self, latency: Interval, energy: Interval) -> Interval:
        """Energy without what leaks in the latency."""
        low, nominal, high = self.table.leakage_w
        return Interval(
            energy.low - math.ceil(latency.low * low),
            energy.nominal - math.ceil(latency.nominal * nominal),
            energy.high - math.ceil(latency.high * high),
        )


def _input(tensor: str) -> str:
    """The name under which `made` holds a model input; no operator's."""
    return f"input {tensor}"


def _key(port: Port, device: str) -> tuple[str, str, str]:
    return port.tensor, f"{port.layout}{port.consumers == (MODEL_OUTPUT,)}", device
