"""Phases of a run and the learning rates in them, as functions of how much of the budget is spent (0 to 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.space.space import SearchSpace
from nas.training.config import Budget, Group, GroupRate, Phase, TrainConfig
from nas.training.sampling import Macs, Sampler

GROUPS: tuple[Group, ...] = ("conv", "attention", "shared")
FIRST_RATE = 0.05  # of the peak, at the begin of a warm-up
ROUNDING = 1e-9  # shares are sums of decimal fractions
PASSES = 3  # a training step costs the forward once and the backward twice


@dataclass
class Spent:
    """What a run has used: steps, multiply-accumulates of all passes on all ranks, seconds."""

    steps: int = 0
    macs: int = 0
    seconds: float = 0.0

    def of(self, budget: Budget) -> float:
        """The part of the budget, 0 to 1."""
        if budget.steps is not None:
            return min(1.0, self.steps / budget.steps)
        if budget.macs is not None:
            return min(1.0, self.macs / budget.macs)
        assert budget.minutes is not None
        return min(1.0, self.seconds / (60 * budget.minutes))


@dataclass(frozen=True)
class Span:
    """A phase with its place in the run: begin <= spent < end."""

    number: int
    phase: Phase
    begin: float
    end: float
    sampler: Sampler


class Plan:
    """The phases of a run in order, with a sampler each. Raises UserError where a phase does not fit the space."""

    def __init__(self, config: TrainConfig, space: SearchSpace, macs: Macs) -> None:
        self._config = config
        ends = [math.fsum(p.share for p in config.phases[: i + 1]) for i in range(len(config.phases))]
        ends[-1] = 1.0
        self.spans = [
            Span(i, phase, begin, end, self._sampler(phase, space, macs))
            for i, (phase, begin, end) in enumerate(zip(config.phases, [0.0, *ends], ends, strict=False))
        ]

    def _sampler(self, phase: Phase, space: SearchSpace, macs: Macs) -> Sampler:
        return Sampler(space, phase.sampling or self._config.sampling, phase.allowed, self._config.seed, macs)

    def at(self, spent: float) -> Span:
        """The phase at this point of the run."""
        return next((span for span in self.spans if spent + ROUNDING < span.end), self.spans[-1])

    def rates(self, spent: float) -> dict[Group, float]:
        """Learning rate of each parameter group: linear warm-up, then cosine, over the group's cycle."""
        span = self.at(spent)
        return {group: self._rate(span, span.phase.lr.get(group, GroupRate()), spent) for group in GROUPS}

    def _rate(self, span: Span, rate: GroupRate, spent: float) -> float:
        optimizer = self._config.optimizer
        begin, end = self._cycle(span, rate.cycle)
        t = max(0.0, (spent - begin) / (end - begin))
        warmup = optimizer.warmup if rate.warmup is None else rate.warmup
        if t < warmup:
            part = FIRST_RATE + (1 - FIRST_RATE) * t / warmup
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup)))
            part = optimizer.final + (1 - optimizer.final) * cosine
        return optimizer.lr * rate.factor * part

    def _cycle(self, span: Span, cycle: str) -> tuple[float, float]:
        if cycle == "run":
            return 0.0, 1.0
        if cycle == "phase":
            return span.begin, span.end
        return next(s.begin for s in self.spans if s.phase.name == cycle), 1.0
