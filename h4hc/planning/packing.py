"""Which units (CIM macros) hold which operator's weights: an exact check of the capacity of each unit."""

from __future__ import annotations

from collections.abc import Sequence

Item = tuple[int, int]  # (units used, bytes in each of them)
SEARCH_NODES = 20_000  # of the depth-first search, about 0.2 s


def pack(
    items: Sequence[Item], units: int, unit_bytes: int, *, node_limit: int = SEARCH_NODES
) -> list[tuple[int, ...]] | None:
    """Give each item its units so that no unit holds more than `unit_bytes`.

    First-fit on the emptiest units, largest share first; if that fails, depth-first search with symmetry of
    equally filled units removed, up to `node_limit` nodes. Returns the units of each item in the order given,
    or None when no packing was found (which is a proof only if the search ended by itself: callers fall back
    on the exact program). node_limit 0 = first-fit only. Deterministic.
    """
    if sum(count * share for count, share in items) > units * unit_bytes:
        return None
    order = sorted(range(len(items)), key=lambda i: (-items[i][1], -items[i][0], i))
    chosen: dict[int, tuple[int, ...]] = {}
    load = [0] * units
    for index in order:
        count, share = items[index]
        emptiest = sorted(range(units), key=lambda u: (load[u], u))[:count]
        if len(emptiest) < count or any(load[u] + share > unit_bytes for u in emptiest):
            return _search(items, order, units, unit_bytes, node_limit) if node_limit else None
        for u in emptiest:
            load[u] += share
        chosen[index] = tuple(sorted(emptiest))
    return [chosen[i] for i in range(len(items))]


def _search(
    items: Sequence[Item], order: Sequence[int], units: int, unit_bytes: int, node_limit: int
) -> list[tuple[int, ...]] | None:
    """Depth-first over the items; each stack entry is an item's remaining choices of units."""
    load = [0] * units
    stack: list[list[tuple[int, ...]]] = []
    chosen: list[tuple[int, ...]] = []
    nodes = 0
    stack.append(_choices(items[order[0]], load, unit_bytes) if order else [])
    while stack:
        nodes += 1
        if nodes > node_limit:
            return None
        if len(chosen) == len(stack):  # back from below: undo the choice at this depth
            undone = chosen.pop()
            for u in undone:
                load[u] -= items[order[len(chosen)]][1]
        if not stack[-1]:
            stack.pop()
            continue
        pick = stack[-1].pop()
        for u in pick:
            load[u] += items[order[len(chosen)]][1]
        chosen.append(pick)
        if len(chosen) == len(order):
            placed = {order[depth]: units_used for depth, units_used in enumerate(chosen)}
            return [placed[i] for i in range(len(items))]
        stack.append(_choices(items[order[len(chosen)]], load, unit_bytes))
    return None


def _choices(item: Item, load: Sequence[int], unit_bytes: int) -> list[tuple[int, ...]]:
    """All sets of units that can take the item, one of each kind of load; best (fullest) last."""
    count, share = item
    fitting = sorted((u for u in range(len(load)) if load[u] + share <= unit_bytes), key=lambda u: (-load[u], u))
    seen: set[tuple[int, ...]] = set()
    found: list[tuple[int, ...]] = []
    partial: list[tuple[int, ...]] = [()]
    while partial:
        head = partial.pop()
        if len(head) == count:
            kind = tuple(load[u] for u in head)
            if kind not in seen:
                seen.add(kind)
                found.append(tuple(sorted(head)))
            continue
        after = fitting.index(head[-1]) + 1 if head else 0
        partial.extend((*head, u) for u in reversed(fitting[after:]))
    return found[::-1]
