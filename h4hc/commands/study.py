"""`h4hc study paper [-o OUT]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import global_flags, pass_console, raise_all, range_problems
from h4hc.console import Console
from h4hc.errors import Problem
from h4hc.text import plural

if TYPE_CHECKING:
    from h4hc.study.design import Design

MAX_JOBS = 1024
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
@click.option("--jobs", type=int, metavar="N", help="Processes. Default: as many as there are cores.")
@click.option("--quick", is_flag=True, help="The corners of the grid, for a small model unless --models names others.")
@click.option("--plots/--no-plots", default=None, help="Draw the plots. Default: where matplotlib is installed.")
@global_flags
@pass_console
def paper(
    console: Console, output: Path, models: str | None, jobs: int | None, quick: bool, plots: bool | None
) -> None:
    from h4hc.sweep.output import output_problems

    names = () if models is None else tuple(name.strip() for name in models.split(","))
    problems = [*_model_problems(names), *output_problems(output)]
    problems += [] if jobs is None else range_problems("--jobs", jobs, 1, MAX_JOBS, "")
    raise_all(problems)
    if plots:
        from h4hc.sweep.plots import need_matplotlib

        need_matplotlib()
    tree = _run(console, _design(names, quick), output, jobs)
    _finish(console, tree, output, plots)


def _model_problems(names: tuple[str, ...]) -> list[Problem]:
    import difflib

    from h4hc.zoo.models import MODELS

    known = [name for model in MODELS for name in (model, f"{model}-int8")]
    problems = [
        Problem(f"{name} is given {names.count(name)} times", ("--models",), hint="give it once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    for name in dict.fromkeys(names):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see `h4hc zoo list`; for a file of yours, `h4hc sweep`"
            problems.append(
                Problem(f"there is no zoo model {name!r}", ("--models",), f"known: {', '.join(known)}", hint)
            )
    return problems


def _design(names: tuple[str, ...], quick: bool) -> Design:
    from h4hc.study import design

    if quick:
        return design.quick(names)
    return design.Design(names) if names else design.Design()


def _run(console: Console, design: Design, output: Path, jobs: int | None) -> dict[str, Any]:
    from h4hc.study.run import run_study
    from h4hc.sweep.output import CACHE, translate
    from h4hc.sweep.progress import progress_bar
    from h4hc.sweep.workers import cores

    kept = {"points": 0, "bounds": 0}

    def counting(what: str, show: Any) -> Any:
        def count(before: int, computed: int, total: int) -> None:
            kept[what] = before + computed
            show(before, computed, total)

        return count

    try:
        with progress_bar(console.level >= 0) as show:
            return run_study(
                design, output / CACHE, jobs or cores(), console.log, counting("points", show), counting("bounds", show)
            )
    except KeyboardInterrupt:
        done = f"{plural(kept['points'], 'point')} and {plural(kept['bounds'], 'set')} of bounds"
        console.say(f"{done} are done and kept; the same command goes on from there")
        raise
    except OSError as error:
        raise translate(error, output) from error


def _finish(console: Console, tree: dict[str, Any], output: Path, plots: bool | None) -> None:
    from h4hc.study.markdown import markdown
    from h4hc.study.summary import summary
    from h4hc.study.table import csv_bytes
    from h4hc.sweep.output import write_results
    from h4hc.sweep.table import json_bytes

    pictures = _pictures(console, tree, plots)
    files = {"study.csv": csv_bytes(tree), "study.json": json_bytes(tree), "study.md": markdown(tree).encode()}
    write_results(output, files, pictures)
    console.say(f"wrote {output}: {plural(len(tree['rows']), 'row')}, {plural(len(pictures), 'picture')}")
    console.result(tree, lambda: "\n".join(summary(tree, console.width)) + "\n")


def _pictures(console: Console, tree: dict[str, Any], plots: bool | None) -> dict[str, bytes]:
    from h4hc.study.plots import render
    from h4hc.sweep.plots import can_plot

    if plots is False:
        return {}
    if plots is None and not can_plot():
        console.say("no plots: matplotlib is not installed; pip install 'h4hc[plot]', then run this again")
        return {}
    return render(tree)
