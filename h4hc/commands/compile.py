"""`h4hc compile MODEL --target T -o OUT`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import global_flags, pass_console
from h4hc.commands.model_options import (
    ModelOptions,
    PlanOptions,
    compile_options,
    demand_options,
    goal_options,
    model_options,
)
from h4hc.console import Console
from h4hc.errors import Problem, UserError
from h4hc.units import PS_PER_S, format_time

if TYPE_CHECKING:
    from h4hc.compilation import Compilation

BOXES = ("model", "legal", "workload", "costs", "assignment", "schedule", "memory")


@click.command(
    "compile",
    help="Plan MODEL for a target and write the folder OUT: report, partitioned ONNX, one ONNX a partition. "
    "The report's first screen is printed.",
)
@model_options
@goal_options
@demand_options
@click.option(
    "--schema",
    type=click.Choice(["sequential", "parallel", "auto"]),
    default="sequential",
    show_default=True,
    help="One operator at a time, or what need not wait at once; auto: the better.",
)
@click.option("--robust", is_flag=True, help="Minimise the worst case over the intervals of all costs.")
@click.option(
    "--stability",
    is_flag=True,
    help="Find how wrong each device's costs may be before the plan changes; takes several solves.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="OUT", help="Folder to write. Required.")
@click.option("--force", is_flag=True, help="Replace OUT whatever is in it.")
@click.option("--dry-run", is_flag=True, help="Write nothing; print the report only. -o is not needed.")
@click.option(
    "--stop-after", "stop_after", type=click.Choice(BOXES), help="Stop after this stage and write its JSON, only that."
)
@global_flags
@pass_console
def command(
    console: Console,
    model: Path,
    output: Path | None,
    force: bool,
    dry_run: bool,
    stop_after: str | None,
    objective: str,
    budgets: tuple[str, ...],
    pareto: str | None,
    pareto_points: int,
    pins: tuple[str, ...],
    forbids: tuple[str, ...],
    gap: float | None,
    time_limit: float,
    robust: bool,
    stability: bool,
    schema: str,
    **given: Any,
) -> None:
    plan = PlanOptions(
        objective, budgets, pareto, pareto_points, pins, forbids, gap, time_limit, robust, stability, schema
    )
    needed = not dry_run and not (stop_after and console.as_json)
    options = compile_options(model, ModelOptions(**given), plan, _output_problems(model, output, force, needed))
    from h4hc.api import compile_model

    done = compile_model(model, options, stop_after=stop_after)
    console.diagnostics(done.diagnostics)
    for stage, seconds in done.seconds.items():
        console.log(f"{stage}: {format_time(int(seconds * PS_PER_S))}")
    if stop_after is not None:
        _write_box(console, done, stop_after, None if dry_run else output, force)
        return
    _finish(console, done, None if dry_run else output, force)


def _output_problems(model: Path, output: Path | None, force: bool, needed: bool) -> tuple[Problem, ...]:
    if not needed:
        return ()
    if output is None:
        return (Problem("-o OUT is missing", hint="name the folder to write, or use --dry-run"),)
    from h4hc.outdir import check_output

    try:
        check_output(output, force=force, keep=(model,))
    except UserError as error:
        return error.problems
    return ()


def _finish(console: Console, done: Compilation, output: Path | None, force: bool) -> None:
    """Write the folder, if there is to be one, and show the report."""
    from h4hc.report import make_report
    from h4hc.report_views import render_terminal

    if output is None:
        report = make_report(done)
    else:
        from h4hc.api import write_folder

        report = write_folder(done, output, force)
        whole = sum(done.seconds.values())
        console.say(f"wrote {output}; planned in {whole:.2f} s, {done.seconds['partition']:.2f} s of it in the solver")
    if done.front is None:
        console.result(report, lambda: render_terminal(report, console.width))
        return
    from h4hc.pareto_output import front_json, front_text

    front, chosen = done.front, done.assignment
    assert chosen is not None
    both = {"report": report, "pareto": front_json(front, chosen)}
    console.result(both, lambda: render_terminal(report, console.width) + front_text(front, console.width))
    if output is not None and not (output / "pareto.png").is_file():
        console.say("no picture of the front: matplotlib is not installed; pip install 'h4hc[plot]'")


def _write_box(console: Console, done: Compilation, box: str, output: Path | None, force: bool) -> None:
    """The JSON of one stage: to stdout with --json, else to OUT/<box>.json."""
    from h4hc.api import box_json

    data = box_json(done, box)
    if console.as_json or output is None:
        console.raw(data)
        return
    from h4hc.outdir import OutputFolder

    facts = {"model": done.loaded.name, "model_sha256": done.loaded.sha256, "stopped_after": box}
    with OutputFolder(output, facts, force=force) as folder:
        folder.add(f"{box}.json", data, f"the {box} stage")
    console.say(f"wrote {output / box}.json")
