"""Random cost tables whose moves occupy all kinds of engines, and every parallel plan of them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace

from h4hc.assignment import Assignment, Case, Objective, Placement, Schema, Status
from h4hc.cost import Border, CostTable, FollowUp, Move
from h4hc.costtypes import Interval, Mode
from h4hc.system import HOST, MoveStep
from h4hc.workload import Workload
from tests.random_plans import random_problem

LEAKAGE = (0.0, 0.5, 1.5)  # W: exact in binary, so that products need no care


def parallel_problem(seed: int, max_ops: int) -> tuple[Workload, CostTable]:
    """`random_problem` with leakage, wake-ups, and moves of one or two steps on the host, the DMA or either device."""
    workload, table = random_problem(seed, max_ops)
    rng = random.Random(seed + 1)
    ports = tuple(replace(port, moves=tuple(_move(rng, move) for move in port.moves)) for port in table.ports)
    arrivals = tuple(
        Border(b.tensor, tuple(replace(s, kind="quantize", engine=HOST) for s in b.steps)) for b in table.arrivals
    )
    wakes = tuple(
        Border(c.device, (MoveStep("wake_up", c.device, 0, _times(rng, 5), _times(rng, 5), ()),))
        for c in table.capacities
        if rng.random() < 0.3
    )
    departures = tuple(Border(b.tensor, tuple(replace(s, engine=HOST) for s in b.steps)) for b in table.departures)
    plain = replace(table, ports=ports, arrivals=wakes + arrivals, departures=departures)
    return workload, _leaky(plain)


def _times(rng: random.Random, top: int) -> Interval:
    nominal = rng.randint(0, top)
    return Interval(rng.randint(0, nominal), nominal, nominal + rng.randint(0, top))


def _move(rng: random.Random, move: Move) -> Move:
    if rng.random() < 0.5:
        return replace(move, steps=())
    engines = [HOST, "dma", move.src, move.dst]
    steps = [
        MoveStep("transfer", rng.choice(engines), 4, _times(rng, 6), _times(rng, 6), ("guess",))
        for _ in range(rng.randint(1, 2))
    ]
    return replace(move, steps=tuple(steps))


def _leaky(table: CostTable) -> CostTable:
    """The same table with the leakage of each latency in each energy."""

    def add(latency: Interval, energy: Interval) -> Interval:
        low, nominal, high = (
            e + math.ceil(t * w)
            for t, e, w in zip(
                (latency.low, latency.nominal, latency.high),
                (energy.low, energy.nominal, energy.high),
                LEAKAGE,
                strict=True,
            )
        )
        return Interval(low, nominal, high)

    def step(s: MoveStep) -> MoveStep:
        return replace(s, energy=add(s.latency, s.energy))

    def border(b: Border) -> Border:
        return replace(b, steps=tuple(map(step, b.steps)))

    def saving(f: FollowUp) -> FollowUp:
        return replace(f, energy=add(f.latency, Interval(0, 0, 0)))

    return replace(
        table,
        rows=tuple(
            replace(r, costs=tuple(replace(c, energy=add(c.latency, c.energy)) for c in r.costs)) for r in table.rows
        ),
        ports=tuple(
            replace(p, moves=tuple(replace(m, steps=tuple(map(step, m.steps))) for m in p.moves)) for p in table.ports
        ),
        arrivals=tuple(map(border, table.arrivals)),
        departures=tuple(map(border, table.departures)),
        switches=tuple(replace(s, energy=add(s.latency, s.energy)) for s in table.switches),
        follow_ups=tuple(map(saving, table.follow_ups)),
        leakage_w=LEAKAGE,
    )


def every_plan(table: CostTable) -> Iterator[tuple[tuple[Mode, ...], tuple[bool, ...]]]:
    """All modes of all operators, with all breaks between operators that follow each other on one device."""
    for modes in itertools.product(*([c.mode for c in row.costs] for row in table.rows)):
        free = [
            (False, True) if at and modes[at - 1].device == mode.device != HOST else (False,)
            for at, mode in enumerate(modes)
        ]
        for breaks in itertools.product(*free):
            yield modes, breaks


def as_assignment(
    table: CostTable, modes: tuple[Mode, ...], breaks: tuple[bool, ...], schema: Schema = Schema.PARALLEL
) -> Assignment:
    """A plan as the schedule takes it; its proof says nothing."""
    ids = [row.op for row in table.rows]
    placements = tuple(Placement(op, mode) for op, mode in zip(ids, modes, strict=True))
    broken = tuple(op for op, is_broken in zip(ids, breaks, strict=True) if is_broken)
    return Assignment(
        Objective.LATENCY, Case.NOMINAL, placements, 0, 0, 0, 0, 0.0, Status.FEASIBLE, "none", schema, broken
    )
