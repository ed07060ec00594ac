"""What a run tells: log.csv and TensorBoard events on disk, a progress bar on the terminal."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from h4hc.errors import IntegrityError, MissingToolError

LOG = "log.csv"
FIELDS = (
    "step", "phase", "spent", "lr_conv", "lr_attention", "lr_shared", "loss_first", "loss_rest", "gradient_norm",
    "train_macs", "seconds",
)  # fmt: skip
Row = dict[str, float | int | str]


@dataclass(frozen=True)
class Report:
    """One step, for a progress bar: steps done, part of the budget spent, seconds so far, loss of the first network."""

    step: int
    phase: str
    spent: float
    seconds: float
    loss: float

    @property
    def seconds_left(self) -> float:
        """Estimate from the part spent."""
        return self.seconds * (1 - self.spent) / self.spent if self.spent > 0 else float("inf")


Observer = Callable[[Report], None]


class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...
    def close(self) -> None: ...


class RunLog:
    """log.csv of a run, cut back to `step` when it resumes; evaluations.csv beside it; TensorBoard on request."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        """Raises IntegrityError for a log that is none, MissingToolError without the tensorboard package."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._evaluations = folder / LOG, folder / "evaluations.csv"
        _cut(self._path, step)
        _cut(self._evaluations, step)
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, FIELDS, lineterminator="\n")
        if self._file.tell() == 0:
            self._writer.writeheader()
        self._board = _tensorboard(folder / "tensorboard", step) if tensorboard else None

    def row(self, row: Row) -> None:
        """One row of log.csv."""
        self._writer.writerow(row)
        self._scalars("train", int(row["step"]), row)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """One row of evaluations.csv."""
        new = not self._evaluations.exists()
        with self._evaluations.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *values.values()])
        self._scalars("evaluation", step, dict(values))

    def sync(self) -> None:
        """Have all rows on disk: comes before a checkpoint, so that no row is lost when the run resumes from it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board:
            self._board.close()

    def _scalars(self, part: str, step: int, row: Row) -> None:
        if self._board:
            for name, value in row.items():
                if name != "step" and not isinstance(value, str):
                    self._board.add_scalar(f"{part}/{name}", value, step)


def _cut(path: Path, step: int) -> None:
    """Keep the header and the whole rows up to `step`: what a killed run wrote later will be written again."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    try:
        kept = rows[:1] + [row for row in rows[1:] if int(row[0]) <= step]
    except (ValueError, IndexError) as error:
        raise IntegrityError("the log of the run is damaged", (str(path),), str(error), "move it away") from error
    draft = path.with_suffix(".unfinished")
    with draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)
    os.replace(draft, path)


def _tensorboard(folder: Path, step: int) -> _Writer:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingToolError("tensorboard is not installed", hint="pip install 'h4hc[logs]'") from error
    writer: _Writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
    return writer


@contextmanager
def progress_bar() -> Iterator[Observer]:
    """An observer that draws a bar on stderr: phase, part spent, loss, time left. None without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=1.0, left="")

        def show(report: Report) -> None:
            left = f"step {report.step}, loss {report.loss:.3f}, {_clock(report.seconds_left)} left"
            bar.update(task, completed=report.spent, description=report.phase, left=left)

        yield show


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
