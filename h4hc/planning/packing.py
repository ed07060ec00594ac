"""Which units (CIM macros) hold which operator's weights: an exact check of the capacity of each unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Item = tuple[int, int]  # (units used, bytes in each of them)
SEARCH_NODES = 2_000  # of the depth-first search, about 20 ms; a program goes on from there


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
    """Depth-first over the items; each stack entry yields an item's choices of units, one node each."""
    load = [0] * units
    stack = [_choices(items[order[0]], load, unit_bytes)]
    chosen: list[tuple[int, ...]] = []
    for _ in range(node_limit):
        if not stack:
            return None
        if len(chosen) == len(stack):  # back from below: undo the choice at this depth
            for u in chosen.pop():
                load[u] -= items[order[len(chosen)]][1]
        pick = next(stack[-1], None)
        if pick is None:
            stack.pop()
            continue
        for u in pick:
            load[u] += items[order[len(chosen)]][1]
        chosen.append(pick)
        if len(chosen) == len(order):
            placed = {order[depth]: units_used for depth, units_used in enumerate(chosen)}
            return [placed[i] for i in range(len(items))]
        stack.append(_choices(items[order[len(chosen)]], load, unit_bytes))
    return None


def _choices(item: Item, load: Sequence[int], unit_bytes: int) -> Iterator[tuple[int, ...]]:
    """Sets of units that can take the item, fullest units first, one of each kind: units of equal load are alike.

    Lazy, since there can be exponentially many; `load` must be as it is now whenever the next one is asked for.
    """
    count, share = item
    alike: dict[int, list[int]] = {}
    for unit, held in enumerate(load):
        if held + share <= unit_bytes:
            alike.setdefault(held, []).append(unit)
    groups = [alike[held] for held in sorted(alike, reverse=True)]
    room = [sum(len(g) for g in groups[at:]) for at in range(len(groups) + 1)]

    def extend(at: int, missing: int) -> Iterator[tuple[int, ...]]:
        if missing == 0:
            yield ()
        elif room[at] >= missing:
            for take in range(min(len(groups[at]), missing), -1, -1):
                for rest in extend(at + 1, missing - take):
                    yield (*groups[at][:take], *rest)

    for pick in extend(0, count):
        yield tuple(sorted(pick))
