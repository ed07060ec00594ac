"""pack: items -> offsets. Greedy orders first, then exact search where they leave a gap to the lower bound.

Deterministic: the effort is counted in nodes of the search, never in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from h4hc.memory.exact import Search, Verdict
from h4hc.memory.greedy import first_fit, high_water, neighbours_of, orders
from h4hc.memory.problem import Item, Packing, PackingStatus, aligned
from h4hc.memory.sections import components, section_bound, sections

MOST_NODES = 20_000
FIRST_RUN, GROWTH = 300, 1.3  # nodes of the first run of a search; each further run, in another order, has more
FIRST_SHARE, SHARE = 2, 4  # a search for one height takes at most this part of the nodes left


class _Part:
    """One component: its items, the lowest packing found so far and what is proved about it."""

    def __init__(self, items: Sequence[Item], indices: list[int]) -> None:
        self.indices = indices
        self.items = [items[i] for i in indices]
        found = sections(self.items)
        self.low = max(section_bound(self.items, live) for live in found.live)
        near = neighbours_of(self.items, found)
        self.high = -1
        for order in orders(self.items, found):
            self.take(first_fit(self.items, order, near))
            if self.high == self.low:
                break

    def take(self, offsets: list[int]) -> None:
        """Keep a packing if it is lower."""
        height = high_water(self.items, offsets)
        if self.high < 0 or height < self.high:
            self.high, self.offsets = height, offsets


def pack(items: Sequence[Item], capacity_bytes: int | None = None, most_nodes: int = MOST_NODES) -> Packing:
    """The lowest packing found, or with a capacity the first one that fits it.

    most_nodes: of all exact searches together; 0 = greedy only.
    """
    parts = [_Part(items, indices) for indices in components(items)]  # items without bytes are in none, and lie at 0
    low = max((part.low for part in parts), default=0)
    goal = low if capacity_bytes is None else max(low, capacity_bytes)
    nodes = 0
    open_parts = [part for part in parts if part.high > goal]
    if capacity_bytes is not None and low > capacity_bytes:
        open_parts = []  # nothing fits
    for at, part in enumerate(open_parts):
        budget = (most_nodes - nodes) // (len(open_parts) - at)
        nodes += _lower(part, goal, capacity_bytes is None, budget)
        goal = max(goal, part.low)  # no packing of all the items is lower than that of one part
    offsets = [0] * len(items)
    for part in parts:
        for i, offset in zip(part.indices, part.offsets, strict=True):
            offsets[i] = offset
    low = max([low, *(part.low for part in parts)])
    high = high_water(items, offsets)
    return Packing(tuple(offsets), high, low, _status(high, low, capacity_bytes), nodes)


def _status(high: int, low: int, capacity_bytes: int | None) -> PackingStatus:
    if capacity_bytes is not None and low > capacity_bytes:
        return PackingStatus.INFEASIBLE
    if high == low:
        return PackingStatus.OPTIMAL
    if capacity_bytes is not None and high <= capacity_bytes:
        return PackingStatus.FITS
    return PackingStatus.LIMIT


def _lower(part: _Part, goal: int, whole: bool, budget: int) -> int:
    """Search for a packing of the part at `goal`, then, with `whole`, by bisection up to its best; returns the nodes.

    A height that is ruled out raises the part's bound; one that takes too long is given up for a higher one.
    """
    used, floor, first = 0, goal, True
    while floor < part.high and used < budget:
        target = floor if first else (floor + part.high - 1) // 2
        search = Search(part.items, target)
        verdict, offsets = _find(search, -(-(budget - used) // (1 if not whole else FIRST_SHARE if first else SHARE)))
        used, first = used + search.nodes, False
        if verdict is Verdict.FOUND:
            part.take(offsets)
        else:
            floor = target + 1
        if verdict is Verdict.IMPOSSIBLE:
            part.low = max(part.low, next_height(part.items, target))
            floor = max(floor, part.low)
        if not whole:
            break
    return used


def _find(search: Search, most_nodes: int) -> tuple[Verdict, list[int]]:
    """Runs of growing length, each with another order of choices; what failed in one is not searched in the next."""
    run, length = 0, float(FIRST_RUN)
    while True:
        verdict, offsets = search.run(min(int(length), most_nodes - search.nodes), run)
        if verdict is not Verdict.LIMIT or search.nodes >= most_nodes:
            return verdict, offsets
        run, length = run + 1, length * GROWTH


def next_height(items: Sequence[Item], height: int) -> int:
    """The least height above `height` that a packing can have: some item ends there, and starts at a multiple of the
    greatest common divisor of the alignments (and, where sizes are multiples of all alignments, of the sizes)."""
    grain = math.gcd(*(item.align_bytes for item in items))
    if all(item.align_bytes == grain for item in items):  # starts are sums of sizes rounded up to the grain
        grain = math.gcd(*(aligned(item.size_bytes, grain) for item in items)) or 1
    ends = {item.size_bytes % grain for item in items}
    return min(height + 1 + (end - height - 1) % grain for end in ends)
