"""A supernet whose every weight is random, architectures of a space, calibrated statistics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from nas.supernet.mode import BnStats
from nas.supernet.supernet import Supernet, calibrate

CLASSES = 10
ODD = {  # what no preset has: maps of odd sides behind a stride, kernels 1 and 7, fractions as ratios
    "name": "odd", "resolution": [19, 25, 27], "act": "swish", "shortcut": "project", "stem": {"width": [8, 16]},
    "stages": [
        {"name": "a", "width": [16, 24], "block": ["mbconv", "conv"], "conv_depth": [1, 2], "kernel": [3, 5],
         "expand": [1, 1.5, 3], "stride": 2, "se": True},
        {"name": "b", "width": [16, 32], "conv_depth": [1, 2], "kernel": [1, 3, 7], "expand": [2], "stride": 2,
         "attention": {"depth": [0, 1, 2], "head_dim": 8, "value_ratio": 2, "mlp_ratio": [0.5, 1, 2], "mlps": 2,
                       "talking_heads": True}},
    ],
    "head": {"width": [16, 24], "expand": 2},
}  # fmt: skip


def space_of(name: str) -> SearchSpace:
    """A preset, or the space `odd`."""
    return SearchSpace(SpaceSpec.model_validate(ODD)) if name == "odd" else SearchSpace.load(name)


def random_supernet(preset: str) -> Supernet:
    """As new, with noise on all that starts as a constant: norms, biases, layer scales, maps over heads."""
    net = Supernet(space_of(preset), CLASSES, seed=1)
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
