"""Graphs of any size with the structure and the costs of vision networks, for benchmarks of the placement.

Blocks follow each other until there are enough operators, drawn from: a chain of one to three operators; a residual
around two to four; two to four branches of one to three operators that a concatenation joins; attention (query, key,
value, scores, softmax, context, projection, residual). Two in three operators hold weights. Costs are log-uniform: the
NPU takes 1 to 100 us, the host 3 to 30 times as long, the CIM (operators with weights only, in modes of one, two or
four macros) between a quarter and twice as long; energies likewise. A tensor costs 0.2 to 2 us to bring to another
device, a stay on one 1 us. In half of the neighbours on the NPU a part of the second operator hides.

tight: the part of all weights that the CIM's four macros hold together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable, FollowUp, Move, OpRow, Port
from h4hc.costtypes import Bound, Capacity, Cost, Interval, Mode, Term
from h4hc.system import MoveStep, Switch
from h4hc.units import PS_PER_S
from h4hc.workload import GenericParams, Layout, Op, OpKind, Tensor, Workload

DEVICES = ("cim", "host", "npu")
PS_PER_US = PS_PER_S // 10**6
MACROS = 4
MACRO_MODES = (1, 2, 4)
STAY = Interval.exact(PS_PER_US)


@dataclass
class _Graph:
    """Inputs of each operator: operators by number, -1 for the model's input."""

    count: int
    rng: random.Random
    reads: list[tuple[int, ...]] = field(default_factory=list)

    def op(self, *reads: int) -> int:
        """Add an operator; when there are enough, the last one instead."""
        if len(self.reads) < self.count:
            self.reads.append(tuple(dict.fromkeys(reads)))
        return len(self.reads) - 1

    def chain(self, last: int, length: int) -> int:
        for _ in range(length):
            last = self.op(last)
        return last

    def grow(self) -> list[tuple[int, ...]]:
        last = -1
        while len(self.reads) < self.count:
            last = self.rng.choice((self._plain, self._residual, self._branches, self._attention))(last)
        return self.reads

    def _plain(self, last: int) -> int:
        return self.chain(last, self.rng.randint(1, 3))

    def _residual(self, last: int) -> int:
        return self.op(self.chain(last, self.rng.randint(2, 4)), last)

    def _branches(self, last: int) -> int:
        ends = [self.chain(last, self.rng.randint(1, 3)) for _ in range(self.rng.randint(2, 4))]
        return self.op(*ends)

    def _attention(self, last: int) -> int:
        query, key, value = (self.op(last) for _ in range(3))
        softmax = self.op(self.op(query, key))
        context = self.op(softmax, value)
        return self.op(self.op(context), last)


def synthetic(count: int, seed: int, tight: float) -> tuple[Workload, CostTable]:
    """A graph of `count` operators and its costs; the same for the same arguments."""
    rng = random.Random(seed)
    reads = _Graph(count, rng).grow()
    names = ["x", *(f"t{at}" for at in range(count))]
    tensors = tuple(Tensor(name, (1, 4), "int8", "int8", 4, Layout.ROW_MAJOR) for name in names)
    params = GenericParams("generic", "Test", "", 4)
    ops = tuple(
        Op(f"op{at}", OpKind.GENERIC, params, tuple(names[i + 1] for i in inputs), (f"t{at}",), (), (f"op{at}",),
           ("Test",), "int8", 0, 0, 4, 4)
        for at, inputs in enumerate(reads)
    )  # fmt: skip
    read = {i for inputs in reads for i in inputs}
    outputs = tuple(f"t{at}" for at in range(count) if at not in read)
    workload = Workload(f"synthetic-{count}", "as stored", ops, tensors, ("x",), outputs)
    weights = [round(_log(rng, 256, 65536)) if rng.random() < 2 / 3 else 0 for _ in ops]
    rows = tuple(OpRow(op.id, tuple(_costs(rng, weight)), ()) for op, weight in zip(ops, weights, strict=True))
    switches = tuple(Switch(d, STAY, STAY, ("guess",)) for d in DEVICES)
    store = Capacity("cim", MACROS, max(1, round(sum(weights) * tight / MACROS)))
    capacities = (store, Capacity("host", 1, None), Capacity("npu", 1, None))
    follow_ups = tuple(_follow_up(rng, row) for row in rows[1:] if rng.random() < 0.5)
    return workload, CostTable(
        "synthetic", rows, _ports(rng, workload), (), (), switches, capacities, follow_ups, (0.0, 0.0, 0.0)
    )


def _log(rng: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())


def _costs(rng: random.Random, weight: int) -> list[Cost]:
    npu = _log(rng, 1, 100) * PS_PER_US
    found = [_cost(rng, Mode("npu"), npu, 0), _cost(rng, Mode("host"), npu * _log(rng, 3, 30), 0)]
    if weight:
        alone = npu * _log(rng, 0.25, 2)
        for units in MACRO_MODES:
            found.append(_cost(rng, Mode("cim", units), alone * (0.3 + 0.7 / units), -(-weight // units)))
    return found


def _cost(rng: random.Random, mode: Mode, time_ps: float, share: int) -> Cost:
    time = Interval.exact(round(time_ps))
    term = Term("compute", "serial", time, Interval.exact(round(time_ps * _log(rng, 0.5, 2))), "synthetic")
    return Cost.from_terms(mode, (term,), cycles=1, bound=Bound.COMPUTE, bytes_moved=(), model="synthetic",
                           marks=("guess",), unit_weight_bytes=share)  # fmt: skip


def _follow_up(rng: random.Random, row: OpRow) -> FollowUp:
    cost = row.cost(Mode("npu"))
    part = rng.random() / 2
    latency, energy = (Interval.exact(round(part * pair.nominal)) for pair in (cost.latency, cost.energy))
    return FollowUp(row.op, "npu", latency, energy)


def _ports(rng: random.Random, workload: Workload) -> tuple[Port, ...]:
    readers: dict[str, list[str]] = {}
    for op in workload.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op.id)
    found = []
    for tensor in workload.tensors:
        producer = workload.producer.get(tensor.name, MODEL_INPUT)
        size = _log(rng, 0.2, 2) * PS_PER_US
        moves = {pair: _move(rng, size) for pair in ((s, d) for s in DEVICES for d in DEVICES if s != d)}
        consumers = tuple(readers.get(tensor.name, ())) or (MODEL_OUTPUT,)
        sources = ("host",) if producer == MODEL_INPUT else DEVICES
        targets = ("host",) if consumers == (MODEL_OUTPUT,) else DEVICES
        parts = tuple(Move(s, d, moves.get((s, d), ())) for s in sources for d in targets)
        found.append(Port(tensor.name, Layout.ROW_MAJOR, producer, consumers, parts))
    return tuple(found)


def _move(rng: random.Random, time_ps: float) -> tuple[MoveStep, ...]:
    time, energy = (Interval.exact(round(time_ps * _log(rng, 0.5, 2))) for _ in range(2))
    return (MoveStep("transfer", "dma", 4, time, energy, ("guess",)),)
