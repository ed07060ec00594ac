"""Do networks of other block types pull the shared weights apart? Cosines of their gradients, beside controls.

A cosine alone says little: networks of one type but other widths, or one network on two batches, disagree too. The
probe measures those controls on the same weights, so that a reader can tell conflict from noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from nas.data.order import rng
from nas.data.splits import Batch, Split
from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.supernet.supernet import Supernet
from nas.training.config import CONV_ONLY, Allowed
from nas.training.losses import label_loss

PROBE = 21  # stream of random numbers
Pair = tuple[Arch, Arch]
Draw = Callable[[SearchSpace, np.random.Generator], Pair]


@dataclass(frozen=True)
class Conflict:
    """Of one kind of pair: mean and standard deviation of the cosine over draws, and part of tensors that oppose.

    The cosine runs over all weights of convolution blocks that both networks use; `opposed` is the share of those
    tensors whose inner product is negative.
    """

    pair: str
    control: bool
    cosine: float
    deviation: float
    opposed: float
    draws: int


def attention_full(space: SearchSpace) -> Allowed:
    """Every stage that may hold attention blocks holds as many as it can."""
    return {n: (v[-1],) for n, v in space.fields.items() if n.endswith(".attention_depth")}


def _random(space: SearchSpace, generator: np.random.Generator, allowed: Allowed) -> Arch:
    return space.arch(space.sample(generator, 1, allowed)[0])


def _same_conv_part(space: SearchSpace, generator: np.random.Generator) -> Pair:
    hybrid = _random(space, generator, attention_full(space))
    stages = tuple(replace(stage, attention_depth=0) for stage in hybrid.stages)
    return space.arch(space.genome(_canonical(space, replace(hybrid, stages=stages)))), hybrid


def _canonical(space: SearchSpace, arch: Arch) -> Arch:
    """mlp_ratio has no effect without attention: set it to the first value of the space."""
    stages = tuple(
        replace(stage, mlp_ratio=spec.attention.mlp_ratio[0] if spec.attention else stage.mlp_ratio)
        for spec, stage in zip(space.spec.stages, arch.stages, strict=True)
    )
    return replace(arch, stages=stages)


def _types(space: SearchSpace, generator: np.random.Generator) -> Pair:
    return _random(space, generator, CONV_ONLY), _random(space, generator, attention_full(space))


def _conv_conv(space: SearchSpace, generator: np.random.Generator) -> Pair:
    return _random(space, generator, CONV_ONLY), _random(space, generator, CONV_ONLY)


def _full_full(space: SearchSpace, generator: np.random.Generator) -> Pair:
    full = attention_full(space)
    return _random(space, generator, full), _random(space, generator, full)


def _sizes(space: SearchSpace, _generator: np.random.Generator) -> Pair:
    return space.arch(space.maximum()), space.arch(space.minimum())


def _same(space: SearchSpace, generator: np.random.Generator) -> Pair:
    arch = _random(space, generator, {})
    return arch, arch


PAIRS: dict[str, tuple[Draw, bool]] = {
    "conv-only and the same with all attention": (_same_conv_part, False),
    "conv-only and attention-full": (_types, False),
    "conv-only and another conv-only": (_conv_conv, True),
    "attention-full and another attention-full": (_full_full, True),
    "largest and smallest": (_sizes, True),
    "one network, two batches": (_same, True),
}


def probe(net: Supernet, split: Split, batch: int = 128, draws: int = 8, seed: int = 0) -> list[Conflict]:
    """Gradient conflicts of a supernet at its present weights, which stay as they are; label loss, batch statistics."""
    stream = split.stream(seed, batch)
    parameters = net.parameter_groups()["conv"]
    batches = [next(stream) for _ in range(draws + 1)]
    found = []
    for number, (name, (draw, control)) in enumerate(PAIRS.items()):
        cosines, opposed = [], []
        for k in range(draws):
            first, second = draw(net.space, rng(seed, PROBE, number, k))
            other = batches[k + 1] if draw is _same else batches[k]
            cosine, against = compare(
                _gradient(net, parameters, first, batches[k]), _gradient(net, parameters, second, other)
            )
            cosines.append(cosine)
            opposed.append(against)
        deviation = float(np.std(cosines, ddof=1)) if draws > 1 else 0.0
        found.append(Conflict(name, control, float(np.mean(cosines)), deviation, float(np.mean(opposed)), draws))
    return found


def _gradient(net: Supernet, parameters: list[nn.Parameter], arch: Arch, batch: Batch) -> list[Tensor | None]:
    device = parameters[0].device
    loss = label_loss(net(batch[0].to(device), arch), batch[1].to(device), 0.0)
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


def compare(first: list[Tensor | None], second: list[Tensor | None]) -> tuple[float, float]:
    """Cosine over the weights both use, and share of the shared tensors with negative inner product.

    Weights outside the slice of a network have gradient 0: only those where neither is 0 count.
    """
    products, squares_first, squares_second = [], [], []
    for a, b in zip(first, second, strict=True):
        if a is None or b is None:
            continue
        shared = (a != 0) & (b != 0)
        if shared.any():
            x, y = a[shared].double(), b[shared].double()
            products.append(float(x @ y))
            squares_first.append(float(x @ x))
            squares_second.append(float(y @ y))
    if not products:
        return float("nan"), float("nan")
    cosine = sum(products) / np.sqrt(sum(squares_first) * sum(squares_second))
    return float(cosine), float(np.mean([product < 0 for product in products]))
