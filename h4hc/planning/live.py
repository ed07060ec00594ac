"""Bytes of SRAM that a plan has in use at once, as the memory planner counts them, and rows that bound them.

Live bytes = the most, over the steps of the schedule, of the bytes of all buffers in use, each rounded up to whole
cache lines. No allocation is lower, but for what the highest buffer leaves of its last line; most are no higher.

What depends on the placement: the weights of devices that read them from the SRAM, in use all the time; and the copies
in another layout of tensors with several readers, one a device that reads them. All else is the same in every plan, so
the rows are

    floor + sum over devices of W[d] <= limit            floor: what any placement has in use at once (see `_floor`)
    line * W[d] >= sum over constants c that an operator on d may read of bytes[c] * u[c, d],    u[c, d] >= X[i, d]

and, for each plan found whose copies need more (`learn`): with its devices D at the operators S that decide which
buffers are in use at that step, and its live bytes L there, weights left out,

    floor + (L - floor) * (sum over S of X[i, D[i]] - |S| + 1) + sum W[d] <= limit

A plan is taken only after it was counted, so what comes out is exact whatever the rows leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from h4hc.assignment import Assignment, Case, Objective, Placement, Status
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable
from h4hc.costtypes import Mode
from h4hc.memory.buffers import Need, lifetimes
from h4hc.memory.problem import aligned
from h4hc.planning.program import PlanProgram
from h4hc.schedule import schedule
from h4hc.system import System
from h4hc.workload import OpKind, Workload

SHARING = (OpKind.VIEW, OpKind.ELEMENTWISE, OpKind.ACTIVATION)  # whose result may lie in its input's buffer


@dataclass(frozen=True)
class Memory:
    """The SRAM of a system. resident: devices whose operators' weights lie in it."""

    sram_bytes: int
    line_bytes: int
    resident: frozenset[str]

    @staticmethod
    def of(system: System) -> Memory:
        """What the placement has to know of it."""
        resident = frozenset(device.name for device in system.devices if device.weights_in_sram())
        return Memory(system.sram_bytes, system.line_bytes, resident)


class _Cut(NamedTuple):
    """Where `devices` run the operators at these positions, so many lines are in use at once beside weights."""

    devices: tuple[tuple[int, str], ...]
    lines: int


class _Use(NamedTuple):
    """The buffers of a plan. slots: by step, 2k before operator k, 2k + 1 while it runs."""

    needs: list[Need]
    slots: list[int]


