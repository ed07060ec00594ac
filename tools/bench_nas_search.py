"""Speed of the hardware tables and of the whole NSGA-II loop, and how good its fronts are: a table.

`tables`: genomes a second through `HardwareTable.estimate`, 200,000 at a time, on one core; `proved`: share of genomes
whose optimum the tables prove (all, unless weights overflow the store). `loop`: evaluations a second of 100 generations
of 100 networks, predictor and tables inside. Both count the CPU time of this process, which other load hardly changes;
wall time is beside it. `hypervolume`: of that search, and of as many random networks, against the front of the whole
space where its grid has at most 200,000 networks, else against both together; the least and the largest of five seeds.
Accuracy is a formula.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nas.search.evolve import EvolveConfig, evolve
from nas.search.front import compare, front_of
from nas.search.hardware import HardwareTable
from nas.search.predictor import Predictor
from nas.search.problem import SearchProblem
from nas.search.random_search import random_search
from nas.search.slots import grid
from nas.space.space import SearchSpace
from tests.nas.search.conftest import Formula

AT_ONCE, RUNS, SEEDS, WHOLE = 200_000, 3, 5, 200_000
HEAD = ("target", "tables made [s]", "tables [1/s]", "wall", "proved", "loop [1/s]", "wall", "hypervolume", "random")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="*", default=["npu", "cim", "npu+cim"], help="`TARGET` or `TARGET KEY=VALUE ...`"
    )
    parser.add_argument("--space", default="tiny", help="preset or YAML file")
    parser.add_argument("--cache", type=Path, help="folder that keeps the blocks of the space")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    space = SearchSpace.load(given.space)
    rows = [bench(space, text, given.cache) for text in given.targets]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*HEAD, title=f"{space.spec.name}: {space.size():.3g} networks; one core")
    for row in rows:
        speeds = [f"{row[key]:,.0f}" for key in ("tables_per_cpu_s", "tables_per_s")]
        loop = [f"{row[key]:,.0f}" for key in ("loop_per_cpu_s", "loop_per_s")]
        quality = f"{row['hypervolume']:.4f}", f"{row['random']:.4f}"
        table.add_row(row["target"], f"{row['made_s']:.1f}", *speeds, f"{row['proved']:.1%}", *loop, *quality)
    Console(width=130).print(table)


def bench(space: SearchSpace, text: str, cache: Path | None) -> dict[str, Any]:
    """One system."""
    target, *sets = text.split()
    begun = time.process_time()
    table = HardwareTable.build(space, target, sets, classes=10, cache=cache)
    made_s = time.process_time() - begun
    genomes = space.sample(np.random.default_rng(0), AT_ONCE)
    proved = float(table.estimate(genomes).proved.mean())
    tables = min(_seconds(lambda: table.estimate(genomes)) for _ in range(RUNS))
    formula = Formula(space)
    predictor = Predictor.fit(space, genomes[:60], formula(genomes[:60]))
    problem = SearchProblem(space, table, predictor, of=predictor.fingerprint)
    loop = min(_seconds(lambda: evolve(problem, EvolveConfig())) for _ in range(RUNS))
    evaluated = len(evolve(problem, EvolveConfig()))
    quality = [_quality(problem, seed) for seed in range(SEEDS)]
    return {
        "target": text,
        "made_s": made_s,
        "tables_per_cpu_s": AT_ONCE / tables[0],
        "tables_per_s": AT_ONCE / tables[1],
        "proved": proved,
        "loop_per_cpu_s": evaluated / loop[0],
        "loop_per_s": evaluated / loop[1],
        "hypervolume": min(ours for ours, _ in quality),
        "random": max(theirs for _, theirs in quality),
    }


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU, wall) time."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def _quality(problem: SearchProblem, seed: int) -> tuple[float, float]:
    """Hypervolumes of a search and of random networks, relative to the best known front."""
    made = evolve(problem, EvolveConfig(seed=seed))
    chance = random_search(problem, len(made), seed)
    sets = [front_of(problem, found.genomes, found.metrics).values for found in (made, chance)]
    best, ours, theirs = compare([_best(problem, sets), *sets])
    return ours / best, theirs / best


def _best(problem: SearchProblem, sets: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    space = problem.space
    if np.prod(space.cardinalities, dtype=float) > WHOLE:
        return np.concatenate(sets)
    every = np.unique(space.canonical(grid(space, range(len(space.genes)))), axis=0)
    return front_of(problem, every, problem.metrics(every)).values


if __name__ == "__main__":
    main()
