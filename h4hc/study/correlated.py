"""correlated: (setting, headline system) -> bounds of a saving when a number has the same value on both sides.

Both plans stay as they were chosen for the nominal numbers; only the numbers of the target move, inside their bounds:
1. each number alone goes to its low and its high bound; this gives its effect on both costs;
2. of the sum of these effects, Dinkelbach's method makes the corner where cost / baseline is least, and greatest:
   lambda = N / D; take for each number the value that minimises dN - lambda * dD; repeat until lambda stays;
3. both plans are costed again there, all numbers moved together: the saving found is one that these numbers give.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.costtypes import Mode, Rule, Violation
from h4hc.device_wrap import WrappedDevice
from h4hc.partition import PartitionOptions, partition
from h4hc.planning.plan_cost import Pair, PlanCosts
from h4hc.study.design import Residency, cim_sets
from h4hc.sweep.derive import NPU_ONLY
from h4hc.sweep.evaluate import Prepared
from h4hc.system import System
from h4hc.workload import Op, Workload

Modes = tuple[Mode, ...]
Numbers = dict[str, float]  # values of a target's keys
Costs = tuple[list[Pair], list[Pair]]  # of each plan, of each baseline
Effects = list[tuple[str, float, int, int]]  # key, its value, change of the plan's cost, change of the baseline's
MEASURES = ("latency", "energy")  # in the order of a Pair
MOST_DRIVERS = 5
MOST_STEPS = 50  # of Dinkelbach's method, which needs two to five


@dataclass(frozen=True)
class Bounds:
    """Least and greatest saving [%]."""

    low_pct: float
    high_pct: float


@dataclass(frozen=True)
class Driver:
    """A number of the target, and the saving [%] with it alone at the bounds that hurt and help most."""

    key: str
    bounds: Bounds


@dataclass(frozen=True)
class Corner:
    """Bounds of one saving, and the numbers that move it most by themselves, widest first."""

    measure: str
    against: str
    bounds: Bounds
    drivers: tuple[Driver, ...]


@dataclass(frozen=True)
class Corners:
    """The savings of one plan, on a system of `macros` and `cus`."""

    macros: int
    cus: int
    found: tuple[Corner, ...]

    def of(self, measure: str, against: str) -> Corner:
        """One saving."""
        return next(c for c in self.found if (c.measure, c.against) == (measure, against))


@dataclass(frozen=True)
class Target:
    """A system that can be loaded again with other numbers."""

    name: str
    sets: tuple[str, ...]

    def load(self, numbers: Sequence[tuple[str, float]] = ()) -> System:
        """The system with these values in the place of its own."""
        from h4hc.target_file import load_system

        return load_system(self.name, (*self.sets, *(f"{key}={value!r}" for key, value in numbers)))

    @functools.cache  # noqa: B019 (a handful of targets)
    def bounds(self) -> Mapping[str, tuple[float, float, float]]:
        """(low, value, high) of every number that has bounds, by key."""
        from h4hc.quantity import is_quantity
        from h4hc.target_file import target_values

        found = {}
        for key, value in target_values(self.name, self.sets).items():
            if is_quantity(value):
                low, high = value.get("low", value["value"]), value.get("high", value["value"])
                if low != high:
                    found[key] = (float(low), float(value["value"]), float(high))
        return found


class Side:
    """Plans on one target whose costs are asked for, each set of numbers once."""

    def __init__(self, target: Target, workload: Workload, plans: tuple[Modes, ...]) -> None:
        self.target, self._workload, self._plans = target, workload, plans
        self._known: dict[tuple[tuple[str, float], ...], list[Pair]] = {}

    def costs(self, numbers: Numbers) -> list[Pair]:
        """Nominal (latency [ps], energy [pJ]) of each plan with these numbers; keys of other targets do not count."""
        own = tuple(sorted((key, value) for key, value in numbers.items() if key in self.target.bounds()))
        if own not in self._known:
            system = self.target.load(own)
            total = PlanCosts(cost_table(self._workload, _narrowed(system, self._workload, self._plans))).total
            self._known[own] = [total(modes) for modes in self._plans]
        return self._known[own]


def correlate(
    residency: Residency, headline: tuple[int, int], objectives: Sequence[Objective], prepared: Prepared
) -> dict[Objective, Corners]:
    """Correlated bounds of the plans for each objective, against npu_only and npu_host."""
    macros, cus = headline
    ours = Target(residency.target, cim_sets(residency, macros, cus))
    theirs = Target(residency.baseline, residency.sets)
    workload = prepared.workload
    plans = tuple(_plan(ours, workload, o)[0] for o in objectives)
    planned = [_plan(theirs, workload, o) for o in objectives]
    bases = (planned[0][1], *(best for best, _ in planned))  # npu-only, then the best of each objective
    search = Search(Side(ours, workload, plans), Side(theirs, workload, bases))
    found = {}
    for index, objective in enumerate(objectives):
        savings = tuple(
            Corner(measure, against, *search.corner(index, base, MEASURES.index(measure)))
            for measure in MEASURES
            for against, base in (("npu_only", 0), ("npu_host", 1 + index))
        )
        found[objective] = Corners(macros, cus, savings)
    return found


def _plan(target: Target, workload: Workload, objective: Objective) -> tuple[Modes, Modes]:
    """The chosen plan and the npu-only plan, for the nominal numbers."""
    done = partition(workload, cost_table(workload, target.load()), PartitionOptions(objective))
    npu_only = next((b.modes for b in done.baselines if b.name == NPU_ONLY), ())
    return tuple(p.mode for p in done.assignment.placements), npu_only


class Search:
    """Looks for the corners of the box of all numbers where cost / baseline is least and greatest."""

    def __init__(self, ours: Side, theirs: Side) -> None:
        self._sides = ours, theirs
        self._nominal = self._costs({})
        self._effects = list(self._moved())

    def corner(self, plan: int, base: int, measure: int) -> tuple[Bounds, tuple[Driver, ...]]:
        """Bounds and drivers of what a plan saves against a baseline; measure: 0 latency, 1 energy."""
        n0, d0 = self._nominal[0][plan][measure], self._nominal[1][base][measure]
        effects = [
            (key, value, ours[plan][measure] - n0, theirs[base][measure] - d0)
            for key, value, (ours, theirs) in self._effects
        ]
        ratios = [n0 / d0]
        for sign in (1, -1):
            ours, theirs = self._costs(corner(n0, d0, effects, sign))
            ratios.append(ours[plan][measure] / theirs[base][measure])
        return _saved(ratios), drivers(n0, d0, effects)

    def _costs(self, numbers: Numbers) -> Costs:
        return self._sides[0].costs(numbers), self._sides[1].costs(numbers)

    def _moved(self) -> Iterator[tuple[str, float, Costs]]:
        """(key, value, costs) for each number alone at each bound, where that changes any cost.

        Numbers that do not matter here, which are most, are found by the half: no cost sees the whole half moved.
        """
        known = {**self._sides[1].target.bounds(), **self._sides[0].target.bounds()}
        todo = [sorted(known)]
        while todo:
            keys = todo.pop()
            if self._costs({key: _farthest(known[key]) for key in keys}) == self._nominal:
                continue
            if len(keys) > 1:
                todo += [keys[len(keys) // 2 :], keys[: len(keys) // 2]]
                continue
            low, nominal, high = known[keys[0]]
            for value in sorted({low, high} - {nominal}):
                costs = self._costs({keys[0]: value})
                if costs != self._nominal:
                    yield keys[0], value, costs


def _farthest(bounds: tuple[float, float, float]) -> float:
    """A bound that is not the nominal value."""
    low, nominal, high = bounds
    return low if low != nominal else high


def _saved(ratios: Sequence[float]) -> Bounds:
    """Savings of ratios cost / baseline."""
    return Bounds(100.0 * (1.0 - max(ratios)), 100.0 * (1.0 - min(ratios)))


def drivers(n0: int, d0: int, effects: Effects) -> tuple[Driver, ...]:
    """The MOST_DRIVERS numbers that move the saving furthest by themselves, widest first, then by key."""
    ratios: dict[str, list[float]] = {}
    for key, _, dn, dd in effects:
        ratios.setdefault(key, [n0 / d0]).append((n0 + dn) / (d0 + dd))
    found = [Driver(key, _saved(own)) for key, own in ratios.items()]
    found.sort(key=lambda driver: (driver.bounds.low_pct - driver.bounds.high_pct, driver.key))
    return tuple(found[:MOST_DRIVERS])


def corner(n0: int, d0: int, effects: Effects, sign: int) -> Numbers:
    """Values that make (n0 + sum dN) / (d0 + sum dD) least (sign 1) or greatest (sign -1), one effect a key.

    Dinkelbach's method; exact for this linear form. A key that is left out stays nominal.
    """
    ratio = n0 / d0
    chosen: dict[str, tuple[float, int, int]] = {}
    for _ in range(MOST_STEPS):
        chosen = {}
        best: dict[str, float] = {}
        for key, value, dn, dd in effects:
            gain = sign * (dn - ratio * dd)
            if gain < best.get(key, 0.0):
                best[key], chosen[key] = gain, (value, dn, dd)
        n = n0 + sum(dn for _, dn, _ in chosen.values())
        d = d0 + sum(dd for _, _, dd in chosen.values())
        if n / d == ratio:
            break
        ratio = n / d
    return {key: value for key, (value, _, _) in chosen.items()}


# --- only what the plans use is costed ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Narrow(WrappedDevice):
    """A device that offers only what some plans use of it: what the plans do not use need not be costed."""

    ops: frozenset[str]
    used: Modes

    def modes(self) -> Modes:
        """Those of the plans."""
        return self.used

    def rules(self) -> tuple[Rule, ...]:
        """One: the operator is here in some plan."""
        return (Rule("study.unused", "the plans place the operator here", self._unused),)

    def _unused(self, op: Op, workload: Workload) -> Violation | None:
        return None if op.id in self.ops else Violation("not there in the plans", "only what the plans use")


def _narrowed(system: System, workload: Workload, plans: Sequence[Modes]) -> System:
    devices = []
    for device in system.devices:
        used = {
            (op.id, m) for modes in plans for op, m in zip(workload.ops, modes, strict=True) if m.device == device.name
        }
        modes = tuple(mode for mode in device.modes() if mode in {m for _, m in used}) or device.modes()[:1]
        devices.append(_Narrow(device, frozenset(op for op, _ in used), modes))
    return replace(system, devices=tuple(devices))
