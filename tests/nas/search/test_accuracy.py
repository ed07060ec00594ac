"""Measured accuracy: calibrated subnets, the cache, workers, and the rounds of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor

from h4hc.errors import InfeasibleError, IntegrityError, UserError
from nas.search import accuracy
from nas.search.accuracy import EvalCache, Evaluator, Measured
from nas.search.evolve import EvolveConfig
from nas.search.front import compare, front_of
from nas.search.predictor import Predictor
from nas.search.problem import SearchProblem
from nas.search.random_search import random_search
from nas.search.rounds import RoundsConfig, first_genomes, search
from nas.search.workers import Processes, Ray, Serial
from nas.space.space import Allowed, SearchSpace
from nas.supernet.supernet import Supernet, calibrate
from tests.nas.search.conftest import Formula, Ints

CONFIG = RoundsConfig(first=16, rounds=2, per_round=6, evolve=EvolveConfig(population=20, generations=6))


@pytest.fixture
def evaluator(space: SearchSpace) -> Evaluator:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(30, 1, 24, 24, generator=generator)
    labels = torch.randint(0, 10, (30,), generator=generator)
    return Evaluator(Supernet(space, 10), [images[:8], images[8:16]], images, labels, batch=7)


def test_accuracy_is_that_of_the_sliced_and_calibrated_network(evaluator: Evaluator, every: Ints) -> None:
    net, images = evaluator.net, evaluator.images
    for genome in every[[0, 100, -1]].tolist():
        arch = net.space.arch(genome)
        stats = calibrate(net, arch, evaluator.calibration)
        from nas.supernet.supernet import resize

        right = (net.slice(arch, stats)(resize(images, arch.resolution)).argmax(1) == evaluator.labels).float().mean()
        assert evaluator(genome) == pytest.approx(float(right))


def test_the_fingerprint_is_that_of_weights_and_images(evaluator: Evaluator) -> None:
    before = evaluator.fingerprint()
    assert before == evaluator.fingerprint()
    with torch.no_grad():
        next(evaluator.net.parameters()).add_(1e-3)
    changed = evaluator.fingerprint()
    evaluator.images = evaluator.images + 1
    assert len({before, changed, evaluator.fingerprint()}) == 3


def test_calibration_holds_one_batch_at_a_time(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device: 64 batches of 256 images of 256 x 256 pixels take 13 GB."""
    events: list[str] = []

    class Batch:
        def to(self, _device: object) -> None:
            events.append("sent")

    def calibrated(_net: Supernet, _arch: object, batches: Iterable[Tensor]) -> None:
        for _ in batches:
            events.append("used")

    evaluator.calibration = [Batch(), Batch()]  # type: ignore[list-item]
    monkeypatch.setattr(accuracy, "calibrate", calibrated)
    evaluator(evaluator.net.space.maximum())
    assert events == ["sent", "used"] * 2


def test_no_images_is_an_error(evaluator: Evaluator) -> None:
    none = Tensor()
    with pytest.raises(UserError, match="no images"):
        Evaluator(evaluator.net, evaluator.calibration, none, none)


