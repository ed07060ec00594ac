"""A small space with its tables, and accuracies that a formula makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.search.hardware import HardwareTable
from nas.search.problem import SearchProblem
from nas.search.slots import grid
from nas.space.space import SearchSpace
from tests.nas.search.stand_in import SMALL, write

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Formula:
    """Accuracy that grows with every gene, less and less, with ripples that no linear model sees."""

    def __init__(self, space: SearchSpace) -> None:
        self.top = np.maximum(np.asarray(space.cardinalities) - 1, 1)
        self.mix = np.random.default_rng(5).normal(size=(len(self.top), len(self.top)))

    def __call__(self, genomes: Ints) -> Floats:
        x = np.asarray(genomes) / self.top
        found: Floats = (
            0.6 + 0.3 * np.tanh(2 * x.mean(axis=1)) + 0.03 * np.sin(np.einsum("ni,ij,nj->n", x, self.mix, x))
        )
        return found

    def one(self, genome: tuple[int, ...]) -> float:
        """Of one genome."""
        return float(self(np.array([genome]))[0])


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    """960 networks or less."""
    return SearchSpace(SMALL)


@pytest.fixture(scope="session")
def every(space: SearchSpace) -> Ints:
    """All canonical genomes."""
    found: Ints = np.unique(space.canonical(grid(space, range(len(space.genes)))), axis=0)
    assert len(found) == space.size()
    return found


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks of the space are kept between the tests."""
    return tmp_path_factory.mktemp("blocks")


@pytest.fixture(scope="session")
def table_for(space: SearchSpace, cache: Path) -> Callable[..., HardwareTable]:
    """table_for(target, *sets)"""

    def build(target: str, *sets: str) -> HardwareTable:
        return HardwareTable.build(space, target, sets, classes=10, cache=cache, write=write)

    return build


@pytest.fixture(scope="session")
def table(table_for: Callable[..., HardwareTable]) -> HardwareTable:
    """On npu+cim."""
    return table_for("npu+cim")


@pytest.fixture
def problem(space: SearchSpace, table: HardwareTable) -> SearchProblem:
    """Accuracy, latency and energy."""
    return SearchProblem(space, table, Formula(space), of="formula")
