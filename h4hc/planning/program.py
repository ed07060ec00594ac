"""The integer program of a placement: variables, rows and the way back from a solution to modes and units.

    x[i, m]    operator i runs in mode m                          sum_m x[i, m] = 1
    X[i, d]    = sum of x[i, m] over the modes m of device d       (an expression, not a variable)
    z[i, d]    d runs operator i but not the one before it         z[i, d] >= X[i, d] - X[i-1, d]
    w[p, G, d] port p is moved to d from a device in G             w >= X[v, d] + sum_{s in G} X[u, s] - 1
               for each consumer v of the port and its producer u
    capacity   resident weights                                    see `_capacity_rows`

What hides behind the operator before is taken off the cost of every x[i, m] on d and put on z[i, d] again, beside the
stay that begins there: so no cost is negative. On the host a z exists only where something hides.

z and w are continuous: with x binary and costs >= 0 they take the value 0 or 1 by themselves. Sources with equal
cost share a w (group G), which makes the relaxation tighter than one variable a pair of devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from h4hc.costtypes import Capacity, Mode
from h4hc.planning.ilp import Program, Solution
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, PortCost
from h4hc.planning.stores import Units, pack_device
from h4hc.system import HOST


class Weights(NamedTuple):
    """Objective = latency * ps + energy * pj, a non-negative integer combination."""

    latency: int
    energy: int

    def of(self, pair: Pair) -> int:
        """Value of a (latency, energy) pair."""
        return self.latency * pair[0] + self.energy * pair[1]


class PlanProgram:
    """One program for one table and one set of allowed modes; solved for any weights of the objective.

    exact_units: also decide which units hold each share (needed only when the aggregated rows admit a solution
    that cannot be packed).
    """

    def __init__(
        self, costs: PlanCosts, modes: Sequence[Sequence[Mode]], tight: Mapping[str, bool], *, exact_units: bool
    ) -> None:
        """modes: by position, what is left of those allowed; tight: devices whose weight store can overflow."""
        self.costs, self.modes, self.tight = costs, modes, tight
        self.exact_units = exact_units
        self.program = Program()
        self.fixed: list[Pair] = [costs.border]  # costs that no choice changes
        self.priced: dict[int, Pair] = {}  # variable -> its cost
        self.x: list[dict[Mode, int]] = []
        self.y: dict[tuple[int, Mode, int], int] = {}
        self._operators()
        self._stays()
        for index, port in enumerate(costs.ports):
            self._port(index, port)
        for device in sorted(self.tight):
            if self.tight[device]:
                self._capacity_rows(costs.capacity[device])

    def _operators(self) -> None:
        for at, modes in enumerate(self.modes):
            row = {mode: self.program.binary(f"x[{at},{mode.name}]") for mode in modes}
            self.x.append(row)
            self.program.row([(v, 1.0) for v in row.values()], 1.0, 1.0, f"one[{at}]")
            for mode, variable in row.items():
                self.priced[variable] = self.costs.op[at][mode]

    def _on(self, at: int, devices: Sequence[str]) -> list[int]:
        return [v for mode, v in self.x[at].items() if mode.device in devices]

    def _stays(self) -> None:
        for at in range(len(self.modes)):
            for device in sorted({m.device for m in self.modes[at]}):
                here = self._on(at, (device,))
                before = self._on(at - 1, (device,)) if at else []
                stay = NOTHING if device == HOST else self.costs.stay[device]
                if not before:  # every use of the device here begins a stay
                    for variable in here:
                        self._price(variable, stay)
                    continue
                hidden = self.costs.hidden.get((at, device), NOTHING)
                if device == HOST and hidden == NOTHING:
                    continue
                for variable in here:
                    self._price(variable, (-hidden[0], -hidden[1]))
                begins = self.program.indicator(f"z[{at},{device}]")
                self.priced[begins] = (stay[0] + hidden[0], stay[1] + hidden[1])
                terms = [(begins, 1.0), *((v, -1.0) for v in here), *((v, 1.0) for v in before)]
                self.program.row(terms, 0.0, math.inf, f"stay[{at},{device}]")

    def _price(self, variable: int, pair: Pair) -> None:
        old = self.priced.get(variable, (0, 0))
        self.priced[variable] = (old[0] + pair[0], old[1] + pair[1])

    def _port(self, index: int, port: PortCost) -> None:
        sources = (HOST,) if port.producer is None else tuple(sorted({m.device for m in self.modes[port.producer]}))
        if not port.consumers:  # a model output: the producer's device decides alone
            for src in sources:
                pair = port.cost.get((src, HOST), (0, 0))
                if port.producer is None:
                    self.fixed.append(pair)
                else:
                    for variable in self._on(port.producer, (src,)):
                        self._price(variable, pair)
            return
        for dst in sorted({m.device for c in port.consumers for m in self.modes[c]}):
            groups: dict[Pair, list[str]] = {}
            for src in sources:
                pair = port.cost.get((src, dst), (0, 0))
                if pair != (0, 0):
                    groups.setdefault(pair, []).append(src)
            for number, (pair, group) in enumerate(groups.items()):
                self._move(f"{index},{number},{dst}", port, pair, group, sources, dst)

    def _move(
        self, name: str, port: PortCost, pair: Pair, group: list[str], sources: tuple[str, ...], dst: str
    ) -> None:
        always = len(group) == len(sources)  # whatever the producer's device, the move is due
        from_group = [] if always or port.producer is None else self._on(port.producer, group)
        if always and len(port.consumers) == 1:
            for variable in self._on(port.consumers[0], (dst,)):
                self._price(variable, pair)
            return
        moved = self.program.indicator(f"w[{name}]")
        self.priced[moved] = pair
        for consumer in port.consumers:
            terms = [(moved, 1.0), *((v, -1.0) for v in self._on(consumer, (dst,)))]
            terms += [(v, -1.0) for v in from_group]
            self.program.row(terms, 0.0 if always else -1.0, math.inf, f"move[{name},{consumer}]")

    def _capacity_rows(self, cap: Capacity) -> None:
        """Aggregated: all shares together fit in all units together, and shares of modes that use every unit fit in
        one. With `exact_units`, y[i, m, u] says that unit u holds a share, m units in all, each unit within bounds."""
        assert cap.unit_bytes is not None
        if not self.exact_units:
            every, whole = [], []
            for at, row in enumerate(self.x):
                for mode, variable in row.items():
                    share = self.costs.unit_bytes[at][mode] if mode.device == cap.device else 0
                    if share:
                        every.append((variable, share * mode.units / cap.unit_bytes))
                        if mode.units == cap.units:
                            whole.append((variable, share / cap.unit_bytes))
            self.program.row(every, -math.inf, float(cap.units), f"capacity[{cap.device}]")
            if whole:
                self.program.row(whole, -math.inf, 1.0, f"capacity[{cap.device},each]")
            return
        held: list[list[tuple[int, float]]] = [[] for _ in range(cap.units)]
        for at, row in enumerate(self.x):
            for mode, variable in row.items():
                share = self.costs.unit_bytes[at][mode] if mode.device == cap.device else 0
                if not share:
                    continue
                used = [self.program.binary(f"y[{at},{mode.name},{u}]") for u in range(cap.units)]
                for unit, y in enumerate(used):
                    self.y[at, mode, unit] = y
                    held[unit].append((y, share / cap.unit_bytes))
                self.program.row([*((y, 1.0) for y in used), (variable, -float(mode.units))], 0.0, 0.0, f"units[{at}]")
        for unit, terms in enumerate(held):
            self.program.row(terms, -math.inf, 1.0, f"capacity[{cap.device},{unit}]")

    def solve(self, weights: Weights, scale: float, *, gap: float, time_limit_s: float) -> Solution:
        """Minimise the weighted cost divided by `scale`, fixed costs left out."""
        cost = {v: weights.of(pair) / scale for v, pair in self.priced.items() if weights.of(pair)}
        return self.program.solve(cost, gap=gap, time_limit_s=time_limit_s)

    def chosen(self, solution: Solution) -> tuple[Mode, ...]:
        """Modes of a solution, by position."""
        return tuple(max(row, key=lambda m, row=row: solution.values[row[m]]) for row in self.x)  # type: ignore[misc]

    def units(self, solution: Solution, modes: Sequence[Mode]) -> Units | None:
        """Units each operator's weights live in; None if the modes cannot be packed (or no packing was found)."""
        placed: Units = {}
        for device in sorted(self.costs.capacity):
            if self.exact_units and self.tight[device]:
                placed.update(self._decided(solution, modes, device))
                continue
            packed = pack_device(self.costs, device, modes)
            if packed is None:
                return None
            placed.update(packed)
        return placed

    def _decided(self, solution: Solution, modes: Sequence[Mode], device: str) -> Units:
        """Units that the program itself chose; an operator without weights holds nothing, so any units serve."""
        held = {at: list(range(m.units)) for at, m in enumerate(modes) if m.device == device}
        held.update({at: [] for at in held if self.costs.unit_bytes[at][modes[at]]})
        for (at, mode, unit), variable in self.y.items():
            if mode == modes[at] and mode.device == device and solution.values[variable] > 0.5:
                held[at].append(unit)
        return {at: tuple(units) for at, units in held.items()}
