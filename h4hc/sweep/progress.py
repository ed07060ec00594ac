"""A progress bar with the time left, on stderr; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(wanted: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Gives what `run_tasks` takes as on_row. No bar unless `wanted` and stderr is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield lambda before, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("sweep"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[known]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweep", total=None, known="")

        def on_row(before: int, done: int, total: int) -> None:
            bar.update(task, total=total, completed=done, known=f"{before} known" if before else "")

        yield on_row
