"""The allocation problem: buffers with lifetimes, and where they lie in one region of memory.

Two buffers whose half-open lifetimes overlap must not share a byte. The problem is NP-hard (Garey and Johnson, SR2).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Item:
    """A buffer that lives in [start, end), has `size_bytes` and starts at a multiple of `align_bytes`."""

    name: str
    start: int
    end: int
    size_bytes: int
    align_bytes: int = 1

    def __post_init__(self) -> None:
        assert self.start < self.end, self
        assert self.size_bytes >= 0, self
        assert self.align_bytes >= 1, self


class PackingStatus(StrEnum):
    """What was proved about a packing."""

    OPTIMAL = "proved optimal"  # no packing has a lower high-water mark
    FITS = "fits"  # in the capacity asked for; nothing lower was looked for
    INFEASIBLE = "proved not to fit"  # no packing fits the capacity asked for; this is the lowest found
    LIMIT = "search limit reached"  # what was asked for was neither found nor ruled out; this is the lowest found


@dataclass(frozen=True)
class Packing:
    """An offset for each item, in the order of the items [bytes].

    high_water_bytes: the highest end of an item. lower_bound_bytes: no packing has a lower high-water mark.
    nodes: how many the exact search looked at; 0 where a greedy order reached the bound.
    """

    offsets: tuple[int, ...]
    high_water_bytes: int
    lower_bound_bytes: int
    status: PackingStatus
    nodes: int

    @property
    def overhead(self) -> float:
        """(high-water mark - lower bound) / lower bound; 0 for nothing to pack."""
        if not self.lower_bound_bytes:
            return 0.0
        return (self.high_water_bytes - self.lower_bound_bytes) / self.lower_bound_bytes


def aligned(value: int, alignment: int) -> int:
    """The smallest multiple of `alignment` that is at least `value`.

    >>> aligned(17, 16), aligned(32, 16), aligned(5, 1)
    (32, 32, 5)
    """
    return -(-value // alignment) * alignment
