"""A study from YAML to tables: kept runs, probes, differences, verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.errors import IntegrityError
from nas.study.command import bench
from nas.study.compare import Document, Progress, document, run_study, tasks
from nas.study.design import Study
from nas.study.panel import GROUPS
from nas.study.run import Run, Runner, train
from nas.study.views import markdown, verdict_text


def _without_time(found: Document) -> str:
    plain = json.loads(json.dumps(found))
    for entry in [*plain["runs"], *(arm for part in plain["sets"] for arm in part["arms"])]:
        del entry["seconds"]
    return json.dumps(plain)


def test_a_study_resumes_and_repeats(study: Callable[..., Study], tmp_path: Path) -> None:
    plan = study()
    seen: list[Progress] = []
    first = run_study(plan, tmp_path / "runs", on_run=seen.append)
    assert [(p.done, p.total, p.kept) for p in seen] == [(k + 1, 6, False) for k in range(6)]
    assert seen[-1].seconds_left == 0
    lost = sorted((tmp_path / "runs").iterdir())[2]
    lost.unlink()
    seen.clear()
    second = run_study(plan, tmp_path / "runs", on_run=seen.append)
    assert [p.kept for p in seen] == [True] * 5 + [False]
    assert _without_time(first) == _without_time(second)


def test_files_and_lines(study: Callable[..., Study], tmp_path: Path) -> None:
    plan = study(seeds=[3], probes={"arms": ["two"], "checkpoints": 2, "draws": 1, "batch": 8})
    lines: list[str] = []
    found = bench(plan, tmp_path / "out", 1, lines.append)
    assert len(lines) == 3
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == found
    rows = (tmp_path / "out" / "runs.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("trial,arm,seed,steps,train_macs,seconds,random_any_percent")
    text = (tmp_path / "out" / "study.md").read_text()
    assert "## digits" in text
    assert "digits, two, seed 3" in text
    assert [line["spent"] for line in found["runs"][1]["cosines"]][::6] == pytest.approx([0.5, 1.0], abs=0.2)


def test_probes_change_nothing(study: Callable[..., Study]) -> None:
    plan = study(seeds=[0], probes={"arms": ["single", "two"], "checkpoints": 3, "draws": 1, "batch": 8})
    for task in tasks(plan)[:2]:
        with_probes, without = train(task), train(replace(task, probes=None))
        assert len(with_probes.cosines) == 3 * 6
        assert with_probes.accuracy == without.accuracy


def test_a_damaged_run_is_told(study: Callable[..., Study], tmp_path: Path) -> None:
    task = tasks(study(seeds=[0]))[0]
    runner = Runner(tmp_path / "runs")
    runner(task)
    (path,) = (tmp_path / "runs").iterdir()
    path.write_text(path.read_text()[:-20])
    with pytest.raises(IntegrityError, match="kept run is damaged"):
        runner(task)


def test_keys_tell_runs_apart(study: Callable[..., Study]) -> None:
    keys = [task.key for task in tasks(study())]
    keys += [task.key for task in tasks(study(train={"batch": 16}))]
    assert len(set(keys)) == 12
    assert keys[:6] == [task.key for task in tasks(study(target={"arm": "longer", "points": 2}))]


def _run(arm: str, seed: int, any_: float, gain: float) -> Run:
    accuracy = {group: [50.0] for group in GROUPS} | {"random_any": [any_ - 1, any_ + 1], "max": [50.0 + gain]}
    return Run("digits", arm, seed, 6, 100, 1.0, accuracy, [])


@pytest.mark.parametrize(
    ("differences", "gains", "verdict"),
    [
        ([2.0, 2.1], [3.0, 3.0], (True, True, True)),
        ([0.2, 0.21], [3.0, 3.0], (False, True, True)),
        ([-5.0, 9.0], [3.0, 3.0], (True, False, True)),
        ([2.0, 2.1], [1.0, 1.5], (True, True, False)),
    ],
)
def test_the_verdict_needs_all_three(
    study: Callable[..., Study], differences: list[float], gains: list[float], verdict: tuple[bool, bool, bool]
) -> None:
    runs = [_run(arm, seed, 60.0, 2.0) for arm in ("single", "longer") for seed in (0, 1)]
    runs += [_run("two", seed, 60 + differences[seed], gains[seed]) for seed in (0, 1)]
    found = document(study(), runs)
    (part,) = found["sets"]
    target = part["target"]
    assert (target["more_than_wanted"], target["above_zero"], target["gain_kept"]) == verdict
    assert target["random_any_points"] == pytest.approx(sum(differences) / 2)
    assert ("reached" in verdict_text(target)) == all(verdict)
    assert verdict_text(target) in markdown(found)
