"""schedule: (Workload, Assignment, CostTable) -> Schedule: every step of one inference in order, and the partitions.

Sequential: one step at a time, in the workload's execution order; latency and energy are exact sums of the steps.
Parallel (`timeline.py`): the same steps, each after those it must wait for; the latency is the longest way through
them. A partition is a maximal run of consecutive operators on one device (in the parallel schema breaks divide it), so
partitions are convex and acyclic by construction.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from h4hc.assignment import Assignment, Schema
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, Border, CostTable, Port, less_hidden
from h4hc.costtypes import Interval
from h4hc.system import HOST, MoveStep
from h4hc.workload import Workload

StepKind = Literal["op", "switch", "transfer", "cache", "layout", "quantize", "dequantize", "wake_up", "leakage"]
BOUNDS: tuple[Literal["low", "nominal", "high"], ...] = ("low", "nominal", "high")
ALL_DEVICES = "all devices"  # of the step that holds the leakage of a parallel schedule


@dataclass(frozen=True)
class Step:
    """One entry of the ledger. subject: op id, tensor name, or the device switched to; start_ps is nominal.

    after: indices of the steps that must have ended; in a sequential schedule the one before. In a parallel schedule
    energies are dynamic, and one step of kind `leakage` holds what leaks in the makespan.
    """

    index: int
    kind: StepKind
    device: str
    subject: str
    partition: str
    origin: tuple[str, ...]
    start_ps: int
    size_bytes: int
    latency: Interval
    energy: Interval
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Partition:
    """A maximal run of consecutive operators on one device. id: `p<number>_<device>`."""

    id: str
    device: str
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """Steps in an order in which they can run.

    Low and high latency: all steps at their low, or high, bound. A step waits for others only, so no duration between
    these gives a latency outside.
    """

    steps: tuple[Step, ...]
    partitions: tuple[Partition, ...]
    schema: Schema = Schema.SEQUENTIAL

    @functools.cached_property
    def latency(self) -> Interval:
        """The longest way through the steps [ps]; in a sequential schedule the sum of all."""
        if self.schema is Schema.SEQUENTIAL:
            return self.work
        low, nominal, high = (max(ends(self.steps, bound), default=0) for bound in BOUNDS)
        return Interval(low, nominal, high)

    @functools.cached_property
    def work(self) -> Interval:
        """Sum of the latencies of all steps [ps]: what one engine alone would take."""
        return _sum([s.latency for s in self.steps])

    @functools.cached_property
    def energy(self) -> Interval:
        """Sum of all steps [pJ]."""
        return _sum([s.energy for s in self.steps])

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Schedule:
        """Inverse of `to_json`."""
        result = _adapter().validate_json(data)
        assert isinstance(result, Schedule)
        return result


def _sum(parts: list[Interval]) -> Interval:
    return Interval(sum(p.low for p in parts), sum(p.nominal for p in parts), sum(p.high for p in parts))


def ends(steps: Sequence[Step], bound: Literal["low", "nominal", "high"]) -> list[int]:
    """When each step ends if each takes its latency at `bound` and begins when those it waits for have ended [ps]."""
    duration, found = attrgetter(f"latency.{bound}"), list[int]()
    for step in steps:
        found.append(max([found[index] for index in step.after], default=0) + duration(step))
    return found


def partitions(workload: Workload, assignment: Assignment) -> tuple[Partition, ...]:
    """Cut the execution order where the device changes, and at breaks."""
    runs: list[tuple[str, list[str]]] = []
    for op in workload.ops:
        device = assignment.mode[op.id].device
        if not runs or runs[-1][0] != device or op.id in assignment.breaks:
            runs.append((device, []))
        runs[-1][1].append(op.id)
    return tuple(Partition(f"p{i}_{device}", device, tuple(ops)) for i, (device, ops) in enumerate(runs))


class _Clock:
    """Collects steps; time runs on by the nominal latency of each."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.now_ps = 0

    def add(
        self,
        kind: StepKind,
        device: str,
        subject: str,
        partition: str,
        origin: tuple[str, ...],
        size_bytes: int,
        latency: Interval,
        energy: Interval,
    ) -> None:
        self.steps.append(
            Step(
                len(self.steps),
                kind,
                device,
                subject,
                partition,
                origin,
                self.now_ps,
                size_bytes,
                latency,
                energy,
                (len(self.steps) - 1,) if self.steps else (),
            )
        )
        self.now_ps += latency.nominal


