"""Every evaluation of a search in the order made: in memory, and as a CSV that grows line by line."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """genomes [N, genes], generation [N], metrics by name [N]; path: the CSV, None for none.

    What is in the file already and is what would be written stays untouched: a finished log is never shorter again.
    """

    problem: SearchProblem
    path: Path | None = None
    parts: list[tuple[int, Ints, Metrics]] = field(default_factory=list)
    _written: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Hash of the CSV so far."""
        return str(self._digest.hexdigest())

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
        self._append(self.path, out.getvalue().encode())

    def _append(self, path: Path, text: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            file.seek(self._written)
            if file.read(len(text)) != text:
                file.seek(self._written)
                file.truncate()
                file.write(text)
        self._written += len(text)
        self._digest.update(text)

    def restore(self, count: int, sha256: str) -> None:
        """Read the first `count` back and drop what was written behind them; sha256: of the CSV up to there.

        Raises IntegrityError where they miss or are others.
        """
        assert self.path is not None
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)[: count + 1]
            self._digest = hashlib.sha256(b"".join(lines))
            if self.sha256 != sha256:
                raise ValueError("it is not what was written")
            rows = list(csv.DictReader(io.StringIO(b"".join(lines).decode())))
            genomes = np.array([[int(i) for i in row["genome"].split("-")] for row in rows], np.int64)
            columns = {name: np.array([float(row[name]) for row in rows]) for name in self.names}
            generation = np.array([int(row["generation"]) for row in rows])
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "start the search anew, in another folder"
            raise IntegrityError("the log of evaluations is damaged", (str(self.path),), str(error), hint) from error
        self._written = sum(map(len, lines))
        os.truncate(self.path, self._written)
        for number in np.unique(generation):
            here = generation == number
            self.parts.append((int(number), genomes[here], Metrics({n: c[here] for n, c in columns.items()})))


def _texts(values: Floats, name: str) -> Sequence[str]:
    if name == ACCURACY:
        return [repr(v) for v in values.tolist()]
    return [str(int(v)) for v in values.tolist()]
