"""Bounds on what is still to come: the least time from a result to the end of the inference.

    tail[u, d] = max over readers v of u of  min over modes of v, on e, of  (move d -> e) + (switch to e if due)
                 + time of v - what may hide + price of its weights + tail[v, e];  borders at the model's outputs

Where all that follows waits for one result (a cut), the search itself gives a sharper one (`Tails.sharpen`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from h4hc.assignment import Objective
from h4hc.planning.parallel.clock import own_share
from h4hc.planning.parallel.index import INPUT, ActivityIndex, Choice


@dataclass(frozen=True)
class Prices:
    """What a stored byte costs, by device, in the unit of the goal; given_back: that of all the room there is.

    counts_in: which bound counts what the operators to come store; a product of both has none.
    """

    of: Mapping[str, float]
    given_back: float = 0.0
    counts_in: Objective = Objective.LATENCY

    def on_time(self, choice: Choice) -> float:
        """Price of an operator's weights, in the bound on the latency."""
        return self._of(choice) if self.counts_in is Objective.LATENCY else 0

    def on_energy(self, choice: Choice) -> float:
        """The same in the bound on the energy."""
        return self._of(choice) if self.counts_in is Objective.ENERGY else 0

    def _of(self, choice: Choice) -> float:
        return self.of.get(choice.mode.device, 0) * choice.mode.units * choice.unit_bytes


def cuts_of(index: ActivityIndex) -> list[int]:
    """Positions behind which nothing else than their result is still to be read: all that follows waits for it."""
    cuts = []
    reading = [bool(op.reads) for op in index.ops]
    for at in range(len(index.ops) - 2, -1, -1):
        if not reading[at + 1]:
            break
        if all(index.ports[number].producer == at or index.ports[number].is_output for number in index.live_after[at]):
            cuts.append(at)
    return cuts[::-1]


def _resumable(index: ActivityIndex, choices: Sequence[Sequence[Choice]]) -> list[set[int]]:
    """By position, the devices on which the operator may be in a stay that was not issued: the host, and those where it
    or an operator before it in the stay may have been cut off."""
    found: list[set[int]] = []
    before: set[int] = set()
    for op, options in zip(index.ops, choices, strict=True):
        before &= {choice.device for choice in options}
        for device in {choice.device for choice in options} - before:
            for number in op.reads:
                for (source, target), steps in index.ports[number].moves.items():
                    outside = steps[: len(steps) - own_share(steps, device)]
                    if target == device and outside and (source == device or any(a.engine == device for a in outside)):
                        before.add(device)
        found.append({index.host, *before})
    return found


class Tails:
    """Least time from a result, by producer and device, to the end of the inference; see the module's text."""

    def __init__(self, index: ActivityIndex, choices: Sequence[Sequence[Choice]], prices: Prices) -> None:
        self.index, self.choices = index, choices
        self.paid = prices.on_time
        self.readers: dict[int, list[tuple[int, int]]] = {}
        for at, op in enumerate(index.ops):
            for number in op.reads:
                self.readers.setdefault(index.ports[number].producer, []).append((number, at))
        ends = {output: sum(a.ps for a in steps) for output, _, steps in index.departures if output is not None}
        self.ends: dict[int, list[tuple[int, int]]] = {}
        for number in index.outputs:
            self.ends.setdefault(index.ports[number].producer, []).append((number, ends.get(number, 0)))
        self.inputs = sorted({port.producer for port in index.ports if port.producer < 0})
        self.resumable = _resumable(index, choices)
        self.least: dict[tuple[int, int], int] = {}  # what is known from looking ahead
        self.of: dict[int, list[int]] = {}
        self.rest: dict[tuple[int, int], list[int]] = {}
        self.redo(len(index.ops) - 1, 0)

    def sharpen(self, producer: int, device: int, least: int) -> None:
        """Keep a bound found in another way."""
        self.least[producer, device] = least

    def redo(self, last: int, first: int) -> None:
        """Work out the tails of some positions, from those behind them, and of the model's inputs."""
        self.rest.clear()
        for producer in [*range(last, first - 1, -1), *self.inputs]:
            self.of[producer] = [
                max(self._tail(producer, device), self.least.get((producer, device), 0))
                for device in range(len(self.index.devices))
            ]

    def behind(self, producer: int, at: int) -> list[int]:
        """By device, the same through the readers behind a position alone: the others may have run since."""
        key = (producer, at)
        if key not in self.rest:
            devices = range(len(self.index.devices))
            self.rest[key] = [self._tail(producer, device, at) for device in devices]
        return self.rest[key]

    def _tail(self, producer: int, device: int, behind: int = INPUT) -> int:
        most = 0
        for number, border in self.ends.get(producer, ()):
            steps = self.index.ports[number].moves.get((device, self.index.host), ())
            most = max(most, sum(a.ps for a in steps) + border)
        for number, at in self.readers.get(producer, ()):
            if at > behind:
                most = max(most, self._through(number, at, device))
        return most

    def _through(self, number: int, at: int, device: int) -> int:
        """Least time from a result on `device` through one reader of it to the end."""
        index, found = self.index, []
        for choice in self.choices[at]:
            steps = index.ports[number].moves.get((device, choice.device), ())
            own = choice.ps + sum(a.ps for a in steps)
            if choice.device != device and choice.device not in self.resumable[at]:
                own += index.switch[choice.device].ps
            own = max(0, own - index.ops[at].hidden.get(choice.device, (0, 0))[0])
            found.append(math.floor(own + self.of[at][choice.device] + self.paid(choice)))
        return min(found)
