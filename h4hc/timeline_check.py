"""check_timeline: may the steps of a parallel schedule run as they say, and do they take what the table says?

Written apart from the planner and from the timeline: it knows the rules of the parallel schema, the table, and nothing
of how plans are made.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator

from h4hc.assignment import Assignment
from h4hc.cost import CostTable, Port
from h4hc.costtypes import Interval
from h4hc.fault import Fault
from h4hc.schedule import Schedule, Step
from h4hc.workload import Workload

Span = tuple[int, int, int]  # low, nominal, high


def check_timeline(workload: Workload, table: CostTable, assignment: Assignment, plan: Schedule) -> list[Fault]:
    """Every fault of the times of a parallel schedule.

    Rules: waits (a step before one it waits for), engine (two steps of one engine at once, or in an order that nothing
    enforces), steps (other steps, or other latencies and energies, than the table asks for), stay (an operator off the
    host that waits within its stay, or whose stay begins before its inputs are there), data (a reader that does not
    wait for the end of what it reads), totals (makespan, energy, value).
    """
    faults = [*_waits(plan)]
    if faults:
        return faults
    before = _ancestors(plan)
    return [
        *_engines(plan, before),
        *_costs(table, assignment, plan),
        *_data(workload, table, assignment, plan, before),
        *_totals(table, assignment, plan),
    ]


def _end(step: Step) -> int:
    return step.start_ps + step.latency.nominal


def _waits(plan: Schedule) -> Iterator[Fault]:
    for number, step in enumerate(plan.steps):
        if step.index != number or any(not 0 <= index < number for index in step.after):
            yield Fault("waits", (step.subject,), f"step {number} waits for {step.after}")
        elif step.start_ps < max((_end(plan.steps[index]) for index in step.after), default=0):
            yield Fault("waits", (step.subject,), f"step {number} begins before one it waits for has ended")


def _ancestors(plan: Schedule) -> list[int]:
    """For each step the set of those that have ended before it begins whatever they take, as bits."""
    found: list[int] = []
    for step in plan.steps:
        bits = 0
        for index in step.after:
            bits |= found[index] | 1 << index
        found.append(bits)
    return found


def _engines(plan: Schedule, before: list[int]) -> Iterator[Fault]:
    last: dict[str, Step] = {}
    for step in plan.steps:
        if step.kind == "leakage":
            continue
        earlier = last.get(step.device)
        if earlier is not None and not before[step.index] >> earlier.index & 1:
            yield Fault("engine", (step.device,), f"steps {earlier.index} and {step.index} in no order")
        if earlier is not None and step.start_ps < _end(earlier):
            yield Fault("engine", (step.device,), f"steps {earlier.index} and {step.index} at the same time")
        last[step.device] = step


def _span(interval: Interval) -> Span:
    return interval.low, interval.nominal, interval.high


def _without_leakage(table: CostTable, latency: Interval, energy: Interval) -> Span:
    leaks = (math.ceil(t * w) for t, w in zip(_span(latency), table.leakage_w, strict=True))
    low, nominal, high = (e - leak for e, leak in zip(_span(energy), leaks, strict=True))
    return low, nominal, high


def _less(cost: Span, saving: Span) -> Span:
    return max(0, cost[0] - saving[2]), cost[1] - saving[1], cost[2] - saving[0]


def _costs(table: CostTable, assignment: Assignment, plan: Schedule) -> list[Fault]:
    """The steps there must be, each with its engine, latency and dynamic energy."""
    due: Counter[tuple[str, str, str, Span, Span]] = Counter()

    def add(kind: str, engine: str, subject: str, latency: Interval, energy: Interval) -> None:
        due[kind, engine, subject, _span(latency), _without_leakage(table, latency, energy)] += 1

    device = {p.op: p.mode.device for p in assignment.placements}
    last = "host"
    for number, placement in enumerate(assignment.placements):
        now, op = placement.mode.device, placement.op
        for cost in table.row[op].costs:
            if cost.mode == placement.mode:
                time, energy = _span(cost.latency), _without_leakage(table, cost.latency, cost.energy)
                if number and now == last and op not in assignment.breaks:
                    for hides in table.follow_ups:
                        if (hides.op, hides.device) == (op, now):
                            time = _less(time, _span(hides.latency))
                            energy = _less(energy, _without_leakage(table, hides.latency, hides.energy))
                due["op", now, op, time, energy] += 1
        if now != "host" and (now != last or op in assignment.breaks):
            for switch in table.switches:
                if switch.device == now:
                    add("switch", "host", now, switch.latency, switch.energy)
        last = now
    for port in table.ports:
        source = device.get(port.producer, "host")
        for target in sorted({device.get(consumer, "host") for consumer in port.consumers}):
            for move in port.moves:
                if (move.src, move.dst) == (source, target):
                    for s in move.steps:
                        add(s.kind, s.engine, port.tensor, s.latency, s.energy)
    for border in (*table.arrivals, *table.departures):
        for s in border.steps:
            add(s.kind, s.engine, border.tensor, s.latency, s.energy)
    there: Counter[tuple[str, str, str, Span, Span]] = Counter(
        (s.kind, s.device, s.subject, _span(s.latency), _span(s.energy)) for s in plan.steps if s.kind != "leakage"
    )
    missing, extra = due - there, there - due
    return [Fault("steps", (key[2],), f"missing: {key[0]} on {key[1]}") for key in missing] + [
        Fault("steps", (key[2],), f"not asked for: {key[0]} on {key[1]}") for key in extra
    ]


def _blocks(plan: Schedule) -> dict[int, list[Step]]:
    """By step, the steps of its stay: those of one partition on its device, up to where another engine cuts it."""
    home = {part.id: part.device for part in plan.partitions}
    blocks: list[list[Step]] = []
    last: dict[str, list[Step]] = {}
    for step in plan.steps:
        if step.device != home.get(step.partition) or step.device == "host" or step.kind == "switch":
            continue
        block = last.get(step.device)
        joins = block is not None and block[-1].partition == step.partition and step.after == (block[-1].index,)
        if not joins or block is None:
            block = last[step.device] = []
            blocks.append(block)
        block.append(step)
    for block in blocks:
        while block and block[-1].kind != "op":  # what the device does behind its stay for others
            block.pop()
    return {step.index: block for block in blocks for step in block}


def _data(
    workload: Workload, table: CostTable, assignment: Assignment, plan: Schedule, before: list[int]
) -> Iterator[Fault]:
    blocks, op_step = _blocks(plan), {s.subject: s for s in plan.steps if s.kind == "op"}
    for block in {id(b): b for b in blocks.values()}.values():
        for one, two in itertools.pairwise(block):
            if two.start_ps != _end(one):
                yield Fault("stay", (two.subject,), f"step {two.index} waits within its stay")
    arrivals = {b.tensor: b for b in table.arrivals}
    converted = [s for s in plan.steps if s.kind == "quantize" and s.partition == ""]
    for port in table.ports:
        source = op_step.get(port.producer)
        for consumer in port.consumers:
            reader = op_step.get(consumer)
            if reader is None:
                continue
            block = blocks.get(reader.index, [reader])
            if source is None:
                ends = [s for s in converted if s.subject == port.tensor] if port.tensor in arrivals else []
            else:
                made = blocks.get(source.index, [source])
                ends = [source] if made is block else [made[-1]]
            for end in ends:
                first = reader if end in block else block[0]
                if not before[first.index] >> end.index & 1:
                    yield Fault("data", (consumer, port.tensor), f"step {first.index} does not wait for {end.index}")
            yield from _brought(port, assignment.mode[consumer].device, reader, plan, before, source)


def _brought(
    port: Port, device: str, reader: Step, plan: Schedule, before: list[int], source: Step | None
) -> Iterator[Fault]:
    """The moves of a tensor to the reader's device are over when it begins."""
    origin, tensor = source.device if source is not None else "host", port.tensor
    steps = [s for m in port.moves if (m.src, m.dst) == (origin, device) for s in m.steps]
    for kind, engine, span in ((s.kind, s.engine, _span(s.latency)) for s in steps):
        done = [
            s
            for s in plan.steps
            if (s.kind, s.device, s.subject, _span(s.latency)) == (kind, engine, tensor, span)
            and (before[reader.index] >> s.index & 1)
        ]
        if not done:
            yield Fault("data", (reader.subject, tensor), f"read on {device} before its {kind} on {engine}")