class Live:
    """Counts plans of one workload, and holds what was learned about them."""

    def __init__(self, workload: Workload, table: CostTable, memory: Memory) -> None:
        self.workload, self.table, self.memory = workload, table, memory
        self.position = {op.id: at for at, op in enumerate(workload.ops)}
        self.cuts: list[_Cut] = []
        self._floor: int | None = None
        self._peaks: dict[tuple[Mode, ...], int] = {}

    def peak(self, modes: Sequence[Mode]) -> int:
        """Live bytes of a plan."""
        key = tuple(modes)
        if key not in self._peaks:
            use = self._use(modes)
            self._peaks[key] = max(self._by_step(use, weights=True), default=0)
            if self._floor is None:
                self._floor = self._least(use)
        return self._peaks[key]

    def peak_op(self, modes: Sequence[Mode]) -> str:
        """The operator at, or before, which a plan has the most bytes in use."""
        use = self._use(modes)
        used = self._by_step(use, weights=True)
        return self.workload.ops[min(use.slots[used.index(max(used))] // 2, len(self.position) - 1)].id

    def at_most(self, program: PlanProgram, limit: int) -> None:
        """Rows that no plan of so many live bytes breaks."""
        self._rows(program, [], limit // self.memory.line_bytes)

    def least(self, program: PlanProgram) -> int:
        """The same for a variable, which is returned: a number of lines that no plan's live bytes are below."""
        most = self.floor_lines + max((cut.lines for cut in self.cuts), default=0) + self._lines(self._all_weights())
        peak = program.program.count("peak", most + len(self.memory.resident))
        self._rows(program, [(peak, -1.0)], 0)
        return peak

    def bytes_of(self, lines: int) -> int:
        """Whole lines in bytes."""
        return lines * self.memory.line_bytes

    def learn(self, modes: Sequence[Mode]) -> None:
        """Add what a plan shows to the rows."""
        use = self._use(modes)
        lines = [self._lines(b) for b in self._by_step(use, weights=False)]
        step = lines.index(max(lines))
        deciding = sorted(self._deciding(use.slots[step]))
        self.cuts.append(_Cut(tuple((at, modes[at].device) for at in deciding), lines[step]))

    # --- counting -------------------------------------------------------------------------------------------

    def _use(self, modes: Sequence[Mode]) -> _Use:
        placements = tuple(Placement(row.op, mode) for row, mode in zip(self.table.rows, modes, strict=True))
        plan = Assignment(Objective.LATENCY, Case.NOMINAL, placements, 0, 0, 0, 0, 0.0, Status.FEASIBLE, "")
        laid = schedule(self.workload, plan, self.table)
        slots, at = [], 0
        for step in laid.steps:
            slots.append(2 * at + (step.kind == "op"))
            at += step.kind == "op"
        return _Use(lifetimes(self.workload, laid, self.memory.resident), slots)

    def _lines(self, size_bytes: int) -> int:
        return -(-size_bytes // self.memory.line_bytes)

    def _by_step(self, use: _Use, *, weights: bool) -> list[int]:
        """Bytes in use, by step."""
        change = [0] * (max(1, len(use.slots)) + 1)
        for need in use.needs:
            if weights or need.kind != "weights":
                size = aligned(need.size_bytes, self.memory.line_bytes)
                change[need.start] += size
                change[need.end] -= size
        found, used = [], 0
        for step in change[:-1]:
            used += step
            found.append(used)
        return found

    # --- what every placement has in use --------------------------------------------------------------------

    @property
    def floor_lines(self) -> int:
        """Lines that every plan has in use at once, beside weights; 0 as long as no plan was counted."""
        return self._floor or 0

    @cached_property
    def _shared_copies(self) -> dict[str, tuple[int, ...]]:
        """Tensors that several operators want in another layout, with these readers: copies depend on their devices."""
        found: dict[str, tuple[int, ...]] = {}
        for port in self.table.ports:
            if len(port.consumers) > 1 and any(s.kind == "layout" for m in port.moves for s in m.steps):
                found[port.tensor] = tuple(sorted(self.position[c] for c in port.consumers))
        return found

    def _least(self, use: _Use) -> int:
        """A number of lines that no placement is below, out of the buffers of any one.

        Only buffers around tensors of `_shared_copies` differ. Of such a tensor there is at each moment up to its last
        reader either the original or a copy: it counts once. Before an operator its copies are made one by one: at the
        last of them, what was there before is there still, as original or as copy, and the new one.
        """
        end = 2 * len(self.workload.ops) + 1
        before, during = [0] * (end + 2), [0] * (end + 2)
        made = [0] * (end + 2)
        for need in use.needs:
            shared = [name for name in need.tensors if name in self._shared_copies]
            if need.kind == "weights" or (need.kind == "copy" and need.tensors[0] in shared):
                continue
            size = self._lines(need.size_bytes)
            first = -1 if need.start == 0 and need.kind == "tensor" else use.slots[need.start]
            last = max([use.slots[need.end - 1], *(2 * self._shared_copies[name][-1] + 1 for name in shared)])
            during[max(first, 0)] += size
            during[last + 1] -= size
            if need.kind == "copy" and first % 2 == 0:
                made[first] = max(made[first], size)
            before[first + 1] += size
            before[last + 1] -= size
        best, here, already = 0, 0, 0
        for slot in range(end + 1):
            here, already = here + during[slot], already + before[slot]
            best = max(best, here if slot % 2 else already + made[slot])
        return best

    def _deciding(self, slot: int) -> set[int]:
        """Operators whose devices decide which buffers are in use in a slot, whatever the others do."""
        at, found = slot // 2, set()
        for name, readers in self._shared_copies.items():
            made = self.workload.producer.get(name, MODEL_INPUT)
            if (0 if made == MODEL_INPUT else self.position[made]) <= at <= self._reach(name):
                found |= set(readers)
        if slot % 2 == 0:  # copies are made one by one, in an order that the ends of the way decide
            found |= {n for n in (at - 1, at) if 0 <= n < len(self.position)}
            for port in self.table.ports:
                due = port.consumers == (MODEL_OUTPUT,) if at == len(self.position) else self._reads(port.consumers, at)
                if due and port.producer != MODEL_INPUT:
                    found.add(self.position[port.producer])
        return found

    def _reads(self, consumers: Sequence[str], at: int) -> bool:
        return self.workload.ops[at].id in consumers

    def _reach(self, name: str) -> int:
        """The last operator that may use a buffer the tensor lies in."""
        if name in self.workload.outputs:
            return len(self.position)
        last = 0
        for reader in self.workload.readers.get(name, ()):
            op = self.workload.op[reader]
            last = max(last, self.position[reader])
            if op.kind in SHARING:
                last = max([last, *(self._reach(out) for out in op.outputs)])
        return last

    # --- rows -----------------------------------------------------------------------------------------------

    def _rows(self, program: PlanProgram, peak: list[tuple[int, float]], limit: int) -> None:
        held = [(self._weights(program, device), 1.0) for device in sorted(self.memory.resident)]
        floor = self.floor_lines
        program.row([*held, *peak], -math.inf, limit - floor, "sram")
        for number, cut in enumerate(self.cuts):
            more = float(cut.lines - floor)
            on = [(v, more) for at, device in cut.devices for v in program.on(at, (device,))]
            missing = sum(not program.on(at, (device,)) for at, device in cut.devices)
            if more > 0 and not missing:
                spare = more * (len(cut.devices) - 1)
                program.row([*held, *on, *peak], -math.inf, limit - floor + spare, f"sram[{number}]")

    def _weights(self, program: PlanProgram, device: str) -> int:
        """W[d]: the lines that the constants of a device take together."""
        readers: dict[str, list[int]] = {}
        for at, op in enumerate(self.workload.ops):
            if program.on(at, (device,)):
                for name in dict.fromkeys(op.weights):
                    readers.setdefault(name, []).append(at)
        own: dict[int, float] = {}  # by variable, lines
        for name, positions in readers.items():
            part = self.workload.tensor[name].size_bytes / self.memory.line_bytes
            if len(positions) == 1:
                for variable in program.on(positions[0], (device,)):
                    own[variable] = own.get(variable, 0.0) + part
                continue
            used = program.program.indicator(f"u[{name},{device}]")
            own[used] = part
            for at in positions:
                terms = [(used, 1.0), *((v, -1.0) for v in program.on(at, (device,)))]
                program.row(terms, 0.0, math.inf, f"constant[{name},{device},{at}]")
        held = program.program.count(f"W[{device}]", math.ceil(sum(own.values())) + 1)
        slack = 0.5 / self.memory.line_bytes  # sizes are whole bytes: rounding needs no more
        program.row([(held, 1.0), *((v, -part) for v, part in own.items())], -slack, math.inf, f"weights[{device}]")
        return held

    def _all_weights(self) -> int:
        names = {name for op in self.workload.ops for name in op.weights}
        return sum(self.workload.tensor[name].size_bytes for name in names) * max(1, len(self.memory.resident))
