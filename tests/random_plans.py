"""Random cost tables over random DAGs, and the plan of least cost by enumeration: shares no code with the solver."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np

from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, Border, CostTable, Move, OpRow, Port
from h4hc.costtypes import Bound, Capacity, Cost, Interval, Mode, Term
from h4hc.system import MoveStep, Switch
from h4hc.workload import GenericParams, Layout, Op, OpKind, Tensor, Workload

HOST, NPU, CIM1, CIM2 = Mode("host"), Mode("npu"), Mode("cim"), Mode("cim", 2)
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
    return Interval.exact(rng.randint(0, top) * scale)


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
            moves = tuple(Move(s, d, _steps(rng, s == d, scale)) for s in sources for d in targets)
            ports.append(Port(tensor.name, Layout.ROW_MAJOR, producer, consumers, moves))
    switches = tuple(Switch(d, _interval(rng, 8, scale), _interval(rng, 8, scale), ("guess",)) for d in DEVICES)
    capacities = (Capacity("cim", 2, unit_bytes), Capacity("host", 1, None), Capacity("npu", 1, None))
    arrivals = tuple(Border(name, _steps(rng, True, scale)) for name in workload.inputs)
    departures = tuple(Border(name, _steps(rng, True, scale)) for name in workload.outputs)
    return CostTable("random", tuple(rows), tuple(ports), arrivals, departures, switches, capacities)


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


def _steps(rng: random.Random, same: bool, scale: int) -> tuple[MoveStep, ...]:
    if rng.random() < (0.8 if same else 0.2):
        return ()
    step = MoveStep("transfer", "dma", 4, _interval(rng, 6, scale), _interval(rng, 6, scale), ("guess",))
    return (step,)


class Enumeration:
    """Every choice of modes with its latency and energy, added up as h4hc/README.md describes the cost."""

    def __init__(self, workload: Workload, table: CostTable) -> None:
        self.table = table
        self.position = {op.id: at for at, op in enumerate(workload.ops)}
        sizes = [len(row.costs) for row in table.rows]
        self.choice = np.indices(sizes).reshape(len(sizes), -1)  # (operators, plans): index into the row's costs
        self.device = np.array(
            [
                [DEVICES.index(c.mode.device) for c in row.costs] + [0] * (max(sizes) - len(row.costs))
                for row in table.rows
            ]
        )[np.arange(len(sizes))[:, None], self.choice]
        self.latency = self._sum(lambda interval: interval[0])
        self.energy = self._sum(lambda interval: interval[1])

    def _sum(self, pick: Callable[[tuple[int, int]], int]) -> np.ndarray:
        total = np.zeros(self.choice.shape[1], dtype=np.int64)
        for at, row in enumerate(self.table.rows):
            own = np.array([pick((c.latency.nominal, c.energy.nominal)) for c in row.costs], dtype=np.int64)
            total = total + own[self.choice[at]]
            before = self.device[at - 1] if at else np.full_like(self.device[at], HOST_INDEX)
            for switch in self.table.switches:
                here = DEVICES.index(switch.device)
                if here != HOST_INDEX:
                    begins = (self.device[at] == here) & (before != here)
                    total = total + begins * pick((switch.latency.nominal, switch.energy.nominal))
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
                total = total + due * pick((move.latency.nominal, move.energy.nominal))
        for border in (*self.table.arrivals, *self.table.departures):
            total = total + sum(pick((s.latency.nominal, s.energy.nominal)) for s in border.steps)
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
