"""How the gradients of a step's networks become one: plain sum, NASViT's projection, PCGrad.

A part is the gradient of one network, or the sum of several: a tensor a parameter, None where it was not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

Part = list[Tensor | None]
MAX_GAIN = 2.0  # NASViT: largest factor by which the subnets' gradient grows
TINY = torch.finfo(torch.float32).tiny  # keeps 0 / 0 from being nan and no more: tensors have |g|^2 down to 1e-12


def take(parameters: Sequence[nn.Parameter]) -> Part:
    """The gradients, taken away from the parameters."""
    part: Part = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return part


def give(parameters: Sequence[nn.Parameter], part: Part) -> None:
    """Set the gradients."""
    for p, gradient in zip(parameters, part, strict=True):
        p.grad = gradient


def cuts(conflict: str, networks: int) -> frozenset[int]:
    """Numbers of the networks after whose backward a part ends; gradients add up in between."""
    after = {"none": {networks - 1}, "projection": {0, networks - 1}, "pcgrad": set(range(networks))}
    return frozenset(after[conflict])


def combine(conflict: str, parts: list[Part], generator: np.random.Generator) -> Part:
    """One gradient from the parts of a step; see cuts. Changes the parts."""
    if conflict == "projection":
        return projection(*parts)
    if conflict == "pcgrad":
        return pcgrad(parts, generator)
    return parts[0]


@torch.no_grad()
def projection(largest: Part, subnets: Part) -> Part:
    """g_max + (1 + a) g_sub with a = clamp(-<g_sub, g_max> / |g_sub|^2, 0, 2), for each tensor by itself.

    Takes out of the largest network's gradient what opposes the subnets' (Gong et al., NASViT, ICLR 2022).
    """
    return [
        sub if big is None else big if sub is None else _project_one(big, sub)
        for big, sub in zip(largest, subnets, strict=True)
    ]


def _project_one(big: Tensor, sub: Tensor) -> Tensor:
    gain = (-(big * sub).sum() / ((sub * sub).sum() + TINY)).clamp(0, MAX_GAIN)
    return big.addcmul_(sub, 1 + gain)


@torch.no_grad()
def pcgrad(parts: list[Part], generator: np.random.Generator) -> Part:
    """Sum of the parts, each first rid of what opposes any other, in random order (Yu et al., NeurIPS 2020).

    Products run over all parameters together.
    """
    if all(gradient is None for part in parts for gradient in part):
        return parts[0]  # the phase freezes all that the networks use
    rows = [_flat(part, parts) for part in parts]
    total = torch.zeros_like(rows[0])
    for i, row in enumerate(rows):
        own = row.clone()
        for j in generator.permutation(len(rows)).tolist():
            if j != i:
                other = rows[j]
                own -= (torch.dot(own, other) / (torch.dot(other, other) + TINY)).clamp(max=0) * other
        total += own
    return _unflat(total, parts)


def _flat(part: Part, parts: list[Part]) -> Tensor:
    """One row [elements used by any part]; zeros where this part does not use a parameter."""
    pieces = []
    for k, gradient in enumerate(part):
        like = _like(parts, k)
        if like is not None:
            pieces.append((torch.zeros_like(like) if gradient is None else gradient).reshape(-1))
    return torch.cat(pieces)


def _unflat(row: Tensor, parts: list[Part]) -> Part:
    found: Part = []
    at = 0
    for k in range(len(parts[0])):
        like = _like(parts, k)
        if like is None:
            found.append(None)
        else:
            found.append(torch.empty_like(like).copy_(row[at : at + like.numel()].view(like.shape)))
            at += like.numel()
    return found


def _like(parts: list[Part], k: int) -> Tensor | None:
    return next((part[k] for part in parts if part[k] is not None), None)
