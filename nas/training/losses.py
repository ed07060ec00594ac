"""Losses on logits [B, classes]; each is the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.config import Distillation

Loss = Callable[[Tensor, Tensor], Tensor]  # (student's logits, teacher's logits)


def label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with label smoothing."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student); the teacher gets no gradient."""
    target = F.log_softmax(teacher.detach(), 1)
    return F.kl_div(F.log_softmax(student, 1), target, reduction="batchmean", log_target=True)


def adaptive_alpha(student: Tensor, teacher: Tensor, low: float = -1.0, high: float = 1.0, clip: float = 5.0) -> Tensor:
    """The larger, image by image, of two alpha-divergences from teacher p to student q (Wang et al., ICML 2021).

    D_a = sum q f(p/q), f(t) = (t^a - 1) / (a (a - 1)); t log t at a = 1, -log t at a = 0. A negative alpha
    punishes where the student overrates, a positive one where it underrates. The ratio p/q to the power alpha is
    clipped, and the gradient is that of -sum q rho log q with q and rho held constant, as in the paper: the value
    returned serves its gradient.
    """
    divergence_low, loss_low = _alpha(student, teacher, low, clip)
    divergence_high, loss_high = _alpha(student, teacher, high, clip)
    return torch.where(divergence_low > divergence_high, loss_low, loss_high).mean()


def _alpha(student: Tensor, teacher: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """Divergence [B], and the loss [B] whose gradient is minus sum_k q_k rho_k d log q_k, rho = f'(t) t - f(t)."""
    log_q = F.log_softmax(student, 1)
    with torch.no_grad():
        log_p = F.log_softmax(teacher, 1)
        q, ratio = log_q.exp(), log_p - log_q.detach()
        if abs(alpha) < 1e-3:
            f, rho = -ratio, ratio - 1
        elif abs(alpha - 1) < 1e-3:
            power = ratio.exp().clamp(max=clip)
            f, rho = power * ratio, power
        else:
            power = (alpha * ratio).exp().clamp(max=clip)
            f = (power - 1) / (alpha * (alpha - 1))
            rho = power / alpha
        divergence = (q * f).sum(1)
    return divergence, -(q * rho * log_q).sum(1)


def distillation_loss(config: Distillation) -> Loss | None:
    """The loss `config` names, None for labels alone."""
    if config.loss == "none":
        return None
    if config.loss == "kl":
        return kl
    return lambda student, teacher: adaptive_alpha(
        student, teacher, config.alpha_low, config.alpha_high, config.ratio_clip
    )
