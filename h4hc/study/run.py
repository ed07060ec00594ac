"""run: (Design) -> the document. Points and correlated bounds go through the sweep's cache and processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.planning.plan_cost import Pair
from h4hc.study.border import border_cost
from h4hc.study.correlated import Corners, correlate
from h4hc.study.design import FULL, Design, Residency, Setting, Trial, cim_sets, trials
from h4hc.study.document import document
from h4hc.study.savings import results
from h4hc.sweep.cache import Cache
from h4hc.sweep.evaluate import Prepared
from h4hc.sweep.pool import in_processes
from h4hc.sweep.progress import OnRow, silent
from h4hc.sweep.row import Point, Row
from h4hc.sweep.run import run_tasks
from h4hc.sweep.tasks import Task, load_systems, make_tasks
from h4hc.system import System

ByObjective = dict[Objective, Corners]
Models = Mapping[str, Prepared]
BOUNDS = "bounds"  # kind of an entry of the cache


def run_study(
    design: Design,
    folder: Path,
    jobs: int = 1,
    log: Callable[[str], None] = lambda line: None,
    on_point: OnRow = silent,
    on_bounds: OnRow = silent,
) -> dict[str, Any]:
    """Run what `folder` does not know yet, in `jobs` processes, and put the document together.

    Raises whatever reading a model or a target raises; InfeasibleError where a baseline has no plan.
    """
    with Cache(folder) as cache:
        models = _models(design, cache, log)
        found = trials(design, lambda model: models[model].workload)
        points = [trial.point for trial in found]
        tasks = make_tasks(points, load_systems(points), lambda point: models[point.model])
        rows = run_tasks(tasks, cache, jobs=jobs, on_row=on_point)
        borders = _borders(design, models)
        results(found, rows, {}, borders)  # a baseline without a plan ends the study here
        corners = _corners(_searches(design, found, tasks, rows, models), cache, jobs, on_bounds)
    workloads = {name: model.workload for name, model in models.items()}
    return document(design, results(found, rows, corners, borders), workloads, systems(design))


def _models(design: Design, cache: Cache, log: Callable[[str], None]) -> dict[str, Prepared]:
    """The models of the study, each prepared once. No target plays a part in that, but a point must name one."""
    found = {}
    for model in design.models:
        log(f"reading {model}")
        found[model] = cache.prepare(Point(model=model, target=design.residencies[0].baseline))
    return found


def systems(design: Design) -> dict[str, System]:
    """The headline system of each residency."""
    from h4hc.target_file import load_system

    return {r.name: load_system(r.target, cim_sets(r, *design.headline)) for r in design.residencies}


def _borders(design: Design, models: Models) -> dict[tuple[str, str], Pair]:
    """What each model spends at its border, on the baseline of each residency."""
    from h4hc.target_file import load_system

    found = {}
    for residency in design.residencies:
        system = load_system(residency.baseline, residency.sets)
        for model in design.models:
            workload = models[model].workload
            found[model, residency.name] = border_cost(workload, cost_table(workload, system))
    return found


# --- correlated bounds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Search:
    """The bounds of one model on one residency, for some objectives. key: address of the answer."""

    model: str
    residency: Residency
    headline: tuple[int, int]
    objectives: tuple[Objective, ...]
    prepared: Prepared
    key: str

    def run(self) -> ByObjective:
        return correlate(self.residency, self.headline, self.objectives, self.prepared)


def _searches(
    design: Design, found: Sequence[Trial], tasks: Sequence[Task], rows: Sequence[Row], models: Models
) -> list[_Search]:
    """One for each model and residency whose headline system is in the grid and has a plan."""
    asked: dict[tuple[str, Residency], dict[Objective, str]] = {}
    bases = {trial.setting: task.key for trial, task in zip(found, tasks, strict=True) if trial.is_baseline}
    for trial, task, row in zip(found, tasks, rows, strict=True):
        if (trial.macros, trial.cus, trial.ablation) == (*design.headline, FULL) and row.feasible:
            setting = trial.setting
            keys = asked.setdefault((setting.model, setting.residency), {})
            keys[setting.objective] = f"{task.key} {bases[setting]}"
    return [
        _Search(model, residency, design.headline, tuple(keys), models[model], _address(keys.values()))
        for (model, residency), keys in asked.items()
    ]


def _address(keys: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(keys)).encode()).hexdigest()


def _corners(searches: Sequence[_Search], cache: Cache, jobs: int, on_bounds: OnRow) -> dict[Setting, Corners]:
    """What the cache knows, and what it does not in `jobs` processes."""
    known = {search.key: answer for search in searches if (answer := _known(search, cache)) is not None}
    before, todo = len(known), [search for search in searches if search.key not in known]
    on_bounds(before, 0, len(todo))
    with contextlib.closing(_answers(todo, min(jobs, len(todo)))) as answers:
        for index, answer in answers:
            known[todo[index].key] = answer
            cache.write(todo[index].key, BOUNDS, _adapter().dump_json(answer, indent=1))
            on_bounds(before, len(known) - before, len(todo))
    return {
        Setting(search.model, search.residency, objective): corners
        for search in searches
        for objective, corners in known[search.key].items()
    }


def _answers(todo: Sequence[_Search], jobs: int) -> Generator[tuple[int, ByObjective], None, None]:
    return in_processes(_Search.run, todo, jobs) if jobs > 1 else ((i, search.run()) for i, search in enumerate(todo))


def _known(search: _Search, cache: Cache) -> ByObjective | None:
    try:
        return dict(_adapter().validate_json(cache.read(search.key, BOUNDS)))
    except (OSError, ValueError):
        return None


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(ByObjective)
