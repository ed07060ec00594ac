"""lifetimes: (Workload, Schedule) -> the buffers an inference needs, and the steps in which each is in use.

What shares a buffer: a view and its input; a result made in place. What is in place is only what is safe in whatever
order independent operators run: see `_in_place`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from h4hc.assignment import Schema
from h4hc.schedule import Schedule, Step
from h4hc.workload import Layout, Op, OpKind, Workload

MODEL_END = ""  # reader of the copies made for the model's outputs


@dataclass
class Need:
    """A buffer while its life is being found; see `h4hc.memory.plan.Buffer`."""

    name: str
    kind: Literal["tensor", "copy", "weights"]
    tensors: list[str]
    size_bytes: int
    start: int
    end: int = field(default=0)
    reader: str = ""


def lifetimes(workload: Workload, schedule: Schedule, resident: Collection[str]) -> list[Need]:
    """Every buffer with its life in steps. resident: devices whose operators' weights lie in the SRAM.

    A model input is there from step 0 to the last step that reads it, a model output from the step that makes it to
    the end; any other tensor from the step that makes it to the last step that reads, moves or reorders it. Weights
    are there all the time. Tensors without bytes have no buffer.

    Steps of a parallel schedule may run at the same time, however long each takes: a buffer is in use from the first
    step that may still run when it is made to the last that may have begun when it is read last (`_spans`).
    """
    life = _Life(workload, _spans(schedule))
    for step in schedule.steps:
        if step.kind == "op":
            life.run(step)
        elif step.kind == "layout":
            life.reorder(step)
        elif step.subject in life.home:
            life.touch(life.pending.get(step.subject) or life.home[step.subject], step.index)
    steps = max(1, len(schedule.steps))
    for name in workload.outputs:
        (life.pending.get(name) or life.home[name]).end = steps
    return [*_weights(workload, schedule, resident, steps), *(need for need in life.needs if need.size_bytes)]


def _weights(workload: Workload, schedule: Schedule, resident: Collection[str], steps: int) -> list[Need]:
    """One buffer a device, with each constant that its operators read once."""
    read: dict[str, dict[str, int]] = {}
    for step in schedule.steps:
        if step.kind == "op" and step.device in resident:
            sizes = {name: workload.tensor[name].size_bytes for name in workload.op[step.subject].weights}
            read.setdefault(step.device, {}).update(sizes)
    return [
        Need(f"weights of {device}", "weights", list(sizes), sum(sizes.values()), 0, steps, device)
        for device, sizes in sorted(read.items())
        if sum(sizes.values())
    ]


def _spans(schedule: Schedule) -> list[tuple[int, int]]:
    """For each step the first and the last step that may run at the same time as it.

    All steps before the first have ended when it begins, and all behind the last begin when it has ended, whatever any
    of them takes: so lives that do not meet in these spans never meet.
    """
    if schedule.schema is Schema.SEQUENTIAL:
        return [(step.index, step.index) for step in schedule.steps]
    count = len(schedule.steps)
    before: list[int] = []  # as bits
    for step in schedule.steps:
        bits = 0
        for index in step.after:
            bits |= before[index] | 1 << index
        before.append(bits)
    first = [((~bits) & -(~bits)).bit_length() - 1 for bits in before]  # the lowest bit that is not set
    last = [0] * count
    for index in range(count):
        behind = count - 1
        while behind > index and before[behind] >> index & 1:
            behind -= 1
        last[index] = behind
    return list(zip(first, last, strict=True))


class _Life:
    """Walks the steps. home: the buffer of each tensor made so far; copies: those in the other layout."""

    def __init__(self, workload: Workload, spans: list[tuple[int, int]]) -> None:
        self.workload, self.spans = workload, spans
        self.needs: list[Need] = []
        self.home: dict[str, Need] = {}
        self.copies: dict[tuple[str, str], Need] = {}  # by tensor and device
        self.pending: dict[str, Need] = {}  # made since the last operator, for the next one
        self.own = {*workload.inputs, *workload.outputs}
        for name in dict.fromkeys(workload.inputs):
            self.home[name] = self._new(name, "tensor", name, None)

    def _new(self, name: str, kind: Literal["tensor", "copy"], tensor: str, step: int | None) -> Need:
        """A buffer that a step writes first, or that is there from the start."""
        first, last = (0, 0) if step is None else self.spans[step]
        need = Need(name, kind, [tensor], self.workload.tensor[tensor].size_bytes, first, last + 1)
        self.needs.append(need)
        return need

    def touch(self, need: Need, step: int) -> None:
        need.end = max(need.end, self.spans[step][1] + 1)

    def reorder(self, step: Step) -> None:
        self.touch(self.home[step.subject], step.index)
        tensor = self.workload.tensor[step.subject]
        other = Layout.ROW_MAJOR if tensor.layout is Layout.CHANNELS_LAST else Layout.CHANNELS_LAST
        self.pending[tensor.name] = self._new(f"{tensor.name} as {other}", "copy", tensor.name, step.index)

    def run(self, step: Step) -> None:
        op = self.workload.op[step.subject]
        for name, copy in self.pending.items():
            copy.reader = step.device
            self.copies[name, step.device] = copy
        self.pending = {}
        reads = [self._read(name, op, step.device) for name in op.inputs]
        for need in reads:
            self.touch(need, step.index)
        for name in op.outputs:
            shared = self._shared(op, name, reads)
            if shared is None:
                self.home[name] = self._new(name, "tensor", name, step.index)
            else:
                shared.tensors.append(name)
                self.home[name] = shared

    def _order(self, op: Op) -> Layout:
        """The order in which `op` reads all of its inputs, as the cost table has it."""
        return op.layout or self.workload.tensor[(op.inputs or op.outputs)[0]].layout

    def _read(self, name: str, op: Op, device: str) -> Need:
        """The buffer that `op` reads `name` from: a copy if it wants the other order and one was made for its device.

        Where no copy was made both orders are the same bytes.
        """
        if self._order(op) is self.workload.tensor[name].layout:
            return self.home[name]
        return self.copies.get((name, device), self.home[name])

    def _shared(self, op: Op, name: str, reads: list[Need]) -> Need | None:
        """The buffer of an input that the result can lie in, or None."""
        size = self.workload.tensor[name].size_bytes
        if op.kind is OpKind.VIEW:
            return reads[0] if reads and reads[0].size_bytes == size else None
        if op.kind not in (OpKind.ELEMENTWISE, OpKind.ACTIVATION) or len(op.outputs) != 1:
            return None
        return next((need for at, need in enumerate(reads) if self._in_place(op, op.inputs[at], name, need)), None)

    def _in_place(self, op: Op, source: str, result: str, need: Need) -> bool:
        """Whether `op` may overwrite `source` with its result, element by element.

        The same shape, bytes and order; nobody else ever reads what lies in the buffer; it is neither an input nor an
        output of the model, which are the caller's.
        """
        before, after = self.workload.tensor[source], self.workload.tensor[result]
        alike = before.shape == after.shape and before.size_bytes == after.size_bytes == need.size_bytes
        order = self._order(op) if need.kind == "copy" else before.layout
        if not alike or order is not after.layout or not (before.exact and after.exact):
            return False
        readers = self.workload.readers
        return all(name not in self.own and len(set(readers.get(name, ()))) == 1 for name in need.tensors)
