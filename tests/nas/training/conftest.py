"""A space, data and configuration so small that a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from nas.data.splits import Data, TensorSplit
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from nas.supernet.supernet import Supernet
from nas.training.config import TrainConfig
from tests.nas.mini import SPACE

CLASSES = 3


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small run faster so, much faster beside other work, and sums come in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def space() -> SearchSpace:
    """Two stages, the second with attention; 8 x 8 grey images."""
    return SearchSpace(SpaceSpec.model_validate(SPACE))


def make_data(images: int = 60, seed: int = 0) -> Data:
    """Upright stripes, level stripes, a chequered board, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    pictures = torch.randn(images, 1, 8, 8, generator=generator) * 0.5
    line = torch.tensor([1.0, -1.0]).repeat(4)
    upright = line.expand(8, 8)
    pictures[:, 0] += torch.stack([upright, upright.T, upright * upright.T])[labels]
    split = TensorSplit(pictures, labels)
    return Data("stripes", CLASSES, 1, 8, split, split, split)


@pytest.fixture
def data() -> Data:
    """See make_data."""
    return make_data()


@pytest.fixture
def net(space: SearchSpace) -> Supernet:
    """Seed 0."""
    return Supernet(space, CLASSES)


@pytest.fixture
def config() -> Callable[..., TrainConfig]:
    """A short run; keys as given."""

    def make(**keys: Any) -> TrainConfig:
        defaults = {"batch": 8, "budget": {"steps": 10}, "log_every": 1, "save_every": 4, "phases": "single"}
        return TrainConfig.model_validate(defaults | keys)

    return make
