"""evaluate: (Point) -> Row. What `h4hc compile` would find for this point, without reading the model again each time.

The work is split where the system comes in: load, passes and lower depend on the model alone and are done once a
process (`prepare`); the target, the cost table and the partition are done for each point.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from h4hc.assignment import Assignment, Case, Placement
from h4hc.compilation import CompileOptions
from h4hc.cost import CostTable, cost_table
from h4hc.costtypes import ZERO, Interval
from h4hc.diagnostics import Diagnostic
from h4hc.errors import InfeasibleError, LimitError, PlanError, Problem, UnsupportedOpError
from h4hc.inexact import inexact_remarks
from h4hc.memory.planner import plan_memory
from h4hc.memory.remark import sram_remark
from h4hc.npu_cost import remarks
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.planning.baselines import Baseline
from h4hc.planning.live import Memory
from h4hc.schedule import Schedule, schedule
from h4hc.sweep.row import BaselineRow, PlanFigures, Point, Row
from h4hc.system import System
from h4hc.workload import Workload
from h4hc.zoo.models import MODELS

ANY_TARGET = "host"  # the stages up to the workload read no target, but its options must name one
INT8_SUFFIX = "-int8"
OVERHEAD = ("switch", "transfer", "cache", "layout")  # kinds of steps that partitioning brings
MOVES = ("transfer", "cache", "layout")
NO_PLAN = (InfeasibleError, UnsupportedOpError, LimitError)  # an answer of the point, not a fault of the sweep


@dataclass(frozen=True)
class Prepared:
    """A model, ready to be costed: the hash of its self-contained bytes and its operators."""

    model_sha256: str
    workload: Workload


def evaluate(point: Point) -> Row:
    """Plan one point: the same numbers as `h4hc compile`. A point without a plan is a Row with a reason.

    A file is read once a process. Raises: UserError, TargetError, ModelFileError for a point that is itself wrong.
    """
    return evaluate_prepared(point, prepare(point))


def evaluate_prepared(point: Point, prepared: Prepared) -> Row:
    """As `evaluate`, for a model that is prepared already."""
    from h4hc.target_file import load_system

    return evaluate_on(point, prepared, load_system(point.target, point.sets, point.npu_cost))


def evaluate_on(point: Point, prepared: Prepared, system: System) -> Row:
    """As `evaluate_prepared`, on a system that is loaded already."""
    areas = [device.area_mm2() for device in system.devices]
    area = sum(a[0] for a in areas), sum(a[1] for a in areas), sum(a[2] for a in areas)
    workload = prepared.workload
    case = Case.WORST if point.robust else Case.NOMINAL
    wish = PartitionOptions(point.objective, point.pins, point.forbids, point.gap, point.time_limit_s, case)
    memory = Memory.of(system) if point.fit_sram else None
    wish = replace(wish, goals=point.goals, budget=point.budget, memory=memory)
    try:
        table = cost_table(workload, system)
        result = partition(workload, table, wish)
    except NO_PLAN as error:
        reason = "; ".join(f"{p.what}: {p.why}" if p.why else p.what for p in error.problems)
        return Row(point, prepared.model_sha256, system.sha256, area, None, code=error.code, reason=reason)
    done = result.assignment
    steps = schedule(workload, done, table)
    return Row(
        point,
        prepared.model_sha256,
        system.sha256,
        area,
        _checked(workload, table, done, steps, point),
        tuple(_baseline(b, workload, table, done) for b in result.baselines),
        done.status.value,
        done.gap,
        done.bound,
        diagnostics=_remarks(point, workload, system, done, steps),
    )


def _remarks(
    point: Point, workload: Workload, system: System, done: Assignment, steps: Schedule
) -> tuple[Diagnostic, ...]:
    """What `h4hc compile` remarks on the costs and on the plan, in its order."""
    costs = remarks(system.devices, workload) if point.npu_cost != "model" else ()
    memory = sram_remark(plan_memory(workload, steps, system), steps)
    return (*costs, *memory, *inexact_remarks(done, system))


def _checked(workload: Workload, table: CostTable, done: Assignment, steps: Schedule, point: Point) -> PlanFigures:
    """Figures of the chosen plan, after the independent check."""
    faults = check_plan(workload, table, done, steps, point.pins, point.forbids)
    if faults:
        found = (Problem(f"the plan breaks the rule of {f.rule}", f.where, f.detail, "a bug of h4hc") for f in faults)
        raise PlanError.of(tuple(found))
    return _figures(done, steps)


def _baseline(given: Baseline, workload: Workload, table: CostTable, done: Assignment) -> BaselineRow:
    if not given.modes and workload.ops:
        return BaselineRow(given.name, None, given.why)
    placements = tuple(
        Placement(op.id, mode, given.units.get(at, ()))
        for at, (op, mode) in enumerate(zip(workload.ops, given.modes, strict=True))
    )
    plan = replace(done, placements=placements)
    return BaselineRow(given.name, _figures(plan, schedule(workload, plan, table)))


def _figures(plan: Assignment, steps: Schedule) -> PlanFigures:
    overhead = [s for s in steps.steps if s.kind in OVERHEAD]
    return PlanFigures(
        steps.latency,
        steps.energy,
        functools.reduce(Interval.__add__, (s.latency for s in overhead), ZERO),
        functools.reduce(Interval.__add__, (s.energy for s in overhead), ZERO),
        sum(s.kind == "switch" for s in overhead),
        sum(s.size_bytes for s in overhead if s.kind in MOVES),
        tuple(sorted(Counter(p.mode.device for p in plan.placements).items())),
    )


# --- models ------------------------------------------------------------------------------------------------


def zoo_name(model: str) -> tuple[str, bool] | None:
    """(name, int8) of a zoo model: `resnet8`, `resnet8-int8`; None for a path. A file of such a name is `./resnet8`.

    >>> zoo_name("resnet8-int8"), zoo_name("resnet8.onnx")
    (('resnet8', True), None)
    """
    base = model.removesuffix(INT8_SUFFIX)
    return (base, base != model) if base in MODELS else None


def zoo_names() -> tuple[str, ...]:
    """Every name of a zoo model, its quantised form behind it."""
    return tuple(name for model in MODELS for name in (model, f"{model}{INT8_SUFFIX}"))


def prepare(point: Point) -> Prepared:
    """Load, legalise and lower the model of a point, once for each model and set of front-end options.

    Raises whatever these stages raise (UserError, ModelFileError, GraphError, ...).
    """
    front = CompileOptions(
        target=ANY_TARGET,
        precision=point.precision,
        input_shapes=point.input_shapes,
        fix_dims=point.fix_dims,
        passes=point.passes,
        limits=point.limits,
    )
    return _prepare(point.model, front)


@functools.cache
def _prepare(model: str, front: CompileOptions) -> Prepared:
    from h4hc.api import compile_model

    zoo = zoo_name(model)
    done = compile_model(Path(model) if zoo is None else _zoo_bytes(*zoo), front, stop_after="workload")
    assert done.workload is not None
    return Prepared(done.loaded.sha256, done.workload)


def _zoo_bytes(name: str, int8: bool) -> bytes:
    """The bytes that `h4hc zoo NAME` writes."""
    from h4hc.zoo.build import build_model

    return bytes(build_model(name, int8=int8).SerializeToString(deterministic=True))
