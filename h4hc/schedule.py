"""schedule: (Workload, Assignment, CostTable) -> Schedule: every step of one inference in order, and the partitions.

Sequential: one step at a time, in the workload's execution order. A partition is a maximal run of
consecutive operators on one device, so partitions are convex and acyclic by construction. Each step
carries its latency and energy; the ledger is their exact integer sum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from h4hc.assignment import Assignment
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable, Port
from h4hc.costtypes import ZERO, Interval
from h4hc.system import HOST
from h4hc.workload import Workload

StepKind = Literal["op", "switch", "transfer", "cache", "layout", "quantize", "dequantize"]


@dataclass(frozen=True)
class Step:
    """One entry of the ledger. subject: op id, tensor name, or the device switched to; start_ps is nominal."""

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


@dataclass(frozen=True)
class Partition:
    """A maximal run of consecutive operators on one device. id: `p<number>_<device>`."""

    id: str
    device: str
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """Steps in order, one at a time; totals are their exact sums."""

    steps: tuple[Step, ...]
    partitions: tuple[Partition, ...]

    @property
    def latency(self) -> Interval:
        """Sum of all steps [ps]."""
        return functools.reduce(Interval.__add__, (s.latency for s in self.steps), ZERO)

    @property
    def energy(self) -> Interval:
        """Sum of all steps [pJ]."""
        return functools.reduce(Interval.__add__, (s.energy for s in self.steps), ZERO)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Schedule:
        """Inverse of `to_json`."""
        result = _adapter().validate_json(data)
        assert isinstance(result, Schedule)
        return result


def partitions(workload: Workload, assignment: Assignment) -> tuple[Partition, ...]:
    """Cut the execution order where the device changes."""
    runs: list[tuple[str, list[str]]] = []
    for op in workload.ops:
        device = assignment.mode[op.id].device
        if not runs or runs[-1][0] != device:
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
            Step(len(self.steps), kind, device, subject, partition, origin, self.now_ps, size_bytes, latency, energy)
        )
        self.now_ps += latency.nominal


def schedule(workload: Workload, assignment: Assignment, table: CostTable) -> Schedule:
    """Lay the plan out in time.

    Before an operator: the switch, if its device differs from the one before (a model starts and ends on the
    host, which costs no switch); then the moves of each of its inputs that its device has not seen yet in that
    layout; then the operator. At the end the model's outputs go to the host. Totals equal the objective's
    latency and energy of the assignment exactly.
    """
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

    def bring(port: Port, device: str, partition: str, origin: tuple[str, ...]) -> None:
        key = (port.tensor, f"{port.layout}{port.consumers == (MODEL_OUTPUT,)}", device)
        if key in here:
            return
        here.add(key)
        source = HOST if port.producer == MODEL_INPUT else device_of[port.producer]
        where = origin_of.get(port.producer, origin)
        for s in port.move(source, device).steps:
            clock.add(s.kind, s.engine, port.tensor, partition, where, s.size_bytes, s.latency, s.energy)

    for op in workload.ops:
        mode = assignment.mode[op.id]
        if mode.device != current:
            current = mode.device
            if current != HOST:
                switch = table.switch(current)
                clock.add("switch", current, current, part_of[op.id], op.origin, 0, switch.latency, switch.energy)
        for port in ports.get(op.id, ()):
            bring(port, mode.device, part_of[op.id], op.origin)
        cost = table.row[op.id].cost(mode)
        moved = op.input_bytes + op.weight_bytes + op.output_bytes
        clock.add("op", mode.device, op.id, part_of[op.id], op.origin, moved, cost.latency, cost.energy)
    for port in ports.get(MODEL_OUTPUT, ()):
        bring(port, HOST, "", ())
    return Schedule(tuple(clock.steps), parts)


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Schedule)
