"""Random cost tables over random DAGs, and the plan of least cost by enumeration: shares no code with the solver."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, Border, CostTable, FollowUp, Move, OpRow, Port
from h4hc.costtypes import Bound, Capacity, Cost, Interval, Mode, Term
from h4hc.system import MoveStep, Switch
from h4hc.workload import GenericParams, Layout, Op, OpKind, Tensor, Workload

HOST, NPU, CIM1, CIM2 = Mode("host"), Mode("npu"), Mode("cim"), Mode("cim", 2)
NO_LEAKAGE = (0.0, 0.0, 0.0)
DEVICES = ("cim", "host", "npu")
HOST_INDEX = DEVICES.index("host")


def random_problem(seed: int, max_ops: int, scale: int = 1) -> tuple[Workload, CostTable]:
    """A connected DAG of up to `max_ops` operators with random costs in 4 modes; costs are multiples of `scale`."""
    rng = random.Random(seed)
    count = rng.randint(1, max_ops)
    inputs = [
        tuple(sorted({f"t{rng.randrange(at)}" for _ in range(rng.randint(1, 3))})) if at else ("x",)
        for at in range(count)
    ]
    read = {name for names in inputs for name in names}
    outputs = tuple(f"t{at}" for at in range(count) if f"t{at}" not in read or rng.random() < 0.1)
    tensors = tuple(
        Tensor(name, (1, 4), "int8", "int8", 4, Layout.ROW_MAJOR) for name in ("x", *(f"t{at}" for at in range(count)))
    )
    ops = tuple(
        Op(
            f"op{at}",
            OpKind.GENERIC,
            GenericParams("generic", "Test", "", 4),
            inputs[at],
            (f"t{at}",),
            (),
            (f"op{at}",),
            ("Test",),
            "int8",
            0,
            0,
            4,
            4,
        )
        for at in range(count)
    )
    workload = Workload("random", "as stored", ops, tensors, ("x",), outputs)
    return workload, random_table(rng, workload, scale)


def _interval(rng: random.Random, top: int, scale: int) -> Interval:
    """Nominal up to `top`, with bounds that change the order of plans: down to 0, up to top above."""
    nominal = rng.randint(0, top)
    return Interval(rng.randint(0, nominal) * scale, nominal * scale, (nominal + rng.randint(0, top)) * scale)


def random_table(rng: random.Random, workload: Workload, scale: int) -> CostTable:
    unit_bytes = rng.choice([None, 4, 8, 12, 1000])
    rows = []
    for op in workload.ops:
        modes = [m for m in (CIM1, CIM2, NPU) if rng.random() < 0.8] + [HOST]
        if rng.random() < 0.1 and len(modes) > 1:
            modes.remove(HOST)
        weight = rng.randint(0, 10)
        rows.append(OpRow(op.id, tuple(_cost(rng, mode, weight, scale) for mode in modes), ()))
    ports = []
    for tensor in workload.tensors:
        readers = tuple(op.id for op in workload.ops if tensor.name in op.inputs)
        producer = workload.producer.get(tensor.name, MODEL_INPUT)
        for consumers in ((readers,) if readers else ()) + (
            ((MODEL_OUTPUT,),) if tensor.name in workload.outputs else ()
        ):
            sources = DEVICES if producer != MODEL_INPUT else ("host",)
            targets = DEVICES if consumers != (MODEL_OUTPUT,) else ("host",)
            moves = tuple(Move(s, d, some_steps(rng, s == d, scale)) for s in sources for d in targets)
            ports.append(Port(tensor.name, Layout.ROW_MAJOR, producer, consumers, moves))
    switches = tuple(Switch(d, _interval(rng, 8, scale), _interval(rng, 8, scale), ("guess",)) for d in DEVICES)
    capacities = (Capacity("cim", 2, unit_bytes), Capacity("host", 1, None), Capacity("npu", 1, None))
    arrivals = tuple(Border(name, some_steps(rng, True, scale)) for name in workload.inputs)
    departures = tuple(Border(name, some_steps(rng, True, scale)) for name in workload.outputs)
    follow_ups = _follow_ups(rng, rows)
    return CostTable(
        "random", tuple(rows), tuple(ports), arrivals, departures, switches, capacities, follow_ups, NO_LEAKAGE
    )


def _follow_ups(rng: random.Random, rows: list[OpRow]) -> tuple[FollowUp, ...]:
    """For about half of the neighbours and devices: up to all of the cheapest mode's nominal cost."""
    found = []
    for before, row in itertools.pairwise(rows):
        for device in DEVICES:
            costs = [c for c in row.costs if c.mode.device == device]
            if not costs or all(c.mode.device != device for c in before.costs) or rng.random() < 0.5:
                continue
            latency = _part(rng, min(c.latency.nominal for c in costs))
            found.append(FollowUp(row.op, device, latency, _part(rng, min(c.energy.nominal for c in costs))))
    return tuple(found)


def _part(rng: random.Random, whole: int) -> Interval:
    nominal = rng.randint(0, whole)
    return Interval(rng.randint(0, nominal), nominal, nominal + rng.randint(0, whole))


