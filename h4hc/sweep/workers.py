"""workers: (tasks) -> rows, as they are finished: in this process, in several processes, or on Ray."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from h4hc.errors import H4hcError, IntegrityError, LimitError, MissingToolError
from h4hc.sweep.evaluate import Prepared, evaluate_prepared
from h4hc.sweep.pool import in_processes
from h4hc.sweep.row import Point, Row
from h4hc.sweep.tasks import Task, program_sha256

Rows = Generator[tuple[int, Row], None, None]  # positions of tasks with their answers; close it to end the work
_models: dict[str, Prepared] = {}  # of a worker process, by address


def run_serial(tasks: Sequence[Task]) -> Rows:
    """One after the other, here."""
    for index, task in enumerate(tasks):
        yield index, _checked(task, _row(task.point, task.prepared))


def run_processes(tasks: Sequence[Task], jobs: int) -> Rows:
    """In `jobs` processes; a plan's solver uses one thread, so that a core each is right.

    Whatever ends it early, an interrupt included, ends the processes at once. Raises LimitError when one dies.
    """
    models, addresses = _by_address(tasks)
    asked = [(task.point, address) for task, address in zip(tasks, addresses, strict=True)]
    with contextlib.closing(in_processes(_work, asked, jobs, functools.partial(_keep, models))) as answers:
        for index, row in answers:
            yield index, _checked(tasks[index], row)


def _by_address(tasks: Sequence[Task]) -> tuple[dict[str, Prepared], list[str]]:
    """The different models of the tasks, and the address of each task's: a process gets each model once."""
    known: dict[int, str] = {}
    models: dict[str, Prepared] = {}
    for task in tasks:
        address = known.setdefault(id(task.prepared), str(len(known)))
        models[address] = task.prepared
    return models, [known[id(task.prepared)] for task in tasks]


def _keep(models: Mapping[str, Prepared]) -> None:
    _models.update(models)


def _work(asked: tuple[Point, str]) -> Row:
    point, address = asked
    return _row(point, _models[address])


# --- Ray ---------------------------------------------------------------------------------------------------


def run_ray(tasks: Sequence[Task], jobs: int) -> Rows:
    """On Ray: the cluster that $RAY_ADDRESS names, else one of `jobs` cores started here and ended afterwards.

    Each node needs the same h4hc and, for a target that is a file, that file under the same path; both are checked.
    Raises MissingToolError without Ray, IntegrityError when a node runs other code or reads another target.
    """
    ray = need_ray()
    ours = not ray.is_initialized()
    if ours:
        _start_ray(ray, jobs)
    try:
        models, addresses = _by_address(tasks)
        kept = {address: ray.put(model) for address, model in models.items()}
        work = ray.remote(num_cpus=1)(_ray_work)
        waiting = {
            work.remote(task.point, kept[address]): index
            for index, (task, address) in enumerate(zip(tasks, addresses, strict=True))
        }
        while waiting:
            for done in ray.wait(list(waiting), num_returns=1)[0]:
                index = waiting.pop(done)
                yield index, _ray_result(ray, tasks[index], done)
    finally:
        if ours:
            ray.shutdown()


def need_ray() -> Any:
    """The module ray. Raises MissingToolError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports to its makers
    try:
        import ray
    except ImportError as error:
        raise MissingToolError("Ray is not installed", hint="pip install 'h4hc[ray]', or leave --ray out") from error
    return ray


def _start_ray(ray: Any, jobs: int) -> None:
    import logging

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": jobs}
    ray.init(**quiet, **here)


def _ray_work(point: Point, prepared: Prepared) -> tuple[str, Row]:
    return program_sha256(), _row(point, prepared)


def _ray_result(ray: Any, task: Task, reference: Any) -> Row:
    try:
        program, row = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        hint = "running the same command again goes on where it stopped"
        why = str(error).splitlines()[0]
        raise LimitError("Ray lost a task of the sweep", _where(task.point), why, hint) from error
    if program != program_sha256():
        hint = "install the same h4hc, and the same libraries, everywhere"
        raise IntegrityError("a node of the Ray cluster runs another h4hc, or other libraries", hint=hint)
    return _checked(task, row)


# --- all of them -------------------------------------------------------------------------------------------


def _row(point: Point, prepared: Prepared) -> Row:
    """The answer to a point. An error says which point raised it."""
    try:
        return evaluate_prepared(point, prepared)
    except H4hcError as error:
        where = _where(point)
        raise type(error).of(tuple(replace(p, where=(*where, *p.where)) for p in error.problems)) from error


def _checked(task: Task, row: Row) -> Row:
    if row.system_sha256 != task.system_sha256:
        hint = "leave target files alone while a sweep runs; on a cluster, give each node the same file"
        raise IntegrityError("a worker read another target", _where(task.point), hint=hint)
    return row


def _where(point: Point) -> tuple[str, ...]:
    return point.model, point.target, *point.sets
