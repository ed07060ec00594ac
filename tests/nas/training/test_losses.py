"""Losses against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nas.training.config import Distillation
from nas.training.losses import adaptive_alpha, distillation_loss, kl, label_loss

ALPHAS = [-1.0, 0.0, 0.5, 1.0, 2.0]


def _logits(seed: int, rows: int = 5) -> Tensor:
    return 2 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _divergence(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """D_alpha(p || q) by row, p of the teacher, q of the student, straight from the definition."""
    p, q = teacher.softmax(1), student.softmax(1)
    if alpha == 1:
        return (p * (p / q).log()).sum(1)
    if alpha == 0:
        return (q * (q / p).log()).sum(1)
    return ((p**alpha * q ** (1 - alpha)).sum(1) - 1) / (alpha * (alpha - 1))


def test_kl_is_that_of_the_distributions() -> None:
    student, teacher = _logits(0), _logits(1)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher), torch.distributions.Categorical(logits=student)
    )
    assert torch.allclose(kl(student, teacher), reference.mean())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_gradient_is_that_of_the_divergence(alpha: float) -> None:
    student, teacher = _logits(0).requires_grad_(), _logits(1)
    wanted = torch.autograd.grad(_divergence(student, teacher, alpha).mean(), student)[0]
    found = torch.autograd.grad(adaptive_alpha(student, teacher, alpha, alpha, clip=1e9), student)[0]
    assert torch.allclose(found, wanted, atol=1e-9)


def test_each_image_takes_the_larger_divergence() -> None:
    student, teacher = _logits(0, 40).requires_grad_(), _logits(1, 40)
    low, high = (_divergence(student, teacher, alpha) for alpha in (-1.0, 1.0))
    assert 0 < int((low > high).sum()) < 40
    wanted = torch.autograd.grad(torch.maximum(low, high).mean(), student)[0]
    found = torch.autograd.grad(adaptive_alpha(student, teacher, -1.0, 1.0, clip=1e9), student)[0]
    assert torch.allclose(found, wanted, atol=1e-9)


def test_the_clip_bounds_the_gradient() -> None:
    student, teacher = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[-25.0, 0.0]])
    free = torch.autograd.grad(adaptive_alpha(student, teacher, -1, 1, 1e9), student)[0]
    clipped = torch.autograd.grad(adaptive_alpha(student, teacher, -1, 1, 5.0), student)[0]
    assert float(free.abs().max()) > 1e8
    assert float(clipped.abs().max()) <= 5.0


@pytest.mark.parametrize("name", ["kl", "alpha"])
def test_the_teacher_gets_no_gradient_and_a_perfect_student_none(name: str) -> None:
    loss = distillation_loss(Distillation.model_validate({"loss": name}))
    assert loss is not None
    teacher, student = _logits(1).requires_grad_(), _logits(1).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-12


def test_label_smoothing() -> None:
    logits, labels = _logits(0), torch.tensor([0, 1, 2, 3, 0])
    log_q = logits.log_softmax(1)
    wanted = -(0.9 * log_q[torch.arange(5), labels] + 0.1 * log_q.mean(1)).mean()
    assert torch.allclose(label_loss(logits, labels, 0.1), wanted)


def test_none_means_labels() -> None:
    assert distillation_loss(Distillation(loss="none")) is None
