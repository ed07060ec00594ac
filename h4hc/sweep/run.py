"""run: (tasks) -> rows in the order of the tasks. What the cache knows is not computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from h4hc.sweep.cache import Cache
from h4hc.sweep.progress import OnRow, silent
from h4hc.sweep.row import Point, Row
from h4hc.sweep.tasks import Task, load_systems, make_tasks
from h4hc.sweep.workers import Rows, run_processes, run_ray, run_serial


def run_points(
    points: Sequence[Point], *, cache: Path | None = None, jobs: int = 1, on_row: OnRow = silent
) -> tuple[Row, ...]:
    """Evaluate points, with the answers kept in the folder `cache`; the same rows for any number of processes.

    jobs > 1 starts processes that import the main module, so that a script needs `if __name__ == "__main__":`.
    Raises: one error with all problems of the targets, the models, or the demands, before anything runs.
    """
    systems = load_systems(points)
    if cache is None:
        return run_tasks(make_tasks(points, systems), None, jobs=jobs, on_row=on_row)
    with Cache(cache) as kept:
        return run_tasks(make_tasks(points, systems, kept.prepare), kept, jobs=jobs, on_row=on_row)


def run_tasks(
    tasks: Sequence[Task],
    cache: Cache | None,
    *,
    jobs: int = 1,
    ray: bool = False,
    on_row: OnRow = silent,
) -> tuple[Row, ...]:
    """Rows of all tasks. Each answer is kept as soon as it is there, so that whatever ends a run loses none.

    Tasks of one address are computed once. on_row is called at the start and after each answer.
    """
    known: dict[str, Row] = {}
    missing: dict[str, Task] = {}
    for task in tasks:
        row = cache.get(task) if cache is not None and task.key not in missing else None
        if row is not None:
            known[task.key] = row
        else:
            missing.setdefault(task.key, task)
    before, todo = len(known), list(missing.values())
    on_row(before, 0, len(todo))
    with contextlib.closing(_run(todo, jobs, ray)) as found:
        for index, row in found:
            known[todo[index].key] = row
            if cache is not None:
                cache.put(todo[index], row)
            on_row(before, len(known) - before, len(todo))
    return tuple(replace(known[task.key], point=task.point) for task in tasks)


def _run(tasks: Sequence[Task], jobs: int, ray: bool) -> Rows:
    if ray and tasks:
        return run_ray(tasks, jobs)
    jobs = min(jobs, len(tasks))
    return run_processes(tasks, jobs) if jobs > 1 else run_serial(tasks)
