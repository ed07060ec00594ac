"""Gradient surgery against its formulas and the property it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.training.gradients import Part, combine, cuts, give, pcgrad, projection, take


def _part(seed: int, none: tuple[int, ...] = ()) -> Part:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4,), (2, 2, 2)]
    return [None if k in none else torch.randn(shape, generator=generator) for k, shape in enumerate(shapes)]


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _clone(part: Part) -> Part:
    return [None if g is None else g.clone() for g in part]


def _dot(a: Tensor | None, b: Tensor | None) -> float:
    assert a is not None
    assert b is not None
    return float((a * b).sum())


def test_projection_takes_out_what_opposes_the_subnets() -> None:
    for seed in range(20):
        big, sub = _part(seed), _part(seed + 100)
        found = projection(_clone(big), _clone(sub))
        for g, s, result in zip(big, sub, found, strict=True):
            assert g is not None
            assert s is not None
            assert result is not None
            if _dot(g, s) >= 0:
                assert torch.allclose(result, g + s)
            elif -_dot(g, s) / _dot(s, s) < 2:  # the rest of the largest network's part is at right angles to s
                assert _dot(result - s, s) == pytest.approx(0, abs=1e-4)
            else:
                assert torch.allclose(result, g + 3 * s, atol=1e-5)


def test_projection_keeps_what_only_one_uses() -> None:
    big, sub = _part(0, none=(0, 2)), _part(1, none=(1, 2))
    found = projection(_clone(big), _clone(sub))
    assert found[0] is not None
    assert found[1] is not None
    assert torch.equal(found[0], sub[0])  # type: ignore[arg-type]
    assert torch.equal(found[1], big[1])  # type: ignore[arg-type]
    assert found[2] is None


def test_pcgrad_of_two_by_hand() -> None:
    first: Part = [torch.tensor([1.0, 0.0])]
    second: Part = [torch.tensor([-1.0, 1.0])]
    # each rid of the other's opposite: (1, 0) -> (0.5, 0.5); (-1, 1) -> (0, 1)
    found = pcgrad([first, second], _rng())[0]
    assert found is not None
    assert torch.allclose(found, torch.tensor([0.5, 1.5]), atol=1e-5)


def test_pcgrad_without_conflict_is_the_sum() -> None:
    parts: list[Part] = [[torch.tensor([1.0, 2.0]), None], [torch.tensor([2.0, 0.5]), torch.tensor([3.0])]]
    found = pcgrad(parts, _rng())
    assert torch.equal(torch.cat([g for g in found if g is not None]), torch.tensor([3.0, 2.5, 3.0]))


def test_pcgrad_result_opposes_no_part_of_two() -> None:
    for seed in range(20):
        parts = [_part(seed), _part(seed + 100)]
        found = pcgrad([_clone(p) for p in parts], _rng())
        for part in parts:
            assert sum(_dot(a, b) for a, b in zip(found, part, strict=True)) > -1e-4


@pytest.mark.parametrize("conflict", ["none", "projection", "pcgrad"])
def test_parts_of_a_step_add_up(conflict: str) -> None:
    """Networks with gradients that agree: all ways give the sum."""
    weight = nn.Parameter(torch.zeros(3))
    parts = []
    for number in range(4):
        ((number + 1) * weight.sum()).backward()
        if number in cuts(conflict, 4):
            parts.append(take([weight]))
            assert weight.grad is None
    give([weight], combine(conflict, parts, _rng()))
    assert weight.grad is not None
    assert weight.grad.tolist() == [10.0, 10.0, 10.0]


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9])
def test_surgery_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    """A tensor of a supernet has a squared gradient of 1e-6 as a rule."""
    big, sub = _part(0), _part(100)
    sub[0] = None if big[0] is None else -0.5 * big[0]
    small = [[None if g is None else scale * g for g in part] for part in (big, sub)]
    for conflict in ("projection", "pcgrad"):
        wanted = combine(conflict, [_clone(big), _clone(sub)], _rng())
        found = combine(conflict, [_clone(part) for part in small], _rng())
        for w, f in zip(wanted, found, strict=True):
            assert w is not None
            assert f is not None
            torch.testing.assert_close(f / scale, w, rtol=1e-4, atol=1e-5)


def test_subnets_without_gradient_change_nothing() -> None:
    zero: Part = [torch.zeros(3)]
    assert torch.equal(projection([torch.ones(3)], _clone(zero))[0], torch.ones(3))  # type: ignore[arg-type]
    assert torch.equal(pcgrad([[torch.ones(3)], zero], _rng())[0], torch.ones(3))  # type: ignore[arg-type]
    assert pcgrad([[None], [None]], _rng()) == [None]
