"""One training step: forward and backward of each network, one averaged gradient, one update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from h4hc.errors import NumericsError
from nas.data.order import rng
from nas.data.splits import Batch
from nas.space.arch import Arch
from nas.supernet.mode import Mode
from nas.training import gradients
from nas.training.config import TrainConfig
from nas.training.distributed import Ranks
from nas.training.learner import Learner
from nas.training.losses import distillation_loss, kl, label_loss
from nas.training.phases import PASSES, Span

SURGERY, DROPOUT = 19, 20  # streams of random numbers


@dataclass(frozen=True)
class Outcome:
    """loss_first: of the first network [0-d]; loss_rest: sum over the others; norm: of the gradient before clipping."""

    loss_first: Tensor
    loss_rest: Tensor
    norm: Tensor
    numbers: tuple[float, ...]

    def check(self, step: int, phase: str, archs: list[Arch]) -> None:
        """Raises NumericsError where a loss or the gradient is not finite."""
        if not bool(torch.isfinite(self.loss_first + self.loss_rest + self.norm)):
            raise NumericsError(
                f"training diverged in step {step} of phase {phase!r}",
                tuple(str(arch.to_json()) for arch in archs),
                f"loss of the first network {float(self.loss_first):g}, of the others {float(self.loss_rest):g}, "
                f"gradient norm {float(self.norm):g}",
                "lower optimizer.lr or clip, warm up longer, or look for bad images; the last checkpoint is whole",
            )


class Stepper:
    """Makes steps for a learner. `macs` counts a network's multiply-accumulates of one forward pass and image."""

    def __init__(self, learner: Learner, config: TrainConfig, ranks: Ranks, macs: Callable[[Arch], int]) -> None:
        self._learner, self._config, self._ranks, self._macs = learner, config, ranks, macs
        self._distil = distillation_loss(config.distillation)
        device = ranks.device
        auto = device.type == "cuda" and torch.cuda.is_bf16_supported()
        bf16 = config.amp == "bf16" or (config.amp == "auto" and auto)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    def cost(self, span: Span, archs: list[Arch], first: Arch | None) -> int:
        """Multiply-accumulates of a step on all ranks; `first`: largest network of the phase before, as teacher."""
        macs = PASSES * sum(self._macs(arch) for arch in archs)
        return self._config.batch * (macs + (self._macs(first) if span.phase.teacher and first else 0))

    def gradient(
        self, span: Span, step: int, archs: list[Arch], batch: Batch, numbers: list[float], teacher: Arch | None
    ) -> Outcome:
        """Leave the step's gradient, clipped, in the parameters; `numbers` are averaged over the ranks on the way."""
        device, parameters = self._ranks.device, self._learner.parameters
        images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        if self._config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self._seed_dropout(step)
        cuts = gradients.cuts(self._config.conflict, len(archs))
        parts: list[gradients.Part] = []
        first, rest = self._first_loss(span, archs[0], images, labels, teacher), torch.zeros((), device=device)
        for number, arch in enumerate(archs):
            loss, logits = first if number == 0 else self._other_loss(arch, images, labels, first[1])
            if loss.requires_grad:  # not where the phase freezes all that a small network uses
                loss.backward()
            if number:
                rest += loss.detach()
            else:
                first = (loss.detach(), logits.detach())
            if number in cuts:
                parts.append(gradients.take(parameters))
        averaged = self._ranks.average(parts, numbers)
        generator = rng(self._config.seed, SURGERY, step)
        gradients.give(parameters, gradients.combine(self._config.conflict, parts, generator))
        limit = self._config.optimizer.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
        return Outcome(first[0], rest, norm, tuple(averaged))

    def _seed_dropout(self, step: int) -> None:
        regular = self._config.regularisation
        if regular.dropout or regular.drop_path:
            torch.manual_seed(int(rng(self._config.seed, DROPOUT, step, self._ranks.rank).integers(2**62)))

    def _first_loss(
        self, span: Span, arch: Arch, images: Tensor, labels: Tensor, teacher: Arch | None
    ) -> tuple[Tensor, Tensor]:
        regular = self._config.regularisation
        mode = Mode(dropout=regular.dropout, drop_path=regular.drop_path)
        logits = self._forward(self._learner.net, images, arch, mode)
        loss = label_loss(logits, labels, regular.label_smoothing)
        if span.phase.teacher and self._learner.teacher is not None and teacher is not None:
            with torch.no_grad():
                known = self._forward(self._learner.teacher, images, teacher, Mode())
            weight = span.phase.teacher.weight
            loss = (1 - weight) * loss + weight * kl(logits, known)
        return loss, logits

    def _other_loss(self, arch: Arch, images: Tensor, labels: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._forward(self._learner.net, images, arch, Mode())
        if self._distil is None:
            return label_loss(logits, labels, self._config.regularisation.label_smoothing), logits
        loss, weight = self._distil(logits, first), self._config.distillation.label_weight
        if weight:
            loss = (1 - weight) * loss + weight * label_loss(logits, labels, 0.0)
        return loss, logits

    def _forward(self, net: nn.Module, images: Tensor, arch: Arch, mode: Mode) -> Tensor:
        with self._autocast:
            logits: Tensor = net(images, arch, mode=mode)
        return logits.float()
