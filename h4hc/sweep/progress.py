"""A progress bar with the time left, on stderr; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

OnRow = Callable[[int, int, int], None]  # points known before, points computed, points to compute


def silent(before: int, computed: int, total: int) -> None:
    """Shows nothing."""


class Tally:
    """How many are done, and of how many: for the words of an interrupted run."""

    def __init__(self) -> None:
        self.done = self.known = 0

    def told_to(self, show: OnRow) -> OnRow:
        """Counts, and tells `show`."""

        def count(before: int, computed: int, total: int) -> None:
            self.done, self.known = before + computed, before + total
            show(before, computed, total)

        return count


@contextlib.contextmanager
def progress_bar(wanted: bool) -> Iterator[OnRow]:
    """Gives what `run_tasks` takes as on_row. No bar unless `wanted` and stderr is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield silent
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
