"""Presolve: modes that some optimal plan does without, whatever the objective.

Mode m of an operator may go when another mode m' of it costs no more in every surrounding, in latency and in energy:

    op(m') + worst <= op(m)    worst = max over the neighbours' devices of  around(m') - around(m)

where `around` is what the operator's device changes elsewhere: the stays that begin at it and behind it, what hides
when a neighbour runs on the same device, the moves of the ports it reads and of those it writes. Each neighbour's
maximum is taken by itself and the two objectives by themselves, which can only overestimate `worst`: no mode goes
wrongly. m' must also ask no more of a weight store that can overflow. Modes go one at a time, each against what is
left, so for every plan there stays one that is as good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from h4hc.costtypes import Mode
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts, PortCost
from h4hc.system import HOST


def tight_devices(costs: PlanCosts, allowed: Sequence[Sequence[Mode]]) -> dict[str, bool]:
    """Whether a device's weight store can overflow at all: it cannot if the largest share of every operator that
    may run there fits into one unit together."""
    worst: dict[str, int] = {}
    for at, modes in enumerate(allowed):
        for device in sorted({m.device for m in modes}):
            share = max(costs.unit_bytes[at][m] for m in modes if m.device == device)
            worst[device] = worst.get(device, 0) + share
    return {
        device: cap.unit_bytes is not None and worst.get(device, 0) > cap.unit_bytes
        for device, cap in costs.capacity.items()
    }


def undominated(
    costs: PlanCosts, allowed: Sequence[Sequence[Mode]], tight: Mapping[str, bool]
) -> tuple[tuple[Mode, ...], ...]:
    """The modes worth keeping, by position, in the order given. Of equal modes of a device the first stays."""
    presolve = _Presolve(costs, allowed, tight)
    todo = set(range(len(allowed)))
    while todo:  # an operator is looked at again when a neighbour can no longer run where it could
        freed = [at for at in sorted(todo) if presolve.thin_out(at)]
        todo = {n for at in freed for n in costs.neighbours(at) if len(presolve.left[n]) > 1}
    return tuple(tuple(modes) for modes in presolve.left)


class _Presolve:
    """left: modes by position that have not gone yet."""

    def __init__(self, costs: PlanCosts, allowed: Sequence[Sequence[Mode]], tight: Mapping[str, bool]) -> None:
        self.costs, self.tight = costs, tight
        self.left = [list(modes) for modes in allowed]
        self.devices = [{m.device for m in modes} for modes in allowed]

    def thin_out(self, at: int) -> bool:
        """Drop every dominated mode of one operator; whether a device went with them.

        The last modes go first, so of equals the first stays.
        """
        modes = self.left[at]
        for mode in modes[::-1]:
            for other in modes:
                if other is not mode and self._beats(at, other, mode):
                    modes.remove(mode)
                    break
        devices, self.devices[at] = self.devices[at], {m.device for m in modes}
        return len(self.devices[at]) < len(devices)

    def _beats(self, at: int, other: Mode, mode: Mode) -> bool:
        """Whether `other` is no worse than `mode` in any surrounding, and asks no more of a store that is tight."""
        mine, theirs = self.costs.op[at][mode], self.costs.op[at][other]
        if theirs[0] > mine[0] or theirs[1] > mine[1]:  # whatever surrounds them: _worst is never negative
            return False
        same, size = other.device == mode.device, self.costs.unit_bytes[at]
        leaner = same and other.units <= mode.units and size[other] <= size[mode]
        if self.tight[other.device] and size[other] and not leaner:
            return False
        worst = NOTHING if same else self._worst(at, other.device, mode.device)
        return theirs[0] + worst[0] <= mine[0] and theirs[1] + worst[1] <= mine[1]

    def _worst(self, at: int, to: str, off: str) -> Pair:
        """What moving the operator from `off` to `to` can cost at most outside it, in each objective."""
        pairs = [self._stay_here(at, to, off), self._stay_behind(at, to, off)]
        for index in self.costs.ports_at[at]:
            port = self.costs.ports[index]
            pairs.append(self._written(port, to, off) if port.producer == at else self._read(at, port, to, off))
        return max(0, sum(p[0] for p in pairs)), max(0, sum(p[1] for p in pairs))

    def _stay_here(self, at: int, to: str, off: str) -> Pair:
        """The stay that begins at the operator, or what hides behind the one before it on the same device."""
        arrive, before = self.costs.arrive, self.devices[at - 1] if at else {HOST}
        return _most(_less(arrive(at, d, to), arrive(at, d, off)) for d in before)

    def _stay_behind(self, at: int, to: str, off: str) -> Pair:
        """The same for the next operator."""
        if at + 1 == len(self.devices):
            return NOTHING
        arrive = self.costs.arrive
        return _most(_less(arrive(at + 1, to, d), arrive(at + 1, off, d)) for d in self.devices[at + 1])

    def _read(self, at: int, port: PortCost, to: str, off: str) -> Pair:
        """The move to the operator. The one to `off` is saved only if nobody else may need it there."""
        shared = any(off in self.devices[c] for c in port.consumers if c != at)
        sources = {HOST} if port.producer is None else self.devices[port.producer]
        move = port.cost.get
        return _most(_less(move((s, to), NOTHING), NOTHING if shared else move((s, off), NOTHING)) for s in sources)

    def _written(self, port: PortCost, to: str, off: str) -> Pair:
        """The moves of a port the operator writes: to one device for one consumer, to any set of them for more."""
        targets = {d for c in port.consumers for d in self.devices[c]} or {HOST}
        deltas = [_less(port.cost.get((to, d), NOTHING), port.cost.get((off, d), NOTHING)) for d in sorted(targets)]
        if len(port.consumers) <= 1:
            return _most(deltas)
        return sum(max(0, d[0]) for d in deltas), sum(max(0, d[1]) for d in deltas)


def _less(one: Pair, other: Pair) -> Pair:
    return one[0] - other[0], one[1] - other[1]


def _most(pairs: Iterable[Pair]) -> Pair:
    """The largest of each component."""
    return tuple(map(max, zip(*pairs, strict=True)))
