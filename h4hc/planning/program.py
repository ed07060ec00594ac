"""The integer program of a placement: variables, rows and the way back from a solution to modes and units.

    x[i, m]    operator i runs in mode m                          sum_m x[i, m] = 1
    X[i, d]    = sum of x[i, m] over the modes m of device d       (an expression, not a variable)
    z[i, d]    d runs operator i but not the one before it         z[i, d] >= X[i, d] - X[i-1, d]
    w[p, G, d] port p is moved to d from a device in G             w >= X[v, d] + sum_{s in G} X[u, s] - 1
               for each consumer v of the port and its producer u
    capacity   resident weights                                    see `_capacity_rows`

What hides behind the operator before is taken off the cost of every x[i, m] on d and put on z[i, d] again, beside the
stay that begins there: so no cost is negative. On the host a z exists only where something hides.

An operator that has one mode left is no variable: its x is the constant 1 (`ALWAYS`), so a program in which most
operators are decided is as small as what is left of it.

z and w are continuous: with x binary and costs >= 0 they take the value 0 or 1 by themselves. Sources with equal
cost share a w (group G), which makes the relaxation tighter than one variable a pair of devices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from h4hc.costtypes import Capacity, Mode
from h4hc.planning.ilp import Effort, Program, Solution
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, PortCost, Weights
from h4hc.planning.stores import Units, pack_device
from h4hc.system import HOST


class Sort(NamedTuple):
    """What a weight store sees of an operator: it fills `share_bytes` in each of `units` units."""

    units: int
    share_bytes: int


ALWAYS = -1  # stands for a variable that is 1 in every plan
BUDGET_SCALE = 1e5  # what a budget is scaled to
NO_SIZE = Fraction(0)
WEIGHINGS = 5  # steps of `weighing` that get a row: the last counts shares above a fifth of a unit


def weighing(step: int, share: int, room: int) -> Fraction:
    """A size for a share of a unit's room such that no unit holds more than 1 in all.

    Step 0: its part of the room. Step k: f(x) = x where (k+1)x is whole, else floor((k+1)x) / k, the dual feasible
    functions of Fekete and Schepers (2001); with k = 1 at most one share above half of a unit fits.
    """
    if step and (step + 1) * share < room:
        return NO_SIZE
    part = Fraction(share, room)
    times = (step + 1) * part
    return part if step == 0 or times.denominator == 1 else Fraction(math.floor(times), step)


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
        self.n: dict[tuple[str, Sort], list[int]] = {}
        self._operators()
        self._stays()
        for index, port in enumerate(costs.ports):
            self._port(index, port)
        for device in sorted(self.tight):
            if self.tight[device]:
                self._capacity_rows(costs.capacity[device])
        if not self.program.names:
            nothing = self.program.indicator("nothing")  # all is decided; a solver wants a variable, in a row
            self.program.row([(nothing, 1.0)], -math.inf, 1.0, "nothing")

    def _operators(self) -> None:
        for at, modes in enumerate(self.modes):
            if len(modes) == 1:
                row = {modes[0]: ALWAYS}
            else:
                row = {mode: self.program.binary(f"x[{at},{mode.name}]") for mode in modes}
                self.program.row([(v, 1.0) for v in row.values()], 1.0, 1.0, f"one[{at}]")
            self.x.append(row)
            for mode, variable in row.items():
                self._price(variable, self.costs.op[at][mode])

    def row(self, terms: Sequence[tuple[int, float]], low: float, high: float, name: str) -> None:
        """A row in which ALWAYS may stand, several times: its coefficients go to the bounds."""
        constant = sum(c for v, c in terms if v == ALWAYS)
        self.program.row([(v, c) for v, c in terms if v != ALWAYS], low - constant, high - constant, name)

    def on(self, at: int, devices: Sequence[str]) -> list[int]:
        """What is 1 where the operator runs on one of the devices: variables of which one at most is 1, or ALWAYS."""
        return [v for mode, v in self.x[at].items() if mode.device in devices]

    def _stays(self) -> None:
        for at in range(len(self.modes)):
            for device in sorted({m.device for m in self.modes[at]}):
                here = self.on(at, (device,))
                before = self.on(at - 1, (device,)) if at else []
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
                if before == [ALWAYS]:  # no stay begins here
                    continue
                begins = self.program.indicator(f"z[{at},{device}]")
                self.priced[begins] = (stay[0] + hidden[0], stay[1] + hidden[1])
                terms = [(begins, 1.0), *((v, -1.0) for v in here), *((v, 1.0) for v in before)]
                self.row(terms, 0.0, math.inf, f"stay[{at},{device}]")

    def _price(self, variable: int, pair: Pair) -> None:
        if variable == ALWAYS:
            self.fixed.append(pair)
            return
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
                    for variable in self.on(port.producer, (src,)):
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
        from_group = [] if always or port.producer is None else self.on(port.producer, group)
        here = [variables for c in port.consumers if (variables := self.on(c, (dst,)))]
        if always and (len(port.consumers) == 1 or [ALWAYS] in here):
            for variable in [ALWAYS] if [ALWAYS] in here else here[0]:
                self._price(variable, pair)
            return
        moved = self.program.indicator(f"w[{name}]")
        self.priced[moved] = pair
        for number, variables in enumerate(here):
            terms = [(moved, 1.0), *((v, -1.0) for v in variables), *((v, -1.0) for v in from_group)]
            self.row(terms, 0.0 if always else -1.0, math.inf, f"move[{name},{number}]")

    def _capacity_rows(self, cap: Capacity) -> None:
        """Rows that hold for every packing into the units of one device; with `exact_units`, a packing itself."""
        assert cap.unit_bytes is not None
        sorts = self._sorts(cap)
        for sort in [sort for sort in sorts if sort.share_bytes > cap.unit_bytes]:
            self.row([(v, 1.0) for v in sorts.pop(sort)], -math.inf, 0.0, f"too_large[{cap.device},{sort}]")
        if not sorts:
            return
        grain = math.gcd(*(sort.share_bytes for sort in sorts))  # a unit holds whole grains: the rest is no room
        room = cap.unit_bytes - cap.unit_bytes % grain
        self._in_all_units(cap, sorts, room)
        if self.exact_units:
            self._in_single_units(cap, sorts, room)

    def _sorts(self, cap: Capacity) -> dict[Sort, list[int]]:
        """The choices that put bytes into a store: operators of equal sort are alike to it."""
        sorts: dict[Sort, list[int]] = {}
        for at, row in enumerate(self.x):
            for mode, variable in row.items():
                share = self.costs.unit_bytes[at][mode] if mode.device == cap.device else 0
                if share:
                    sorts.setdefault(Sort(mode.units, share), []).append(variable)
        return dict(sorted(sorts.items()))

    def _in_all_units(self, cap: Capacity, sorts: Mapping[Sort, list[int]], room: int) -> None:
        """All shares fit in all units together; so do the sizes that a `weighing` gives them."""
        for step in range(WEIGHINGS):
            terms = []
            for sort, variables in sorts.items():
                size = sort.units * weighing(step, sort.share_bytes, room)
                terms += [(v, float(size)) for v in variables if size]
            if sum(size for _, size in terms) > cap.units:  # else it cannot be broken
                self.row(terms, -math.inf, float(cap.units), f"capacity[{cap.device},{step}]")

    def _in_single_units(self, cap: Capacity, sorts: Mapping[Sort, list[int]], room: int) -> None:
        """n[s, u] operators of sort s hold a share in unit u.

        Units are alike, so their loads are made to fall. Operators of a sort are alike, so their number is enough:
        `_deal` finds units for each.
        """
        held: list[list[tuple[int, float]]] = [[] for _ in range(cap.units)]
        for sort, variables in sorts.items():
            size = sort.share_bytes / room
            if sort.units == cap.units:
                for terms in held:
                    terms += [(v, size) for v in variables]
                continue
            number = [self.program.count(f"n[{cap.device},{sort},{u}]", len(variables)) for u in range(cap.units)]
            self.n[cap.device, sort] = number
            chosen = [(v, -1.0) for v in variables]
            for terms, n in zip(held, number, strict=True):
                terms.append((n, size))
                if sort.units > 1:
                    self.row([(n, 1.0), *chosen], -math.inf, 0.0, f"apart[{cap.device},{sort}]")
            shares = [*((n, 1.0) for n in number), *((v, -float(sort.units)) for v in variables)]
            self.row(shares, 0.0, 0.0, f"shares[{cap.device},{sort}]")
        for unit, terms in enumerate(held):
            self.row(terms, -math.inf, 1.0, f"unit[{cap.device},{unit}]")
        for unit, (fuller, emptier) in enumerate(itertools.pairwise(held)):
            difference: dict[int, float] = {}
            for variable, size in [*fuller, *((v, -size) for v, size in emptier)]:
                difference[variable] = difference.get(variable, 0.0) + size
            self.row([(v, c) for v, c in difference.items() if c], 0.0, math.inf, f"falling[{cap.device},{unit}]")

    def at_most(self, part: int, limit: int) -> None:
        """No more than `limit` of latency (part 0) or energy (part 1) in all.

        Both sides are whole, so the half above the limit cuts no plan off and lets none in; about BUDGET_SCALE, the row
        is far from both ends of the solver's tolerances.
        """
        scale = max(1.0, limit / BUDGET_SCALE)
        room = limit + 0.5 - sum(pair[part] for pair in self.fixed)
        terms = [(v, pair[part] / scale) for v, pair in self.priced.items() if pair[part]]
        if not terms:  # nothing left to choose: a row of a variable that cannot help
            terms = [(0, 0.0)]
        self.program.row(terms, -math.inf, room / scale, f"budget[{part}]")

    def solve(
        self, weights: Weights, scale: float, *, gap: float, effort: Effort, known: float = -math.inf
    ) -> Solution:
        """Minimise the weighted cost divided by `scale`, fixed costs left out. known: see `Program.solve`."""
        cost = {v: weights.of(pair) / scale for v, pair in self.priced.items() if weights.of(pair)}
        return self.program.solve(cost, gap=gap, effort=effort, known=known)

    def chosen(self, solution: Solution) -> tuple[Mode, ...]:
        """Modes of a solution, by position."""
        return tuple(
            max(row, key=lambda m, row=row: solution.values[row[m]]) if len(row) > 1 else next(iter(row))  # type: ignore[misc]
            for row in self.x
        )

    def units(self, solution: Solution, modes: Sequence[Mode]) -> Units | None:
        """Units each operator's weights live in; None if the modes cannot be packed (or no packing was found)."""
        placed: Units = {}
        for device in sorted(self.costs.capacity):
            if self.exact_units and self.tight[device]:
                placed.update(self._deal(solution, modes, device))
                continue
            packed = pack_device(self.costs, device, modes)
            if packed is None:
                return None
            placed.update(packed)
        return placed

    def _deal(self, solution: Solution, modes: Sequence[Mode], device: str) -> Units:
        """Units for each operator, from how many shares of its sort each unit holds.

        The shares of a sort lie in a row, unit by unit; of k operators each takes every k-th. No unit has more than k
        of them, so an operator's units differ. One without weights may have any.
        """
        users: dict[Sort, list[int]] = {}
        for at, mode in enumerate(modes):
            if mode.device == device:
                users.setdefault(Sort(mode.units, self.costs.unit_bytes[at][mode]), []).append(at)
        placed: Units = {}
        for sort, members in users.items():
            number = self.n.get((device, sort))
            if number is None:  # every unit, or no weights
                placed.update(dict.fromkeys(members, tuple(range(sort.units))))
                continue
            row = [unit for unit, n in enumerate(number) for _ in range(round(solution.values[n]))]
            placed.update({at: tuple(row[i :: len(members)]) for i, at in enumerate(members)})
        return placed
