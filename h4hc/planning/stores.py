"""The weight stores of a plan that is built or changed one operator at a time, with a valid packing at every moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h4hc.costtypes import Mode
from h4hc.planning.packing import SEARCH_NODES, pack
from h4hc.planning.plan_cost import PlanCosts

Units = dict[int, tuple[int, ...]]  # position -> the units that hold its weights
REPACKS = 8192  # weights that are packed anew when a store is full; after that an operator goes where there is room


class Stores:
    """Keeps, for each device whose store can overflow, which units hold what.

    tight: device -> whether its store can overflow at all; the others are not tracked.
    """

    def __init__(self, costs: PlanCosts, tight: Mapping[str, bool]) -> None:
        self._costs = costs
        self._load = {device: [0] * costs.capacity[device].units for device in sorted(tight) if tight[device]}
        self._held: dict[int, tuple[Mode, tuple[int, ...]]] = {}
        self._repacks_left = REPACKS

    def fill(self, modes: Sequence[Mode], units: Units) -> None:
        """Take over a plan whose units are known."""
        for at, mode in enumerate(modes):
            if mode.device in self._load:
                self._put(at, mode, units[at])

    def place(self, at: int, mode: Mode) -> bool:
        """Give the operator at `at` this mode; False, and nothing changed, if its weights do not fit."""
        old = self._held.pop(at, None)
        if old is not None:
            self._add(old[0].device, old[1], -self._costs.unit_bytes[at][old[0]])
        if mode.device not in self._load or self._fit(at, mode):
            return True
        if old is not None:
            self._put(at, *old)
        return False

    def _fit(self, at: int, mode: Mode) -> bool:
        """Into the emptiest units; if that fails although there is room in all, by packing the whole store anew."""
        load, share = self._load[mode.device], self._costs.unit_bytes[at][mode]
        limit = self._costs.capacity[mode.device].unit_bytes
        assert limit is not None
        emptiest = sorted(range(len(load)), key=lambda unit: (load[unit], unit))[: mode.units]
        if all(load[unit] + share <= limit for unit in emptiest):
            self._put(at, mode, tuple(sorted(emptiest)))
            return True
        if self._repacks_left <= 0 or sum(load) + mode.units * share > limit * len(load):
            return False
        members = [i for i in sorted(self._held) if self._held[i][0].device == mode.device]
        modes = [*(self._held[i][0] for i in members), mode]
        items = [(m.units, self._costs.unit_bytes[i][m]) for i, m in zip([*members, at], modes, strict=True)]
        self._repacks_left -= len(items)
        packed = pack(items, len(load), limit, node_limit=0)
        if packed is None:
            return False
        self._load[mode.device] = [0] * len(load)
        for i, m, units in zip([*members, at], modes, packed, strict=True):
            self._put(i, m, units)
        return True

    def _put(self, at: int, mode: Mode, units: tuple[int, ...]) -> None:
        self._held[at] = (mode, units)
        self._add(mode.device, units, self._costs.unit_bytes[at][mode])

    def _add(self, device: str, units: tuple[int, ...], size_bytes: int) -> None:
        for unit in units:
            self._load[device][unit] += size_bytes

    def units(self, modes: Sequence[Mode]) -> Units:
        """Units of the whole plan: those held here, and any for devices whose store cannot overflow."""
        placed = {at: units for at, (_, units) in self._held.items()}
        for device in self._costs.capacity:
            if device not in self._load:
                loose = pack_device(self._costs, device, modes)
                assert loose is not None, f"the store of {device} was said not to overflow"
                placed.update(loose)
        return placed


def pack_device(costs: PlanCosts, device: str, modes: Sequence[Mode]) -> Units | None:
    """Units for every operator on `device`; None if no packing was found. A device without a store has none."""
    cap = costs.capacity[device]
    users = [at for at, m in enumerate(modes) if m.device == device]
    if cap.unit_bytes is None:
        return {at: tuple(range(modes[at].units)) for at in users if cap.units > 1}
    items = [(modes[at].units, costs.unit_bytes[at][modes[at]]) for at in users]
    packed = pack(items, cap.units, cap.unit_bytes, node_limit=SEARCH_NODES)
    return None if packed is None else dict(zip(users, packed, strict=True))
