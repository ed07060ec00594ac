"""Time seen by an allocator: the moments that matter, what lives in each, and the parts that do not meet.

The overlap graph of lifetimes is an interval graph: two buffers conflict if and only if some maximal clique holds both.
So of all moments only those of the maximal cliques are kept, here called *sections*, in order of time; a buffer lives
in a run of consecutive sections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from h4hc.memory.problem import Item, aligned


@dataclass(frozen=True)
class Sections:
    """first[i], last[i]: item i lives in sections first <= k < last. live[k]: the items that live in section k."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    live: tuple[tuple[int, ...], ...]


def sections(items: Sequence[Item]) -> Sections:
    """The maximal cliques of the lifetimes."""
    opens = sorted((item.start, i) for i, item in enumerate(items))
    closes = sorted((item.end, i) for i, item in enumerate(items))
    first, last = [0] * len(items), [0] * len(items)
    live: list[tuple[int, ...]] = []
    now: set[int] = set()
    at = 0
    grown = False
    for end, closing in closes:
        while at < len(opens) and opens[at][0] < end:
            now.add(opens[at][1])
            first[opens[at][1]] = len(live)
            at, grown = at + 1, True
        if grown:  # something began since the last end: what lives now is a maximal clique
            live.append(tuple(sorted(now)))
            grown = False
        now.discard(closing)
        last[closing] = len(live)
    return Sections(tuple(first), tuple(last), tuple(live))


def section_bound(items: Sequence[Item], live: Sequence[int]) -> int:
    """Bytes that the items of one section need at least.

    With g the greatest common divisor of their alignments every offset is a multiple of g, so each item but the
    highest takes its size rounded up to g: sum(rounded) - max(rounded - size).
    """
    if not live:
        return 0
    grain = math.gcd(*(items[i].align_bytes for i in live))
    rounded = [aligned(items[i].size_bytes, grain) for i in live]
    return sum(rounded) - max(r - items[i].size_bytes for r, i in zip(rounded, live, strict=True))


def lower_bound(items: Sequence[Item]) -> int:
    """No packing has a lower high-water mark: the largest `section_bound`."""
    return max((section_bound(items, live) for live in sections(items).live), default=0)


def components(items: Sequence[Item]) -> list[list[int]]:
    """Indices of the items, split where no lifetime reaches across, in order of time: each is a problem of its own.

    Items without bytes are left out.
    """
    found: list[list[int]] = []
    end = 0
    sized = [i for i, item in enumerate(items) if item.size_bytes]
    for i in sorted(sized, key=lambda i: (items[i].start, i)):
        if not found or items[i].start >= end:
            found.append([])
            end = items[i].end
        found[-1].append(i)
        end = max(end, items[i].end)
    return found
