"""What runs cost by counting is what the trainer spends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nas.data.config import DataConfig
from nas.data.registry import load_data
from nas.space.space import SearchSpace
from nas.study.budget import Budgets, count
from nas.study.design import Study
from nas.supernet.supernet import Supernet
from nas.training.config import TrainConfig
from nas.training.trainer import Trainer

CONV = {"name": "conv", "share": 0.4, "allowed": {"*.attention_depth": [0]}}
SHAPES: list[dict[str, Any]] = [
    {"phases": "single"},
    {"phases": "two-phase"},
    {"phases": "single", "sampling": {"nets": ["max", "random"], "bands": 3}},
    {"phases": [CONV, {"name": "all", "share": 0.6, "teacher": {}, "sampling": {"nets": ["max"]}}]},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [{"steps": 7}, {"macs": 4e7}])
def test_counting_equals_training(study: Callable[..., Study], shape: dict[str, Any], budget: dict[str, Any]) -> None:
    space = SearchSpace.load(study().space)
    data = load_data(DataConfig(name="digits", resolution=8))
    config = TrainConfig.model_validate({"batch": 8, "seed": 5, "budget": budget, "device": "cpu"} | shape)
    counted = count(config, space, data.classes)
    result = Trainer(Supernet(space, data.classes), data, config).fit()
    assert (counted.steps, counted.macs) == (result.steps, result.train_macs)


def test_minutes_cannot_be_counted(study: Callable[..., Study]) -> None:
    space = SearchSpace.load(study().space)
    with pytest.raises(ValueError, match="minutes"):
        count(TrainConfig.model_validate({"budget": {"minutes": 1}}), space, 10)


def test_budgets_are_paired_by_seed(study: Callable[..., Study]) -> None:
    plan = study()
    budgets = Budgets(plan, SearchSpace.load(plan.space), 10, 60)
    single, two, longer = plan.arms
    for seed in plan.seeds:
        spent = {arm.name: budgets.spent(arm, seed) for arm in plan.arms}
        assert spent["single"].steps == 60
        step = spent["single"].macs / 60
        assert spent["single"].macs <= spent["two"].macs < spent["single"].macs + 3 * step  # the last step overshoots
        assert spent["two"].steps > 60
        assert spent["longer"].steps == spent["two"].steps
        assert budgets.macs(two, seed) == budgets.macs(single, seed) == spent["single"].macs
        assert budgets.macs(longer, seed) == spent["longer"].macs
    assert budgets.config(two, 0).budget.macs == budgets.spent(single, 0).macs
    assert budgets.spent(longer, 0).macs != budgets.spent(longer, 1).macs
