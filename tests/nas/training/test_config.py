"""The configuration: defaults that work, every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from h4hc.errors import ExitCode, UserError
from nas.training.config import NAMED_PHASES, SINGLE, TWO_PHASE, TrainConfig
from nas.yaml_file import read_model


def test_named_phases() -> None:
    assert TrainConfig().phases == TWO_PHASE
    assert TrainConfig.model_validate({"phases": "single"}).phases == SINGLE
    for phases in NAMED_PHASES.values():
        assert TrainConfig(phases=phases).phases == phases


def test_a_configuration_survives_json() -> None:
    config = TrainConfig.model_validate({"phases": "two-phase", "sampling": {"nets": ["max", {"take": "random"}]}})
    assert TrainConfig.model_validate_json(config.model_dump_json(exclude_unset=True)) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stpes": 5}, "Extra inputs"),
        ({"budget": {"steps": 5, "minutes": 1}}, "one of steps, minutes, macs"),
        ({"budget": {}}, "one of steps, minutes, macs"),
        ({"phases": []}, "at least 1 item"),
        ({"phases": "three"}, "named phases: single, two-phase"),
        ({"phases": [{"name": "a", "share": 0.5}]}, "sum to 0.5"),
        ({"phases": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.5}]}, "must differ"),
        ({"phases": [{"name": "a", "share": 1, "teacher": {}}]}, "no phase before"),
        ({"phases": [{"name": "a", "share": 1, "lr": {"conv": {"cycle": "b"}}}]}, "'b', not one of a, phase, run"),
        ({"phases": [{"name": "a", "share": 1, "lr": {"dense": {}}}]}, "conv"),
        ({"conflict": "pcgrad", "sampling": {"nets": ["random"]}, "phases": "single"}, "two networks"),
        ({"sampling": {"nets": ["biggest"]}}, "max"),
        ({"budget": {"macs": float("inf")}}, "finite"),
        ({"optimizer": {"lr": float("inf")}}, "finite"),
        ({"distillation": {"alpha_low": float("nan")}}, "finite"),
        ({"phases": [{"name": "a", "share": 1, "freeze": ["conv", "attention", "shared"]}]}, "freezes everything"),
    ],
)
def test_faults_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(keys)


def test_a_wrong_key_in_a_file_is_a_user_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("batch: 8\noptimizer:\n  lr: 0.1\n  momentun: 0.9\nbudget: {steps: 0}\n")
    with pytest.raises(UserError) as caught:
        read_model(path, TrainConfig)
    assert caught.value.exit_code == ExitCode.USAGE
    text = str(caught.value)
    assert "optimizer.momentun" in text
    assert "train.yaml:4" in text
    assert "budget.steps" in text
