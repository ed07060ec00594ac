"""What happens where blocks meet each other and the ends of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from h4hc.assignment import Case
from h4hc.batch.blocks import Block, renamed
from h4hc.batch.frontier import UNITS_OF_PRICE, Ints, Setting
from h4hc.cost import CostTable, cost_table
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts
from h4hc.system import System
from h4hc.workload import Op, Tensor, Workload

NOBODY = 0  # class of the operator of a skip


def sum_pairs(pairs: Iterable[Pair]) -> Pair:
    """Sum of (ps, pJ)."""
    latency = energy = 0
    for pair in pairs:
        latency, energy = latency + pair[0], energy + pair[1]
    return latency, energy


def border_costs(table: CostTable, case: Case) -> dict[str, Pair]:
    """What the host does once with each of the network's own tensors, by the tensor's name."""
    bound = "nominal" if case is Case.NOMINAL else "high"
    return {
        border.tensor: sum_pairs((getattr(s.latency, bound), getattr(s.energy, bound)) for s in border.steps)
        for border in (*table.arrivals, *table.departures)
    }


class Classes:
    """Numbers for what blocks have in common, by position in `blocks`.

    enters, leaves: signature of entry and exit, `begin` at the network's ends; first, last: class of the first and the
    last operator (all but its names, and where it touches the border), NOBODY for a skip.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._signatures: dict[Tensor | None, int] = {}
        self.begin = self._signature(None)
        self.enters = [self._signature(b.signatures[0]) for b in blocks]
        self.leaves = [self._signature(b.signatures[1]) for b in blocks]
        numbers: dict[object, int] = {None: NOBODY}
        self.first = [numbers.setdefault(_likeness(b, 0, b.entry), len(numbers)) for b in blocks]
        numbers = {None: NOBODY}
        self.last = [numbers.setdefault(_likeness(b, -1, b.exit), len(numbers)) for b in blocks]

    def _signature(self, tensor: Tensor | None) -> int:
        return self._signatures.setdefault(tensor, len(self._signatures))

    def hidden(self, pairs: Iterable[tuple[int, int]], system: System, setting: Setting, case: Case) -> Ints:
        """[last class, first class, device, 2]: what the second operator hides behind the first, for pairs of blocks.

        The cost table of all pairs, one behind the other, says it.
        """
        shape = (max(self.last) + 1, max(self.first) + 1, len(setting.devices), 2)
        saved = np.zeros(shape, np.int64)
        once = {(self.last[a], self.first[b]): (a, b) for a, b in sorted(pairs, reverse=True)}
        if not once:
            return saved
        ops: list[Op] = []
        tensors: dict[str, Tensor] = {}
        inputs: list[str] = []
        outputs: list[str] = []
        for number, (a, b) in enumerate(once.values()):
            before, after = _pair(self._blocks[a], self._blocks[b], f"{number}/")
            for part in (before, after):
                ops += part.ops
                tensors.update((t.name, t) for t in part.tensors)
                inputs += part.inputs
                outputs += part.outputs
        precision = self._blocks[0].workload.precision
        workload = Workload("pairs", precision, tuple(ops), tuple(tensors.values()), tuple(inputs), tuple(outputs))
        costs = PlanCosts(cost_table(workload, system), case)
        for number, (last, first) in enumerate(once):
            for d, device in enumerate(setting.devices):
                pair = costs.hidden.get((2 * number + 1, device), NOTHING)
                objective = setting.objective
                saved[last, first, d] = pair[objective] * UNITS_OF_PRICE, pair[1 - objective]
        return saved


def _pair(a: Block, b: Block, prefix: str) -> tuple[Workload, Workload]:
    """Last operator of one block and first of the next, as they meet in a network."""
    before = renamed(_only(a, -1), f"{prefix}a/")
    after = renamed(_only(b, 0), f"{prefix}b/", before.exit)
    return before.workload, after.workload


def _only(block: Block, at: int) -> Block:
    """The block's first or last operator alone."""
    work = block.workload
    op = work.ops[at]
    names = dict.fromkeys((*op.inputs, *op.outputs, *op.weights, *((block.entry,) if at == 0 else (block.exit,))))
    part = replace(
        work,
        ops=(op,),
        tensors=tuple(work.tensor[n] for n in names),
        inputs=tuple(n for n in work.inputs if n in names),
        outputs=tuple(n for n in work.outputs if n in names),
    )
    return Block(part, block.entry if at == 0 else "", "" if at == 0 else block.exit)


def _likeness(block: Block, at: int, border: str) -> object:
    """All of the first or last operator but its names, and which of its tensors is the border."""
    if not block.workload.ops:
        return None
    work, op = block.workload, block.workload.ops[at]
    names = (*op.inputs, *op.outputs, *op.weights)
    numbers = {n: i for i, n in reversed(list(enumerate(names)))}
    tensors = tuple((replace(work.tensor[n], name=""), n in work.inputs, n in work.outputs, n == border) for n in names)
    nameless = replace(op, id="", inputs=(), outputs=(), weights=(), origin=(), op_types=(), region="")
    counts = len(op.inputs), len(op.outputs)
    return nameless, counts, tuple(numbers[n] for n in names), tensors
