"""The front once more by the whole compiler: passes, costs, integer program, memory plan. This is what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h4hc.api import CompileOptions, Objective, compile_model
from nas.search.blocks import Write
from nas.search.front import Front, front_of
from nas.search.hardware import HardwareTable
from nas.search.problem import Metrics, nothing_feasible
from nas.search.workers import Serial, Workers
from nas.space.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """What `h4hc compile` says of one network: latency, energy, and how the solver ended (`proved optimal`, ...).

    sram_bytes: what its memory plan takes of the SRAM; fits: whether the system has that much.
    """

    latency_ps: int
    energy_pj: int
    status: str
    sram_bytes: int
    fits: bool


def recost(table: HardwareTable, genomes: NDArray[np.integer], workers: Workers | None = None) -> list[Plan]:
    """Compile each network for the table's system and objective. Raises what `compile_model` raises."""
    asked = table.target, table.sets, table.objective
    items = [(table.space, table.write, tuple(genome), asked) for genome in genomes.tolist()]
    return list((workers or Serial()).map(_compile, items))


def _compile(item: tuple[SearchSpace, Write, tuple[int, ...], tuple[str, tuple[str, ...], Objective]]) -> Plan:
    space, write, genome, (target, sets, objective) = item
    options = CompileOptions(target, sets, objective=objective)
    done = compile_model(write(space, space.arch(genome)), options)
    found = done.assignment
    assert found is not None
    assert done.memory is not None
    sram = done.memory.region("sram")
    return Plan(found.latency_ps, found.energy_pj, found.status.value, sram.high_water_bytes, sram.fits)


def recosted(front: Front, plans: Sequence[Plan]) -> tuple[Front, list[Plan]]:
    """The front by the numbers of the plans, with the plan of each of its networks.

    Networks that are dominated now, or break a limit, are left out. Raises InfeasibleError where none keeps the limits.
    """
    columns = {
        name: np.array([getattr(plan, name) for plan in plans], np.float64)
        for name in ("latency_ps", "energy_pj", "sram_bytes")
    }
    metrics = Metrics(front.metrics.columns | columns)
    if not front.problem.feasible(metrics).any():
        raise nothing_feasible(front.problem, metrics, front.genomes)
    kept = front_of(front.problem, front.genomes, metrics)
    at = {row.tobytes(): plan for row, plan in zip(front.genomes, plans, strict=True)}
    return kept, [at[row.tobytes()] for row in kept.genomes]
