"""Random networks with copies in another layout and weights in the SRAM, and the live bytes of every plan."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from h4hc.assignment import Assignment, Case, Objective, Placement, Status
from h4hc.cost import MODEL_INPUT, MODEL_OUTPUT, CostTable, Move, Port
from h4hc.costtypes import Mode
from h4hc.memory.planner import plan_memory
from h4hc.planning.live import Memory
from h4hc.schedule import schedule
from h4hc.system import System
from h4hc.workload import Layout, Op, OpKind, Tensor, Workload
from tests.fake_compilation import FakeDevice, FakeInterconnect
from tests.memory.plans import SramDevice
from tests.random_plans import DEVICES, Enumeration, random_table, some_steps

ROW, LAST = Layout.ROW_MAJOR, Layout.CHANNELS_LAST
LINE_BYTES = 16
SIZES = (8, 24, 40, 72, 100)
KINDS = (OpKind.VIEW, OpKind.ELEMENTWISE, OpKind.GENERIC, OpKind.GENERIC, OpKind.GENERIC)


def random_memory_problem(seed: int, max_ops: int) -> tuple[Workload, CostTable, Memory]:
    """A connected DAG whose tensors are wanted in two layouts; `npu` and `cim` read their weights from the SRAM."""
    rng = random.Random(seed)
    tensors = {"x": Tensor("x", (1, 4), "int8", "int8", rng.choice(SIZES), ROW)}
    constants = {f"w{n}": Tensor(f"w{n}", (1, 4), "int8", "int8", rng.choice((3, 40, 90)), ROW) for n in range(3)}
    ops: list[Op] = []
    for at in range(rng.randint(1, max_ops)):
        names = [*tensors]
        inputs = tuple(dict.fromkeys([rng.choice(names[-3:]), *(rng.sample(names, 1) if rng.random() < 0.4 else [])]))
        kind = rng.choice(KINDS)
        inputs = inputs[:1] if kind is OpKind.VIEW else inputs
        layout = rng.choice([ROW, LAST, None])
        first = tensors[inputs[0]]
        order = layout or first.layout
        size = first.size_bytes if kind is not OpKind.GENERIC else rng.choice(SIZES)
        tensors[f"t{at}"] = Tensor(f"t{at}", (1, 4), "int8", "int8", size, order)
        weights = tuple(sorted(rng.sample([*constants], rng.randint(0, 2)))) if kind is OpKind.GENERIC else ()
        ops.append(_op(f"op{at}", kind, inputs, f"t{at}", layout, weights))
    read = {name for op in ops for name in op.inputs}
    outputs = tuple(name for name in tensors if name != "x" and (name not in read or rng.random() < 0.1))
    workload = Workload("random", "as stored", tuple(ops), (*tensors.values(), *constants.values()), ("x",), outputs)
    resident = frozenset({"npu", "cim"} if rng.random() < 0.6 else set())
    table = replace(random_table(rng, workload, 1), ports=_ports(rng, workload))
    return workload, table, Memory(1 << 20, LINE_BYTES, resident)


def _op(
    name: str, kind: OpKind, inputs: tuple[str, ...], output: str, layout: Layout | None, weights: tuple[str, ...]
) -> Op:
    from tests.memory.plans import op

    return replace(op(name, kind, inputs, output, layout, weights))


def _ports(rng: random.Random, workload: Workload) -> tuple[Port, ...]:
    """As the cost table has them: a tensor in the layout that some want; a layout step wherever it is not its own."""
    wanted: dict[tuple[str, Layout, bool], list[str]] = {}
    for op in workload.ops:
        for name in op.inputs:
            order = op.layout or workload.tensor[op.inputs[0]].layout
            wanted.setdefault((name, order, False), []).append(op.id)
    for name in workload.outputs:
        wanted[name, ROW, True] = [MODEL_OUTPUT]
    found = []
    for (name, order, leaves), consumers in wanted.items():
        producer = workload.producer.get(name, MODEL_INPUT)
        moves = []
        for src in ("host",) if producer == MODEL_INPUT else DEVICES:
            for dst in ("host",) if leaves else DEVICES:
                steps = some_steps(rng, src == dst, 1)
                if order is not workload.tensor[name].layout:
                    engine = rng.choice([src, dst, "host"])
                    more = some_steps(rng, False, 1) or some_steps(rng, False, 1)
                    layout = replace((more or _PLAIN)[0], kind="layout", engine=engine)
                    steps = (*steps, layout)
                moves.append(Move(src, dst, steps))
        found.append(Port(name, order, producer, tuple(consumers), tuple(moves)))
    return tuple(found)


_PLAIN = some_steps(random.Random(0), False, 1) or some_steps(random.Random(1), False, 1)


class MemoryEnumeration(Enumeration):
    """live: the most bytes in use in any step of each plan, in whole lines, out of a memory plan's own buffers."""

    def __init__(self, workload: Workload, table: CostTable, memory: Memory, *, worst: bool = False) -> None:
        super().__init__(workload, table, worst=worst)
        kinds = {name: SramDevice if name in memory.resident else FakeDevice for name in DEVICES}
        devices = tuple(kinds[name](name, 1, 1) for name in DEVICES)
        self.system = System(
            "random", "for tests", "ab" * 32, devices, FakeInterconnect(), memory.sram_bytes, (), memory.line_bytes
        )
        self.live = np.array([self._live(workload, plan) for plan in range(self.choice.shape[1])], dtype=np.int64)
        self.fitting = np.array([self.fits(plan) for plan in range(self.choice.shape[1])], dtype=bool)

    def modes(self, plan: int) -> tuple[Mode, ...]:
        """Modes of a plan."""
        return tuple(row.costs[i].mode for row, i in zip(self.table.rows, self.choice[:, plan], strict=True))

    def _live(self, workload: Workload, plan: int) -> int:
        placements = tuple(Placement(row.op, m) for row, m in zip(self.table.rows, self.modes(plan), strict=True))
        empty = Assignment(Objective.LATENCY, Case.NOMINAL, placements, 0, 0, 0, 0, 0.0, Status.FEASIBLE, "")
        laid = schedule(workload, empty, self.table)
        (region,) = plan_memory(workload, laid, self.system, most_nodes=0).regions
        lines = {b.name: -(-b.size_bytes // LINE_BYTES) * LINE_BYTES for b in region.buffers}
        return max(sum(lines[b.name] for b in region.live(step)) for step in range(len(laid.steps)))
