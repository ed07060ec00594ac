"""The Python API under the command line: `compile_model` runs the stages, `write_folder` keeps what they made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from h4hc.compilation import Compilation, CompileOptions
from h4hc.cost import cost_table
from h4hc.errors import PlanError, Problem, UserError
from h4hc.limits import parse as parse_limits
from h4hc.pipeline import parse_pipeline, run_pipeline
from h4hc.schedule import schedule
from h4hc.system import System
from h4hc.target_file import load_system

if TYPE_CHECKING:
    from h4hc.assignment import Objective
    from h4hc.batch.blocks import Block, cut_blocks, join_blocks, peak_bytes, skip
    from h4hc.batch.capacity import NO_PLAN
    from h4hc.batch.estimate import estimate_many
    from h4hc.batch.networks import Estimates, plan_modes
    from h4hc.batch.parts import PartTables, estimate_parts, part_tables
    from h4hc.batch.tables import BlockTables, block_tables
    from h4hc.outdir import OutputFolder, check_output
    from h4hc.sealed import seal, unseal, write_whole
    from h4hc.sweep.pool import cores, in_processes
    from h4hc.sweep.tasks import program_sha256
    from h4hc.verify import verify_folder
    from h4hc.workload import Workload

__all__ = [
    "BOXES",
    "NO_PLAN",
    "Block",
    "BlockTables",
    "Compilation",
    "CompileOptions",
    "Estimates",
    "Objective",
    "OutputFolder",
    "PartTables",
    "Workload",
    "block_tables",
    "box_json",
    "check_output",
    "compile_model",
    "cores",
    "cut_blocks",
    "estimate_many",
    "estimate_parts",
    "in_processes",
    "join_blocks",
    "load_system",
    "part_tables",
    "peak_bytes",
    "plan_modes",
    "program_sha256",
    "seal",
    "skip",
    "unseal",
    "verify_folder",
    "write_folder",
    "write_whole",
]

BOXES = ("model", "legal", "workload", "costs", "assignment", "schedule", "memory")
T = TypeVar("T")
_LAZY = {  # imported when asked for: a compile needs none of it
    "assignment": ("Objective",),
    "batch.blocks": ("Block", "cut_blocks", "join_blocks", "peak_bytes", "skip"),
    "batch.capacity": ("NO_PLAN",),
    "batch.estimate": ("estimate_many",),
    "batch.networks": ("Estimates", "plan_modes"),
    "batch.parts": ("PartTables", "estimate_parts", "part_tables"),
    "batch.tables": ("BlockTables", "block_tables"),
    "outdir": ("OutputFolder", "check_output"),
    "sealed": ("seal", "unseal", "write_whole"),
    "sweep.pool": ("cores", "in_processes"),
    "sweep.tasks": ("program_sha256",),
    "verify": ("verify_folder",),
    "workload": ("Workload",),
}


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _LAZY.items():
        if name in names:
            return getattr(importlib.import_module(f"h4hc.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def compile_model(model: Path | bytes, options: CompileOptions, stop_after: str | None = None) -> Compilation:
    """Run the stages up to `stop_after` (one of BOXES), or all of them.

    model: path of an ONNX file, or the bytes of a self-contained one. The target is read before the model, so that
    a wrong one costs no time. Raises any H4hcError; the plan has passed the independent check.
    """
    if stop_after is not None and stop_after not in BOXES:
        raise UserError(f"there is no stage {stop_after!r}", why=f"known: {', '.join(BOXES)}")
    from h4hc.load import load_bytes, load_model

    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        result = work()
        seconds[stage] = time.perf_counter() - begun
        return result

    system = timed("target", lambda: load_system(options.target, options.sets, options.npu_cost))
    limits = parse_limits(options.limits)
    given = {"infer-shapes": {**_shape_options(options), "limits": limits}}
    passes = timed("passes", lambda: parse_pipeline(options.passes, given))
    loaded = timed(
        "load",
        lambda: load_bytes(model, None, limits, "model") if isinstance(model, bytes) else load_model(model, limits),
    )
    done = Compilation(options, loaded, system=system, seconds=seconds)
    if stop_after == "model":
        return done
    done.run = timed("passes", lambda: run_pipeline(loaded.model, passes))
    if stop_after == "legal":
        return done
    _plan(done, system, stop_after, timed)
    return done


def _plan(
    done: Compilation, system: System, stop_after: str | None, timed: Callable[[str, Callable[[], Any]], Any]
) -> None:
    """The stages on the Workload."""
    from h4hc.assignment import Case
    from h4hc.inexact import inexact_remarks
    from h4hc.lower import lower
    from h4hc.memory.check import check_memory
    from h4hc.memory.planner import plan_memory
    from h4hc.memory.remark import budget_remark, sram_remark
    from h4hc.partition import PartitionOptions, partition
    from h4hc.plan_check import check_plan
    from h4hc.planning.live import Memory
    from h4hc.stability import stability

    assert done.run is not None
    options, legal = done.options, done.run.model
    workload = done.workload = timed("lower", lambda: lower(legal, options.precision))
    if stop_after == "workload":
        return
    table = done.table = timed("costs", lambda: cost_table(workload, system))
    if options.npu_cost != "model":
        from h4hc.npu_cost import remarks

        done.plan_diagnostics = remarks(system.devices, workload)
    if stop_after == "costs":
        return
    wish = PartitionOptions(
        options.objective,
        options.pins,
        options.forbids,
        options.gap,
        options.time_limit_s,
        stoppable=True,
        schema=options.schema,
        goals=options.goals,
        budget=options.budget,
        memory=Memory.of(system) if options.fit_sram else None,
    )
    if options.robust:
        done.nominal_optimum = timed("nominal optimum", lambda: partition(workload, table, wish)).assignment
        wish = replace(wish, case=Case.WORST)
    result = timed("partition", lambda: partition(workload, table, wish))
    done.assignment, done.baselines = result.assignment, result.baselines
    done.plan_diagnostics += result.remarks
    plan = done.schedule = timed("schedule", lambda: schedule(workload, result.assignment, table))
    memory = done.memory = timed("memory", lambda: plan_memory(workload, plan, system))
    done.plan_diagnostics += (*sram_remark(memory, plan), *budget_remark(memory, options.budget.sram_bytes))
    done.plan_diagnostics += inexact_remarks(result.assignment, system)
    faults = timed("check", lambda: check_plan(workload, table, result.assignment, plan, options.pins, options.forbids))
    faults += timed("memory check", lambda: check_memory(workload, plan, system, memory))
    if faults:
        raise PlanError.of(
            tuple(
                Problem(f"the plan breaks the rule of {fault.rule}", fault.where, fault.detail, "this is a bug of h4hc")
                for fault in faults
            )
        )
    if options.pareto is not None and stop_after is None:
        from h4hc.pareto import pareto_front

        pair, most = options.pareto, options.pareto_points
        done.front = timed("pareto", lambda: pareto_front(workload, table, wish, pair, most))
    if options.stability and stop_after is None:
        done.stability = timed("stability", lambda: stability(workload, table, result, wish))


def _shape_options(options: CompileOptions) -> dict[str, Any]:
    """--input-shape and --fix-dim as the fields of infer-shapes. Input names may hold '=' and ':'."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    dims: list[tuple[str, int]] = []
    problems: list[Problem] = []
    for text in options.input_shapes:
        name, equals, sizes = text.rpartition("=")
        try:
            if not equals or not name:
                raise ValueError
            shape = tuple(int(size) for size in sizes.split(",")) if sizes.strip() else ()
            if any(size < 0 for size in shape):
                raise ValueError
            shapes.append((name, shape))
        except ValueError:
            problems.append(Problem(f"--input-shape {text!r} is not NAME=DIMS", hint="for example x=1,3,224,224"))
    for text in options.fix_dims:
        name, equals, size = text.rpartition("=")
        if not equals or not name or not size.strip().isdecimal():
            problems.append(Problem(f"--fix-dim {text!r} is not DIM=N", hint="for example batch=1"))
            continue
        dims.append((name, int(size)))
    if problems:
        raise UserError.of(tuple(problems))
    return {"input_shapes": tuple(shapes), "fix_dims": tuple(dims)}


