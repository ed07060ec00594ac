"""Multiply-accumulates against published figures, and against torch's own counter on the static network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.space.arch import Arch, StageArch
from nas.space.space import SearchSpace, presets
from nas.supernet.macs import macs
from nas.supernet.static import StaticNet
from tests.nas.supernet.cases import space_of

# AlphaNet (arXiv:2102.07954): architectures of its released configuration, millions of its README.
ALPHANET = {
    "A0": (192, [16, 16, 24, 32, 64, 112, 192, 216, 1792], [3] * 7, [1, 4, 4, 4, 4, 6, 6], [1, 3, 3, 3, 3, 3, 1], 203),
    "A1": (224, [16, 16, 24, 32, 64, 112, 192, 216, 1984], [3, 3, 3, 5, 3, 5, 3], [1, 4, 4, 4, 4, 6, 6],
           [1, 3, 3, 3, 3, 3, 1], 279),
    "A6": (288, [16, 16, 24, 32, 64, 112, 216, 224, 1984], [3, 3, 3, 3, 3, 5, 3], [1, 4, 6, 5, 4, 6, 6],
           [1, 3, 3, 4, 4, 6, 1], 709),
}  # fmt: skip
NASVIT_MAX = 1881  # millions, its largest network; the architectures behind its A0 to A5 are not published
IMAGENET = 1000


@pytest.mark.parametrize("name", sorted(ALPHANET))
def test_alphanet_as_published(name: str) -> None:
    resolution, width, kernel, expand, depth, millions = ALPHANET[name]
    stages = tuple(StageArch("mbconv", width[i + 1], depth[i], kernel[i], expand[i], 0, 1) for i in range(7))
    arch = Arch(resolution, width[0], stages, width[-1])
    space = SearchSpace.load("alphanet")
    assert space.arch(space.genome(arch)) == arch
    assert macs(arch, space.spec, IMAGENET) / 1e6 == pytest.approx(millions, rel=0.01)


def test_nasvit_as_published() -> None:
    space = SearchSpace.load("nasvit")
    assert macs(space.arch(space.maximum()), space.spec, IMAGENET) / 1e6 == pytest.approx(NASVIT_MAX, rel=0.01)


@pytest.mark.parametrize("preset", [*presets(), "odd"])
def test_macs_are_those_that_torch_counts(preset: str) -> None:
    """On the meta device: shapes only. torch counts two operations a multiply-accumulate."""
    space = space_of(preset)
    for row in [space.minimum(), space.maximum(), *space.sample(np.random.default_rng(0), 2)]:
        arch = space.arch(row)
        with torch.device("meta"):
            net = StaticNet(arch, space.spec, 10).eval()
            images = torch.empty(1, space.spec.channels_in, arch.resolution, arch.resolution)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(images)
        assert counter.get_total_flops() == 2 * macs(arch, space.spec, 10)
