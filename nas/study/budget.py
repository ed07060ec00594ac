"""What runs cost, by counting the networks they will sample: no training, the same on any machine."""

from __future__ import annotations

from functools import lru_cache

from nas.space.space import SearchSpace
from nas.study.design import Arm, Study
from nas.supernet.macs import macs
from nas.training.config import Budget, TrainConfig
from nas.training.phases import PASSES, Plan, Spent


def count(config: TrainConfig, space: SearchSpace, classes: int) -> Spent:
    """Steps and multiply-accumulates of a run on one device; they are those the trainer reports in the end.

    Raises ValueError for a budget in minutes, which cannot be counted.
    """
    if config.budget.minutes is not None:
        raise ValueError("a budget in minutes depends on the machine")
    cost = lru_cache(maxsize=None)(lambda arch: macs(arch, space.spec, classes))
    plan, spent = Plan(config, space, cost), Spent()
    teachers = [
        cost(space.arch(space.maximum(before.phase.allowed))) if span.phase.teacher else 0
        for before, span in zip([plan.spans[0], *plan.spans], plan.spans, strict=False)
    ]
    while (part := spent.of(config.budget)) < 1:
        span = plan.at(part)
        archs = span.sampler.archs(spent.steps)
        spent.macs += config.batch * (PASSES * sum(cost(arch) for arch in archs) + teachers[span.number])
        spent.steps += 1
    return spent


class Budgets:
    """Budgets of a study's arms for one space and number of classes, paired by seed."""

    def __init__(self, study: Study, space: SearchSpace, classes: int, steps: int) -> None:
        """steps: of the baseline."""
        self._study, self._space, self._classes, self._steps = study, space, classes, steps
        self._count = lru_cache(maxsize=None)(self._counted)

    def config(self, arm: Arm, seed: int) -> TrainConfig:
        """The run of an arm with its budget."""
        return self._study.config(arm, seed, self._budget(arm, seed))

    def spent(self, arm: Arm, seed: int) -> Spent:
        """What that run takes."""
        return self._count(arm.name, seed)

    def macs(self, arm: Arm, seed: int) -> int:
        """Multiply-accumulates of that run; of a run with a budget in them that budget, which saves the counting."""
        wanted = self._budget(arm, seed).macs
        return self.spent(arm, seed).macs if wanted is None else round(wanted)

    def _counted(self, name: str, seed: int) -> Spent:
        return count(self.config(self._study.arm(name), seed), self._space, self._classes)

    def _budget(self, arm: Arm, seed: int) -> Budget:
        if arm.budget == "steps":
            return Budget(steps=self._steps)
        if arm.budget == "macs":
            return Budget(macs=self._count(self._study.baseline.name, seed).macs)
        return Budget(steps=self._count(arm.budget, seed).steps)
