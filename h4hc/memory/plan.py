"""MemoryPlan: where every tensor of a plan lies, in which memory, and from when to when."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from h4hc.memory.problem import Item, PackingStatus

SRAM = "sram"  # the memory that all devices of a system share


@dataclass(frozen=True)
class Buffer:
    """Bytes [offset, offset + size) of a region, taken during the steps [start_step, end_step) of the schedule.

    kind: `tensor`; `copy`, a tensor in the other layout, made by a layout step; `weights`, all constants that a device
    reads from this region. tensors: of weights those that lie in it side by side, else one after another: views and
    results made in place share their input's buffer. reader: the device of weights, or the one that a copy is made
    for, "" for the model's caller.
    """

    name: str
    kind: Literal["tensor", "copy", "weights"]
    tensors: tuple[str, ...]
    reader: str
    start_step: int
    end_step: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class Region:
    """One memory. align_bytes: of every buffer. high_water_bytes: the highest end of a buffer.

    lower_bound_bytes: no layout of these buffers has a lower high-water mark. status: whether this one is that low.
    """

    name: str
    capacity_bytes: int
    align_bytes: int
    high_water_bytes: int
    lower_bound_bytes: int
    status: PackingStatus
    buffers: tuple[Buffer, ...]

    @property
    def fits(self) -> bool:
        """Whether the high-water mark is within the capacity."""
        return self.high_water_bytes <= self.capacity_bytes

    @property
    def overhead(self) -> float:
        """(high-water mark - lower bound) / lower bound; 0 where nothing is needed."""
        if not self.lower_bound_bytes:
            return 0.0
        return (self.high_water_bytes - self.lower_bound_bytes) / self.lower_bound_bytes

    def live(self, step: int) -> tuple[Buffer, ...]:
        """Buffers in use during a step, the largest first."""
        found = [b for b in self.buffers if b.start_step <= step < b.end_step]
        return tuple(sorted(found, key=lambda b: (-b.size_bytes, b.name)))

    @functools.cached_property
    def peak_step(self) -> int:
        """The first step with the most bytes in use; 0 if there is no buffer."""
        change: dict[int, int] = {}
        for b in self.buffers:
            change[b.start_step] = change.get(b.start_step, 0) + b.size_bytes
            change[b.end_step] = change.get(b.end_step, 0) - b.size_bytes
        best = peak = used = 0
        for step in sorted(change):
            used += change[step]
            if used > best:
                best, peak = used, step
        return peak

    def items(self) -> tuple[Item, ...]:
        """The buffers as an allocation problem."""
        return tuple(Item(b.name, b.start_step, b.end_step, b.size_bytes, self.align_bytes) for b in self.buffers)


@dataclass(frozen=True)
class MemoryPlan:
    """The regions of a system with their buffers; steps: of the schedule it belongs to."""

    steps: int
    regions: tuple[Region, ...]

    def region(self, name: str) -> Region:
        """The region called `name`; KeyError if there is none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> MemoryPlan:
        """Inverse of `to_json`; raises pydantic.ValidationError on anything else."""
        plan = _adapter().validate_json(data)
        assert isinstance(plan, MemoryPlan)
        return plan


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, each once: a second `x` becomes `x (2)`."""
    taken: set[str] = set()
    found = []
    for name in names:
        given, number = name, 1
        while given in taken:
            number += 1
            given = f"{name} ({number})"
        taken.add(given)
        found.append(given)
    return found


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(MemoryPlan)