def schedule(workload: Workload, assignment: Assignment, table: CostTable) -> Schedule:
    """Lay the plan out in time.

    First the model's inputs are converted, once. Before an operator come the moves of each of its inputs that its
    device has not seen yet in that layout, and the switch, if its device differs from the one before (a model
    starts and ends on the host, which costs no switch); then the operator, without what hides behind the one before
    if that ran on the same device. At the end the model's outputs go to the host and are converted. Totals equal
    the latency and energy of the assignment exactly. A parallel plan is laid out by `timeline.timeline`.
    """
    if assignment.schema is Schema.PARALLEL:
        from h4hc.timeline import timeline

        return timeline(workload, assignment, table)
    parts = partitions(workload, assignment)
    part_of = {op: p.id for p in parts for op in p.ops}
    ports: dict[str, list[Port]] = {}
    for port in table.ports:
        for consumer in port.consumers:
            ports.setdefault(consumer, []).append(port)
    origin_of = {op.id: op.origin for op in workload.ops}
    device_of = {op.id: assignment.mode[op.id].device for op in workload.ops}
    clock = _Clock()
    here: set[tuple[str, str, str]] = set()  # (tensor, layout, device) already brought there
    current = HOST

    def due(port: Port, device: str) -> list[tuple[MoveStep, Port]]:
        key = (port.tensor, f"{port.layout}{port.consumers == (MODEL_OUTPUT,)}", device)
        if key in here:
            return []
        here.add(key)
        source = HOST if port.producer == MODEL_INPUT else device_of[port.producer]
        return [(step, port) for step in port.move(source, device).steps]

    def bring(moves: list[tuple[MoveStep, Port]], partition: str, reader: tuple[str, ...]) -> None:
        for step, port in moves:
            where = origin_of.get(port.producer, reader)
            clock.add(step.kind, step.engine, port.tensor, partition, where, step.size_bytes, step.latency, step.energy)

    def cross(border: Border) -> None:
        for s in border.steps:
            clock.add(s.kind, s.engine, border.tensor, "", (), s.size_bytes, s.latency, s.energy)

    for border in table.arrivals:
        cross(border)
    for op in workload.ops:
        device, part = device_of[op.id], part_of[op.id]
        moves = [move for port in ports.get(op.id, ()) for move in due(port, device)]
        if device not in (current, HOST):  # the host prepares, then starts the device, which does its own share
            bring([m for m in moves if m[0].engine != device], part, op.origin)
            switch = table.switch(device)
            clock.add("switch", device, device, part, op.origin, 0, switch.latency, switch.energy)
            moves = [m for m in moves if m[0].engine == device]
        bring(moves, part, op.origin)
        cost = table.row[op.id].cost(assignment.mode[op.id])
        latency, energy = cost.latency, cost.energy
        if device == current and (op.id, device) in table.follow_up:  # the first operator has no follow-up
            hidden = table.follow_up[op.id, device]
            latency, energy = less_hidden(latency, hidden.latency), less_hidden(energy, hidden.energy)
        current = device
        moved = op.input_bytes + op.weight_bytes + op.output_bytes
        clock.add("op", device, op.id, part, op.origin, moved, latency, energy)
    for port in ports.get(MODEL_OUTPUT, ()):
        bring(due(port, HOST), "", ())
    for border in table.departures:
        cross(border)
    return Schedule(tuple(clock.steps), parts)


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Schedule)
