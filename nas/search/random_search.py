"""Random networks at the budget of a search: the baseline that it has to beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.search.evaluations import Evaluations
from nas.search.problem import SearchProblem, nothing_feasible

BATCH = 1000


def random_search(
    problem: SearchProblem, budget: int, seed: int = 0, path: Path | None = None, batch: int = BATCH
) -> Evaluations:
    """Evaluate `budget` different genomes (all, where the space is smaller), each gene uniform; path: their CSV.

    Raises InfeasibleError where none keeps the limits.
    """
    problem.check_reachable(seed)
    rng = np.random.default_rng(seed)
    found = Evaluations(problem, path)
    known: set[bytes] = set()
    rows: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    idle = 0
    while len(rows) < budget and idle < 20:
        before = len(rows)
        for row in problem.space.sample(rng, batch, problem.allowed):
            if len(rows) < budget and row.tobytes() not in known:
                known.add(row.tobytes())
                rows.append(row)
        idle = idle + 1 if len(rows) == before else 0
    for number, at in enumerate(range(0, len(rows), batch), 1):
        genomes = np.stack(rows[at : at + batch])
        found.add(number, genomes, problem.metrics(genomes))
    metrics = found.metrics
    if not problem.feasible(metrics).any():
        raise nothing_feasible(problem, metrics, found.genomes)
    return found
