"""The state of a plan that runs in parallel, operator by operator, and its exact times.

The plan is straight-line code on the host. In the workload's order it brings what an operator needs, starts *stays*
(maximal runs of consecutive operators on one device other than the host), and runs the host's operators itself. Each
engine takes its activities in this order. A stay starts when its device is free, all that its operators read from
outside is there, and the host has issued it (the switch); what it makes is there when it ends. So nothing waits inside
a stay, and one command stream can hold it. A `break` begins another stay although the device stays the same.

A layout change inside a stay that its device cannot do cuts it in two; the step that does it pays for the return.
"""

from __future__ import annotations

from typing import NamedTuple

from h4hc.planning.parallel.index import INPUT, Activity, ActivityIndex, Choice

OPEN = -1  # time of what the open stay makes


class Stay(NamedTuple):
    """The stay under way: its device (the host's for none), when its inputs are there, its work so far [ps].

    resumed: it goes on after a cut, so there is no switch.
    """

    device: int
    ready_ps: int = 0
    work_ps: int = 0
    resumed: bool = False


class State(NamedTuple):
    """free: by engine, when its last activity ends. made: by producer, its device and when its result is there.

    brought: by port and device, when it is there. energy_pj: dynamic. Only what is still to be read is in made and
    brought.
    """

    free: tuple[int, ...]
    stay: Stay
    made: dict[int, tuple[int, int]]
    brought: dict[tuple[int, int], int]
    energy_pj: int

    @property
    def end_ps(self) -> int:
        """When the last activity so far ends; without the open stay."""
        return max(self.free)


class Clock:
    """Steps of the state."""

    def __init__(self, index: ActivityIndex) -> None:
        self.index = index
        self._behind = dead_after(index)

    def begin(self) -> State:
        """Before the first operator: devices awake, inputs converted."""
        index = self.index
        free, energy = [0] * len(index.engines), 0
        for activity in index.wake_ups:
            free[activity.engine] += activity.ps
            energy += activity.pj
        made = {}
        for number, steps in enumerate(index.inputs):
            time, spent = _run(free, steps, 0)
            energy += spent
            made[INPUT - number] = (index.host, time)
        return State(tuple(free), Stay(index.host), made, {}, energy)

    def step(self, state: State, at: int, choice: Choice, new_stay: bool = False) -> State:
        """Run the operator at `at`. new_stay: begin another stay although its device has one open."""
        index, device, op = self.index, choice.device, self.index.ops[at]
        follows = state.stay.device == device
        joins = follows and device != index.host and not new_stay
        hidden = op.hidden.get(device) if follows and at and not new_stay else None
        made, brought = dict(state.made), dict(state.brought)
        free, energy, stay = list(state.free), state.energy_pj + choice.pj, state.stay
        if not joins or self._cuts(state, at, device):
            self._close(free, stay, made, brought)
            stay = Stay(device, resumed=joins)
            if not joins and device != index.host:
                energy += index.switch[device].pj
        ready, work = stay.ready_ps, choice.ps
        if hidden is not None:
            work, energy = max(0, work - hidden[0]), energy - hidden[1]
        for number in op.reads:
            time = brought.get((number, device))
            if time is None:
                source, time = made[index.ports[number].producer]
                steps = index.ports[number].moves.get((source, device), ())
                own = len(steps) if device != index.host else 0
                if own:
                    own = own_share(steps, device)
                    for activity in steps[len(steps) - own :]:
                        work += activity.ps
                        energy += activity.pj
                before = steps[: len(steps) - own]
                if before:
                    time, spent = _run(free, before, time)
                    energy += spent
                brought[number, device] = time
            if time > ready:
                ready = time
        if device == index.host:
            start = max(free[device], ready)
            free[device] = start + work
            made[at] = (device, start + work)
            stay = Stay(device)
        else:
            stay = Stay(device, ready, stay.work_ps + work, stay.resumed)
            made[at] = (device, OPEN)
        for number in self._behind[at][0]:
            for other in range(len(index.devices)):
                brought.pop((number, other), None)
        for producer in self._behind[at][1]:
            made.pop(producer, None)
        return State(tuple(free), stay, made, brought, energy)

    def _cuts(self, state: State, at: int, device: int) -> bool:
        """Whether something must be done outside the device between the open stay and this operator."""
        for number in self.index.ops[at].reads:
            if (number, device) in state.brought:
                continue
            port = self.index.ports[number]
            source, time = state.made[port.producer]
            steps = port.moves.get((source, device), ())
            before = steps[: len(steps) - own_share(steps, device)]
            if before and (time == OPEN or any(activity.engine == device for activity in before)):
                return True
        return False

    def _close(
        self,
        free: list[int],
        stay: Stay,
        made: dict[int, tuple[int, int]],
        brought: dict[tuple[int, int], int],
    ) -> None:
        """Let the open stay run, and date what it made."""
        host, device = self.index.host, stay.device
        if device == host:
            return
        start = max(free[device], stay.ready_ps)
        if not stay.resumed:
            start = max(start, free[host]) + self.index.switch[device].ps
            free[host] = start
        end = free[device] = start + stay.work_ps
        for producer, (where, time) in made.items():
            if time == OPEN:
                made[producer] = (where, end)
        for key, time in brought.items():
            if time == OPEN:
                brought[key] = end

    def finish(self, state: State) -> tuple[int, int]:
        """Makespan [ps] and energy with leakage [pJ], after the last operator."""
        index, free, energy = self.index, list(state.free), state.energy_pj
        made, brought = dict(state.made), dict(state.brought)
        self._close(free, state.stay, made, brought)
        times: dict[int, int] = {}
        for number in index.outputs:
            port = index.ports[number]
            source, time = made[port.producer]
            times[number], spent = _run(free, port.moves.get((source, index.host), ()), time)
            energy += spent
        for output, number, steps in index.departures:
            time = times[output] if output is not None else made[INPUT - number][1]
            _, spent = _run(free, steps, time)
            energy += spent
        end = max(free)
        return end, energy + index.leakage(end)


def _run(free: list[int], steps: tuple[Activity, ...], ready: int) -> tuple[int, int]:
    """Activities one after another, each on its engine: when the last ends, and their energy."""
    spent = 0
    for engine, ps, pj in steps:
        ready = max(free[engine], ready) + ps
        free[engine] = ready
        spent += pj
    return ready, spent


def own_share(steps: tuple[Activity, ...], device: int) -> int:
    """How many of the last activities the device that wants the tensor does itself, within its stay."""
    count = 0
    while count < len(steps) and steps[-1 - count].engine == device:
        count += 1
    return count


def dead_after(index: ActivityIndex) -> list[tuple[list[int], list[int]]]:
    """By position, the ports and the producers that nothing reads any more behind the operator there."""
    dead: list[tuple[list[int], list[int]]] = [([], []) for _ in index.ops]
    last = {at: at for at in range(len(index.ops))}
    last |= {INPUT - number: len(dead) for port, number, _ in index.departures if port is None}
    for number, port in enumerate(index.ports):
        last[port.producer] = max(last.get(port.producer, -1), port.last)
        if port.last < len(dead):
            dead[port.last][0].append(number)
    for producer, at in last.items():
        if at < len(dead):
            dead[at][1].append(producer)
    return dead
