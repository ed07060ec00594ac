"""The training loop: phases, budget, log, checkpoints, resuming."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from h4hc.errors import Problem, UserError
from nas.data.splits import Batch, Data, SearchData
from nas.space.arch import Arch
from nas.supernet.macs import macs
from nas.supernet.supernet import Supernet
from nas.training import checkpoint
from nas.training.config import Group, TrainConfig
from nas.training.distributed import Ranks
from nas.training.learner import Learner
from nas.training.logs import Observer, Report, Row, RunLog
from nas.training.phases import Plan, Span, Spent
from nas.training.step import Outcome, Stepper

CHECKPOINTS = "checkpoints"
FREE = frozenset({"log_every", "save_every", "keep", "tensorboard", "device", "evaluate_every"})  # may change on resume
Rates = dict[Group, float]
Evaluate = Callable[[Supernet], dict[str, float]]


@dataclass(frozen=True)
class Result:
    """What a run came to. train_macs: of all passes on all ranks; loss: the first network's last."""

    steps: int
    train_macs: int
    seconds: float
    loss: float


class Trainer:
    """Trains `net` in place. folder: of log and checkpoints, None = keep nothing."""

    def __init__(
        self,
        net: Supernet,
        data: Data | SearchData,
        config: TrainConfig,
        folder: Path | None = None,
        ranks: Ranks | None = None,
        evaluate: Evaluate | None = None,
        observe: Observer | None = None,
    ) -> None:
        """evaluate: figures for evaluations.csv, called every `evaluate_every` steps and at the end, on rank 0.

        Raises UserError where phases do not fit the space, the batch not the ranks or the data not the network.
        """
        self.ranks = ranks or Ranks()
        self.config, self.data, self.folder = config, data, folder
        self._evaluate, self._observe = evaluate, observe
        self.net = net.to(self.ranks.device)
        if config.channels_last:
            self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._check()
        self._macs = lru_cache(maxsize=65536)(lambda arch: macs(arch, net.space.spec, net.classes))
        self.plan = Plan(config, net.space, self._macs)
        self.learner = Learner(self.net, config)
        self.stepper = Stepper(self.learner, config, self.ranks, self._macs)
        self.spent, self._loss = Spent(), float("nan")  # _loss: of the first network, the last that was looked at
        self._asked = self._stop = False  # a signal came here; all ranks agree to end

    def fit(self, resume: bool = False) -> Result:
        """Train to the end of the budget. resume: go on from the newest checkpoint of `folder`, from scratch if none.

        A resumed run on a CPU ends in the same bits as one without a break. Raises UserError for a folder with another
        run, IntegrityError for a damaged checkpoint, NumericsError for a loss that is not finite, KeyboardInterrupt
        after a checkpoint of the step in hand.
        """
        self._open(resume)
        self.ranks.same_weights(self.net)
        log = self._log()
        try:
            with self._interruptible():
                self._loop(log)
        finally:
            if log:
                log.close()
        return Result(self.spent.steps, self.spent.macs, self.spent.seconds, self._loss)

    def _loop(self, log: RunLog | None) -> None:
        config, spent = self.config, self.spent
        stream = self.data.train.stream(config.seed, config.batch, spent.steps, self.ranks.rank, self.ranks.size)
        before = time.perf_counter() - spent.seconds
        while (part := spent.of(config.budget)) < 1 and not self._stop:
            span, rates = self.plan.at(part), self.plan.rates(part)
            archs, outcome = self.step(span, rates, next(stream), time.perf_counter() - before)
            spent.seconds = outcome.numbers[0]
            self._stop = outcome.numbers[1] > 0
            done = spent.of(config.budget) >= 1
            if done or spent.steps % config.log_every == 0 or self.ranks.device.type == "cpu":
                outcome.check(spent.steps, span.phase.name, archs)
            if done or spent.steps % config.log_every == 0:
                self._loss = float(outcome.loss_first)
                self._tell(log, span, rates, outcome, len(archs))
            due = config.evaluate_every and spent.steps % config.evaluate_every == 0
            if self._evaluate and log and (due or done):
                log.evaluation(spent.steps, self._evaluate(self.net))
            if done or self._stop or spent.steps % config.save_every == 0:
                outcome.check(spent.steps, span.phase.name, archs)
                self._loss = float(outcome.loss_first)
                self._save(log)
        if self._stop and spent.of(config.budget) < 1:
            raise KeyboardInterrupt

    def step(self, span: Span, rates: Rates, batch: Batch, seconds: float) -> tuple[list[Arch], Outcome]:
        """One update; counts it."""
        self.learner.enter(span.number, span.phase)
        archs, teacher = span.sampler.archs(self.spent.steps), self._teacher_arch(span)
        numbers = [seconds, float(self._asked)]
        outcome = self.stepper.gradient(span, self.spent.steps, archs, batch, numbers, teacher)
        self.learner.set_rates(rates)
        self.learner.update(self.spent.steps)
        self.spent.steps += 1
        self.spent.macs += self.stepper.cost(span, archs, teacher)
        return archs, outcome

    def mean_macs(self, span: Span, steps: int) -> int:
        """Multiply-accumulates of a step of this phase, on all ranks: mean over its first `steps`."""
        teacher = self._teacher_arch(span)
        return sum(self.stepper.cost(span, span.sampler.archs(k), teacher) for k in range(steps)) // steps

    def _teacher_arch(self, span: Span) -> Arch | None:
        if not span.phase.teacher:
            return None
        space = self.net.space
        return space.arch(space.maximum(self.plan.spans[span.number - 1].phase.allowed))

    def _tell(self, log: RunLog | None, span: Span, rates: Rates, outcome: Outcome, networks: int) -> None:
        spent, loss = self.spent, float(outcome.loss_first)
        part = spent.of(self.config.budget)
        if self._observe and self.ranks.first:
            self._observe(Report(spent.steps, span.phase.name, part, spent.seconds, loss))
        if log:
            row: Row = {
                "step": spent.steps,
                "phase": span.phase.name,
                "spent": part,
                "loss_first": loss,
                "loss_rest": float(outcome.loss_rest) / max(1, networks - 1),
                "gradient_norm": float(outcome.norm),
                "train_macs": spent.macs,
                "seconds": round(spent.seconds, 3),
            }
            log.row(row | {f"lr_{group}": rate for group, rate in rates.items()})

    # folder

    def _open(self, resume: bool) -> None:
        """Take over the newest checkpoint, or make sure that none is there."""
        if self.folder is None:
            if resume:
                raise UserError("nothing to resume: the run has no folder")
            return
        found = checkpoint.newest(self.folder / CHECKPOINTS)
        if found is not None and not resume:
            raise UserError("the folder holds a run", (str(self.folder),), hint="resume it, or name another folder")
        if found is not None:
            loaded = checkpoint.load(found)
            self._compare(loaded.state["config"], found)
            self.learner.restore(loaded)
            self.spent, self._loss = Spent(**loaded.state["spent"]), float(loaded.state["loss"])

    def _compare(self, config: dict[str, Any], found: Path) -> None:
        now = self.config.model_dump(mode="json") | self._identity()
        keys = sorted((now.keys() | config.keys()) - FREE)
        differing = [key for key in keys if now.get(key) != config.get(key)]
        if differing:
            raise UserError.of(
                tuple(
                    Problem(f"{key} differs from the run in the folder", (str(found),), f"{config.get(key)} there, "
                            f"{now.get(key)} here", "use the configuration of the run, or another folder")
                    for key in differing
                )
            )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """What a run depends on beside its configuration."""
        space = self.net.space.spec.model_dump(mode="json")
        return {"space": space, "classes": self.net.classes, "images": len(self.data.train), "ranks": self.ranks.size}

    def _save(self, log: RunLog | None) -> None:
        """A checkpoint, behind the log rows it belongs to."""
        if self.folder is not None and self.ranks.first:
            if log:
                log.sync()
            config = self.config.model_dump(mode="json") | self._identity()
            whole = self.learner.checkpoint({"config": config, "spent": asdict(self.spent), "loss": self._loss})
            checkpoint.save(self.folder / CHECKPOINTS, self.spent.steps, whole, self.config.keep)
        self.ranks.wait()

    def _log(self) -> RunLog | None:
        if self.folder is None or not self.ranks.first:
            return None
        return RunLog(self.folder, self.spent.steps, self.config.tensorboard)

    # guards

    def _check(self) -> None:
        problems = []
        if self.config.batch % self.ranks.size:
            why = f"{self.config.batch} images a step, {self.ranks.size} processes"
            problems.append(Problem("the batch cannot be shared out evenly", ("batch",), why))
        images, _ = next(iter(self.data.train.batches(1, 1)))
        wanted = self.net.space.spec.channels_in
        if images.shape[1] != wanted:
            why = f"the images have {images.shape[1]} channels, the search space {wanted}"
            problems.append(Problem("data and search space do not fit", ("channels_in",), why))
        if isinstance(self.data, Data) and self.data.classes != self.net.classes:
            why = f"the data has {self.data.classes} classes, the network {self.net.classes}"
            problems.append(Problem("data and network do not fit", ("classes",), why))
        if problems:
            raise UserError.of(tuple(problems))

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step in hand, with a checkpoint."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._asked = True  # `_stop` itself would be overwritten by the step in hand

        if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
