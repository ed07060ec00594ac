"""Compilation: what one run was asked for and the boxes it made, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from h4hc.assignment import Assignment, Objective, Schema
from h4hc.cost import CostTable
from h4hc.diagnostics import Diagnostic
from h4hc.goals import MOST_POINTS, NO_BUDGET, Budget, Goal
from h4hc.memory.plan import MemoryPlan
from h4hc.pipeline import PipelineRun
from h4hc.schedule import Schedule
from h4hc.system import System
from h4hc.workload import Workload

if TYPE_CHECKING:
    from h4hc.load import LoadedModel
    from h4hc.pareto import Front
    from h4hc.planning.baselines import Baseline
    from h4hc.stability import Stability


@dataclass(frozen=True)
class CompileOptions:
    """What to compile for and how; the spellings are those of the command line.

    sets: `cim.macros=8`; npu_cost: model, vela or a file (h4hc.npu_cost); pins, forbids: `NODE=DEVICE`; input_shapes:
    `x=1,3,224,224`; fix_dims: `batch=1`; passes: a named list or a pass list; limits: `model-bytes=64M`; gap is
    relative, time_limit_s is wall time. schema: how operators share the time. robust: minimise the worst case over the
    intervals; stability: find how wrong each device's cost model may be. goals, budget: see
    `h4hc.partition.PartitionOptions`. fit_sram: whether the target's SRAM binds the plan where a plan that fits exists;
    False asks what it would cost if there were enough. pareto: two goals whose front is wanted, up to so many points.
    """

    target: str
    sets: tuple[str, ...] = ()
    npu_cost: str = "model"
    objective: Objective = Objective.LATENCY
    goals: tuple[Goal, ...] = ()
    budget: Budget = NO_BUDGET
    pareto: tuple[Goal, Goal] | None = None
    pareto_points: int = MOST_POINTS
    pins: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    gap: float = 0.0
    fit_sram: bool = True
    schema: Schema = Schema.SEQUENTIAL
    time_limit_s: float = 60.0
    robust: bool = False
    stability: bool = False
    precision: Literal["auto-int8", "stored"] = "auto-int8"
    input_shapes: tuple[str, ...] = ()
    fix_dims: tuple[str, ...] = ()
    passes: str = "default"
    limits: tuple[str, ...] = ()


@dataclass
class Compilation:
    """The boxes of one run, in the order they were made; those after a stop are None.

    nominal_optimum: the plan for the nominal numbers, beside a robust one. seconds: wall time by stage, for the log:
    no file of an output folder holds it.
    """

    options: CompileOptions
    loaded: LoadedModel
    run: PipelineRun | None = None
    workload: Workload | None = None
    system: System | None = None
    table: CostTable | None = None
    assignment: Assignment | None = None
    baselines: tuple[Baseline, ...] = ()
    nominal_optimum: Assignment | None = None
    front: Front | None = None
    stability: Stability | None = None
    schedule: Schedule | None = None
    memory: MemoryPlan | None = None
    plan_diagnostics: tuple[Diagnostic, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Remarks of all stages, in order, each once."""
        found = [
            *self.loaded.diagnostics,
            *(self.run.diagnostics if self.run else ()),
            *(self.workload.diagnostics if self.workload else ()),
            *self.plan_diagnostics,
        ]
        return tuple(dict.fromkeys(found))
