"""Fronts and hypervolumes against brute force, and files that are the same each time."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h4hc.errors import UserError
from nas.search.front import (
    compare,
    front_csv,
    front_html,
    front_of,
    front_png,
    hypervolume,
    non_dominated,
    write_front,
)
from nas.search.problem import SearchProblem
from tests.nas.search.conftest import Ints


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_row_is_kept_where_no_other_is_as_good(objectives: int) -> None:
    values = np.random.default_rng(objectives).integers(0, 6, (80, objectives)).astype(float)
    kept = non_dominated(values)
    for i, row in enumerate(values):
        beaten = any((other <= row).all() and (other < row).any() for other in values)
        twin = any((other == row).all() and kept[j] for j, other in enumerate(values) if j != i)
        assert kept[i] == (not beaten and not twin)
    assert len(non_dominated(values[:0])) == 0


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_hypervolume_is_the_share_of_the_box(objectives: int) -> None:
    """Against a count of the cells of a grid."""
    rng = np.random.default_rng(objectives)
    values = rng.integers(0, 8, (6, objectives)).astype(float) * 100 + 50
    ref, ideal = np.full(objectives, 850.0), np.full(objectives, 50.0)
    cells = np.array(list(itertools.product(range(8), repeat=objectives))) * 100 + 50
    share = np.mean([(values <= cell).all(axis=1).any() for cell in cells])
    assert hypervolume(values, ref, ideal) == pytest.approx(share)
    assert hypervolume(values + 1000, ref, ideal) == 0
    better, worse = compare([values - 10, values])
    assert better > worse


def test_the_front_of_a_search(problem: SearchProblem, every: Ints) -> None:
    metrics = problem.metrics(every)
    front = front_of(problem, every, metrics)
    values = problem.objective_values(metrics)
    assert {tuple(row) for row in front.values} == {tuple(row) for row in values[non_dominated(values)]}
    assert (np.diff(front.metrics["latency_ps"]) >= 0).all()
    limited = front_of(replace(problem, limits={"accuracy": 0.8}), every, metrics)
    assert 0 < len(limited) < len(front)
    assert (limited.metrics["accuracy"] >= 0.8).all()


def test_files_are_the_same_each_time(problem: SearchProblem, every: Ints, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    metrics = problem.metrics(every)
    front = front_of(problem, every, metrics)
    extra = {"plan": ["proved optimal"] * len(front)}
    first = write_front(front, tmp_path / "a", metrics, extra)
    mixed = np.random.default_rng(0).permutation(len(every))
    again = write_front(front_of(problem, every[mixed], problem.metrics(every[mixed])), tmp_path / "b", metrics, extra)
    assert [path.name for path in first] == ["front.csv", "pareto.png", "pareto.html"]
    for mine, other in zip(first, again, strict=True):
        assert mine.read_bytes() == other.read_bytes()
    assert front_png(front, metrics)[:4] == b"\x89PNG"
    page = front_html(front, None, extra).decode()
    assert page.count("<tr>") == len(front) + 1
    assert "resolution" in page


def test_the_csv_says_which_network_it_is(problem: SearchProblem, every: Ints) -> None:
    front = front_of(problem, every, problem.metrics(every))
    rows = list(csv.DictReader(io.StringIO(front_csv(front).decode())))
    assert len(rows) == len(front)
    for row, genome, latency in zip(rows, front.genomes, front.metrics["latency_ps"], strict=True):
        values = [str(gene.values[i]) for gene, i in zip(problem.space.genes, genome, strict=True)]
        assert [row[gene.name] for gene in problem.space.genes] == values
        assert int(row["latency_ps"]) == latency


def test_one_objective_is_one_network(problem: SearchProblem, every: Ints) -> None:
    fastest = SearchProblem(problem.space, problem.table, problem.accuracy, ("latency_ps",))
    front = front_of(fastest, every, fastest.metrics(every))
    assert len(front) == 1
    with pytest.raises(UserError, match="nothing to draw"):
        front_png(front)
