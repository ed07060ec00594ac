"""The front once more by the whole compiler: passes, cost table, integer program, checks. What is reported is this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from h4hc.api import CompileOptions, Objective, compile_model
from nas.search.blocks import Write
from nas.search.front import Front
from nas.search.hardware import HardwareTable
from nas.search.problem import Metrics
from nas.search.workers import Serial, Workers
from nas.space.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """What `h4hc compile` says of one network: latency, energy, and how the solver ended (`optimal`, ...)."""

    latency_ps: int
    energy_pj: int
    status: str


def recost(table: HardwareTable, genomes: NDArray[np.integer], workers: Workers | None = None) -> list[Plan]:
    """Compile each network for the table's system and objective. Raises what `compile_model` raises."""
    asked = table.target, table.sets, table.objective
    items = [(table.space, table.write, tuple(genome), asked) for genome in genomes.tolist()]
    return list((workers or Serial()).map(_compile, items))


def _compile(item: tuple[SearchSpace, Write, tuple[int, ...], tuple[str, tuple[str, ...], Objective]]) -> Plan:
    space, write, genome, (target, sets, objective) = item
    options = CompileOptions(target, sets, objective=objective)
    found = compile_model(write(space, space.arch(genome)), options).assignment
    assert found is not None
    return Plan(found.latency_ps, found.energy_pj, found.status.value)


def recosted(front: Front, plans: Sequence[Plan]) -> Front:
    """The front with the latencies and energies of the plans; networks that are dominated now stay in it."""
    numbers = {
        "latency_ps": np.array([plan.latency_ps for plan in plans], np.float64),
        "energy_pj": np.array([plan.energy_pj for plan in plans], np.float64),
    }
    return replace(front, metrics=Metrics(front.metrics.columns | numbers))
