"""What labels know of the weight stores: nothing, the bytes in all units together, or the load of each unit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

from h4hc.costtypes import Capacity
from h4hc.planning.parallel.index import Choice

Held = tuple[int, ...]  # grows with each operator; the less in every place, the better


class Storage(Protocol):
    """A view of the stores. empty: before the first operator; after: all that may be held behind an operator."""

    @property
    def empty(self) -> Held: ...
    @property
    def owners(self) -> tuple[str, ...]: ...  # the device of each number in Held
    def after(self, held: Held, choice: Choice) -> Iterator[Held]: ...


class Unbounded:
    """Every plan fits: a bound for those that do."""

    empty: Held = ()
    owners: tuple[str, ...] = ()

    def after(self, held: Held, choice: Choice) -> Iterator[Held]:
        """Nothing is held."""
        yield held


class Totals:
    """By store, the bytes in all units together. A plan that fits here need not fit into single units."""

    def __init__(self, stores: Sequence[Capacity]) -> None:
        self.rooms = {cap.device: (number, cap.units * _bytes(cap)) for number, cap in enumerate(stores)}
        self.empty: Held = (0,) * len(stores)
        self.owners = tuple(cap.device for cap in stores)

    def after(self, held: Held, choice: Choice) -> Iterator[Held]:
        """One sum more, if it fits."""
        if choice.mode.device not in self.rooms:
            yield held
            return
        number, room = self.rooms[choice.mode.device]
        more = held[number] + choice.mode.units * choice.unit_bytes
        if more <= room:
            yield (*held[:number], more, *held[number + 1 :])


class Units:
    """By store, the loads of its units, sorted: units are alike. Exact."""

    def __init__(self, stores: Sequence[Capacity]) -> None:
        begins = list(itertools.accumulate((cap.units for cap in stores), initial=0))
        self.rooms = {cap.device: (begin, cap.units, _bytes(cap)) for begin, cap in zip(begins, stores, strict=False)}
        self.empty: Held = (0,) * begins[-1]
        self.owners = tuple(cap.device for cap in stores for _ in range(cap.units))

    def after(self, held: Held, choice: Choice) -> Iterator[Held]:
        """Every choice of units that are not alike."""
        if choice.mode.device not in self.rooms or not choice.unit_bytes:
            yield held
            return
        begin, count, room = self.rooms[choice.mode.device]
        loads = held[begin : begin + count]
        found: set[Held] = set()
        for units in itertools.combinations(range(count), choice.mode.units):
            more = [load + choice.unit_bytes if unit in units else load for unit, load in enumerate(loads)]
            if max(more) <= room:
                found.add(tuple(sorted(more)))
        for new in sorted(found):
            yield (*held[:begin], *new, *held[begin + count :])


def _bytes(cap: Capacity) -> int:
    assert cap.unit_bytes is not None
    return cap.unit_bytes
