"""What one split costs: its new operators on every device, and the ports between them."""

from __future__ import annotations

from dataclasses import dataclass

from h4hc.cost import OpRow, Port, make_ports, op_row
from h4hc.splits import Split
from h4hc.splitting.workload import alone_in, split_workload
from h4hc.system import System
from h4hc.workload import Op, Workload


@dataclass(frozen=True)
class SplitCost:
    """The operators that take the place of one, in execution order: slices, parts, join.

    rows: their costs, mode by mode. ports: of the tensors that they hand to each other. What they read from outside and
    what they leave keeps its ports, with the parts, slices or the join in the place of the whole.
    """

    split: Split
    ops: tuple[Op, ...]
    rows: tuple[OpRow, ...]
    ports: tuple[Port, ...]


def split_cost(split: Split, workload: Workload, system: System) -> SplitCost:
    """Cost of a split by itself: as in the cost table of `split_workload(workload, (split,))`, nothing else asked.

    Where the operator before is split at the same channels too, parts read parts: cost both together, by that table.
    Raises: UserError where the operator takes no such split; CostModelError from a model asked outside its range.
    """
    alone = split_workload(alone_in(workload, workload.op[split.op]), (split,))
    made = {name for op in alone.ops[:-1] for name in op.outputs}
    between = tuple(port for port in make_ports(alone, system) if port.tensor in made)
    return SplitCost(split, alone.ops, tuple(op_row(op, system, alone) for op in alone.ops), between)
