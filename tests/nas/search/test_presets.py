"""The shipped spaces with the writer that exports: what a search is promised, on `tiny` and on `h4h`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.search.evolve import EvolveConfig, evolve
from nas.search.front import compare, front_of
from nas.search.hardware import HardwareTable
from nas.search.predictor import Predictor
from nas.search.problem import SearchProblem
from nas.search.random_search import random_search
from nas.search.recost import recost, recosted
from nas.search.slots import grid
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from tests.nas.search.conftest import Formula


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of the spaces."""
    return tmp_path_factory.mktemp("presets")


def _exact(space: SearchSpace, target: str, cache: Path, count: int, same_sram: bool = False) -> None:
    """Random genomes, the smallest and the largest: table against compiler, to the integer where proved."""
    table = HardwareTable.build(space, target, classes=10, cache=cache)
    genomes = np.concatenate([space.sample(np.random.default_rng(0), count), [space.minimum(), space.maximum()]])
    found = table.estimate(genomes)
    for n, plan in enumerate(recost(table, genomes)):
        if same_sram:
            assert 0 <= plan.sram_bytes - found.sram_bytes[n] <= 32  # buffers begin at multiples of 16 bytes
        if found.proved[n]:
            assert (found.latency_ps[n], found.energy_pj[n]) == (plan.latency_ps, plan.energy_pj)
        else:
            assert found.bound[n] <= plan.latency_ps <= found.latency_ps[n] <= 1.05 * plan.latency_ps
    assert found.proved.any()


@pytest.mark.parametrize("target", ["npu", "npu+cim"])
def test_a_genome_of_tiny_costs_what_its_export_costs(target: str, cache: Path) -> None:
    _exact(SearchSpace.load("tiny"), target, cache, 4, same_sram=True)


@pytest.mark.parametrize("target", ["npu", "npu+cim"])
def test_a_genome_of_a_thinned_h4h_costs_what_its_export_costs(target: str, cache: Path) -> None:
    """All kinds of blocks of h4h, fewer sizes of each."""
    spec = SearchSpace.load("h4h").spec.model_dump(mode="json")
    spec |= {"resolution": [64], "stem": {"width": [16]}, "head": {"width": [960]}}
    for stage in spec["stages"]:
        stage |= {"width": stage["width"][:1], "expand": stage["expand"][-1:], "conv_depth": [1, 2]}
    _exact(SearchSpace(SpaceSpec.model_validate(spec)), target, cache, 2)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["npu", "npu+cim"])
def test_a_genome_of_h4h_costs_what_its_export_costs(target: str, cache: Path) -> None:
    """All its blocks at one resolution; the others hold the same blocks on larger maps."""
    spec = SearchSpace.load("h4h").spec.model_dump(mode="json")
    spec["resolution"] = spec["resolution"][:1]
    _exact(SearchSpace(SpaceSpec.model_validate(spec)), target, cache, 3)


def test_search_of_tiny_finds_the_exhaustive_front_and_beats_chance(cache: Path) -> None:
    """Accuracies are predicted, as in a search; the whole space is evaluated to compare."""
    space = SearchSpace.load("tiny")
    table = HardwareTable.build(space, "npu+cim", classes=10, cache=cache)
    first = space.sample(np.random.default_rng(0), 60)
    predictor = Predictor.fit(space, first, Formula(space)(first))
    problem = SearchProblem(space, table, predictor, of=predictor.fingerprint)
    every = np.unique(space.canonical(grid(space, range(len(space.genes)))), axis=0)
    exact = front_of(problem, every, problem.metrics(every))
    for seed in range(5):
        made = evolve(problem, EvolveConfig(generations=30, seed=seed))
        chance = random_search(problem, len(made), seed)
        fronts = [front_of(problem, found.genomes, found.metrics) for found in (made, chance)]
        best, ours, theirs = compare([exact.values, *(front.values for front in fronts)])
        assert ours >= 0.99 * best
        assert ours > theirs
    some = front_of(problem, exact.genomes[:3], problem.metrics(exact.genomes[:3]))
    again, plans = recosted(some, recost(table, some.genomes))
    assert (again.values == some.values).all()
    assert [plan.status for plan in plans] == ["proved optimal"] * 3
