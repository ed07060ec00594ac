"""Every evaluation of a search in the order made: in memory, and as a CSV that grows line by line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from h4hc.errors import IntegrityError
from nas.search.hardware import METRICS
from nas.search.problem import ACCURACY, Metrics, SearchProblem

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
HEAD = ("evaluation", "generation", "genome", "feasible")


@dataclass
class Evaluations:
    """genomes [N, genes], generation [N], metrics by name [N]; path: the CSV, None for none."""

    problem: SearchProblem
    path: Path | None = None
    parts: list[tuple[int, Ints, Metrics]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics that are noted."""
        problem = self.problem
        return (*((ACCURACY,) if ACCURACY in (*problem.objectives, *problem.limits) else ()), *METRICS)

    def __len__(self) -> int:
        return sum(len(genomes) for _, genomes, _ in self.parts)

    @property
    def genomes(self) -> Ints:
        """[N, genes]"""
        return np.concatenate([np.zeros((0, len(self.problem.space.genes)), np.int64), *(g for _, g, _ in self.parts)])

    @property
    def metrics(self) -> Metrics:
        """Of all genomes."""
        return Metrics({n: np.concatenate([np.zeros(0), *(m[n] for _, _, m in self.parts)]) for n in self.names})

    def add(self, generation: int, genomes: Ints, metrics: Metrics) -> None:
        """Note some; they are on disk when this returns."""
        first = len(self)
        self.parts.append((generation, genomes, metrics))
        if self.path is None:
            return
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if first == 0:
            writer.writerow((*HEAD, *self.names))
        feasible = self.problem.feasible(metrics).astype(int).tolist()
        columns = [_texts(metrics[name], name) for name in self.names]
        for i, (row, fits, *values) in enumerate(zip(genomes.tolist(), feasible, *columns, strict=True)):
            writer.writerow((first + i, generation, "-".join(map(str, row)), fits, *values))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w" if first == 0 else "a", encoding="utf-8", newline="") as file:
            file.write(out.getvalue())

    def restore(self, count: int) -> None:
        """Read the first `count` back and drop what was written behind them. Raises IntegrityError where they miss."""
        assert self.path is not None
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)[: count + 1]
            rows = list(csv.DictReader(io.StringIO(b"".join(lines).decode())))
            genomes = np.array([[int(i) for i in row["genome"].split("-")] for row in rows], np.int64)
            columns = {name: np.array([float(row[name]) for row in rows]) for name in self.names}
            generation = np.array([int(row["generation"]) for row in rows])
            if len(rows) != count or not lines[-1].endswith(b"\n"):
                raise ValueError(f"{len(rows)} evaluations of {count}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "start the search anew, in another folder"
            raise IntegrityError("the log of evaluations is damaged", (str(self.path),), str(error), hint) from error
        os.truncate(self.path, sum(map(len, lines)))
        for number in np.unique(generation):
            here = generation == number
            self.parts.append((int(number), genomes[here], Metrics({n: c[here] for n, c in columns.items()})))


def _texts(values: Floats, name: str) -> Sequence[str]:
    if name == ACCURACY:
        return [repr(v) for v in values.tolist()]
    return [str(int(v)) for v in values.tolist()]
