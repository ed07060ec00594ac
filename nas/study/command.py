"""Run a study, tell how it goes, write its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from h4hc.api import write_whole
from h4hc.errors import UserError
from nas.search.workers import Processes
from nas.study.compare import Document, Progress, run_study
from nas.study.design import Study
from nas.study.views import markdown, runs_csv

RUNS = "runs"


def bench(study: Study, folder: Path, jobs: int, tell: Callable[[str], None] = lambda line: None) -> Document:
    """Do what is missing in `folder`/runs, then write study.json, runs.csv and study.md into it.

    tell: takes a line for each run, with the time left. Raises UserError for a foreign folder, and what run_study does.
    """
    check_folder(folder, RUNS)
    result = run_study(study, folder / RUNS, Processes(jobs), lambda progress: tell(line(progress)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("study.json", json.dumps(result, indent=1) + "\n"),
        ("runs.csv", runs_csv(result)),
        ("study.md", markdown(result)),
    ):
        write_whole(folder / name, text.encode())
    return result


def check_folder(folder: Path, mark: str) -> None:
    """Raises UserError where a study cannot be kept: it takes a new or empty folder, or one that holds `mark`."""
    shown = (str(folder),)
    if not folder.parent.is_dir():
        raise UserError(f"there is no folder {folder.parent}", shown, hint=f"mkdir -p {folder.parent}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / mark).is_dir())):
        why = f"it has no folder {mark} of a study"
        raise UserError(f"{folder} was not made by this study", shown, why, "choose another folder with -o")


def line(progress: Progress) -> str:
    """One finished run in a line."""
    run, found = progress.run, progress.run.measures()
    left = "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.0f} min left"
    state = "kept" if progress.kept else f"{run.seconds:.0f} s"
    return (
        f"{progress.done}/{progress.total} {run.trial} {run.arm} seed {run.seed}: random {found['random_any']:.1f} %, "
        f"attention gain {found['attention_gain']:+.1f} ({state}{left})"
    )
