"""run: (Design) -> the document. Points go through the sweep's cache; correlated bounds have their own files there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.errors import LimitError
from h4hc.planning.plan_cost import Pair
from h4hc.study.border import border_cost
from h4hc.study.correlated import Corners, correlate
from h4hc.study.design import FULL, Design, Residency, Setting, Trial, cim_sets, trials
from h4hc.study.document import document
from h4hc.study.savings import results
from h4hc.sweep.cache import Cache, write_file
from h4hc.sweep.evaluate import Prepared, prepare
from h4hc.sweep.row import Point, Row
from h4hc.sweep.run import OnRow, run_tasks
from h4hc.sweep.tasks import Task, load_systems, make_tasks
from h4hc.system import System

ByObjective = dict[Objective, Corners]


def silent(*counts: int) -> None:
    """Shows nothing."""


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
    found = trials(design, lambda model: _prepared(model, design).workload)
    points = [trial.point for trial in found]
    tasks = make_tasks(points, load_systems(points), log=log)
    with Cache(folder) as cache:
        rows = run_tasks(tasks, cache, jobs=jobs, on_row=on_point)
        borders = _borders(design)
        results(found, rows, {}, borders)  # a baseline without a plan ends the study here
        corners = _corners(design, found, tasks, rows, folder, jobs, on_bounds)
    workloads = {model: _prepared(model, design).workload for model in design.models}
    return document(design, results(found, rows, corners, borders), workloads, systems(design))


def systems(design: Design) -> dict[str, System]:
    """The headline system of each residency."""
    from h4hc.target_file import load_system

    return {r.name: load_system(r.target, cim_sets(r, *design.headline)) for r in design.residencies}


def _borders(design: Design) -> dict[tuple[str, str], Pair]:
    """What each model spends at its border, on the baseline of each residency."""
    from h4hc.target_file import load_system

    found = {}
    for residency in design.residencies:
        system = load_system(residency.baseline, residency.sets)
        for model in design.models:
            workload = _prepared(model, design).workload
            found[model, residency.name] = border_cost(workload, cost_table(workload, system))
    return found


def _prepared(model: str, design: Design) -> Prepared:
    return prepare(Point(model=model, target=design.residencies[0].baseline))


# --- correlated bounds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Search:
    """The bounds of one model on one residency, for all objectives, and the file that keeps them."""

    model: str
    residency: Residency
    headline: tuple[int, int]
    objectives: tuple[Objective, ...]
    prepared: Prepared
    file: Path

    def run(self) -> ByObjective:
        return correlate(self.residency, self.headline, self.objectives, self.prepared)

    def known(self) -> ByObjective | None:
        """What the file holds; None if it cannot be read."""
        try:
            return dict(_adapter().validate_json(self.file.read_bytes()))
        except (OSError, ValueError):
            return None


def _corners(
    design: Design,
    found: Sequence[Trial],
    tasks: Sequence[Task],
    rows: Sequence[Row],
    folder: Path,
    jobs: int,
    on_bounds: OnRow,
) -> dict[Setting, Corners]:
    """Bounds of the settings whose headline system is in the grid and has a plan."""
    groups: dict[tuple[str, Residency], list[tuple[Objective, str]]] = {}
    bases = {trial.setting: task.key for trial, task in zip(found, tasks, strict=True) if trial.is_baseline}
    for trial, task, row in zip(found, tasks, rows, strict=True):
        if (trial.macros, trial.cus, trial.ablation) == (*design.headline, FULL) and row.feasible:
            setting = trial.setting
            key = f"{task.key} {bases[setting]}"
            groups.setdefault((setting.model, setting.residency), []).append((setting.objective, key))
    todo, done = [], {}
    for (model, residency), asked in groups.items():
        address = hashlib.sha256(json.dumps([key for _, key in asked]).encode()).hexdigest()
        objectives = tuple(objective for objective, _ in asked)
        file = folder / f"bounds-{address}.json"
        search = _Search(model, residency, design.headline, objectives, _prepared(model, design), file)
        known = search.known()
        if known is None:
            todo.append(search)
        else:
            done[search.model, search.residency] = known
    before = len(done)
    on_bounds(before, 0, len(todo))
    with contextlib.closing(_run(todo, jobs)) as answers:
        for search, answer in answers:
            write_file(search.file, _adapter().dump_json(answer, indent=1))
            done[search.model, search.residency] = answer
            on_bounds(before, len(done) - before, len(todo))
    return {Setting(m, r, o): corners for (m, r), answer in done.items() for o, corners in answer.items()}


def _run(todo: Sequence[_Search], jobs: int) -> Generator[tuple[_Search, ByObjective], None, None]:
    if min(jobs, len(todo)) <= 1:
        for search in todo:
            yield search, search.run()
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of onnxruntime and HiGHS
    # an interrupt is for this process, which ends the others
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        waiting = {pool.submit(search.run): search for search in todo}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        hint = "use fewer with --jobs; running the same command again goes on where it stopped"
        raise LimitError("a process of the study died", why="most often the memory is full", hint=hint) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join()


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(ByObjective)
