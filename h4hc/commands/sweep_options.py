"""What `sweep` and `study` share: --jobs, --plots, and names of models that are checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from h4hc.commands.flags import range_problems
from h4hc.errors import Problem

MAX_JOBS = 1024

jobs_option = click.option("--jobs", type=int, metavar="N", help="Processes. Default: as many as there are cores.")
plots_option = click.option(
    "--plots/--no-plots", default=None, help="Draw the plots. Default: where matplotlib is installed."
)


def jobs_problems(jobs: int | None) -> list[Problem]:
    """A number of processes that nobody can mean."""
    return [] if jobs is None else range_problems("--jobs", jobs, 1, MAX_JOBS, "")


def repeated_models(models: Sequence[str], option: str) -> list[Problem]:
    """Models that are given twice or more."""
    return [
        Problem(f"{model} is given {models.count(model)} times", (option,), hint="give it once")
        for model in dict.fromkeys(models)
        if models.count(model) > 1
    ]


def zoo_hint(name: str, otherwise: str) -> str:
    """The zoo model that is spelled most like `name`; `otherwise` where none is."""
    import difflib

    from h4hc.sweep.evaluate import zoo_names

    close = difflib.get_close_matches(name, zoo_names(), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
