"""Assignment: which mode each operator runs in, and what is proved about it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from h4hc.costtypes import Mode
from h4hc.goals import NO_BUDGET, Budget, Goal


class Objective(StrEnum):
    """What is minimised. edp = energy x delay of one inference."""

    LATENCY = "latency"
    ENERGY = "energy"
    EDP = "edp"


class Schema(StrEnum):
    """How operators share the time. SEQUENTIAL: one at a time, all sums. PARALLEL: what need not wait overlaps; the
    latency is the makespan (`h4hc.planning.parallel.clock`). AUTO: the better of the two; no plan has it."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    AUTO = "auto"


class Case(StrEnum):
    """Which numbers an objective is made of: the nominal ones, or every cost at the bound that hurts.

    WORST is the worst case over the box of all intervals: costs at their high bound, what hides at its low one.
    """

    NOMINAL = "nominal"
    WORST = "worst"


class Status(StrEnum):
    """What the solver proved. OPTIMAL only when bound == value up to the solver's double precision (1e-7 relative)."""

    OPTIMAL = "proved optimal"
    WITHIN_GAP = "proved within gap"
    FEASIBLE = "feasible, bound not closed"


@dataclass(frozen=True)
class Placement:
    """One operator's mode and the units (macro numbers) that hold its share; units is empty off the CIM."""

    op: str
    mode: Mode
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One goal of several, in the order they were pursued: its value in the plan [ps, pJ, ps x pJ, bytes].

    bound: no plan that meets the budgets and is within the gap in all goals before can be below it.
    """

    goal: Goal
    value: int
    bound: int
    gap: float
    status: Status


@dataclass(frozen=True)
class Assignment:
    """A complete placement, in execution order, with its exact cost and the proof that goes with it.

    latency_ps, energy_pj: nominal totals of the plan (the ledger sums to them). value, bound: of the objective in
    the case that was minimised, in ps, pj or ps x pj. gap = (value - bound) / value. breaks: operators at which another
    stay begins although the device stays the same (parallel only).

    objective: the first goal that is made of latency and energy; stages: all goals in order, where there are several
    or `sram` is one. budget: what bound the plan beside them; its sram_bytes may be the target's own.
    """

    objective: Objective
    case: Case
    placements: tuple[Placement, ...]
    latency_ps: int
    energy_pj: int
    value: int
    bound: int
    gap: float
    status: Status
    solver: str
    schema: Schema = Schema.SEQUENTIAL
    breaks: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    budget: Budget = NO_BUDGET

    @functools.cached_property
    def mode(self) -> dict[str, Mode]:
        """Mode by op id."""
        return {p.op: p.mode for p in self.placements}

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Assignment:
        """Inverse of `to_json`."""
        result = _adapter().validate_json(data)
        assert isinstance(result, Assignment)
        return result


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Assignment)
