"""`estimate_many`: latency and energy of many networks, from Workloads or from per-block tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from h4hc.assignment import Case, Objective
from h4hc.batch.blocks import Block, whole
from h4hc.batch.networks import Estimates, evaluate
from h4hc.batch.tables import BlockTables, block_tables
from h4hc.errors import UserError
from h4hc.system import System
from h4hc.workload import Workload


@overload
def estimate_many(networks: BlockTables, choices: NDArray[np.integer], *, refine: bool = ...) -> Estimates: ...


@overload
def estimate_many(
    networks: Sequence[Workload],
    *,
    system: System,
    objective: Objective = ...,
    case: Case = ...,
    refine: bool = ...,
) -> Estimates: ...


def estimate_many(
    networks: BlockTables | Sequence[Workload],
    choices: NDArray[np.integer] | None = None,
    *,
    system: System | None = None,
    objective: Objective = Objective.LATENCY,
    case: Case = Case.NOMINAL,
    refine: bool = False,
) -> Estimates:
    """Latency [ps] and energy [pJ] of the best plan of each network, in exact integers.

    networks: the tables of a search space, with choices [N, S] = option of each stage; or whole Workloads, with the
    system they run on and what is minimised. The numbers are those of `h4hc.partition` wherever `Estimates.proved`.
    Operators that are alike are costed once. refine: look harder for plans that fit a weight store. Raises what
    `evaluate` and `block_tables` raise.
    """
    if isinstance(networks, BlockTables):
        if choices is None:
            raise UserError("tables need choices", ("choices",), hint="an array [networks, stages] of options")
        return evaluate(networks, choices, refine)
    if system is None:
        raise UserError("workloads need a system", ("system",), hint="load_system(target)")
    return _whole(networks, system, objective, case, refine)


def _whole(networks: Sequence[Workload], system: System, objective: Objective, case: Case, refine: bool) -> Estimates:
    """Each network as one block; prices are tried for those whose weights do not fit for nothing."""
    if not networks:
        return Estimates.of_nothing()
    stage = [whole(workload) for workload in networks]
    found = evaluate(block_tables([stage], system, objective, case, prices=0), _each(stage))
    full = np.flatnonzero(~found.proved)
    if len(full):
        rest = [stage[n] for n in full]
        again = evaluate(block_tables([rest], system, objective, case), _each(rest), refine)
        for kept, new in zip(found.columns(), again.columns(), strict=True):
            kept[full] = new
    return found


def _each(stage: Sequence[Block]) -> NDArray[np.int64]:
    return np.arange(len(stage))[:, None]
