"""Networks of a step: the sandwich, phases, complexity bands; the same for the same seed and step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.supernet.macs import macs
from nas.training.config import Sampling
from nas.training.sampling import POOL_STEPS, Sampler, both


def _sampler(space: SearchSpace, seed: int = 0, allowed: Any = None, **keys: Any) -> Sampler:
    def size(arch: Arch) -> int:
        return macs(arch, space.spec, 3)

    return Sampler(space, Sampling.model_validate(keys), allowed or {}, seed, size)


def test_the_sandwich(space: SearchSpace) -> None:
    first, second, *rest = _sampler(space).archs(7)
    assert first == space.arch(space.maximum())
    assert second == space.arch(space.minimum())
    assert len(rest) == 2


@pytest.mark.parametrize("bands", [0, 4])
def test_a_function_of_seed_and_step(space: SearchSpace, bands: int) -> None:
    first, second, other = _sampler(space, bands=bands), _sampler(space, bands=bands), _sampler(space, 1, bands=bands)
    forward = [first.archs(step) for step in range(20)]
    assert [second.archs(step) for step in reversed(range(20))] == forward[::-1]
    assert [other.archs(step) for step in range(20)] != forward


def test_random_networks_cover_the_space(space: SearchSpace) -> None:
    sampler = _sampler(space, nets=["random"])
    seen = {sampler.archs(step)[0] for step in range(12 * space.size())}
    assert len(seen) > 0.95 * space.size()


def test_a_phase_and_a_pick_restrict_together(space: SearchSpace) -> None:
    nets = ["max", {"take": "random", "allowed": {"s2.kernel": [3]}}]
    sampler = _sampler(space, allowed={"*.attention_depth": (0,), "s2.kernel": (3, 5)}, nets=nets)
    for step in range(30):
        largest, other = sampler.archs(step)
        assert largest.stages[1].attention_depth == other.stages[1].attention_depth == 0
        assert (largest.stages[1].kernel, other.stages[1].kernel) == (5, 3)


def test_both_keeps_what_both_allow() -> None:
    assert both({"a": (1, 2), "b": (1,)}, {"a": (2, 3), "c": (4,)}) == {"a": (2,), "b": (1,), "c": (4,)}


def test_bands_keep_the_networks_of_near_steps_alike_in_size(space: SearchSpace) -> None:
    steps = range(POOL_STEPS - 100, POOL_STEPS + 100)

    def sizes(bands: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        sampler = _sampler(space, nets=["random"], bands=bands)
        return np.array([macs(sampler.archs(step)[0], space.spec, 3) for step in steps], float)

    free, banded = sizes(0), sizes(6)
    assert np.abs(np.diff(banded)).mean() < 0.5 * np.abs(np.diff(free)).mean()
    assert banded.min() < 1.1 * free.min()  # yet the walk comes everywhere
    assert banded.max() > 0.9 * free.max()
