"""Studies as YAML: the shipped one, its modes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from h4hc.errors import UserError
from nas.space.space import SearchSpace
from nas.study.budget import count
from nas.study.compare import tasks
from nas.study.design import Study, load_study

NEEDED = {
    "single", "single-matched", "two-phase", "two-phase-equal-steps", "single-more-steps", "projection",
    "complexity-aware",
}  # fmt: skip


def test_the_shipped_study_has_the_arms_seeds_and_data_of_its_protocol() -> None:
    study = load_study()
    assert {arm.name for arm in study.arms} >= {*NEEDED, study.target.arm}
    assert len(study.seeds) >= 5
    assert {trial.data.name for trial in study.sets} == {"clutter", "glyphs", "relations"}
    assert study.target.points == 1.34
    assert set(study.modes) == {"quick", "smoke"}


def test_a_mode_is_the_same_study_made_shorter() -> None:
    study = load_study()
    quick = study.mode("quick")
    assert quick.arms == study.arms
    assert quick.steps < study.steps
    with pytest.raises(UserError, match="no mode 'slow'"):
        study.mode("slow")


def test_quick_spends_equal_compute() -> None:
    space = SearchSpace.load("tiny")
    planned = [task for task in tasks(load_study().mode("quick")) if task.seed == 0]
    spent = {task.arm: count(task.config, space, 10).macs for task in planned}
    assert spent["two-phase"] == pytest.approx(spent["single"], rel=0.03)  # whole steps
    assert spent["incremental"] == pytest.approx(spent["single"], rel=0.03)


ARM = {"name": "x", "what": "", "train": {"phases": "single"}}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"arms": [ARM, ARM]}, "twice"),
        ({"arms": [ARM, ARM | {"name": "y"}]}, "must have the budget `steps`"),
        ({"target": {"arm": "none", "points": 1}}, "there is no arm 'none'"),
        ({"sets": [{"data": {"name": "digits"}, "arms": ["two"]}]}, "baseline is not compared in 'digits'"),
        ({"sets": [{"data": {"name": "digits"}}] * 2}, "trial 'digits' stands here twice"),
        ({"train": {"batch": 8, "bacth": 9}}, "is no training configuration"),
        ({"probes": {"arms": ["single"], "trials": ["x"]}}, "no trial 'x' to probe"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_faults_are_named(study: Callable[..., Study], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        study(**keys)


def test_the_budget_of_an_arm_may_not_go_round(study: Callable[..., Study]) -> None:
    arms = [{**ARM, "budget": "steps"}, {**ARM, "name": "y", "budget": "z"}, {**ARM, "name": "z", "budget": "y"}]
    with pytest.raises(ValidationError, match=r"budget of 'y'.*budget of 'z'"):
        study(arms=arms, target={"arm": "y", "points": 1})


def test_a_wrong_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nsteps: -3\n")
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert "study.yaml:2" in str(caught.value)
    assert "arms" in str(caught.value)
