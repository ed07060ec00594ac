"""Stable topological order: Kahn's algorithm with a heap, no recursion."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def stable_order(after: Sequence[Sequence[int]], keys: Sequence[int]) -> tuple[list[int], list[int]]:
    """(order, stuck): items 0..n-1 such that each comes behind all items in `after[item]`; ties by `keys`.

    stuck holds the items on a cycle or behind one, ascending; empty when there is an order.

    >>> stable_order([[], [2], []], [0, 1, 2])
    ([0, 2, 1], [])
    >>> stable_order([[1], [0]], [0, 1])
    ([], [0, 1])
    """
    waiting = [len(set(before)) for before in after]
    followers: list[list[int]] = [[] for _ in after]
    for item, before in enumerate(after):
        for other in sorted(set(before)):
            followers[other].append(item)
    ready = [(keys[item], item) for item, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, item = heapq.heappop(ready)
        order.append(item)
        for follower in followers[item]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (keys[follower], follower))
    return order, [item for item, count in enumerate(waiting) if count > 0]


def cycle_in(after: Sequence[Sequence[int]], stuck: Sequence[int]) -> list[int]:
    """One cycle among the `stuck` items of `stable_order`, in the order of dependence.

    >>> cycle_in([[1], [0], [1]], [0, 1, 2])
    [0, 1]
    """
    inside = set(stuck)
    seen: dict[int, int] = {}
    path: list[int] = []
    item = stuck[0]
    while item not in seen:
        seen[item] = len(path)
        path.append(item)
        item = min(other for other in after[item] if other in inside)
    return path[seen[item] :]
