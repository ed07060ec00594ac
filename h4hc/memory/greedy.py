"""Greedy packings: items in some order, each at the lowest offset that is free during its whole life."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from h4hc.memory.problem import Item, aligned
from h4hc.memory.sections import Sections

Order = Callable[[int], tuple[int, ...]]


def first_fit(items: Sequence[Item], order: Iterable[int], neighbours: Sequence[Sequence[int]]) -> list[int]:
    """Offsets [bytes]; `neighbours[i]`: the items whose lifetimes overlap that of item i."""
    offsets = [-1] * len(items)
    for i in order:
        taken = sorted((offsets[j], offsets[j] + items[j].size_bytes) for j in neighbours[i] if offsets[j] >= 0)
        at = 0
        for low, high in taken:
            if low >= at + items[i].size_bytes:
                break
            if high > at:
                at = aligned(high, items[i].align_bytes)
        offsets[i] = at
    return offsets


def orders(items: Sequence[Item], found: Sections) -> list[list[int]]:
    """Orders that are known to pack well: large, long-lived and contended items first.

    Contention of an item: the most bytes alive in any section of its life.
    """
    load = [sum(items[i].size_bytes for i in live) for live in found.live]
    crowd = [max(load[a:b], default=0) for a, b in zip(found.first, found.last, strict=True)]
    size = [item.size_bytes for item in items]
    life = [item.end - item.start for item in items]
    keys: tuple[Order, ...] = (
        lambda i: (-size[i], -life[i]),
        lambda i: (-size[i], items[i].start),
        lambda i: (-life[i], -size[i]),
        lambda i: (-size[i] * life[i],),
        lambda i: (-crowd[i], -size[i], -life[i]),
        lambda i: (-crowd[i], -life[i], -size[i]),
        lambda i: (-crowd[i], -size[i] * life[i]),
        lambda i: (items[i].start, -size[i]),
        lambda i: (-items[i].end, -size[i]),
    )
    return [sorted(range(len(items)), key=key) for key in keys]  # sorting is stable: ties by number


def neighbours_of(items: Sequence[Item], found: Sections) -> list[list[int]]:
    """For each item the others that some section holds beside it."""
    near: list[set[int]] = [set() for _ in items]
    for live in found.live:
        for i in live:
            near[i].update(live)
    return [sorted(others - {i}) for i, others in enumerate(near)]


def high_water(items: Sequence[Item], offsets: Sequence[int]) -> int:
    """The highest end of an item [bytes]."""
    return max((at + item.size_bytes for at, item in zip(offsets, items, strict=True)), default=0)
