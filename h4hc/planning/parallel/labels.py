"""The best parallel plan for an order: labels over what the rest of the order can see of the past.

A label is the state of a plan up to an operator (`clock`). Of two labels that agree in what is discrete (the device of
the open stay, where each live result is and was brought), one whose times, energy and stored bytes are all no larger
is at least as good in every completion, since all of them only grow by maxima and sums: the other is dropped.

A label's completions cost at least  goal(latency bound, energy bound):

    latency bound = max over live results of  time + tail[producer, device]  (`tails`)
    energy bound  = dynamic energy so far + sum over operators to come of the least + leakage(latency bound)

With a price on each stored byte and the stores' room given back, the same bounds hold for every plan that fits, since
it pays no more than the room: `Prices`.

Labels whose bound is not below the best plan known (less the gap) are dropped. When too many are left behind an
operator, those of the largest bound are dropped as well (the width of the beam), and the least of their bounds stays a
bound on everything that was lost. Widths grow until nothing is lost, or the gap is closed, or time is up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import attrgetter, le, mul
from typing import NamedTuple

from h4hc.costtypes import Mode
from h4hc.planning.parallel.clock import OPEN, Clock, State, Stay, dead_after, own_share
from h4hc.planning.parallel.index import ActivityIndex, Choice
from h4hc.planning.parallel.storage import Held, Storage
from h4hc.planning.parallel.tails import Prices, Tails, cuts_of

Goal = Callable[[int, int], int]  # value of (latency, energy): grows with both
WIDTHS = (32, 128, 512, 2048, 8192, 32768, 131072)
PROVING = 512  # from this width on the gap counts; narrower beams look for better plans
LOOK_AHEAD = 3000  # labels made for one tail
INFINITE = math.inf


class Step(NamedTuple):
    """How an operator was added to a label: its mode, whether a new stay began on the same device, and the label."""

    mode: Mode
    new_stay: bool
    before: Step | None


@dataclass
class Label:
    """A state, what the weight stores hold, the way to it, and the bound of its completions."""

    state: State
    held: Held
    way: Step | None
    bound: int


@dataclass(frozen=True)
class ParallelPlan:
    """Modes and breaks by position; latency [ps], energy [pJ]; value of the goal."""

    modes: tuple[Mode, ...]
    breaks: tuple[bool, ...]
    latency_ps: int
    energy_pj: int
    value: int


class LabelSearch:
    """One goal on one index of costs.

    choices: by position, the modes allowed. storage: what is known of the weight stores; fits: says whether a whole
    plan packs into their units. with_energy: whether the goal looks at it.
    best: the best plan that fits; bound: no plan is below it.
    """

    def __init__(
        self,
        index: ActivityIndex,
        choices: Sequence[Sequence[Choice]],
        storage: Storage,
        goal: Goal,
        fits: Callable[[tuple[Mode, ...]], bool],
        deadline: float,
        gap: float,
        with_energy: bool,
        prices: Prices,
    ) -> None:
        self.index, self.choices, self.goal, self.fits = index, choices, goal, fits
        self.with_energy = with_energy
        self.storage = storage
        self.deadline, self.gap = deadline, gap
        self.clock = Clock(index)
        self.normal = Normal(index)
        self.prices = prices
        self.least_pj = _least_energy(index, choices, prices)
        self._read_last = [frozenset(producers) for _, producers in dead_after(index)]
        self.best: ParallelPlan | None = None
        self.tails = Tails(index, choices, prices)
        self.price_of = [prices.of[device] for device in storage.owners]
        self.bound = self._root()

    def know(self, modes: Sequence[Mode], breaks: Sequence[bool] | None = None) -> ParallelPlan:
        """Time a whole plan and keep it if it is the best."""
        breaks = [False] * len(modes) if breaks is None else breaks
        state = self.clock.begin()
        for at, mode in enumerate(modes):
            choice = next(c for c in self.index.ops[at].choices if c.mode == mode)
            state = self.clock.step(state, at, choice, breaks[at])
        latency, energy = self.clock.finish(state)
        plan = ParallelPlan(tuple(modes), tuple(breaks), latency, energy, self.goal(latency, energy))
        if (self.best is None or plan.value < self.best.value) and self.fits(plan.modes):
            self.best = plan
        return plan

    def run(self) -> None:
        """Widen the beam until the best plan is proved within the gap, or the time is over."""
        if self._closed():
            return
        self._look_ahead()
        self.bound = max(self.bound, self._root())
        for width in WIDTHS:
            self._sweep(width)
            if self._closed() or time.monotonic() > self.deadline:
                return

    def _closed(self) -> bool:
        return self.best is not None and self.bound >= self._limit(self.gap)

    def _limit(self, gap: float) -> float:
        """Bounds from here on are of no use: no completion is better than the best plan by more than the gap."""
        return INFINITE if self.best is None else self.best.value - math.floor(gap * self.best.value)

    def _root(self) -> int:
        """What the bounds say of all plans."""
        return max(0, self._bound(self.clock.begin(), -1, self.storage.empty))

    def _look_ahead(self) -> None:
        """Sharpen the tails at the cuts, from the last to the first: the least time of all that lies behind each."""
        cuts = cuts_of(self.index)
        for before, cut, stop in zip(
            [*cuts[-2::-1], 0], cuts[::-1], [len(self.choices) - 1, *cuts[:0:-1]], strict=False
        ):
            if time.monotonic() > self.deadline:
                return
            for device in sorted({choice.device for choice in self.choices[cut]}):
                begin = self._behind(cut, device)
                self.tails.sharpen(cut, device, self._nearest(begin, cut + 1, stop))
            self.tails.redo(cut, before)
        self.tails.redo(cuts[0] if cuts else -1, 0)

    def _behind(self, cut: int, device: int) -> State:
        """The most that a plan may have behind a cut: all engines free, its stay open."""
        host = self.index.host
        stay = Stay(device) if device == host else Stay(device, resumed=True)
        made = {cut: (device, 0 if device == host else OPEN)}
        return State((0,) * len(self.index.engines), stay, made, {}, 0)

    def _nearest(self, begin: State, first: int, last: int) -> int:
        """The least time of all completions of a label that its way to the operator at `last` tells (A*).

        After LOOK_AHEAD labels the least of those that wait, which is below it.
        """
        waiting: list[tuple[float, int, int, float, State]] = [(0, 0, first, 0, begin)]
        fronts: dict[tuple[int, object], list[tuple[float, ...]]] = {}
        made = 0
        while True:
            least, _, at, paid, state = heappop(waiting)
            if at > last or made > LOOK_AHEAD:
                return math.floor(least)
            for choice in self.choices[at]:
                for new_stay in self._entries(state, at, choice):
                    grown = self.normal(self.clock.step(state, at, choice, new_stay))
                    key, times = _signature(grown, self.index.live_after[at], self.index, False)
                    more = paid + self.tails.paid(choice)
                    front = fronts.setdefault((at, key), [])
                    if any(all(map(le, other, (*times, more))) for other in front):
                        continue
                    front.append((*times, more))
                    made += 1
                    bound = max(least, self._latency_bound(grown, at) + more)
                    heappush(waiting, (bound, -made, at + 1, more, grown))

    def _sweep(self, width: int) -> None:
        """One pass over the order."""
        start = Label(self.clock.begin(), self.storage.empty, None, 0)
        gap = self.gap if width >= PROVING else 0.0
        labels, lost = self._through([start], width, gap)
        for label in labels:
            lost = min(lost, self._whole(label))
        if self.best is not None:  # all others were bounded away, by the gap at most
            self.bound = max(self.bound, int(min(lost, self._limit(gap))))

    def _through(self, labels: list[Label], width: int, gap: float) -> tuple[list[Label], float]:
        """Complete labels, and the least bound of those that the beam or the clock dropped."""
        lost = math.inf
        for at in range(len(self.choices)):
            labels = self._grown(labels, at, self._limit(gap))
            if len(labels) > width:
                labels.sort(key=attrgetter("bound"))
                lost = min(lost, labels[width].bound)
                del labels[width:]
            if time.monotonic() > self.deadline:
                return [], min([lost, *(label.bound for label in labels)])
        return labels, lost

    def _whole(self, label: Label) -> float:
        """Keep a complete plan if it is the best that fits; what is lost where it does not fit."""
        latency, energy = self.clock.finish(label.state)
        value = self.goal(latency, energy)
        if self.best is not None and value >= self.best.value:
            return INFINITE
        steps: list[Step] = []
        step = label.way
        while step is not None:
            steps.append(step)
            step = step.before
        steps.reverse()
        modes = tuple(step.mode for step in steps)
        if not self.fits(modes):
            return value
        self.best = ParallelPlan(modes, tuple(step.new_stay for step in steps), latency, energy, value)
        return INFINITE

    def _grown(self, labels: list[Label], at: int, limit: float) -> list[Label]:
        """All labels behind the operator at `at`, without those that cannot become better than others."""
        live = self.index.live_after[at]
        kept: dict[object, list[tuple[tuple[int, ...], Label]]] = {}
        for label in labels:
            for choice in self.choices[at]:
                for new_stay in self._entries(label.state, at, choice):
                    state = self.normal(self.clock.step(label.state, at, choice, new_stay))
                    if self._bound(state, at, label.held) >= limit:
                        continue
                    key, times = _signature(state, live, self.index, self.with_energy)
                    front = kept.setdefault(key, [])
                    for held in self.storage.after(label.held, choice):
                        least = self._bound(state, at, held)
                        if least >= limit:
                            continue
                        numbers = times + held
                        if any(all(map(le, other, numbers)) for other, _ in front):
                            continue
                        front[:] = [f for f in front if not all(map(le, numbers, f[0]))]
                        way = Step(choice.mode, new_stay, label.way)
                        front.append((numbers, Label(state, held, way, least)))
        return [label for front in kept.values() for _, label in front]

    def _entries(self, state: State, at: int, choice: Choice) -> tuple[bool, ...]:
        """Whether the operator joins the open stay, or begins another one on the same device.

        That is of use only if the stay has made something for others than this operator, or if this operator waits for
        something that the stay does not.
        """
        index, device = self.index, choice.device
        if state.stay.device != device or device == index.host:
            return (False,)
        for number in index.ops[at].reads:
            time = state.brought.get((number, device))
            if time is None:
                source, time = state.made[index.ports[number].producer]
                steps = index.ports[number].moves.get((source, device), ())
                if own_share(steps, device) < len(steps):
                    return (False, True)
            if time > state.stay.ready_ps:
                return (False, True)
        alone = self._read_last[at]
        if all(time != OPEN or producer in alone for producer, (_, time) in state.made.items()):
            return (False,)
        return (False, True)

    def _bound(self, state: State, at: int, held: Held) -> int:
        """Value that no completion is below."""
        end = self._latency_bound(state, at)
        paid: float = sum(map(mul, self.price_of, held)) - self.prices.given_back
        if not self.with_energy:
            return math.floor(self.goal(end, 0) + paid)
        energy = state.energy_pj + self.least_pj[at + 1] + self.index.leakage(end)
        return math.floor(self.goal(end, energy) + paid)

    def _latency_bound(self, state: State, at: int) -> int:
        """Time before which no completion ends; with the prices of what is stored on the way there."""
        end, stay, index, tails = state.end_ps, state.stay, self.index, self.tails
        here = 0
        if stay.device != index.host:
            here = max(state.free[stay.device], stay.ready_ps)
            if not stay.resumed:
                here = max(here, state.free[index.host]) + index.switch[stay.device].ps
            here += stay.work_ps
            end = max(end, here)
        for producer, (device, made) in state.made.items():
            if producer == at:
                least = (here if made == OPEN else made) + tails.of[at][device]
            elif made != OPEN:
                least = made + tails.behind(producer, at)[device]
            else:
                continue
            if least > end:
                end = least
        return end


class Normal:
    """Raises times that are too early to matter, so that plans which differ in them alone become equal.

    A stay waits for the host, which issues it: no device need be free before the host is, nor any input of it there,
    unless the device also moves tensors outside its stays, or the DMA does without the host.
    """

    def __init__(self, index: ActivityIndex) -> None:
        self.index = index
        self.busy: set[int] = set()  # engines other than the host that work outside stays
        for port in index.ports:
            for (_, target), steps in port.moves.items():
                own = 0 if target == index.host else own_share(steps, target)
                self.busy.update(a.engine for a in steps[: len(steps) - own])
        self.busy.discard(index.host)
        self.outside = any(engine >= len(index.devices) for engine in self.busy)

    def __call__(self, state: State) -> State:
        index, stay, host = self.index, state.stay, state.free[self.index.host]
        free = list(state.free)
        for device in range(len(index.devices)):
            if device not in self.busy and device != stay.device and free[device] < host:
                free[device] = host
        if stay.device != index.host:
            begins = max(free[stay.device], stay.ready_ps, 0 if stay.resumed else host)
            free[stay.device] = begins
            stay = Stay(stay.device, begins, stay.work_ps, stay.resumed)
        made, brought = state.made, state.brought
        if not self.outside:
            made = {
                producer: (device, time if time == OPEN else max(time, min(host, free[device])))
                for producer, (device, time) in made.items()
            }
            brought = {key: time if time == OPEN else max(time, host) for key, time in brought.items()}
        return State(tuple(free), stay, made, brought, state.energy_pj)


def _signature(
    state: State, live: tuple[int, ...], index: ActivityIndex, with_energy: bool
) -> tuple[object, tuple[int, ...]]:
    """What is discrete in a state, and all of its numbers that completions grow with."""
    stay = state.stay
    where: list[tuple[int, int]] = []
    times = [*state.free, stay.ready_ps, stay.work_ps]
    for number in live:
        found = state.made.get(index.ports[number].producer)
        if found is None:  # made before the cut that is looked ahead from
            continue
        device, time = found
        where.append((device, time == OPEN))
        times.append(time)
        for other in range(len(index.devices)):
            there = state.brought.get((number, other))
            if there is not None:
                where.append((number, other))
                times.append(there)
    if with_energy:
        times.append(state.energy_pj)
    return (stay.device, stay.resumed, tuple(where)), tuple(times)


def _least_energy(index: ActivityIndex, choices: Sequence[Sequence[Choice]], prices: Prices) -> list[int]:
    """By position, the least dynamic energy of the operators from there on, each by itself."""
    least = [0] * (len(choices) + 1)
    for at in range(len(choices) - 1, -1, -1):
        hidden = index.ops[at].hidden
        own = (c.pj + prices.on_energy(c) - max(0, hidden.get(c.device, (0, 0))[1]) for c in choices[at])
        least[at] = least[at + 1] + math.floor(min(own))
    return least
