"""A supernet whose every weight is random, architectures of a space, calibrated statistics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.supernet.mode import BnStats
from nas.supernet.supernet import Supernet, calibrate

CLASSES = 10


def random_supernet(preset: str) -> Supernet:
    """As new, with noise on all that starts as a constant: norms, biases, layer scales, maps over heads."""
    net = Supernet(SearchSpace.load(preset), CLASSES, seed=1)
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in net.parameters():
            if len(weight.unique()) <= 2:
                weight.add_(torch.randn(weight.shape, generator=noise), alpha=0.1)
    return net


def archs(space: SearchSpace, number: int) -> list[Arch]:
    """The least, the largest and `number` random ones."""
    rows = space.sample(np.random.default_rng(0), number)
    return [space.arch(row) for row in (space.minimum(), space.maximum(), *rows)]


def images(arch: Arch, space: SearchSpace, number: int = 1, seed: int = 3) -> Tensor:
    """Random images in the architecture's resolution."""
    shape = (number, space.spec.channels_in, arch.resolution, arch.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calibrated(net: Supernet, arch: Arch) -> BnStats:
    """Statistics of one batch."""
    return calibrate(net, arch, [images(arch, net.space, seed=4)])
