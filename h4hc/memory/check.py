"""check_memory: does a memory plan keep every tensor's bytes whole from its making to its last use?

Written apart from the planner: it shares no code with it. It plays the schedule on a memory in which every byte says
whose content it holds, and looks at each read; beside that it checks what can be seen without playing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

from h4hc.fault import Fault
from h4hc.memory.plan import Buffer, MemoryPlan, Region
from h4hc.schedule import Schedule, Step
from h4hc.system import System
from h4hc.workload import Op, Tensor, Workload

Place = tuple[int, int]  # bytes [low, high)


def check_memory(workload: Workload, schedule: Schedule, system: System, plan: MemoryPlan) -> tuple[Fault, ...]:
    """Every fault of a memory plan; empty for a good one.

    Rules: region (the system's SRAM, its capacity and alignment, the schedule's steps), out of region (below its start
    or above its high-water mark), misaligned, high-water (the highest end), bound (at least the bytes alive at once,
    never above the high-water mark, equal to it where that is claimed), overlap (two lives and their bytes meet),
    missing tensor, twice, size, lifetime too short (used outside its life), in-place unsafe (written over what is
    still to be read), lost (a read that finds other bytes), race (steps that may run at once use the same bytes).
    """
    if plan.steps != len(schedule.steps) or [r.name for r in plan.regions] != ["sram"]:
        return (Fault("region", (), f"{plan.steps} steps in {len(plan.regions)} regions; the SRAM alone is expected"),)
    region = plan.regions[0]
    faults = [*_region(region, system), *_layout(region), *_bounds(region), *_overlaps(region)]
    play = _Play(workload, schedule, region)
    play.all_steps()
    return (*faults, *play.faults, *_races(schedule, play.uses), *_weights(workload, schedule, system, region))


def _region(region: Region, system: System) -> list[Fault]:
    faults = []
    if region.capacity_bytes != system.sram_bytes:
        faults.append(Fault("region", (region.name,), f"{region.capacity_bytes} bytes, {system.sram_bytes} there"))
    if region.align_bytes % system.line_bytes:
        faults.append(Fault("region", (region.name,), f"lines of {system.line_bytes}, aligned to {region.align_bytes}"))
    return faults


def _layout(region: Region) -> list[Fault]:
    faults = []
    for b in region.buffers:
        if b.offset_bytes < 0 or b.offset_bytes + b.size_bytes > region.high_water_bytes:
            faults.append(Fault("out of region", (b.name,), f"{b.size_bytes} bytes from {b.offset_bytes}"))
        if b.offset_bytes % region.align_bytes:
            faults.append(Fault("misaligned", (b.name,), f"offset {b.offset_bytes}, not of {region.align_bytes}"))
    names = [b.name for b in region.buffers]
    faults += [Fault("twice", (name,), f"{n} buffers bear this name") for name, n in Counter(names).items() if n > 1]
    return faults


def _bounds(region: Region) -> list[Fault]:
    """The high-water mark, and the bound against the bytes alive in each step, in aligned steps but for the highest."""
    faults = []
    high = max((b.offset_bytes + b.size_bytes for b in region.buffers), default=0)
    if high != region.high_water_bytes:
        faults.append(Fault("high-water", (region.name,), f"{region.high_water_bytes} claimed, {high} is the end"))
    need = 0
    for step in {b.start_step for b in region.buffers}:
        sizes = [b.size_bytes for b in region.buffers if b.start_step <= step < b.end_step]
        steps = [-(-size // region.align_bytes) * region.align_bytes for size in sizes]
        spare = max(wide - size for wide, size in zip(steps, sizes, strict=True))  # of the highest
        need = max(need, sum(steps) - spare)
    low = region.lower_bound_bytes
    if not need <= low <= high:
        faults.append(Fault("bound", (region.name,), f"bound {low}, {need} bytes alive, high-water mark {high}"))
    if (region.status == "proved optimal") != (low == high):
        faults.append(Fault("bound", (region.name,), f"{region.status} at {high} with bound {low}"))
    return faults


def _overlaps(region: Region) -> list[Fault]:
    faults = []
    for a, b in itertools.combinations(region.buffers, 2):
        in_time = a.start_step < b.end_step and b.start_step < a.end_step
        above = a.offset_bytes >= b.offset_bytes + b.size_bytes
        below = a.offset_bytes + a.size_bytes <= b.offset_bytes
        if in_time and not above and not below:
            faults.append(Fault("overlap", (a.name, b.name), "alive in the same step, on the same bytes"))
    return faults


def _weights(workload: Workload, schedule: Schedule, system: System, region: Region) -> list[Fault]:
    """All constants of operators on a device that reads them from the SRAM are there all the time."""
    faults = []
    used: dict[str, set[str]] = {}
    for step in schedule.steps:
        if step.kind == "op" and system.device(step.device).weights_in_sram():
            used.setdefault(step.device, set()).update(workload.op[step.subject].weights)
    for device, constants in sorted(used.items()):
        held = [b for b in region.buffers if b.kind == "weights" and b.reader == device]
        there = {name for b in held for name in b.tensors}
        for name in sorted(constants - there):
            faults.append(Fault("missing tensor", (name,), f"a constant of {device} that it reads from the SRAM"))
        size = sum(workload.tensor[name].size_bytes for name in constants)
        if sum(b.size_bytes for b in held) < size:
            faults.append(Fault("size", tuple(b.name for b in held), f"{size} bytes of constants are read"))
        for b in held:
            if b.start_step > 0 or b.end_step < len(schedule.steps):
                faults.append(Fault("lifetime too short", (b.name,), "weights must be there all the time"))
    return faults


def _races(schedule: Schedule, uses: dict[str, tuple[Buffer, set[int]]]) -> list[Fault]:
    """Of two buffers on the same bytes, all uses of one must have ended before any of the other begins.

    In a sequential schedule the steps' order says so already.
    """
    if schedule.schema == "sequential":
        return []
    ended: list[set[int]] = []
    for step in schedule.steps:
        ended.append(set().union(*({index} | ended[index] for index in step.after)))
    faults = []
    for (a, one), (b, two) in itertools.combinations(uses.values(), 2):
        apart = a.offset_bytes >= b.offset_bytes + b.size_bytes or b.offset_bytes >= a.offset_bytes + a.size_bytes
        if apart or all(one <= ended[step] for step in two) or all(two <= ended[step] for step in one):
            continue
        faults.append(Fault("race", (a.name, b.name), "used on the same bytes by steps that may run at the same time"))
    return faults


@dataclass
class _Content:
    """Bytes [low, high) hold the value of `of`; a view has the value of its input."""

    low: int
    high: int
    of: str


class _Play:
    """The memory while the schedule runs. value[tensor]: whose content a reader of the tensor wants to see."""

    def __init__(self, workload: Workload, schedule: Schedule, region: Region) -> None:
        self.workload, self.schedule = workload, schedule
        self.faults: list[Fault] = []
        self.memory: list[_Content] = []
        self.value: dict[str, str] = {}
        self.moved: dict[tuple[str, str], Buffer] = {}  # copies in the other layout, by tensor and reader
        self.home: dict[str, Buffer] = {}
        self.uses: dict[str, tuple[Buffer, set[int]]] = {}
        for b in region.buffers:
            for name in b.tensors if b.kind == "tensor" else b.tensors[1:] if b.kind == "copy" else ():
                if name in self.home:
                    self._fault("twice", name, f"in {b.name} and in {self.home[name].name}")
                self.home[name] = b
        self.copies = [b for b in region.buffers if b.kind == "copy"]

    def _fault(self, rule: str, name: str, detail: str) -> None:
        self.faults.append(Fault(rule, (name,), detail))

    def all_steps(self) -> None:
        """Inputs are there at the start; outputs must be there at the end."""
        for name in dict.fromkeys(self.workload.inputs):
            self.value[name] = name
            self._write(self._buffer(name), name, name, 0)
        steps = self.schedule.steps
        for step in steps:
            if step.kind == "op":
                self._run(step)
            elif step.kind == "layout":
                self._reorder(step)
        end = max(len(steps) - 1, 0)
        for name in dict.fromkeys(self.workload.outputs):
            self._see(self.moved.get((name, "")) or self._buffer(name), name, end, "the end")

    def _buffer(self, name: str) -> Buffer | None:
        found, size = self.home.get(name), self.workload.tensor[name].size_bytes
        if found is None and size:
            self._fault("missing tensor", name, "it has no buffer")
        elif found is not None and found.size_bytes < size:
            self._fault("size", name, f"{found.size_bytes} bytes for {size}")
        return found if size else None

    def _alive(self, b: Buffer, step: int, why: str) -> None:
        self.uses.setdefault(b.name, (b, set()))[1].add(step)
        if not b.start_step <= step < b.end_step:
            life = f"lives in [{b.start_step}, {b.end_step})"
            self._fault("lifetime too short", b.name, f"{life}, {why} in step {step}")

    def _write(self, b: Buffer | None, name: str, content: str, step: int) -> None:
        if b is None:
            return
        self._alive(b, step, "written")
        low, high = b.offset_bytes, b.offset_bytes + self.workload.tensor[name].size_bytes
        kept = []
        for c in self.memory:
            kept += [_Content(a, z, c.of) for a, z in ((c.low, min(c.high, low)), (max(c.low, high), c.high)) if a < z]
        self.memory = [*kept, _Content(low, high, content)]

    def _see(self, b: Buffer | None, name: str, step: int, reader: str) -> None:
        """The bytes of `name` must hold its content, all of them."""
        if b is None:
            return
        self._alive(b, step, f"read by {reader}")
        size, content = self.workload.tensor[name].size_bytes, self.value.get(name, name)
        low, high = b.offset_bytes, b.offset_bytes + size
        there = [c for c in self.memory if c.low < high and low < c.high]
        whole = sum(min(c.high, high) - max(c.low, low) for c in there if c.of == content)
        if whole != size:
            others = sorted({c.of for c in there if c.of != content})
            inside = [other for other in others if other in b.tensors]
            rule = "in-place unsafe" if inside else "lost"
            self._fault(rule, name, f"{reader} finds the bytes of {', '.join(others) or 'nothing'} in {b.name}")

    def _reorder(self, step: Step) -> None:
        name = step.subject
        self._see(self._buffer(name), name, step.index, "a layout step")
        reader = next((s.device for s in self.schedule.steps[step.index :] if s.kind == "op"), "")
        made = [b for b in self.copies if b.tensors[0] == name and b.reader == reader and b.start_step <= step.index]
        if not made:
            if self.workload.tensor[name].size_bytes:
                self._fault("missing tensor", name, f"the copy for {reader or 'the caller'} has no buffer")
            return
        self.moved[name, reader] = made[-1]
        self._write(made[-1], name, self.value.get(name, name), step.index)

    def _source(self, op: Op, name: str, device: str) -> Buffer | None:
        """Where `op` reads `name`: the copy made for its device if it wants the other layout than the tensor has."""
        first = self.workload.tensor[op.inputs[0]]
        wanted = op.layout if op.layout is not None else first.layout
        other = self.moved.get((name, device))
        return other if other is not None and wanted != self.workload.tensor[name].layout else self._buffer(name)

    def _run(self, step: Step) -> None:
        op = self.workload.op[step.subject]
        sources = [(name, self._source(op, name, step.device)) for name in op.inputs]
        for name, source in sources:
            self._see(source, name, step.index, op.id)
        for at, name in enumerate(op.outputs):
            target = self._buffer(name)
            if target is None:
                self.value[name] = name
                continue
            before = self.workload.tensor[op.inputs[0]] if op.inputs else None
            same = sources[0][1] if sources else None
            if op.kind == "view" and at == 0 and before is not None and same is not None and same is target:
                self.value[name] = self.value.get(before.name, before.name)
                self._alive(target, step.index, "written")
                continue
            self.value[name] = name
            self._may_overwrite(op, name, target, sources)
            self._write(target, name, name, step.index)

    def _may_overwrite(self, op: Op, name: str, target: Buffer, sources: list[tuple[str, Buffer | None]]) -> None:
        """A result on bytes that the same operator reads: element by element only, of the same shape and place."""
        made = self.workload.tensor[name]
        for source, held in sources:
            if held is None or not _meet(held, self.workload.tensor[source], target, made):
                continue
            given = self.workload.tensor[source]
            by_element = str(op.kind) in ("elementwise", "activation") and given.shape == made.shape
            if not by_element or held.offset_bytes != target.offset_bytes or given.size_bytes != made.size_bytes:
                self._fault("in-place unsafe", name, f"{op.id} writes it over {source} while it reads that")
            elif source in self.workload.inputs and held.kind == "tensor":
                self._fault("in-place unsafe", name, f"{op.id} writes it over the model input {source}")


def _meet(a: Buffer, in_a: Tensor, b: Buffer, in_b: Tensor) -> bool:
    high_a, high_b = a.offset_bytes + in_a.size_bytes, b.offset_bytes + in_b.size_bytes
    return a.offset_bytes < high_b and b.offset_bytes < high_a
