"""Run a study, tell how it goes, write its files. The command line and tools/bench_two_phase call this."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nas.search.workers import Processes
from nas.study.compare import Document, Progress, run_study
from nas.study.design import Study
from nas.study.views import markdown, runs_csv

RUNS = "runs"


def bench(study: Study, folder: Path, jobs: int, tell: Callable[[str], None] = lambda line: None) -> Document:
    """Do what is missing in `folder`/runs, then write study.json, runs.csv and study.md into it.

    tell: takes a line for each run, with the time left. Raises UserError, IntegrityError and LimitError as run_study.
    """
    result = run_study(study, folder / RUNS, Processes(jobs), lambda progress: tell(line(progress)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("study.json", json.dumps(result, indent=1) + "\n"),
        ("runs.csv", runs_csv(result)),
        ("study.md", markdown(result)),
    ):
        draft = folder / f".{name}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    return result


def line(progress: Progress) -> str:
    """One finished run in a line."""
    run, found = progress.run, progress.run.measures()
    left = "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.0f} min left"
    state = "kept" if progress.kept else f"{run.seconds:.0f} s"
    return (
        f"{progress.done}/{progress.total} {run.trial} {run.arm} seed {run.seed}: random {found['random_any']:.1f} %, "
        f"attention gain {found['attention_gain']:+.1f} ({state}{left})"
    )
