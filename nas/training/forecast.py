"""What a run will take, before it starts: steps, multiply-accumulates and time of each phase."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

from nas.data.splits import Data, SearchData
from nas.supernet.supernet import Supernet
from nas.training.config import Budget, TrainConfig
from nas.training.distributed import Ranks
from nas.training.phases import Span
from nas.training.trainer import Trainer

SAMPLED = 200  # steps of a phase whose networks are counted
WARM, TIMED = 1, 3  # steps run, and steps timed


@dataclass(frozen=True)
class PhaseForecast:
    """step_macs: of a mean step, all passes on all ranks; step_seconds: measured here."""

    name: str
    steps: int
    step_macs: int
    step_seconds: float

    @property
    def macs(self) -> int:
        """Of the phase."""
        return self.steps * self.step_macs

    @property
    def seconds(self) -> float:
        """Of the phase."""
        return self.steps * self.step_seconds


@dataclass(frozen=True)
class Forecast:
    """Sums over the phases."""

    phases: tuple[PhaseForecast, ...]
    parameters: int

    @property
    def steps(self) -> int:
        """Of the run."""
        return sum(phase.steps for phase in self.phases)

    @property
    def macs(self) -> int:
        """Of the run."""
        return sum(phase.macs for phase in self.phases)

    @property
    def seconds(self) -> float:
        """Of the run, evaluations left out."""
        return sum(phase.seconds for phase in self.phases)


def forecast(net: Supernet, data: Data | SearchData, config: TrainConfig, ranks: Ranks | None = None) -> Forecast:
    """Run a few steps of each phase on a copy of `net` and count the rest. Nothing is kept. Same errors as Trainer."""
    trainer = Trainer(copy.deepcopy(net), data, config, None, ranks)
    phases = tuple(_phase(trainer, span, config) for span in trainer.plan.spans)
    return Forecast(phases, sum(p.numel() for p in net.parameters()))


def _phase(trainer: Trainer, span: Span, config: TrainConfig) -> PhaseForecast:
    macs = trainer.mean_macs(span, SAMPLED)
    stream = trainer.data.train.stream(config.seed, config.batch, 0, trainer.ranks.rank, trainer.ranks.size)
    batches = [next(stream) for _ in range(WARM + TIMED)]
    begin = time.perf_counter()
    for number, batch in enumerate(batches):
        if number == WARM:
            begin = time.perf_counter()
        _, outcome = trainer.step(span, trainer.plan.rates(span.begin), batch, 0.0)
        float(outcome.norm)  # waits for the device
    seconds = (time.perf_counter() - begin) / TIMED
    return PhaseForecast(span.phase.name, _steps(config.budget, span, macs, seconds), macs, seconds)


def _steps(budget: Budget, span: Span, macs: int, seconds: float) -> int:
    share = span.end - span.begin
    if budget.steps is not None:
        return round(span.end * budget.steps) - round(span.begin * budget.steps)
    if budget.macs is not None:
        return max(1, round(share * budget.macs / macs))
    assert budget.minutes is not None
    return max(1, round(share * 60 * budget.minutes / seconds))
