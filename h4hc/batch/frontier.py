"""The best way through one block, exactly: dynamic programming over its operators in execution order.

What the operators still to come can see of those behind is small: the device of the last one, the device that made each
tensor that is still wanted, and where such a tensor has been brought already. States that agree in this are one state,
and the best of them is kept. So the result is the least over all choices of modes, and no state is dropped for any
other reason: more than MOST_STATES is an error. All prices of weight bytes and all entry devices run at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h4hc.costtypes import Mode
from h4hc.errors import LimitError
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, PortCost
from h4hc.system import HOST

Ints = NDArray[np.int64]
NEVER = np.int64(2**60)  # more than any cost: no plan
NO_STORE = -1  # price at which weights may not be held at all
UNITS_OF_PRICE = 64  # prices are in 1/64 of the objective's unit a byte
MOST_STATES = 400_000
KEY_BITS = 62


@dataclass(frozen=True)
class Setting:
    """What is minimised. devices: in the order of all arrays. objective: 0 = latency [ps], 1 = energy [pJ].

    prices: for a byte that the store holds, in 1/UNITS_OF_PRICE of the objective's unit, or NO_STORE. store: the
    device that keeps weights, "" where none does.
    """

    devices: tuple[str, ...]
    objective: int
    prices: tuple[int, ...]
    store: str


@dataclass(frozen=True)
class Paths:
    """Best plans of a block by price, entry row and exit device; row = 2 * entry device + (first operator runs there).

    priced: objective * UNITS_OF_PRICE + price * stored, NEVER where there is no plan; other: the objective that is
    not minimised, least among equals; stored: bytes in the store, least among equals of both. modes: of each plan.
    """

    priced: Ints  # [K, 2D, D]
    other: Ints
    stored: Ints
    modes: dict[tuple[int, int, int], tuple[Mode, ...]]


def best_paths(costs: PlanCosts, span: range, entry: bool, exit_: bool, setting: Setting) -> Paths:
    """All best plans of the operators at the positions `span` of `costs`.

    entry: the operator before the span makes its entry, on any device (else the network starts here, on the host);
    exit_: the one behind reads its exit, at the expense of the next block. Without exit the plan ends on device 0.
    What the first operator hides behind the one before is left out. Raises LimitError for too many states.
    """
    walk = _Walk(costs, span, entry, exit_, setting)
    for at in span:
        walk.step(at)
    return walk.result()


class _Walk:
    """The states so far, as columns, and for each step where they came from."""

    def __init__(self, costs: PlanCosts, span: range, entry: bool, exit_: bool, setting: Setting) -> None:
        self.costs, self.span, self.setting, self.exit = costs, span, setting, exit_
        count = len(setting.devices)
        self.device_bits = max(1, (count - 1).bit_length())
        starts = range(count) if entry else [setting.devices.index(HOST)]
        prices = np.arange(len(setting.prices), dtype=np.int64)
        grid = [(k, d) for k in prices for d in starts]
        self.price = np.array([k for k, _ in grid], dtype=np.int64)
        self.row = np.array([2 * d for _, d in grid], dtype=np.int64)
        self.fields: dict[tuple[str, int], int] = {}  # ("made" | "brought", port or position) -> shift in the key
        self.key = np.zeros(len(grid), dtype=np.int64)
        self.last = np.array([d for _, d in grid], dtype=np.int64)
        self.values = [np.zeros(len(grid), dtype=np.int64) for _ in range(3)]  # priced, other, stored
        self.trace: list[tuple[Ints, Ints]] = []
        self.before = span.start - 1
        if entry:
            self._write(self.before, self.last)

    # --- fields of the key

    def _width(self, kind: str) -> int:
        return self.device_bits if kind == "made" else len(self.setting.devices)

    def _take(self, kind: str, owner: int) -> int:
        """A free place in the key."""
        used = sorted((shift, shift + self._width(k)) for (k, _), shift in self.fields.items())
        start, width = 0, self._width(kind)
        for low, high in used:
            if start + width <= low:
                break
            start = max(start, high)
        if start + width > KEY_BITS:
            raise self._too_many()
        self.fields[kind, owner] = start
        return start

    def _read(self, kind: str, owner: int, key: Ints) -> Ints:
        found: Ints = (key >> self.fields[kind, owner]) & ((1 << self._width(kind)) - 1)
        return found

    def _free(self, kind: str, owner: int) -> None:
        shift = self.fields.pop((kind, owner))
        self.key &= ~np.int64(((1 << self._width(kind)) - 1) << shift)

    def _write(self, at: int, device: Ints) -> None:
        """Operator `at` ran on these devices: note it for the ports that are read later on."""
        ports = [i for i in self.costs.ports_at[at] if self._wanted(i, at)]
        if ports:
            self.key |= device << self._take("made", at)

    def _wanted(self, port: int, at: int) -> bool:
        """Whether a port is made by `at` and read by an operator of the span."""
        made = self.costs.ports[port]
        return made.producer == at and any(c in self.span for c in made.consumers) and bool(made.cost)

    # --- steps

    def step(self, at: int) -> None:
        """Run one operator in the best of its modes on each device."""
        setting = self.setting
        reads = [i for i in self.costs.ports_at[at] if at in self.costs.ports[i].consumers and self.costs.ports[i].cost]
        parts: list[tuple[Any, ...]] = []
        for index, device in enumerate(setting.devices):
            own = self._own(at, device)
            if own is not None:
                parts.append(self._on(at, index, device, own, reads))
        parent, mode, device_, row, key, *values = (np.concatenate(column) for column in zip(*parts, strict=True))
        keep = np.flatnonzero(values[0] < NEVER)
        parent, mode, device_, row, key = (a[keep] for a in (parent, mode, device_, row, key))
        values = [v[keep] for v in values]
        self.price, self.row, self.key, self.last, self.values = self.price[parent], row, key, device_, values
        for i in reads:  # fields that nobody reads any more
            port = self.costs.ports[i]
            if max(port.consumers) <= at or not any(at < c < self.span.stop for c in port.consumers):
                if ("brought", i) in self.fields:
                    self._free("brought", i)
                self._free_producer(port, at)
        self._write(at, self.last)
        self._keep_best(parent, mode)

    def _free_producer(self, port: PortCost, at: int) -> None:
        producer = port.producer
        if producer is None or ("made", producer) not in self.fields:
            return
        later = any(
            at < c < self.span.stop
            for i in self.costs.ports_at[producer]
            if self.costs.ports[i].producer == producer and self.costs.ports[i].cost
            for c in self.costs.ports[i].consumers
        )
        if not later:
            self._free("made", producer)

    def _own(self, at: int, device: str) -> tuple[Ints, Ints, Ints, Ints] | None:
        """Best mode of an operator on a device, by price: (mode's number, priced, other, stored); None without one."""
        modes = [(n, m) for n, m in enumerate(self.costs.op[at]) if m.device == device]
        if not modes:
            return None
        chosen = []
        for price in self.setting.prices:
            options = []
            for n, mode in modes:
                pair = self.costs.op[at][mode]
                stored = mode.units * self.costs.unit_bytes[at][mode] if device == self.setting.store else 0
                if price == NO_STORE and stored:
                    continue
                value = pair[self.setting.objective] * UNITS_OF_PRICE + max(price, 0) * stored
                options.append((value, pair[1 - self.setting.objective], stored, n))
            chosen.append(min(options, default=(int(NEVER), 0, 0, 0)))
        table = np.array(chosen, dtype=np.int64)
        return table[:, 3], table[:, 0], table[:, 1], table[:, 2]

    def _on(self, at: int, index: int, device: str, own: tuple[Ints, Ints, Ints, Ints], reads: list[int]) -> Any:
        """All states, after running operator `at` on one device."""
        count = len(self.key)
        mode, priced, other, stored = (column[self.price] for column in own)
        values = [self.values[0] + priced, self.values[1] + other, self.values[2] + stored]
        first = at == self.span.start
        self._add(values, [self._arrive(at, before, device, first) for before in self.setting.devices], self.last)
        key = self.key.copy()
        for i in reads:
            self._bring(values, key, i, index, device)
        for i in self.costs.ports_at[at]:
            port = self.costs.ports[i]
            if port.producer == at and not port.consumers:  # an output of the network goes to the host
                pair = port.cost.get((device, HOST), NOTHING)
                self._add(values, [pair], np.zeros(count, dtype=np.int64))
        row = self.row + (self.last == index) if first else self.row
        return np.arange(count), mode, np.full(count, index), row, key, *values

    def _arrive(self, at: int, before: str, device: str, first: bool) -> Pair:
        if first and before == device:  # what hides there depends on the block before
            return NOTHING
        return self.costs.arrive(at, before, device)

    def _add(self, values: list[Ints], pairs: Sequence[Pair], where: Ints) -> None:
        """Add a cost that depends on one column of small numbers."""
        main = np.array([p[self.setting.objective] * UNITS_OF_PRICE for p in pairs], dtype=np.int64)
        side = np.array([p[1 - self.setting.objective] for p in pairs], dtype=np.int64)
        values[0] = values[0] + main[where]
        values[1] = values[1] + side[where]

    def _bring(self, values: list[Ints], key: Ints, i: int, index: int, device: str) -> None:
        """Bring a port to a device, unless it was brought there before."""
        port, devices = self.costs.ports[i], self.setting.devices
        if port.producer is None:
            source = np.full(len(key), devices.index(HOST), dtype=np.int64)
        else:
            source = self._read("made", port.producer, key)
        pairs = [port.cost.get((src, device), NOTHING) for src in devices]
        if sum(c in self.span for c in port.consumers) > 1:
            if ("brought", i) not in self.fields:
                self._take("brought", i)
            known = (self._read("brought", i, key) >> index) & 1
            source = np.where(known == 1, len(devices), source)
            pairs.append(NOTHING)
            key |= np.int64(1 << (self.fields["brought", i] + index))
        self._add(values, pairs, source)

    def _keep_best(self, parent: Ints, mode: Ints) -> None:
        """One state of those that agree in price, row, last device and key: least priced, then other, then stored."""
        self._thin(parent, mode, [self.price, self.row, self.last, self.key])
        if len(self.key) > MOST_STATES:
            raise self._too_many()

    def _thin(self, parent: Ints, mode: Ints, same: list[Ints]) -> None:
        order = np.lexsort([*self.values[::-1], *same[::-1]])
        new = np.zeros(len(order), dtype=bool)
        new[:1] = True
        for column in same:
            ranked = column[order]
            new[1:] |= ranked[1:] != ranked[:-1]
        keep = order[new]
        self.price, self.row, self.last, self.key = (a[keep] for a in (self.price, self.row, self.last, self.key))
        self.values = [v[keep] for v in self.values]
        self.trace.append((parent[keep], mode[keep]))

    def _too_many(self) -> LimitError:
        name = self.costs.ids[self.span.start]
        why = f"more than {MOST_STATES} states, or {KEY_BITS} bits of them, in the block that begins at {name!r}"
        return LimitError(
            "too many tensors are alive at once to cost this block exactly", (name,), why, "cut it smaller"
        )

    # --- result

    def result(self) -> Paths:
        """The states that are left, as arrays."""
        count = len(self.setting.devices)
        if not self.exit:
            self.last = np.zeros_like(self.last)
        everyone = np.arange(len(self.key))
        self._thin(everyone, np.full(len(self.key), -1), [self.price, self.row, self.last])
        shape = (len(self.setting.prices), 2 * count, count)
        arrays = [np.full(shape, NEVER), np.zeros(shape, np.int64), np.zeros(shape, np.int64)]
        where = self.price, self.row, self.last
        for array, values in zip(arrays, self.values, strict=True):
            array[where] = values
        places = zip(*(column.tolist() for column in where), strict=True)
        modes = dict(zip(places, self._modes(), strict=True))
        return Paths(arrays[0], arrays[1], arrays[2], modes)

    def _modes(self) -> list[tuple[Mode, ...]]:
        """Modes of the plan behind each state, by walking back."""
        names = [list(self.costs.op[at]) for at in self.span]
        state = np.arange(len(self.key))
        columns: list[list[Mode]] = []
        parents = self.trace[-1][0]
        state = parents[state]
        for step in range(len(self.span) - 1, -1, -1):
            parent, mode = self.trace[step]
            columns.append([names[step][m] for m in mode[state].tolist()])
            state = parent[state]
        return list(zip(*columns[::-1], strict=True)) if columns else [() for _ in range(len(self.key))]
