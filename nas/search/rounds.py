"""Search with measured accuracies: measure some, predict all, search on predictions, measure the front, and again.

As in LINAS (DyNAS-T): the predictor is fitted again in each round on the networks that its own front led to.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from h4hc.api import write_whole
from h4hc.errors import IntegrityError, UserError
from nas.search.accuracy import Measured
from nas.search.evaluations import Evaluations
from nas.search.evolve import EvolveConfig, explore
from nas.search.front import front_of
from nas.search.predictor import LEAST, Predictor
from nas.search.problem import ACCURACY, SearchProblem, measured_problems, nothing_feasible

Ints = NDArray[np.int64]
SETTINGS = "settings.json"  # what a folder's search was asked
CANDIDATES = 2000  # random genomes, of which the first networks are taken at even steps of latency


@dataclass(frozen=True)
class RoundsConfig:
    """first: networks measured before the first prediction; each of `rounds` measures `per_round` of its front."""

    first: int = 60
    rounds: int = 3
    per_round: int = 20
    evolve: EvolveConfig = field(default_factory=EvolveConfig)

    def __post_init__(self) -> None:
        if self.first < LEAST or self.rounds < 1 or self.per_round < 1:
            raise UserError(f"a search measures {LEAST} networks first, and one a round, at least", why=str(self))

    @property
    def budget(self) -> int:
        """Networks measured in all."""
        return self.first + self.rounds * self.per_round


@dataclass(frozen=True)
class Found:
    """Everything that was measured, and the last predictor: None where the space is too small to need one."""

    evaluations: Evaluations
    predictor: Predictor | None


def search(
    problem: SearchProblem,
    measured: Measured,
    config: RoundsConfig | None = None,
    *,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Found:
    """Search `problem`, whose accuracies are those of `measured`.

    folder: of this search alone; keeps `settings.json`, `measured.csv`, `predictor.json` and a folder for the evolution
    of each round. What a stopped search measured is in the cache of `measured`, so the same call goes on to the same
    result. Raises what `evolve` raises; UserError for the folder of another search, and where accuracy is neither
    objective nor limit.
    """
    config = config or RoundsConfig()
    if problems := measured_problems(problem.objectives, problem.limits):
        raise UserError.of(tuple(problems))
    problem = replace(problem, accuracy=measured, of=measured.fingerprint)
    problem.check_reachable(config.evolve.seed)
    if folder:
        _take(folder, problem, config)
    found = Evaluations(problem, folder / "measured.csv" if folder else None)
    _measure(found, 0, first_genomes(problem, config.first, config.evolve.seed))
    whole = len(found) < LEAST  # then these are all networks there are, and nothing is left to predict
    if whole:
        progress(f"{len(found)} measured: all networks of the space")
    for number in range(1, 0 if whole else config.rounds + 1):
        predictor = _fit(found, config.evolve.seed)
        progress(f"round {number}: {len(found)} measured, {predictor.kind}, tau {predictor.tau[predictor.kind]:.2f}")
        predicted = replace(problem, accuracy=predictor, of=predictor.fingerprint)
        settings = replace(config.evolve, seed=config.evolve.seed + number)
        start = front_of(problem, found.genomes, found.metrics).genomes[: settings.population]
        place = folder / f"round{number}" if folder else None
        made = explore(predicted, settings, place, start)
        _measure(found, number, _promising(predicted, made, found.genomes, config.per_round))
    last = None if whole else _fit(found, config.evolve.seed)
    if folder and last:
        last.save(folder / "predictor.json")
    if not problem.feasible(found.metrics).any():
        raise nothing_feasible(problem, found.metrics, found.genomes)
    return Found(found, last)


def _take(folder: Path, problem: SearchProblem, config: RoundsConfig) -> None:
    """Make the folder that of this search. Raises UserError, naming what differs, where it is that of another."""
    settings = {**json.loads(problem.describe()), **json.loads(json.dumps(asdict(config)))}
    path = folder / SETTINGS
    if path.exists():
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            hint = "search again into another folder"
            raise IntegrityError("the settings of the search are damaged", (str(path),), str(error), hint) from error
        differing = sorted(key for key in {*known, *settings} if known.get(key) != settings.get(key))
        if differing:
            why = f"it differs in: {', '.join(differing)} (accuracy stands for the trained weights and the images)"
            raise UserError("the folder holds another search", (str(folder),), why, "choose another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(settings, indent=1).encode() + b"\n")


def _fit(found: Evaluations, seed: int) -> Predictor:
    return Predictor.fit(found.problem.space, found.genomes, found.metrics["accuracy"], seed)


def _measure(found: Evaluations, number: int, genomes: Ints) -> None:
    if len(genomes):
        found.add(number, genomes, found.problem.metrics(genomes))


def first_genomes(problem: SearchProblem, count: int, seed: int) -> Ints:
    """The smallest and the largest network and random ones at even steps of the order of latency, each once.

    `count` of them, or all where the space holds fewer (counted where it has no more than CANDIDATES genomes).
    """
    space, allowed = problem.space, problem.allowed
    choices = space.choices(allowed)
    if math.prod(map(len, choices)) <= CANDIDATES:
        drawn = space.canonical(np.array(list(itertools.product(*choices)), np.int64))
    else:
        drawn = space.sample(np.random.default_rng(seed), CANDIDATES, allowed)
    order = drawn[np.argsort(problem.table.estimate(drawn).latency_ps, kind="stable")]
    order = _once(order)
    steps = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    corners = np.array([space.minimum(allowed), space.maximum(allowed)], np.int64)
    return _once(np.concatenate([corners, steps, order]))[:count]


def _once(genomes: Ints) -> Ints:
    """Each genome where it stands first."""
    _, first = np.unique(genomes, axis=0, return_index=True)
    return genomes[np.sort(first)]


def _promising(predicted: SearchProblem, made: Evaluations, known: Ints, count: int) -> Ints:
    """Genomes to measure: of the predicted front; where no prediction keeps the limits, those that come nearest."""
    metrics, genomes = made.metrics, made.genomes
    front = front_of(predicted, genomes, metrics)
    if len(front):
        return _spread(front.genomes, front.values, known, count)
    hardware = {name: limit for name, limit in predicted.limits.items() if name != ACCURACY}
    if not replace(predicted, limits=hardware).feasible(metrics).any():
        raise nothing_feasible(predicted, metrics, genomes)
    old = {row.tobytes() for row in known}
    order = np.maximum(predicted.violations(metrics), 0).sum(axis=1).argsort(kind="stable")
    return genomes[[i for i in order if genomes[i].tobytes() not in old][:count]]


def _spread(genomes: Ints, values: NDArray[np.float64], known: Ints, count: int) -> Ints:
    """Genomes not known yet, each as far as can be from those taken before, in objectives scaled to 0..1."""
    old = {row.tobytes() for row in known}
    new = np.array([i for i, row in enumerate(genomes) if row.tobytes() not in old], np.int64)
    if len(new) <= count:
        return genomes[new]
    low, span = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-12)
    points = (values[new] - low) / span
    taken = [int(points[:, 0].argmin())]
    distance = ((points - points[taken[0]]) ** 2).sum(axis=1)
    while len(taken) < count:
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[taken[-1]]) ** 2).sum(axis=1))
    chosen: Ints = genomes[new[np.sort(taken)]]
    return chosen