def box_json(done: Compilation, box: str) -> bytes:
    """JSON of one stage. The two graphs are listed node by node, with what h4hc noted on them, without weights."""
    boxes: dict[str, Callable[[], bytes]] = {
        "model": lambda: _graph_json(done.loaded.model),
        "legal": lambda: _graph_json(done.run.model if done.run else None),
        "workload": lambda: _made(done.workload, box).to_json(),
        "costs": lambda: _made(done.table, box).to_json(),
        "assignment": lambda: _made(done.assignment, box).to_json(),
        "schedule": lambda: _made(done.schedule, box).to_json(),
        "memory": lambda: _made(done.memory, box).to_json(),
    }
    return boxes[box]()


def _made(value: T | None, box: str) -> T:
    if value is None:
        raise UserError(f"the run stopped before {box}")
    return value


def _graph_json(model: Any) -> bytes:
    graph = _made(model, "the graph").graph
    nodes = [
        {
            "name": node.name,
            "op_type": node.op_type,
            "domain": node.domain,
            "inputs": [value.name if value is not None else "" for value in node.inputs],
            "outputs": [{"name": v.name, "type": str(v.type), "shape": str(v.shape)} for v in node.outputs],
            "notes": dict(sorted(node.metadata_props.items())),
        }
        for node in graph
    ]
    tree = {
        "opsets": dict(sorted(model.opset_imports.items())),
        "inputs": [v.name for v in graph.inputs],
        "outputs": [v.name for v in graph.outputs],
        "nodes": nodes,
    }
    return json.dumps(tree, indent=1, sort_keys=True).encode() + b"\n"


