"""`h4hc nas train|search|export|conflict|bench|demo`: what the search does is in the package `nas`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from h4hc.commands.flags import global_flags, pass_console, raise_all
from h4hc.commands.sweep_options import jobs_option, jobs_problems
from h4hc.console import Console
from h4hc.errors import LimitError, Problem

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)
SETS = "Change a value of the configuration: training.batch=32. Repeatable; the value is YAML."
STUDIES = ("two-phase", "co-design")
BUDGETS = ("steps", "minutes", "macs")
MAX_DRAWS, MAX_BATCH = 1000, 65536
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # in what torch says of it


@click.group(
    "nas",
    help="Search for networks of convolution and attention that suit a system: train one supernet that holds them all, "
    "search it, export what is found. Needs pip install 'h4hc[nas]'.",
)
@global_flags
def command() -> None:
    pass


def _sets(function: F) -> F:
    option = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=SETS)
    return option(function)


@command.command(
    "train",
    help="Train the supernet of CONFIG, a shipped configuration (tiny, demo, imagenet) or a YAML file, into the new "
    "folder RUN. On several GPUs: torchrun --nproc_per_node=8 -m h4hc nas train ...",
)
@click.argument("config", required=False)
@click.option("-o", "--output", "folder", type=FOLDER, metavar="RUN", help="Folder of the run.")
@_sets
@click.option("--budget", metavar="UNIT=N", help="How long: steps=500, minutes=10 or macs=1e12.")
@click.option("--resume", is_flag=True, help="Go on with the run in RUN, from its newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Say what the run will take; train nothing.")
@global_flags
@pass_console
def train(
    console: Console, config: str | None, folder: Path | None, sets: tuple[str, ...], budget: str | None, resume: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    problems = [*_budget_problems(budget, sets)]
    if config is None and not resume:
        hint = "name one: tiny, or the path of a .yaml file"
        problems.append(Problem("no configuration is given", ("CONFIG",), hint=hint))
    if folder is None and (resume or not dry_run):
        problems.append(Problem("-o RUN is missing", hint="name the folder of the run"))
    raise_all(problems)
    if budget is not None:
        unit, _, number = budget.partition("=")
        value = float(number)
        sets = (*sets, f"training.budget={{{unit}: {int(value) if value.is_integer() else value}}}")
    with _interruptible():
        tree = _nas("train")(config, folder, sets, resume, dry_run, console.level >= 0, console.say)
    if tree is None:  # a rank other than the first
        return
    from h4hc.commands.nas_text import forecast_text, train_text

    console.result(tree, lambda: (forecast_text if dry_run else train_text)(tree, console.width))


@command.command(
    "search",
    help="Search the trained RUN for the networks that are best in accuracy, latency and energy on a system; writes "
    "RUN/search: the front, its pictures, every evaluation. The same command again goes on where it stopped.",
)
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option("-o", "--output", "out", type=FOLDER, metavar="OUT", help="Folder of this search. Default: RUN/search.")
@click.option("--jobs", type=int, metavar="N", help="Processes that measure networks. Default: 1.")
@click.option("--ray", "on_ray", is_flag=True, help="Run on Ray: the cluster of $RAY_ADDRESS, else one started here.")
@_sets
@global_flags
@pass_console
def search(
    console: Console, folder: Path, out: Path | None, jobs: int | None, on_ray: bool, sets: tuple[str, ...]
) -> None:
    from h4hc.commands.nas_text import search_text

    raise_all(jobs_problems(jobs))
    with _going_on(console), _nas("progress")(console.level >= 0) as count:
        tree = _nas("search")(folder, out, sets, console.say, count, jobs, on_ray)
    console.result(tree, lambda: search_text(tree, console.width))


@command.command(
    "export",
    help="Write networks of the trained RUN to RUN/export: architecture, weights, ONNX, a report with accuracy, cost "
    "on each target and proof that all forms agree. Without --arch, some of the front of RUN/search.",
)
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option(
    "--arch", "archs", multiple=True, type=FOLDER, metavar="FILE", help="An architecture, as JSON. Repeatable."
)
@click.option("--search", "found", type=FOLDER, metavar="DIR", help="Folder of the search. Default: RUN/search.")
@click.option("-o", "--output", "out", type=FOLDER, metavar="OUT", help="Folder to write. Default: RUN/export.")
@click.option(
    "--head", type=click.Choice(["none", "segmentation"]), default="none", show_default=True,
    help="Train and export a head on the network as well, on generated data.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace OUT even if it was not made by h4hc.")
@_sets
@global_flags
@pass_console
def export(
    console: Console, folder: Path, archs: tuple[Path, ...], found: Path | None, out: Path | None, head: str,
    force: bool, sets: tuple[str, ...],
) -> None:  # fmt: skip
    from h4hc.commands.nas_text import networks_text

    with _interruptible():
        tree = _nas("export")(folder, archs, found, out, sets, head, force, console.say)
    out, target = tree["folder"], tree["target"]
    console.say(f"wrote {out}; next: h4hc compile {out}/00/model.onnx --target {target} -o compiled")
    console.result(tree, lambda: networks_text(tree["networks"], console.width))


@command.command(
    "conflict",
    help="Measure how far networks of other block types pull the shared weights of the trained RUN apart: cosines of "
    "their gradients, beside controls.",
)
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option("--batch", type=click.IntRange(2, MAX_BATCH), default=128, show_default=True, help="Images a gradient.")
@click.option("--draws", type=click.IntRange(1, MAX_DRAWS), default=8, show_default=True, help="Pairs of each kind.")
@global_flags
@pass_console
def conflict(console: Console, folder: Path, batch: int, draws: int) -> None:
    from h4hc.commands.nas_text import conflict_text

    with _interruptible():
        tree = _nas("conflict")(folder, batch, draws)
    console.result(tree, lambda: conflict_text(tree, console.width))


@command.command(
    "bench",
    help="Run a study and write OUT. two-phase: schedules of training, arms x seeds x data sets. co-design: searches "
    "for the NPU alone and for NPU + CIM, both run on NPU + CIM. Paired statistics over seeds. What is done is kept: "
    "the same command goes on where it stopped.",
)
@click.argument("study", type=click.Choice(STUDIES), metavar="STUDY")
@click.option("-o", "--output", type=FOLDER, metavar="OUT", help="Folder to write. Default: nas-STUDY.")
@click.option("--mode", metavar="NAME", help="A shorter form: quick (minutes), smoke (does it run).")
@jobs_option
@_sets
@global_flags
@pass_console
def bench(
    console: Console, study: str, output: Path | None, mode: str | None, jobs: int | None, sets: tuple[str, ...]
) -> None:
    raise_all(jobs_problems(jobs))
    folder = output or Path(f"nas-{study}")
    with _going_on(console):
        tree = _nas("bench")(study, folder, mode, jobs, sets, console.say)
    console.say(f"wrote {folder}: study.json, study.md and the CSV")
    console.result(tree, lambda: (folder / "study.md").read_text(encoding="utf-8"))


@command.command(
    "demo",
    help="All of it on a CPU in minutes, on generated pictures: train, search, export three networks, compile and "
    "verify each; one table. Kept in OUT: the same command goes on where it stopped.",
)
@click.option("-o", "--output", type=FOLDER, default="nas-demo", show_default=True, help="Folder to write.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="The same seed, the same front."
)
@click.option("--segmentation", is_flag=True, help="Also put a segmentation head on each network.")
@_sets
@global_flags
@pass_console
def demo(console: Console, output: Path, seed: int, segmentation: bool, sets: tuple[str, ...]) -> None:
    from h4hc.commands.nas_text import demo_text

    asked = (*sets, f"seed={seed}") if seed else sets
    with _going_on(console), _nas("progress")(console.level >= 0) as count:
        tree = _nas("demo")(output, asked, segmentation, console.level >= 0, console.say, count)
    console.result(tree, lambda: demo_text(tree, console.width))


# --- what they share ---------------------------------------------------------------------------------------


def _nas(name: str) -> Callable[..., Any]:
    from h4hc.registry import nas

    return cast(Callable[..., Any], nas(name))


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does; memory that is not there is a limit, no bug."""
    from h4hc.sweep.pool import sigterm_interrupts

    try:
        with sigterm_interrupts():
            yield
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError of its own, or a plain one on a CPU
        text = str(error)
        if not isinstance(error, MemoryError) and not any(part in text for part in OUT_OF_MEMORY):
            raise
        hint = "make training.batch, the resolution or widths of the space, or the data smaller"
        raise LimitError("out of memory", why=text.partition("\n")[0], hint=hint) from error


@contextmanager
def _going_on(console: Console) -> Iterator[None]:
    with _interruptible():
        try:
            yield
        except KeyboardInterrupt:
            console.say("what is done is kept; the same command goes on from there")
            raise


def _budget_problems(budget: str | None, sets: tuple[str, ...]) -> list[Problem]:
    if budget is None:
        return []
    unit, _, number = budget.partition("=")
    found = []
    try:
        fits = unit in BUDGETS and 0 < float(number) < math.inf
        fits &= unit != "steps" or float(number).is_integer()
    except ValueError:
        fits = False
    if not fits:
        found.append(
            Problem(
                f"--budget {budget!r} is no budget",
                ("--budget",),
                "it takes a unit and a number above 0, of steps a whole one",
                "steps=500, minutes=10 or macs=1e12",
            )
        )
    if any(text.startswith("training.budget") for text in sets):
        found.append(Problem("--budget and --set training.budget exclude each other", ("--budget",)))
    return found
