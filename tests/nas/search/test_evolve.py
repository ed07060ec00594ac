"""The search against the whole space, against chance, and against itself interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h4hc.errors import InfeasibleError, IntegrityError, UserError
from nas.search import evolve as evolve_module
from nas.search.evaluations import Evaluations
from nas.search.evolve import LOG, STATE, EvolveConfig, evolve
from nas.search.front import compare, front_of
from nas.search.hardware import HardwareTable
from nas.search.problem import Metrics, SearchProblem
from nas.search.random_search import random_search
from nas.space.space import SearchSpace
from tests.nas.search.conftest import Formula, Ints

QUICK = EvolveConfig(population=20, generations=10)  # 200 of 480 networks


def _values(problem: SearchProblem, found: Evaluations) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return front_of(problem, found.genomes, found.metrics).values


def test_the_front_is_that_of_the_whole_space(problem: SearchProblem, every: Ints) -> None:
    exact = front_of(problem, every, problem.metrics(every)).values
    found = evolve(problem, QUICK)
    best, ours = compare([exact, _values(problem, found)])
    assert ours >= 0.99 * best
    assert len(found) == 200
    assert len(np.unique(found.genomes, axis=0)) == 200


def test_a_stopped_search_goes_on_to_the_same_result(problem: SearchProblem, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    straight = evolve(problem, QUICK, folder=whole)

    def stop(generation: int, total: int) -> None:
        if generation == 4:
            raise KeyboardInterrupt

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        evolve(problem, QUICK, folder=stopped, progress=stop)
    with (stopped / LOG).open("a") as file:  # a generation that was half written when the power went
        file.write("80,5,0-0-0-0-0-0-0-0-0,1,0.5\n81,5,0-")
    again = evolve(problem, QUICK, folder=stopped)
    assert (again.genomes == straight.genomes).all()
    assert (stopped / LOG).read_bytes() == (whole / LOG).read_bytes()
    assert (stopped / STATE).read_bytes() == (whole / STATE).read_bytes()
    finished = evolve(problem, QUICK, folder=whole)
    assert (finished.genomes == straight.genomes).all()
    assert (finished.metrics["latency_ps"] == straight.metrics["latency_ps"]).all()
    assert (evolve(problem, QUICK).genomes == straight.genomes).all()


def test_a_stopped_search_within_limits_goes_on(problem: SearchProblem, every: Ints, tmp_path: Path) -> None:
    """Also where networks that break a limit are in the population, which pymoo then does not rank."""
    tight = float(np.quantile(problem.metrics(every)["latency_ps"], 0.02))
    limited = replace(problem, limits={"latency_ps": tight})
    straight = evolve(limited, QUICK, folder=tmp_path / "whole")
    assert not limited.feasible(straight.metrics)[: QUICK.population].all()

    def stop(generation: int, total: int) -> None:
        if generation == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve(limited, QUICK, folder=tmp_path / "stopped", progress=stop)
    assert "null" in (tmp_path / "stopped" / STATE).read_text()
    assert (evolve(limited, QUICK, folder=tmp_path / "stopped").genomes == straight.genomes).all()
    assert (evolve(limited, QUICK).genomes == straight.genomes).all()


def test_every_evaluation_is_logged(problem: SearchProblem, tmp_path: Path) -> None:
    found = evolve(problem, replace(QUICK, generations=3), folder=tmp_path)
    lines = (tmp_path / LOG).read_text().splitlines()
    assert lines[0].startswith("evaluation,generation,genome,feasible,accuracy,latency_ps,energy_pj")
    assert len(lines) == len(found) + 1
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    assert row["genome"] == "-".join(map(str, found.genomes[-1]))
    assert float(row["accuracy"]) == found.metrics["accuracy"][-1]
    assert int(row["latency_ps"]) == found.metrics["latency_ps"][-1]
    assert row["generation"] == "3"


def test_limits_are_kept(problem: SearchProblem, every: Ints) -> None:
    metrics = problem.metrics(every)
    latency, stored = float(np.median(metrics["latency_ps"])), float(np.median(metrics["cim_bytes"]))
    limits = {"latency_ps": latency, "cim_bytes": stored, "accuracy": 0.7}
    limited = replace(problem, limits=limits)
    kept = (metrics["latency_ps"] <= latency) & (metrics["cim_bytes"] <= stored) & (metrics["accuracy"] >= 0.7)
    assert 10 < kept.sum() < len(every)
    assert (limited.feasible(metrics) == kept).all()
    found = front_of(limited, *_evolved(limited))
    exact = front_of(limited, every, metrics)
    ours, best = compare([found.values, exact.values])
    assert ours >= 0.99 * best
    assert (found.metrics["latency_ps"] <= latency).all()


def _evolved(problem: SearchProblem) -> tuple[Ints, Metrics]:
    found = evolve(problem, QUICK)
    return found.genomes, found.metrics


def test_restricted_genes_stay_as_they_are(problem: SearchProblem, space: SearchSpace) -> None:
    allowed = {"*.attention_depth": [0]}
    found = evolve(replace(problem, allowed=allowed), replace(QUICK, generations=3))
    assert (found.genomes[:, space.position["s2.attention_depth"]] == 0).all()
    assert (
        random_search(replace(problem, allowed=allowed), 50).genomes[:, space.position["s2.attention_depth"]] == 0
    ).all()


def test_restrictions_hold_where_a_gene_wakes_up(problem: SearchProblem, every: Ints) -> None:
    """A gene without effect is 0 in a canonical genome, allowed or not; mixed with others it must not count as 0."""
    space = problem.space
    limited = replace(problem, allowed={"s1.expand": [3], "s2.mlp_ratio": [2]})

    def kept(genome: Ints) -> bool:
        first, second = space.arch(genome).stages
        return (first.block == "conv" or first.expand == 3) and (not second.attention_depth or second.mlp_ratio == 2)

    assert all(map(kept, evolve(limited, QUICK).genomes))
    legal = every[[kept(genome) for genome in every]]
    least = float(problem.table.estimate(legal).weight_bytes.min())
    value, genome = limited.nearest("weight_bytes")
    assert value == least > float(problem.table.estimate(every).weight_bytes.min())
    assert kept(np.array(genome))


def test_a_space_smaller_than_the_budget_is_searched_whole(problem: SearchProblem) -> None:
    few = replace(problem, allowed={"s1.*": [16, 1, "mbconv", 3, 2], "stem.width": [8]})
    assert len(evolve(few, QUICK)) == len(random_search(few, 10_000)) == 80


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["latency_ps", "energy_pj", "cim_bytes", "sram_bytes", "weight_bytes"])
def test_the_nearest_value_is_the_least_of_the_space(problem: SearchProblem, every: Ints, metric: str) -> None:
    least = float(problem.metrics(every)[metric].min())
    assert problem.nearest(metric)[0] == least
    if least:
        with pytest.raises(InfeasibleError, match=f"the nearest found is {least:.0f}"):
            evolve(replace(problem, limits={metric: least - 1}), QUICK)
    replace(problem, limits={metric: least}).check_reachable()


def test_limits_that_exclude_each_other_are_told(problem: SearchProblem, every: Ints) -> None:
    least = float(problem.metrics(every)["latency_ps"].min())
    impossible = replace(problem, limits={"latency_ps": least, "accuracy": 0.89})
    with pytest.raises(InfeasibleError, match=r"the nearest has latency_ps .*, accuracy") as raised:
        evolve(impossible, replace(QUICK, generations=2))
    assert raised.value.exit_code == 5
    with pytest.raises(InfeasibleError, match="none of 50 networks"):
        random_search(impossible, 50)


def test_bad_problems_name_all_faults(space: SearchSpace, table: HardwareTable) -> None:
    with pytest.raises(UserError) as raised:
        SearchProblem(space, table, Formula(space), ("accuracy", "speed"), {"weight": 1.0, "latency_ps": -1.0})
    assert len(raised.value.problems) == 3
    assert [p.where for p in raised.value.problems] == [
        ("search.objectives",), ("search.limits",), ("search.limits.latency_ps",)
    ]  # fmt: skip
    with pytest.raises(UserError, match="a share, 1 at most") as share:
        SearchProblem(space, table, Formula(space), limits={"accuracy": 80})
    assert share.value.problems[0].hint == "0.8 for 80 %"
    with pytest.raises(UserError, match="objectives, each once"):
        SearchProblem(space, table, Formula(space), ("accuracy", "accuracy"))
    single = space.spec.model_dump()
    single |= {"resolution": [16], "stem": {"width": [8]}}
    single["stages"] = [{"name": "s1", "width": [16], "conv_depth": [1]}]
    from nas.space.spec import SpaceSpec

    nothing = SearchSpace(SpaceSpec.model_validate(single))
    with pytest.raises(UserError, match="nothing to choose from"):
        SearchProblem(nothing, table, Formula(space))
    with pytest.raises(UserError, match="population"):
        EvolveConfig(population=1)
    with pytest.raises(UserError, match="chances"):
        EvolveConfig(mutation=1.5)


def test_folders_are_not_mixed_up(problem: SearchProblem, tmp_path: Path) -> None:
    short = replace(QUICK, generations=2)
    evolve(problem, short, folder=tmp_path)
    with pytest.raises(UserError, match="another search"):
        evolve(replace(problem, of="other weights"), short, folder=tmp_path)
    state = tmp_path / STATE
    state.write_text(state.read_text().replace('"generation": 2', '"generation": 1'))
    with pytest.raises(IntegrityError, match="state of the search is damaged"):
        evolve(problem, short, folder=tmp_path)


def _no_state(text: bytes) -> bytes:
    return b"\xff" + text


def _short(text: bytes) -> bytes:
    return b"\n".join(text.splitlines()[:10])


def _other_accuracies(text: bytes) -> bytes:
    return text.replace(b",0.7", b",0.9").replace(b",0.8", b",0.9")


def _other_genomes(text: bytes) -> bytes:
    return text.replace(b"-1-", b"-0-")


@pytest.mark.parametrize(
    ("file", "damage"), [(STATE, _no_state), (LOG, _short), (LOG, _other_accuracies), (LOG, _other_genomes)]
)
def test_a_damaged_file_is_told(
    problem: SearchProblem, tmp_path: Path, file: str, damage: Callable[[bytes], bytes]
) -> None:
    short = replace(QUICK, generations=2)
    evolve(problem, short, folder=tmp_path)
    path = tmp_path / file
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(IntegrityError, match="damaged"):
        evolve(problem, short, folder=tmp_path)


def test_a_log_without_a_state_is_begun_anew(problem: SearchProblem, tmp_path: Path) -> None:
    short = replace(QUICK, generations=2)
    evolve(problem, short, folder=tmp_path)
    state, log = ((tmp_path / name).read_bytes() for name in (STATE, LOG))
    (tmp_path / STATE).unlink()
    (tmp_path / LOG).write_bytes(log + b"40,3,more\n")
    evolve(problem, short, folder=tmp_path)
    assert [(tmp_path / name).read_bytes() for name in (STATE, LOG)] == [state, log]


# --- operators ---------------------------------------------------------------------------------------------


def test_crossover_takes_each_gene_of_a_parent_and_mutation_any_legal_value() -> None:
    rng = np.random.default_rng(0)
    parents = np.stack([np.zeros((4000, 6), np.int64), np.ones((4000, 6), np.int64)])
    children = evolve_module._cross(parents, 0.9, rng)
    assert 0.42 < children.mean() < 0.48  # 0.9 * 0.5
    assert abs((children.sum(axis=1) == 0).mean() - (0.1 + 0.9 / 64)) < 0.03
    legal = ((0, 1), (0, 1, 2), (2,), (1, 3), (0,), (0, 5))
    made = evolve_module._mutate(np.full((4000, 6), 2), legal, 1.0, rng)
    for column, values in zip(made.T, legal, strict=True):
        counts = [(column == value).mean() for value in values]
        assert sum(counts) == 1
        assert min(counts) > 0.8 / len(values)
    assert np.isin(evolve_module._mutate(np.full((4000, 6), 9), legal, 0.1, rng), (0, 1, 2, 3, 5)).all()  # 9 is illegal
    many = (tuple(range(1000)),) * 6
    changed = (evolve_module._mutate(np.full((4000, 6), 9), many, 0.1, rng) != 9).mean()
    assert 0.2 < changed < 0.3  # 1 of 6 for sure, 0.1 of the others


def test_the_better_of_two_is_chosen_by_violation_then_rank_then_crowding() -> None:
    class Population:
        columns = {  # noqa: RUF012
            "CV": np.array([[0.0], [0.0], [0.0], [2.0], [1.0]]),
            "rank": np.array([1, 0, 0, 0, 5]),
            "crowding": np.array([9.0, 1.0, np.inf, 9.0, 0.0]),
        }

        def get(self, name: str) -> object:
            return self.columns[name]

    order = evolve_module._order(Population())
    assert order.tolist() == [2, 1, 0, 4, 3]
    picks = evolve_module._tournament(order, np.random.default_rng(0), 5000)
    wins = np.bincount(picks, minlength=5) / 5000
    assert np.allclose(wins[[2, 1, 0, 4, 3]], [0.36, 0.28, 0.20, 0.12, 0.04], atol=0.03)


def test_seeds_differ(problem: SearchProblem) -> None:
    first, second = (evolve(problem, replace(QUICK, generations=2, seed=seed)).genomes.tolist() for seed in (0, 1))
    assert first != second