def _cost(rng: random.Random, mode: Mode, weight: int, scale: int) -> Cost:
    term = Term("compute", "serial", _interval(rng, 20, scale), _interval(rng, 20, scale), "test")
    share = -(-weight // mode.units) if mode.device == "cim" else 0
    return Cost.from_terms(
        mode,
        (term,),
        cycles=1,
        bound=Bound.COMPUTE,
        bytes_moved=(),
        model="test",
        marks=("guess",),
        unit_weight_bytes=share,
    )


def some_steps(rng: random.Random, same: bool, scale: int) -> tuple[MoveStep, ...]:
    if rng.random() < (0.8 if same else 0.2):
        return ()
    step = MoveStep("transfer", "dma", 4, _interval(rng, 6, scale), _interval(rng, 6, scale), ("guess",))
    return (step,)


class Enumeration:
    """Every choice of modes with its latency and energy, added up as h4hc/README.md describes the cost.

    worst: each cost at its high bound and each saving at its low one, instead of the nominal ones.
    on[device], a pair of arrays: the part of latency and energy that the operators on that device make.
    """

    def __init__(self, workload: Workload, table: CostTable, *, worst: bool = False) -> None:
        self.table, self.worst = table, worst
        self.position = {op.id: at for at, op in enumerate(workload.ops)}
        sizes = [len(row.costs) for row in table.rows]
        self.choice = np.indices(sizes).reshape(len(sizes), -1)  # (operators, plans): index into the row's costs
        self.device = np.array(
            [
                [DEVICES.index(c.mode.device) for c in row.costs] + [0] * (max(sizes) - len(row.costs))
                for row in table.rows
            ]
        )[np.arange(len(sizes))[:, None], self.choice]
        operators = [self._operators(lambda part: part.latency), self._operators(lambda part: part.energy)]
        self.on = {name: (operators[0][at], operators[1][at]) for at, name in enumerate(DEVICES)}
        self.latency = sum(operators[0]) + self._between(lambda part: part.latency)
        self.energy = sum(operators[1]) + self._between(lambda part: part.energy)

    def _high(self, interval: Interval) -> int:
        return interval.high if self.worst else interval.nominal

    def _operators(self, of: Callable[[Any], Interval]) -> list[np.ndarray]:
        """By device: its operators' costs, less what hides where the operator before is on the same device."""
        totals = [np.zeros(self.choice.shape[1], dtype=np.int64) for _ in DEVICES]
        savings = {(f.op, f.device): of(f).low if self.worst else of(f).nominal for f in self.table.follow_ups}
        for at, row in enumerate(self.table.rows):
            own = np.array([self._high(of(c)) for c in row.costs], dtype=np.int64)[self.choice[at]]
            for number, name in enumerate(DEVICES):
                here = self.device[at] == number
                totals[number] += here * own
                if at and (row.op, name) in savings:
                    totals[number] -= (here & (self.device[at - 1] == number)) * savings[row.op, name]
        return totals

    def _between(self, of: Callable[[Any], Interval]) -> np.ndarray:
        """Stays, moves and borders."""
        total = np.zeros(self.choice.shape[1], dtype=np.int64)
        for at in range(len(self.table.rows)):
            before = self.device[at - 1] if at else np.full_like(self.device[at], HOST_INDEX)
            for switch in self.table.switches:
                here = DEVICES.index(switch.device)
                if here != HOST_INDEX:
                    total = total + ((self.device[at] == here) & (before != here)) * self._high(of(switch))
        for port in self.table.ports:
            host = np.full(self.choice.shape[1], HOST_INDEX)
            source = host if port.producer == MODEL_INPUT else self.device[self.position[port.producer]]
            for move in port.moves:
                target = DEVICES.index(move.dst)
                needed = np.zeros(self.choice.shape[1], dtype=bool)
                for consumer in port.consumers:
                    where = host if consumer == MODEL_OUTPUT else self.device[self.position[consumer]]
                    needed |= where == target
                due = needed & (source == DEVICES.index(move.src))
                total = total + due * self._high(of(move))
        for border in (*self.table.arrivals, *self.table.departures):
            total = total + sum(self._high(of(s)) for s in border.steps)
        return total

    def best(self, value: Callable[[tuple[int, int]], int]) -> int | None:
        """Least value over the plans that fit; None if none does."""
        values = np.array([value((t, e)) for t, e in zip(self.latency, self.energy, strict=True)], dtype=np.int64)
        for plan in np.argsort(values, kind="stable"):
            if self.fits(int(plan)):
                return int(values[plan])
        return None

    def fits(self, plan: int) -> bool:
        """Whether the plan's weights go into the units."""
        return _fits(
            self.table, tuple(row.costs[i] for row, i in zip(self.table.rows, self.choice[:, plan], strict=True))
        )

    def plan(self, modes: tuple[Mode, ...]) -> int:
        """Number of the plan with these modes."""
        index = [[c.mode for c in row.costs].index(m) for row, m in zip(self.table.rows, modes, strict=True)]
        return int(np.ravel_multi_index(index, [len(row.costs) for row in self.table.rows]))


def _fits(table: CostTable, costs: tuple[Cost, ...]) -> bool:
    """Whether some choice of units keeps each within its bytes, by trying all of them."""
    cap = table.capacities[0]
    if cap.unit_bytes is None:
        return True
    loads = {(0,) * cap.units}
    for cost in costs:
        if cost.mode.device != "cim":
            continue
        loads = {
            tuple(load[u] + (cost.unit_weight_bytes if u in pick else 0) for u in range(cap.units))
            for load in loads
            for pick in itertools.combinations(range(cap.units), cost.mode.units)
        }
        loads = {load for load in loads if max(load) <= cap.unit_bytes}
    return bool(loads)
