"""The figures of the comparison, against arithmetic by hand and enumeration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nas.search.hardware import HardwareTable
from nas.search.problem import SearchProblem
from nas.space.space import SearchSpace
from nas.study.co_design.compare import ENERGY, LATENCY, against, over_the_space, saved
from nas.study.co_design.searches import ARMS, Found, Network
from tests.nas.search.conftest import Formula, Ints


def _front(arm: str, seed: int, rows: list[tuple[float, int, int]]) -> Found:
    nets = [
        Network((n,), 0.5, accuracy, latency, energy, "optimal") for n, (accuracy, latency, energy) in enumerate(rows)
    ]
    return Found(arm, seed, 9, tuple(nets))


def test_saved_at_equal_accuracy_by_hand() -> None:
    """Both reach 0.6 to 0.7. At 0.6: 50 against 100; at 0.65: 300 against 100; at 0.7: 300 against 200."""
    base = np.array([[0.5, 100, 10], [0.35, 100, 10], [0.2, 200, 10]])
    ours = np.array([[0.4, 50, 10], [0.3, 300, 5]])
    ratios = [50 / 100, 300 / 100, 300 / 200]
    assert saved(base, ours, LATENCY, 3) == pytest.approx(100 * (1 - np.prod(ratios) ** (1 / 3)))
    assert saved(base, base, LATENCY, 7) == 0
    there, back = (1 - saved(*pair, ENERGY, 5) / 100 for pair in ((base, ours), (ours, base)))
    assert there * back == pytest.approx(1)


def test_fronts_that_share_no_accuracy() -> None:
    """The better one stands for itself at the best accuracy of the other."""
    worse, better = np.array([[0.9, 10.0, 10.0]]), np.array([[0.2, 20.0, 5.0]])
    assert saved(worse, better, LATENCY, 4) == pytest.approx(-100)
    assert saved(worse, better, ENERGY, 4) == pytest.approx(50)


def test_pairs_by_seed() -> None:
    """Half the latency in both seeds: 50 % saved with no spread; a front that is dominated covers less."""
    found = []
    for seed in (3, 4):
        base = [(0.5 + seed / 100, 200, 40), (0.6, 400, 80)]
        found += [_front(ARMS[0], seed, base), _front(ARMS[1], seed, [(a, latency // 2, e) for a, latency, e in base])]
    tree = against(found, 6)
    assert [row["seed"] for row in tree["seeds"]] == [3, 4]
    assert tree["difference"]["latency_saved_percent"]["mean"] == pytest.approx(50)
    assert tree["difference"]["latency_saved_percent"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert tree["difference"]["energy_saved_percent"]["mean"] == pytest.approx(0)
    assert tree["difference"]["hypervolume"]["wins"] == 2
    assert tree["difference"]["best_accuracy_percent"] == {
        "mean": 0.0, "half_width": 0.0, "wins": 0, "pairs": 2, "measurable": False,
    }  # fmt: skip
    assert [len(search["front"]) for search in tree["searches"]] == [2] * 4


def test_the_front_of_the_system_itself_is_never_worse(
    space: SearchSpace,
    every: Ints,
    table_for: Callable[..., HardwareTable],
) -> None:
    """Over the whole space: at each accuracy the cheapest network is on the front of the system that it runs on."""
    formula = Formula(space)
    npu, both = (SearchProblem(space, table_for(target), formula) for target in ("npu", "npu+cim"))
    found = over_the_space(npu, both, every, 9)
    assert found["hypervolume"]["co-design"] >= found["hypervolume"]["alone"] > 0
    values = both.objective_values(both.metrics(every))
    for column, name in ((LATENCY, "latency"), (ENERGY, "energy")):
        assert found[f"{name}_saved_percent"] >= 0
        assert saved(values, values, column, 9) == 0
    same = over_the_space(both, both, every, 9)
    assert same["hypervolume"]["co-design"] == same["hypervolume"]["alone"]
    assert (same["latency_saved_percent"], same["energy_saved_percent"]) == (0, 0)
    assert 0 <= found["unused"] <= 1
