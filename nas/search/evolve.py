"""NSGA-II of pymoo on genomes: uniform crossover, reset mutation, limits as constraints; can be stopped and go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h4hc.api import write_whole
from h4hc.errors import IntegrityError, MissingToolError, UserError
from nas.search.evaluations import Evaluations
from nas.search.problem import Metrics, SearchProblem, illegal, nothing_feasible

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
STATE, LOG = "state.json", "evaluations.csv"
TRIES = 30  # of making offspring that nobody has been yet


@dataclass(frozen=True)
class EvolveConfig:
    """How to search.

    population: networks kept and made in each generation; generations: the first included. crossover: the chance that
    two parents are mixed, gene by gene at even odds; mutation: the chance of each gene to be drawn anew.
    """

    population: int = 100
    generations: int = 100
    crossover: float = 0.9
    mutation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 1:
            raise UserError("a search needs a population of 4 and a generation at least", why=str(self))
        if not (0 <= self.crossover <= 1 and 0 < self.mutation <= 1 and self.seed >= 0):
            raise UserError("crossover and mutation are chances, and the seed is 0 or more", why=str(self))


def evolve(
    problem: SearchProblem,
    config: EvolveConfig | None = None,
    *,
    folder: Path | None = None,
    start: Ints | None = None,
    progress: Callable[[int, int], None] = lambda generation, total: None,
) -> Evaluations:
    """Search; returns every evaluation. No genome is evaluated twice as long as there are new ones.

    folder: keeps `evaluations.csv` and `state.json`; a search that was stopped goes on from there to the same result,
    and one that is finished only reads it. start: genomes of the first generation, filled up at random.
    Raises InfeasibleError where limits cannot be kept, UserError where the folder is that of another search,
    IntegrityError where it is damaged, MissingToolError without pymoo.
    """
    config = config or EvolveConfig()
    problem.check_reachable(config.seed)
    found = explore(problem, config, folder, start, progress)
    metrics = found.metrics
    if not problem.feasible(metrics).any():
        raise nothing_feasible(problem, metrics, found.genomes)
    return found


def explore(
    problem: SearchProblem,
    config: EvolveConfig,
    folder: Path | None = None,
    start: Ints | None = None,
    progress: Callable[[int, int], None] = lambda generation, total: None,
) -> Evaluations:
    """As `evolve`, whether some network keeps the limits or none does."""
    run = _Run(problem, config, folder, start)
    while run.generation < config.generations and run.step():
        progress(run.generation, config.generations)
    return run.evaluations


class _Run:
    """The algorithm of pymoo, what it has evaluated, and its state on disk."""

    def __init__(self, problem: SearchProblem, config: EvolveConfig, folder: Path | None, start: Ints | None) -> None:
        self.problem, self.config, self.folder = problem, config, folder
        self.evaluations = Evaluations(problem, folder / LOG if folder else None)
        self.generation = 0
        self.seen: set[bytes] = set()
        first = np.zeros((0, len(problem.space.genes)), np.int64) if start is None else problem.space.canonical(start)
        text = json.dumps([problem.describe(), asdict(config), first.tolist()])
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.algorithm = _algorithm(self)
        state = self._read()
        if state is None:
            if folder:
                (folder / LOG).unlink(missing_ok=True)  # of a search that came to no state
            self.waiting = self.new(np.concatenate([first, self.sample()]), config.population)
        else:
            self._restore(state)

    def step(self) -> bool:
        """One generation; False where no new genome is left."""
        from pymoo.core.population import Population

        genomes = self.waiting if self.generation == 0 else self.offspring()
        if not len(genomes):
            return False
        metrics = self.problem.metrics(genomes)
        made = Population.new("X", genomes)
        made.set("F", self.problem.objective_values(metrics), "G", self.problem.violations(metrics))
        made.apply(lambda individual: individual.evaluated.update(["F", "G"]))
        self.algorithm.tell(infills=made)
        self.generation += 1
        self.evaluations.add(self.generation, genomes, metrics)
        self._write()
        return True

    def new(self, genomes: Ints, most: int) -> Ints:
        """Those that were never evaluated, each once, `most` at most; they count as evaluated from now on."""
        kept: list[int] = []
        for i, row in enumerate(genomes):
            name = row.tobytes()
            if name not in self.seen and len(kept) < most:
                self.seen.add(name)
                kept.append(i)
        return genomes[kept]

    def offspring(self) -> Ints:
        """New genomes: parents by tournament, crossover, mutation."""
        config, rng, population = self.config, self.algorithm.random_state, self.algorithm.pop
        made = np.zeros((0, len(self.problem.space.genes)), np.int64)
        rows = population.get("X")
        order = _order(population)
        for _ in range(TRIES):
            missing = config.population - len(made)
            if not missing:
                break
            parents = rows[_tournament(order, rng, 2 * config.population)].reshape(2, config.population, -1)
            children = _mutate(_cross(parents, config.crossover, rng), self._legal(), config.mutation, rng)
            made = np.concatenate([made, self.new(self.problem.space.canonical(children), missing)])
        fill = self.sample() if len(made) < config.population else made[:0]  # all around the parents is known
        return np.concatenate([made, self.new(fill, config.population - len(made))])

    def sample(self) -> Ints:
        """Random genomes, more than a generation needs."""
        return self.problem.space.sample(self.algorithm.random_state, 20 * self.config.population, self.problem.allowed)

    def _legal(self) -> tuple[tuple[int, ...], ...]:
        return self.problem.space.choices(self.problem.allowed)

    # --- on disk

    def _write(self) -> None:
        if self.folder is None:
            return
        population = self.algorithm.pop  # pymoo ranks those that keep all limits; the others have None
        tree = {
            "search": self.key,
            "generation": self.generation,
            "evaluations": len(self.evaluations),
            "log_sha256": self.evaluations.sha256,
            "random": self.algorithm.random_state.bit_generator.state,
            "population": population.get("X").tolist(),
            "rank": [None if r is None else int(r) for r in population.get("rank")],
            "crowding": [None if c is None else float(c) for c in population.get("crowding")],
        }
        body = json.dumps(tree)
        write_whole(self.folder / STATE, f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n".encode())

    def _read(self) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / STATE
        if not path.exists():
            return None
        digest, _, body = path.read_bytes().rstrip(b"\n").partition(b"\n")
        if digest != hashlib.sha256(body).hexdigest().encode():
            hint = "start the search anew, in another folder"
            raise IntegrityError("the state of the search is damaged", (str(path),), hint=hint)
        state: dict[str, Any] = json.loads(body)
        if state["search"] != self.key:
            why = "space, system, objectives, limits, accuracies or settings differ"
            raise UserError("the folder holds another search", (str(self.folder),), why, "choose another folder")
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        """Population with ranks, random numbers and what was evaluated, as after that generation."""
        from pymoo.core.population import Population

        self.evaluations.restore(state["evaluations"], state["log_sha256"])
        self.generation = state["generation"]
        self.new(self.evaluations.genomes, len(self.evaluations))
        at = {row.tobytes(): i for i, row in enumerate(self.evaluations.genomes)}
        rows = np.array(state["population"], np.int64)
        places = np.array([at[row.tobytes()] for row in rows])
        metrics = Metrics({n: c[places] for n, c in self.evaluations.metrics.columns.items()})
        population = Population.new("X", rows)
        population.set("F", self.problem.objective_values(metrics), "G", self.problem.violations(metrics))
        population.set("rank", np.array(state["rank"]), "crowding", np.array(state["crowding"]))
        self.algorithm.pop, self.algorithm.is_initialized = population, True
        self.algorithm.n_iter = self.generation + 1
        self.algorithm.random_state.bit_generator.state = state["random"]


def _algorithm(run: _Run) -> Any:
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as PymooProblem
        from pymoo.core.termination import NoTermination
    except ImportError as error:
        raise MissingToolError("pymoo is not installed", hint="pip install 'h4hc[nas]'") from error
    problem, config = run.problem, run.config
    count = len(problem.space.genes)
    upper = np.asarray(problem.space.cardinalities) - 1
    asked = PymooProblem(
        n_var=count, n_obj=len(problem.objectives), n_ieq_constr=len(problem.limits) + 1, xl=np.zeros(count), xu=upper
    )
    algorithm = NSGA2(pop_size=config.population, seed=config.seed)
    return algorithm.setup(asked, termination=NoTermination())


def _order(population: Any) -> Ints:
    """Place of each individual in the order of Deb's crowded comparison: least violation, then rank, then crowding."""
    violation = population.get("CV")[:, 0]
    rank, crowding = (np.asarray(population.get(name), np.float64) for name in ("rank", "crowding"))
    kept = violation <= 0
    keys = np.lexsort((np.where(kept, -crowding, 0.0), np.where(kept, rank, 0.0), violation))
    place = np.empty(len(keys), np.int64)
    place[keys] = np.arange(len(keys))
    return place


def _tournament(order: Ints, rng: np.random.Generator, count: int) -> Ints:
    """The better of two drawn at random, `count` times."""
    pairs = rng.integers(len(order), size=(count, 2))
    winner: Ints = np.where(order[pairs[:, 0]] <= order[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    return winner


def _cross(parents: Ints, chance: float, rng: np.random.Generator) -> Ints:
    """One child of each pair [2, N, genes]: every gene of either parent at even odds; else the first parent."""
    mixed = rng.random((parents.shape[1], 1)) < chance
    second = mixed & (rng.random(parents.shape[1:]) < 0.5)
    child: Ints = np.where(second, parents[1], parents[0])
    return child


def _mutate(rows: Ints, legal: tuple[tuple[int, ...], ...], chance: float, rng: np.random.Generator) -> Ints:
    """Each gene is drawn anew from its legal values with this chance; one gene at least, and all that are illegal."""
    hit = (rng.random(rows.shape) < chance) | illegal(rows, legal)
    hit[np.arange(len(rows)), rng.integers(rows.shape[1], size=len(rows))] = True
    drawn = np.stack([np.asarray(values)[rng.integers(len(values), size=len(rows))] for values in legal], axis=1)
    made: Ints = np.where(hit, drawn, rows)
    return made
