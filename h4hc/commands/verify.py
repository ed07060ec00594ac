"""`h4hc verify OUT`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h4hc.commands.flags import file_problems, global_flags, pass_console, raise_all
from h4hc.console import Console
from h4hc.text import clip, table

if TYPE_CHECKING:
    from h4hc.verification import Verification

MAX_SEED = 2**32 - 1
MAX_SAMPLES = 1000


@click.command(
    "verify",
    help="Check the folder OUT against its manifest, then run the original, the legalised and the partitioned model on "
    "onnxruntime and compare. Exit 7 names the first node whose values differ by more than the tolerance.",
)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Seed of the inputs.")
@click.option(
    "--samples", type=click.IntRange(1, MAX_SAMPLES), default=1, show_default=True, help="Sets of inputs to run."
)
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE", help=".npz with one array an input.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Raise a limit: model-bytes=4G.")
@global_flags
@pass_console
def command(console: Console, out: Path, seed: int, samples: int, inputs: Path | None, limits: tuple[str, ...]) -> None:
    raise_all([*file_problems("such folder", out), *file_problems("such file of inputs", inputs)])
    from h4hc.limits import parse
    from h4hc.verify import verify_folder

    result = verify_folder(out, seed=seed, samples=samples, inputs=inputs, limits=parse(limits))
    console.diagnostics(result.diagnostics)
    console.result(json.loads(result.to_json()), lambda: _text(result, console.width))


def _text(result: Verification, width: int) -> str:
    lines = [
        clip(
            f"{result.status}: {len(result.comparisons)} comparisons, {result.samples} samples, seed {result.seed}",
            width,
        ),
        clip(f"on {result.runtime}", width),
        "",
    ]
    rows = [
        (
            c.output,
            f"{c.reference} / {c.candidate}",
            c.level,
            str(c.verdict),
            f"{c.max_abs:.3g}",
            _tolerance(c.tolerance.kind, c.tolerance.value, c.largest),
        )
        for c in result.comparisons
    ]
    head = ("output", "models", "optimisation", "verdict", "difference", "allowed")
    return "\n".join([*lines, *table(head, rows, width, drop=(2,))]) + "\n"


def _tolerance(kind: str, value: float, largest: float) -> str:
    if kind == "bits":
        return "0"
    return f"{value * largest:.3g}" if kind == "relative" else f"{value:.3g}"
