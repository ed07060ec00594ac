"""`h4hc study paper [-o OUT]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import global_flags, pass_console, raise_all
from h4hc.commands.sweep_options import jobs_option, jobs_problems, plots_option, repeated_models, zoo_hint
from h4hc.console import Console
from h4hc.errors import Problem
from h4hc.text import plural

if TYPE_CHECKING:
    from h4hc.study.design import Design

DEFAULT_OUT = "study-paper"


@click.group("study", help="Studies that one command repeats.")
@global_flags
def command() -> None:
    pass


@command.command(
    "paper",
    help="NPU-only against NPU + CIM, by macros, compute units and the home of the NPU's weights, beside the figures "
    "of H4H (ASP-DAC 2025). Writes the folder OUT: study.json, study.csv, study.md, plots. What is done is kept in "
    "OUT/cache: the same command again goes on where it stopped.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=DEFAULT_OUT, show_default=True, help="Folder to write."
)
@click.option("--models", metavar="M1,M2,...", help="Models of `h4hc zoo list`, with -int8 for the quantised form.")
@jobs_option
@click.option("--quick", is_flag=True, help="The corners of the grid, for a small model unless --models names others.")
@plots_option
@global_flags
@pass_console
def paper(
    console: Console, output: Path, models: str | None, jobs: int | None, quick: bool, plots: bool | None
) -> None:
    from h4hc.sweep.canvas import need_matplotlib
    from h4hc.sweep.output import output_problems
    from h4hc.sweep.pool import sigterm_interrupts

    names = () if models is None else tuple(name.strip() for name in models.split(","))
    raise_all([*_model_problems(names), *output_problems(output, "study.json"), *jobs_problems(jobs)])
    if plots:
        need_matplotlib()
    with sigterm_interrupts():
        tree = _run(console, _design(names, quick), output, jobs)
        _finish(console, tree, output, plots)


def _model_problems(names: tuple[str, ...]) -> list[Problem]:
    from h4hc.sweep.evaluate import zoo_names

    return repeated_models(names, "--models") + [
        Problem(
            f"there is no zoo model {name!r}",
            ("--models",),
            f"known: {', '.join(zoo_names())}",
            zoo_hint(name, "see `h4hc zoo list`; for a file of yours, `h4hc sweep`"),
        )
        for name in dict.fromkeys(names)
        if name not in zoo_names()
    ]


def _design(names: tuple[str, ...], quick: bool) -> Design:
    from h4hc.study import design

    if quick:
        return design.quick(names)
    return design.Design(names) if names else design.Design()


def _run(console: Console, design: Design, output: Path, jobs: int | None) -> dict[str, Any]:
    from h4hc.study.run import run_study
    from h4hc.sweep.output import CACHE, resumable
    from h4hc.sweep.pool import cores
    from h4hc.sweep.progress import Tally, progress_bar

    points, bounds = Tally(), Tally()

    def kept() -> str:
        return f"{plural(points.done, 'point')} and {plural(bounds.done, 'set')} of bounds are done and kept"

    with resumable(output, console.say, kept), progress_bar(console.level >= 0) as show:
        counts = points.told_to(show), bounds.told_to(show)
        return run_study(design, output / CACHE, jobs or cores(), console.log, *counts)


def _finish(console: Console, tree: dict[str, Any], output: Path, plots: bool | None) -> None:
    from h4hc.study.markdown import markdown
    from h4hc.study.plots import render
    from h4hc.study.summary import summary
    from h4hc.study.table import csv_bytes
    from h4hc.sweep.canvas import pictures
    from h4hc.sweep.output import write_results
    from h4hc.sweep.table import json_bytes

    drawn = pictures(lambda: render(tree), plots, console.say)
    files = {"study.csv": csv_bytes(tree), "study.json": json_bytes(tree), "study.md": markdown(tree).encode()}
    write_results(output, files, drawn)
    console.say(f"wrote {output}: {plural(len(tree['rows']), 'row')}, {plural(len(drawn or ()), 'picture')}")
    console.result(tree, lambda: "\n".join(summary(tree, console.width)) + "\n")
