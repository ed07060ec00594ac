"""Exact search: is there a packing below a given height? Branch and bound over niches of the skyline.

A packing can be pushed down until each item rests on the ground or on another one (aligned), so only such *canonical*
packings are searched, from the ground up. The state is the skyline (the floor of each section), and the items left.

- **Niche**: a run of sections with the same floor between higher walls. What lies next above the floor of one of its
  sections is an item that rests on the niche and fits between its walls, or else nothing does, and the floor of that
  section rises at least to where the next item can begin. These are the branches. The section with fewest is taken.
- **Slack** of a section: target - floor - bytes left to place there. Each waste of height eats slack; below zero the
  branch is closed: the cross-section bound.
- **Parts**: where no item left crosses from one section to the next, the two sides are problems of their own. If
  one fails, the choice that made it is undone at once, whatever was done in the others since.
- **Spanning items**: one that lives in all sections of its part can change places with all above it: it goes on top.
- **Known failures**: skyline and items left say all about a part, so one that failed is not searched again.
- Items that are equal are tried once.

The idea of searching canonical solutions with cross-section bounds and decomposition is that of MiniMalloc
(Moffitt, ASPLOS 2023, doi:10.1145/3623278.3624752); the branching over niches is our own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from enum import Enum
from typing import Any

from h4hc.memory.problem import Item, aligned
from h4hc.memory.sections import sections

MOST_FAILURES = 200_000  # remembered parts; each takes some hundred bytes
NOISE = 3  # sections by which an even seed other than 0 changes the length of lives, and so what is tried first
Option = tuple[int, int, int]  # (item, offset, -1) to place an item; (-1, floor, section) to raise a floor
Part = tuple[int, int, int]  # (first section, last section + 1, ceiling)
Agenda = tuple[Part, int, Any] | None  # parts to do: (part, the choice that made it, the rest)


class Verdict(Enum):
    """How a search ended."""

    FOUND = "found"
    IMPOSSIBLE = "impossible"
    LIMIT = "limit"


class Search:
    """Packings of `items` no higher than `target_bytes`. Deterministic; what failed is remembered between runs."""

    def __init__(self, items: Sequence[Item], target_bytes: int) -> None:
        grain = math.gcd(*(item.align_bytes for item in items))
        size = [-(-item.size_bytes // grain) for item in items]
        align = [item.align_bytes // grain for item in items]
        if all(a == 1 for a in align):  # offsets of canonical packings are sums of sizes
            common = math.gcd(*size) or 1
            grain, size = grain * common, [s // common for s in size]
        self.grain = grain
        self.size, self.align = size, align
        self.latest = [(target_bytes - item.size_bytes) // grain for item in items]
        self.ceiling = max((at + s for at, s in zip(self.latest, size, strict=True)), default=0)
        self.loose = all(a == 1 for a in align)  # then a part can move up and down as a whole
        self.even = self.loose and all(at + s == self.ceiling for at, s in zip(self.latest, size, strict=True))
        found = sections(items)
        self.first, self.last = list(found.first), list(found.last)
        self.width = len(found.live)
        self.begins: list[list[int]] = [[] for _ in range(self.width)]
        kinds: dict[tuple[int, ...], int] = {}
        self.kind = [
            kinds.setdefault((self.first[i], self.last[i], size[i], align[i], self.latest[i]), i)
            for i in range(len(items))
        ]
        for i in range(len(items)):
            self.begins[self.first[i]].append(i)
        for begin in self.begins:
            begin.sort(key=lambda i: (self.kind[i], i))
        self.nodes = 0
        self.failed: set[tuple[object, ...]] = set()

    def run(self, most_nodes: int, seed: int = 0) -> tuple[Verdict, list[int]]:
        """Search from the start with at most `most_nodes` nodes; offsets [bytes] when found. seed: order of choices."""
        self._reset(seed)
        if any(at < 0 for at in self.latest) or any(s < 0 for s in self.slack):
            return Verdict.IMPOSSIBLE, []
        verdict = self._search(most_nodes)
        if verdict is Verdict.FOUND:
            return verdict, [at * self.grain for at in self.offset]
        return verdict, []

    def _reset(self, seed: int) -> None:
        rng = random.Random(seed)
        count = len(self.size)
        self.offset = [0] * count
        self.left = [True] * count
        self.floor = [0] * self.width
        self.slack = [self.ceiling] * self.width
        self.cross = [0] * (self.width + 1)  # items left that live on both sides of boundary k - 1 | k
        for i in range(count):
            for k in range(self.first[i], self.last[i]):
                self.slack[k] -= self.size[i]
            for k in range(self.first[i] + 1, self.last[i]):
                self.cross[k] += 1
        self.trail: list[tuple[int, ...]] = []
        life = [b - a for a, b in zip(self.first, self.last, strict=True)]
        if seed % 2:  # large ones first
            self.rank = [size * (1 + rng.random() / 2) for size in self.size]
        else:  # long-lived ones first
            self.rank = [length + min(seed, 1) * NOISE * rng.random() for length in life]

    def _search(self, most_nodes: int) -> Verdict:
        """Depth first with a stack of our own, since it may be deeper than Python's."""
        stop = self.nodes + most_nodes
        frames: list[_Frame] = []
        agenda: Agenda = None
        for part in self._parts(0, self.width, self.ceiling):
            agenda = (part, -1, agenda)
        while agenda is not None:
            if self.nodes >= stop:
                return Verdict.LIMIT
            self.nodes += 1
            part, parent, rest = agenda
            key = self._key(part)
            options = [] if key in self.failed else self._options(part)
            frames.append(_Frame(part, options, len(self.trail), rest, parent, key))
            back = len(frames) - 1
            while back >= 0:
                frame = frames[back]
                del frames[back + 1 :]
                self._undo(frame.mark)
                if frame.options:
                    self._apply(frame.options.pop())
                    agenda = frame.rest
                    for inner in self._parts(*frame.part):
                        agenda = (inner, back, agenda)
                    break
                if len(self.failed) < MOST_FAILURES:
                    self.failed.add(frame.key)
                back = frame.parent
            else:
                return Verdict.IMPOSSIBLE
        return Verdict.FOUND

    def _items(self, low: int, high: int) -> list[int]:
        left = self.left
        return [i for begin in self.begins[low:high] for i in begin if left[i]]

    def _parts(self, low: int, high: int, ceiling: int) -> list[Part]:
        """Split a part where nothing left crosses, put spanning items on top, and split again; largest part first."""
        found: list[Part] = []
        todo = [(low, high, ceiling)]
        while todo:
            low, high, ceiling = todo.pop()
            begin = low
            for k in range(low + 1, high + 1):
                if k < high and self.cross[k]:
                    continue
                items = self._items(begin, k)
                if items:
                    top = self._lift(items, begin, k, ceiling) if self.loose else ceiling
                    if top < ceiling:
                        todo.append((begin, k, top))
                    else:
                        found.append((begin, k, ceiling))
                begin = k
        return sorted(found, key=lambda part: part[0] - part[1])

    def _lift(self, items: list[int], low: int, high: int, ceiling: int) -> int:
        """Put the items that span the part under its ceiling; returns the new one."""
        for i in items:
            spans = self.first[i] == low and self.last[i] == high
            if spans and ceiling - self.size[i] <= self.latest[i]:  # else its rounded size does not fit on top
                ceiling -= self.size[i]
                self._take(i, ceiling)
                self.trail.append((i, -1, 0))
        return ceiling

    def _take(self, i: int, offset: int) -> None:
        self.left[i] = False
        self.offset[i] = offset
        for k in range(self.first[i] + 1, self.last[i]):
            self.cross[k] -= 1

    def _apply(self, option: Option) -> None:
        i, height, k = option
        if i < 0:
            old = self.floor[k]
            self.floor[k] = height
            self.slack[k] -= height - old
            self.trail.append((-1, k, old))
            return
        low, high = self.first[i], self.last[i]
        old = self.floor[low]
        self._take(i, height)
        self.trail.append((i, old, height - old))
        waste, top = height - old, height + self.size[i]
        for k in range(low, high):
            self.floor[k] = top
        if waste:
            for k in range(low, high):
                self.slack[k] -= waste

    def _undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            i, old, waste = self.trail.pop()
            if i < 0:
                k, old = old, waste
                self.slack[k] += self.floor[k] - old
                self.floor[k] = old
                continue
            self.left[i] = True
            low, high = self.first[i], self.last[i]
            for k in range(low + 1, high):
                self.cross[k] += 1
            if old < 0:
                continue
            for k in range(low, high):
                self.floor[k] = old
                self.slack[k] += waste

    def _key(self, part: Part) -> tuple[object, ...]:
        low, high, ceiling = part
        left, kind = self.left, self.kind
        kinds = tuple([kind[i] for begin in self.begins[low:high] for i in begin if left[i]])
        if self.loose:  # under the top ceiling not all rounded sizes fit; below it only the slack counts
            return low, high, kinds, tuple(self.slack[low:high]), ceiling == self.ceiling
        return low, high, kinds, tuple(self.floor[low:high])

    def _options(self, part: Part) -> list[Option]:
        """The branches of the section that has fewest; the one to try first is last. Empty if some has none."""
        low, high, _ = part
        items = self._items(low, high)
        floor, slack = self.floor, self.slack
        least = min(self.size[i] for i in items)
        best = math.inf
        chosen: tuple[int, int, int, list[int]] | None = None
        left = low
        while left < high:
            height = floor[left]
            right = left + 1
            while right < high and floor[right] == height:
                right += 1
            walls = [floor[k] - height for k, inside in ((left - 1, left > low), (right, right < high)) if inside]
            if not walls or min(walls) > 0:
                inside, ways = self._inside(left, right, height)
                rise = min(least, *walls) if walls else least
                for k in range(left, right):
                    count = ways[k - left] + (slack[k] >= rise)
                    if count < best:
                        best, chosen = count, (k, left, right, inside)
                        if not count:
                            return []
            left = right
        assert chosen is not None  # the lowest floor is a niche
        return self._branches(items, *chosen)

    def _inside(self, left: int, right: int, height: int) -> tuple[list[int], list[int]]:
        """Items that may rest on the niche, one of a kind, and how many of them cover each section."""
        last, kind, is_left = self.last, self.kind, self.left
        inside: list[int] = []
        ways = [0] * (right - left + 1)
        for k in range(left, right):
            seen = -1
            for i in self.begins[k]:
                if not is_left[i] or last[i] > right or kind[i] == seen:
                    continue
                seen = kind[i]
                if not self.even and not self._rests(i, height):
                    continue
                inside.append(i)
                ways[k - left] += 1
                ways[last[i] - left] -= 1
        for k in range(1, right - left):
            ways[k] += ways[k - 1]
        return inside, ways

    def _rests(self, i: int, height: int) -> bool:
        """Whether item i may begin at the first aligned offset from `height`."""
        at = aligned(height, self.align[i])
        return at <= self.latest[i] and at - height <= min(self.slack[self.first[i] : self.last[i]])

    def _branches(self, items: list[int], k: int, left: int, right: int, inside: list[int]) -> list[Option]:
        height = self.floor[k]
        rank = self.rank
        chosen = [i for i in inside if self.first[i] <= k < self.last[i]]
        chosen.sort(key=lambda i: (self.first[i] == left and self.last[i] == right, rank[i]))
        options = [(i, aligned(height, self.align[i]), -1) for i in chosen]
        rise = self._rise(items, k, left, right)
        if rise <= self.slack[k]:
            options.insert(0, (-1, height + int(rise), k))
        return options

    def _rise(self, items: list[int], k: int, left: int, right: int) -> float:
        """How far the floor of section k rises at least if nothing that covers it rests on the niche."""
        height = self.floor[k]
        beside, over = math.inf, math.inf
        covered = False
        for i in items:
            a, b = self.first[i], self.last[i]
            if a >= right or b <= left:
                continue
            if not a <= k < b:  # may lie between the niche and an item over k
                if self.size[i] < beside:
                    beside = self.size[i]
            elif a >= left and b <= right:
                covered = True
            else:
                wall = max(self.floor[left - 1] if a < left else 0, self.floor[right] if b > right else 0)
                over = min(over, wall - height)
        return min(over, beside) if covered else over


class _Frame:
    """A choice: the branches not tried yet, and all it takes to come back. parent: the choice that made the part."""

    __slots__ = ("key", "mark", "options", "parent", "part", "rest")

    def __init__(
        self, part: Part, options: list[Option], mark: int, rest: Agenda, parent: int, key: tuple[object, ...]
    ) -> None:
        self.part, self.options, self.mark = part, options, mark
        self.rest, self.parent, self.key = rest, parent, key