def _totals(table: CostTable, assignment: Assignment, plan: Schedule) -> list[Fault]:
    faults = []
    bounds = {}
    for at, name in enumerate(("low", "nominal", "high")):
        ends: list[int] = []
        for step in plan.steps:
            ends.append(max((ends[i] for i in step.after), default=0) + _span(step.latency)[at])
        makespan = max(ends, default=0)
        dynamic = sum(_span(s.energy)[at] for s in plan.steps if s.kind != "leakage")
        bounds[name] = (makespan, dynamic + math.ceil(makespan * table.leakage_w[at]))
    said = {
        name: (_span(plan.latency)[at], _span(plan.energy)[at]) for at, name in enumerate(("low", "nominal", "high"))
    }
    if said != bounds:
        faults.append(Fault("totals", (), f"the schedule says {said}, its steps come to {bounds}"))
    if (assignment.latency_ps, assignment.energy_pj) != bounds["nominal"]:
        claimed = (assignment.latency_ps, assignment.energy_pj)
        faults.append(Fault("totals", (), f"assignment says {claimed}, the steps come to {bounds['nominal']}"))
    latency, energy = bounds["high" if assignment.case == "worst" else "nominal"]
    value = {"latency": latency, "energy": energy, "edp": latency * energy}[assignment.objective]
    if assignment.value != value:
        faults.append(Fault("totals", (), f"the objective is said to be {assignment.value}, and is {value}"))
    return faults