def test_nothing_is_measured_twice(space: SearchSpace, every: Ints, tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    measured = Measured(Formula(space).one, "weights", EvalCache(path))
    rows = every[[3, 5, 3, 9]]
    found = measured(rows)
    assert (found == Formula(space)(rows)).all()
    assert measured.calls == 3
    again = Measured(Formula(space).one, "weights", EvalCache(path))
    assert (again(rows) == found).all()
    assert again.calls == 0
    other = Measured(Formula(space).one, "other weights", EvalCache(path))
    other(rows)
    assert other.calls == 3


def test_a_cut_line_is_dropped_and_a_damaged_one_told(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    EvalCache(path).put("a", (1, 2), 0.5)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"of": "a", "gen')
    assert EvalCache(path).known == {("a", (1, 2)): 0.5}
    assert path.read_bytes() == whole
    path.write_bytes(b"nothing\n" + whole)
    with pytest.raises(IntegrityError, match="damaged") as raised:
        EvalCache(path)
    assert raised.value.problems[0].where == (f"{path}:1",)


# --- workers -----------------------------------------------------------------------------------------------


def _square(x: int) -> int:
    if x < 0:
        raise UserError("negative")
    return x * x


def test_workers_agree() -> None:
    items = [3, 1, 4, 1, 5]
    expected = [9, 1, 16, 1, 25]
    assert list(Serial().map(_square, items)) == expected
    assert list(Processes(2).map(_square, items)) == expected
    with pytest.raises(UserError, match="negative"):
        list(Processes(2).map(_square, [1, -1]))


def test_evaluations_spread_on_ray(evaluator: Evaluator, every: Ints) -> None:
    """A local Ray: the same accuracies as here, errors as they are."""
    pytest.importorskip("ray")
    here = Measured(evaluator, evaluator.fingerprint())
    with Ray(2) as workers:
        there = Measured(evaluator, evaluator.fingerprint(), workers=workers)
        assert (there(every[:4]) == here(every[:4])).all()
        with pytest.raises(UserError, match="negative"):
            list(workers.map(_square, [1, -1]))


# --- rounds ------------------------------------------------------------------------------------------------


def test_rounds_beat_chance_at_equal_measurements(problem: SearchProblem, space: SearchSpace) -> None:
    measured = Measured(Formula(space).one, "formula")
    found = search(problem, measured, CONFIG).evaluations
    assert len(found) <= CONFIG.budget
    assert len(found) == measured.calls == len(np.unique(found.genomes, axis=0))
    chance = random_search(problem, len(found))
    sets = [front_of(problem, e.genomes, e.metrics).values for e in (found, chance)]
    ours, theirs = compare(sets)
    assert ours > theirs


def test_stopped_rounds_go_on_to_the_same_result(problem: SearchProblem, space: SearchSpace, tmp_path: Path) -> None:
    straight = search(problem, Measured(Formula(space).one, "f"), CONFIG, folder=tmp_path / "a")

    def stop(done: int, total: int) -> None:
        if len(cache.known) == 20:
            raise KeyboardInterrupt

    cache = EvalCache(tmp_path / "cache.jsonl")
    with pytest.raises(KeyboardInterrupt):
        search(problem, Measured(Formula(space).one, "f", cache, progress=stop), CONFIG, folder=tmp_path / "b")
    rest = Measured(Formula(space).one, "f", EvalCache(tmp_path / "cache.jsonl"))
    again = search(problem, rest, CONFIG, folder=tmp_path / "b")
    assert rest.calls == len(again.evaluations) - 20
    assert (again.evaluations.genomes == straight.evaluations.genomes).all()
    for name in ("measured.csv", "predictor.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_limit_that_no_prediction_keeps_is_measured_nevertheless(problem: SearchProblem, space: SearchSpace) -> None:
    """Predictions are smoother than accuracies: one network measured is better than all of them. It is a result."""
    first = first_genomes(problem, CONFIG.first, CONFIG.evolve.seed)
    lucky, best = tuple(first[3].tolist()), 0.97
    measured = Measured(lambda genome: best if tuple(genome) == lucky else Formula(space).one(genome), "rough")
    limited = replace(problem, limits={"accuracy": best})
    predicted = Predictor.fit(space, first, measured(first))(space.sample(np.random.default_rng(0), 5000))
    assert predicted.max() < best
    found = search(limited, measured, CONFIG).evaluations
    front = front_of(limited, found.genomes, found.metrics)
    assert lucky in map(tuple, front.genomes.tolist())
    assert (front.metrics["accuracy"] >= best).all()
    assert len(found) == CONFIG.budget
    with pytest.raises(InfeasibleError, match="none of 28 networks keeps all limits: accuracy >= 1"):
        search(replace(problem, limits={"accuracy": 1.0}), measured, CONFIG)


def test_a_search_without_accuracy_is_refused(problem: SearchProblem, space: SearchSpace) -> None:
    measured = Measured(Formula(space).one, "f")
    with pytest.raises(UserError, match="nothing asks for it"):
        search(replace(problem, objectives=("latency_ps", "energy_pj")), measured, CONFIG)
    assert measured.calls == 0
    limited = replace(problem, objectives=("latency_ps", "energy_pj"), limits={"accuracy": 0.7})
    found = search(limited, measured, CONFIG).evaluations
    assert (front_of(limited, found.genomes, found.metrics).metrics["accuracy"] >= 0.7).all()


def test_what_is_logged_is_never_shorter_again(
    problem: SearchProblem, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished search that is read back and killed half-way leaves its log whole."""
    measured = Measured(Formula(space).one, "f")
    search(problem, measured, CONFIG, folder=tmp_path)
    before = (tmp_path / "measured.csv").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        search(problem, measured, CONFIG, folder=tmp_path)
    assert (tmp_path / "measured.csv").read_bytes() == before


def test_a_space_of_few_networks_is_measured_whole(problem: SearchProblem, every: Ints, tmp_path: Path) -> None:
    """Fewer than a predictor needs: the front is the exact one."""
    allowed: Allowed = {
        "s1.*": [16, 1, "mbconv", 3, 2],
        "resolution": [16],
        "stem.width": [8],
        "s2.attention_depth": [0],
    }
    few = replace(problem, allowed=allowed)
    legal = few.space.choices(allowed)
    inside = every[[all(g in c for g, c in zip(row, legal, strict=True)) for row in every]]
    assert 1 < len(inside) < 10
    lines: list[str] = []
    measured = Measured(Formula(problem.space).one, "f")
    found = search(few, measured, CONFIG, folder=tmp_path / "few", progress=lines.append)
    assert found.predictor is None
    assert lines == [f"{len(inside)} measured: all networks of the space"]
    assert {tuple(g) for g in found.evaluations.genomes} == {tuple(g) for g in inside}


class _Pessimist:
    """A predictor that calls every network bad."""

    kind, tau, fingerprint = "pessimist", MappingProxyType({"pessimist": 0.0}), "pessimist"

    def __call__(self, genomes: Ints) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.zeros(len(genomes))

    def save(self, path: Path) -> None:
        """Nothing to keep."""


def test_a_limit_that_only_the_predictor_misses_is_searched_for(
    problem: SearchProblem, every: Ints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is out of reach is decided by measured networks."""
    monkeypatch.setattr("nas.search.rounds._fit", lambda *given: _Pessimist())
    exact = problem.metrics(every)["accuracy"]
    reached = replace(problem, limits={"accuracy": float(np.quantile(exact, 0.5))})
    found = search(reached, Measured(Formula(problem.space).one, "f"), CONFIG, folder=tmp_path / "a")
    assert len(found.evaluations) == CONFIG.budget
    assert reached.feasible(found.evaluations.metrics).any()
    beyond = replace(problem, limits={"accuracy": float(exact.max()) + 0.01})
    with pytest.raises(InfeasibleError, match=f"none of {CONFIG.budget} networks"):
        search(beyond, Measured(Formula(problem.space).one, "f"), CONFIG, folder=tmp_path / "b")


def test_the_first_networks_span_the_latencies(problem: SearchProblem, space: SearchSpace) -> None:
    first = first_genomes(problem, 20, 0)
    assert len(np.unique(first, axis=0)) == 20
    rows = [tuple(row) for row in first.tolist()]
    assert space.minimum() in rows
    assert space.maximum() in rows
    latency = problem.table.estimate(first).latency_ps
    every = problem.table.estimate(space.sample(np.random.default_rng(9), 500)).latency_ps
    assert latency.min() <= np.quantile(every, 0.02)
    assert latency.max() >= np.quantile(every, 0.98)