def write_folder(done: Compilation, out: Path, force: bool = False) -> dict[str, Any]:
    """Write a finished run as an output folder, whole or not at all; returns the report in it.

    original.onnx, legalised.onnx, host.functions.onnx, partitions/<id>.onnx, memory.json, report.json, report.md,
    manifest.json; with a front pareto.json and pareto.csv, and where matplotlib is installed pareto.png and pareto.svg.
    Raises UserError when `out` may not be written or replaced, LimitError when the disk is full.
    """
    from h4hc.outdir import OutputFolder
    from h4hc.partitioned import emit, model_bytes
    from h4hc.report import make_report, report_bytes
    from h4hc.report_views import render_markdown

    assert done.run is not None
    assert done.system is not None
    assert done.schedule is not None
    assert done.memory is not None
    facts = {
        "target": done.system.name,
        "target_sha256": done.system.sha256,
        "model": done.loaded.name,
        "model_sha256": done.loaded.sha256,
    }
    report = make_report(done)
    with OutputFolder(out, facts, force=force) as folder:
        folder.add("original.onnx", done.loaded.original, "the model as given, self-contained")
        forms = emit(done.run.model, done.schedule)
        folder.add("legalised.onnx", model_bytes(forms.legalised), "the model after the passes")
        partitioned = model_bytes(forms.partitioned)
        folder.add("host.functions.onnx", partitioned, "the partitioned model, one function a partition")
        for name, part in forms.partitions.items():
            folder.add(f"partitions/{name}.onnx", model_bytes(part), "one partition on its own")
        folder.add("memory.json", done.memory.to_json(), "the memory plan: where each tensor lies")
        for name, data, role in _front_files(done):
            folder.add(name, data, role)
        folder.add("report.json", report_bytes(report), "the report")
        folder.add("report.md", render_markdown(report).encode(), "the report for people")
    return report


def _front_files(done: Compilation) -> list[tuple[str, bytes, str]]:
    """Name, bytes and role of what shows the front; nothing where none was asked for."""
    if done.front is None:
        return []
    from h4hc.pareto_output import front_bytes, front_csv, front_pictures
    from h4hc.sweep.canvas import can_plot

    chosen = _made(done.assignment, "assignment")
    found = [
        ("pareto.json", front_bytes(done.front, chosen), "the Pareto front with its plans"),
        ("pareto.csv", front_csv(done.front), "the Pareto front as a table"),
    ]
    if can_plot():
        pictures = front_pictures(done.front, chosen)
        found += [(name, data, "the Pareto front as a picture") for name, data in sorted(pictures.items())]
    return found
