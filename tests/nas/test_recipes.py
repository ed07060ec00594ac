"""The shipped configurations: what they train at every step."""

from __future__ import annotations

import pytest
import torch

from nas.config import load_config, recipes
from nas.supernet.static import StaticNet
from nas.supernet.supernet import Supernet
from nas.training.sampling import both


@pytest.mark.parametrize("name", recipes())
def test_every_weight_is_trained_at_full_size_at_every_step(name: str) -> None:
    """In the last phase, by the networks that are not left to chance. One `max` holds one type of block a stage."""
    config = load_config(name)
    space, last = config.of_space, config.training.phases[-1]
    full: set[str] = set()
    with torch.device("meta"):
        shared = {n: p.shape for n, p in Supernet(space, 10).named_parameters()}
        for pick in (last.sampling or config.training.sampling).nets:
            if pick.take == "max":
                arch = space.arch(space.maximum(both(last.allowed, pick.allowed)))
                own = StaticNet(arch, space.spec, 10).named_parameters()
                full |= {n for n, p in own if p.shape == shared[n] or p.shape == shared[n][1:]}  # a scale: one depth's
    assert full == set(shared)
