"""`h4hc sweep MODEL... --target T --over KEY=V1,V2,... -o OUT`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import global_flags, pass_console
from h4hc.commands.model_options import ModelOptions, PlanOptions, compile_options, plan_options, system_options
from h4hc.commands.sweep_options import jobs_option, jobs_problems, plots_option, repeated_models, zoo_hint
from h4hc.console import Console
from h4hc.errors import H4hcError, Problem, UserError
from h4hc.text import plural

if TYPE_CHECKING:
    from h4hc.sweep.grid import Axis
    from h4hc.sweep.row import Point, Row
    from h4hc.sweep.tasks import Systems


@click.command(
    "sweep",
    help="Plan each MODEL on every combination of the --over values and write the folder OUT: sweep.csv, sweep.json, "
    "plots. A MODEL is a file, or a name of `h4hc zoo list`, with -int8 for its quantised form. What is done is kept "
    "in OUT/cache: the same command again goes on where it stopped.",
)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--over", "overs", multiple=True, metavar="KEY=V1,V2,...", help="Vary a number: cim.macros=1,2,4.")
@system_options
@plan_options
@click.option("--robust", is_flag=True, help="Minimise the worst case over the intervals of all costs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="OUT", help="Folder to write. Required.")
@jobs_option
@click.option("--ray", "on_ray", is_flag=True, help="Run on Ray: the cluster of $RAY_ADDRESS, else one started here.")
@plots_option
@global_flags
@pass_console
def command(
    console: Console,
    models: tuple[str, ...],
    overs: tuple[str, ...],
    output: Path | None,
    jobs: int | None,
    on_ray: bool,
    plots: bool | None,
    objective: str,
    pins: tuple[str, ...],
    forbids: tuple[str, ...],
    gap: float | None,
    time_limit: float,
    robust: bool,
    **given: Any,
) -> None:
    from h4hc.sweep.grid import parse_axes
    from h4hc.sweep.pool import sigterm_interrupts

    axes, problems = parse_axes(overs, given["sets"])
    problems += [*_model_problems(models), *_output_problems(output), *jobs_problems(jobs)]
    plan = PlanOptions(objective, pins=pins, forbids=forbids, gap=gap, time_limit=time_limit, robust=robust)
    points, systems = _points(models, axes, ModelOptions(**given), plan, problems)
    _check_tools(on_ray, plots)
    assert output is not None
    with sigterm_interrupts():
        rows = _rows(console, points, systems, output, jobs, on_ray)
        _finish(console, models, axes, rows, output, plots)


# --- before anything runs ----------------------------------------------------------------------------------


def _model_problems(models: tuple[str, ...]) -> list[Problem]:
    from h4hc.sweep.evaluate import zoo_name

    if not models:
        return [Problem("no model is given", ("MODEL",), hint="name a file, or a model of `h4hc zoo list`")]
    return repeated_models(models, "MODEL") + [
        Problem(
            "there is no such model file, nor zoo model",
            (model,),
            hint=zoo_hint(model, "check the path, or see `h4hc zoo list`"),
        )
        for model in dict.fromkeys(models)
        if zoo_name(model) is None and not Path(model).exists()
    ]


def _output_problems(output: Path | None) -> list[Problem]:
    from h4hc.sweep.output import output_problems

    if output is None:
        return [Problem("-o OUT is missing", hint="name the folder to write")]
    return output_problems(output, "sweep.json")


def _points(
    models: tuple[str, ...], axes: tuple[Axis, ...], given: ModelOptions, plan: PlanOptions, problems: list[Problem]
) -> tuple[tuple[Point, ...], Systems]:
    """The grid and its systems. Raises one error with every mistake in options, keys and values."""
    from h4hc.compilation import CompileOptions
    from h4hc.sweep.grid import MAX_POINTS, grid_points, grid_size
    from h4hc.sweep.tasks import load_systems, raise_all

    size = grid_size(models, axes)
    if size > MAX_POINTS:
        problems.append(Problem(f"the grid has {size} points", ("--over",), f"{MAX_POINTS} are allowed"))
        axes = ()
    errors: list[H4hcError] = []
    base = CompileOptions(given.target or "", given.sets, given.npu_cost)
    try:
        base = compile_options(None, given, plan, tuple(problems))
    except UserError as error:
        errors.append(error)
    systems: Systems = {}
    if given.target and all(text.partition("=")[1] for text in given.sets):
        try:
            systems = load_systems(grid_points(("",), axes, base))
        except H4hcError as error:
            errors.append(_named_over(error, axes))
    raise_all(errors)
    return grid_points(models, axes, base), systems


def _named_over(error: H4hcError, axes: tuple[Axis, ...]) -> H4hcError:
    """Say --over where the key came from there."""
    keys = {axis.key for axis in axes}
    renamed = (
        dataclasses.replace(p, what=p.what.replace("--set", "--over", 1))
        if p.where and p.where[0].partition("=")[0] in keys
        else p
        for p in error.problems
    )
    return type(error).of(tuple(renamed))


def _check_tools(on_ray: bool, plots: bool | None) -> None:
    """Fail now, not after hours, where something that was asked for is not installed."""
    if plots:
        from h4hc.sweep.canvas import need_matplotlib

        need_matplotlib()
    if on_ray:
        from h4hc.sweep.workers import need_ray

        need_ray()


# --- run and write -----------------------------------------------------------------------------------------


def _rows(
    console: Console, points: tuple[Point, ...], systems: Systems, output: Path, jobs: int | None, on_ray: bool
) -> tuple[Row, ...]:
    from h4hc.sweep.cache import Cache
    from h4hc.sweep.output import CACHE, resumable
    from h4hc.sweep.pool import cores
    from h4hc.sweep.progress import Tally, progress_bar
    from h4hc.sweep.run import run_tasks
    from h4hc.sweep.tasks import make_tasks

    tally = Tally()

    def kept() -> str:
        return f"{tally.done} of {tally.known} points are done and kept" if tally.known else "nothing is done yet"

    with resumable(output, console.say, kept), Cache(output / CACHE) as cache:
        tasks = make_tasks(points, systems, cache.prepare, console.log)
        with progress_bar(console.level >= 0) as show:
            return run_tasks(tasks, cache, jobs=jobs or cores(), ray=on_ray, on_row=tally.told_to(show))


def _finish(
    console: Console,
    models: tuple[str, ...],
    axes: tuple[Axis, ...],
    rows: tuple[Row, ...],
    output: Path,
    plots: bool | None,
) -> None:
    from h4hc.sweep.canvas import pictures
    from h4hc.sweep.output import write_results
    from h4hc.sweep.plots import render
    from h4hc.sweep.table import Sweep, csv_bytes, diagnostics, document, json_bytes, summary

    sweep = Sweep(models, axes, rows)
    tree = document(sweep)
    drawn = pictures(lambda: render(sweep), plots, console.say)
    write_results(output, {"sweep.csv": csv_bytes(tree), "sweep.json": json_bytes(tree)}, drawn)
    console.say(f"wrote {output}: {plural(len(rows), 'point')}, {plural(len(drawn or ()), 'picture')}")
    console.diagnostics(diagnostics(sweep))
    console.result(tree, lambda: "\n".join(summary(tree, console.width)) + "\n")
