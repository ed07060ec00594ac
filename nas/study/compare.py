"""A whole study: tasks, runs in processes, and the document that every view is rendered from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas.data.config import DataConfig
from nas.data.registry import load_data
from nas.search.workers import Serial, Workers
from nas.space.space import SearchSpace
from nas.study.budget import Budgets
from nas.study.design import Study, Trial
from nas.study.panel import GROUPS, make_panel
from nas.study.run import Run, Runner, Task
from nas.study.statistics import Paired, average, deviation, paired

MEASURES = (*GROUPS, "attention_gain")
FORMAT = 1
Document = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """A run has ended. seconds_left: by the multiply-accumulates still to do, None before the first new run."""

    done: int
    total: int
    run: Run
    kept: bool
    seconds_left: float | None


def tasks(study: Study) -> list[Task]:
    """Every run of a study, data set by data set, seed by seed, so that what is done first can be compared.

    Raises UserError for a space without phases by block type and for data that does not exist.
    """
    space = SearchSpace.load(study.space)
    make_panel(space)
    shared = lru_cache(maxsize=None)(lambda classes, steps: Budgets(study, space, classes, steps))
    return [
        task
        for trial in study.sets
        for task in _tasks(study, trial, shared(_classes(trial.data), trial.steps or study.steps))
    ]


def _classes(config: DataConfig) -> int:
    return load_data(config.model_copy(update={"train": 20, "val": 20, "test": 20})).classes


def _tasks(study: Study, trial: Trial, budgets: Budgets) -> list[Task]:
    found = []
    for seed in study.seeds_on(trial):
        for arm in study.arms_on(trial):
            config, macs = budgets.config(arm, seed), budgets.macs(arm, seed)
            probes = study.probes_of(trial, arm.name, seed)
            found.append(
                Task(trial.title, arm.name, seed, study.space, trial.data, config, arm.layer_scale, probes, macs)
            )
    return found


def run_study(
    study: Study,
    folder: Path | None = None,
    workers: Workers | None = None,
    on_run: Callable[[Progress], None] = lambda progress: None,
) -> Document:
    """Do all runs, those in `folder` (which keeps each) not again, and compare them."""
    runner, todo = Runner(folder), tasks(study)
    kept = {index: run for index, task in enumerate(todo) if (run := runner.kept(task))}
    new = [index for index in range(len(todo)) if index not in kept]
    for number, run in enumerate(kept.values(), 1):
        on_run(Progress(number, len(todo), run, True, None))
    begin, total, spent = time.perf_counter(), sum(todo[index].macs for index in new), 0
    results = (workers or Serial()).map(runner, [todo[index] for index in new])
    for number, (index, run) in enumerate(zip(new, results, strict=True), len(kept) + 1):
        kept[index] = run
        spent += todo[index].macs
        left = (time.perf_counter() - begin) * (total - spent) / spent
        on_run(Progress(number, len(todo), run, False, left))
    return document(study, [kept[index] for index in range(len(todo))])


def document(study: Study, runs: Sequence[Run]) -> Document:
    """All figures as plain data. Accuracies in percent, differences in points."""
    return {
        "format": FORMAT,
        "study": study.model_dump(mode="json"),
        "sets": [_set(study, trial, [run for run in runs if run.trial == trial.title]) for trial in study.sets],
        "runs": [asdict(run) | {"measures": run.measures()} for run in runs],
    }


def _set(study: Study, trial: Trial, runs: list[Run]) -> Document:
    by_arm = {arm.name: [run for run in runs if run.arm == arm.name] for arm in study.arms_on(trial)}
    base = by_arm[study.baseline.name]
    target = study.target.arm
    return {
        "trial": trial.title,
        "seeds": list(study.seeds_on(trial)),
        "arms": [_arm(name, own) for name, own in by_arm.items()],
        "against_baseline": [_against(name, base, own) for name, own in by_arm.items() if own is not base],
        "target": _verdict(study, base, by_arm[target]) if target in by_arm and trial.seeds is None else None,
    }


def _arm(name: str, runs: list[Run]) -> Document:
    values = {measure: [run.measures()[measure] for run in runs] for measure in MEASURES}
    return {
        "arm": name,
        "seeds": len(runs),
        "steps": average([run.steps for run in runs]),
        "train_macs": average([run.train_macs for run in runs]),
        "seconds": average([run.seconds for run in runs]),
        "mean": {measure: average(v) for measure, v in values.items()},
        "deviation": {measure: deviation(v) for measure, v in values.items()},
    }


def _differences(base: list[Run], runs: list[Run]) -> dict[str, Paired]:
    return {
        measure: paired([run.measures()[measure] for run in base], [run.measures()[measure] for run in runs])
        for measure in MEASURES
    }


def _against(name: str, base: list[Run], runs: list[Run]) -> Document:
    found = _differences(base, runs)
    return {"arm": name, "difference": {m: asdict(p) | {"measurable": p.measurable} for m, p in found.items()}}


def _verdict(study: Study, base: list[Run], runs: list[Run]) -> Document:
    """Each condition of the target by itself, and the figures it was decided by."""
    found = _differences(base, runs)
    any_, gain = found["random_any"], found["attention_gain"]
    return {
        "arm": study.target.arm,
        "points_wanted": study.target.points,
        "random_any_points": any_.mean,
        "more_than_wanted": any_.mean > study.target.points,
        "above_zero": any_.low is not None and any_.low > 0,
        "attention_gain_points": gain.mean,
        "gain_kept": gain.mean >= 0,
    }
