"""Correlated bounds against brute force: over random linear forms, and over every corner of a small box."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import pytest

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.partition import PartitionOptions, partition
from h4hc.study.correlated import Effects, Side, Target, corner, correlate, drivers
from h4hc.study.design import RESIDENCIES, cim_sets
from h4hc.sweep.evaluate import prepare
from h4hc.sweep.row import Point
from h4hc.target_file import load_system

FLASH = next(r for r in RESIDENCIES if r.name == "flash")
KEYS = (
    "bus.bandwidth",
    "cim.read_energy",
    "flash.read_energy",
    "npu.calibration",
    "npu.mac_energy",
    "sram.read_energy",
)


def test_the_corner_is_the_best_of_all_corners() -> None:
    draw = random.Random(5)
    for _ in range(200):
        n0, d0 = draw.randint(1_000, 2_000), draw.randint(1_000, 2_000)
        keys = [f"k{i}" for i in range(5)]
        effects: Effects = [
            (key, value, draw.randint(-90, 90), draw.randint(-90, 90)) for key in keys for value in (1.0, 2.0)
        ]
        choices = [[None, *(e for e in effects if e[0] == key)] for key in keys]
        every = [
            (n0 + sum(e[2] for e in chosen if e)) / (d0 + sum(e[3] for e in chosen if e))
            for chosen in itertools.product(*choices)
        ]
        for sign, extreme in ((1, min(every)), (-1, max(every))):
            at = corner(n0, d0, effects, sign)
            taken = [e for e in effects if at.get(e[0]) == e[1]]
            found = (n0 + sum(e[2] for e in taken)) / (d0 + sum(e[3] for e in taken))
            assert found == pytest.approx(extreme, rel=1e-12)


def test_drivers_come_widest_first() -> None:
    effects: Effects = [("a", 1.0, 10, 0), ("b", 1.0, -30, 0), ("b", 2.0, 40, 0), ("c", 1.0, 0, 25)]
    found = drivers(100, 100, effects)
    assert [driver.key for driver in found] == ["b", "c", "a"]
    assert (found[0].bounds.low_pct, found[0].bounds.high_pct) == pytest.approx((-40.0, 30.0))


def test_a_side_costs_what_the_plan_costs() -> None:
    workload = prepare(Point(model="ds-cnn", target="npu")).workload
    target = Target("npu+cim", cim_sets(FLASH, 4, 4))
    moved = ("npu.mac_energy", 0.2), ("cim.read_cycle", 3.6)
    plans = []
    for objective in (Objective.LATENCY, Objective.ENERGY):
        system = load_system("npu+cim", target.sets)
        done = partition(workload, cost_table(workload, system), PartitionOptions(objective)).assignment
        plans.append(done)
    side = Side(target, workload, tuple(tuple(p.mode for p in done.placements) for done in plans))
    assert side.costs({}) == [(done.latency_ps, done.energy_pj) for done in plans]
    numbers = load_system("npu+cim", (*target.sets, *(f"{key}={value}" for key, value in moved)))
    pins = tuple(f"{p.op}={p.mode.name}" for p in plans[0].placements)
    again = partition(workload, cost_table(workload, numbers), PartitionOptions(pins=pins)).assignment
    assert side.costs(dict(moved))[0] == (again.latency_ps, again.energy_pj) != side.costs({})[0]
    assert side.costs({"no.such": 1.0}) == side.costs({})


def test_bounds_against_every_corner_of_a_small_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 corners of six numbers, both plans costed at each from scratch by pinning every operator."""
    bounds = Target.bounds

    def few(self: Target) -> Mapping[str, Any]:
        return {key: value for key, value in bounds(self).items() if key in KEYS}

    monkeypatch.setattr(Target, "bounds", few)
    prepared = prepare(Point(model="ds-cnn", target="npu"))
    found = correlate(FLASH, (4, 4), (Objective.ENERGY,), prepared)[Objective.ENERGY]

    ours, theirs = Target("npu+cim", cim_sets(FLASH, 4, 4)), Target("npu", FLASH.sets)
    sides = []
    for target in (ours, theirs):
        table = cost_table(prepared.workload, load_system(target.name, target.sets))
        done = partition(prepared.workload, table, PartitionOptions(Objective.ENERGY))
        npu_only = next((b.modes for b in done.baselines if b.name == "npu-only"), ())
        plan = tuple(p.mode for p in done.assignment.placements) if target is ours else npu_only
        sides.append((target, tuple(f"{op.id}={m.name}" for op, m in zip(prepared.workload.ops, plan, strict=True))))
    known = few(ours)
    assert set(known) == set(KEYS), "every number of the test has bounds"
    energies = {"latency": [], "energy": []}  # type: dict[str, list[float]]
    for values in itertools.product(*((known[key][0], known[key][2]) for key in KEYS)):
        numbers = dict(zip(KEYS, values, strict=True))
        pairs = []
        for target, pins in sides:
            own = tuple(f"{key}={value}" for key, value in numbers.items() if key in few(target))
            table = cost_table(prepared.workload, load_system(target.name, (*target.sets, *own)))
            pairs.append(partition(prepared.workload, table, PartitionOptions(pins=pins)).assignment)
        energies["latency"].append(100 * (1 - pairs[0].latency_ps / pairs[1].latency_ps))
        energies["energy"].append(100 * (1 - pairs[0].energy_pj / pairs[1].energy_pj))
    for measure, every in energies.items():
        got = found.of(measure, "npu_only").bounds
        assert min(every) - 1e-6 <= got.low_pct <= min(every) + 1.0
        assert max(every) - 1.0 <= got.high_pct <= max(every) + 1e-6
