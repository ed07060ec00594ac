"""workers: (tasks) -> rows, as they are finished: in this process, in several processes, or on Ray."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from h4hc.errors import H4hcError, IntegrityError, LimitError, MissingToolError
from h4hc.sweep.evaluate import Prepared, evaluate_prepared
from h4hc.sweep.row import Point, Row
from h4hc.sweep.tasks import Task, program_sha256

Rows = Generator[tuple[int, Row], None, None]  # positions of tasks with their answers; close it to end the work
_models: dict[str, Prepared] = {}  # of a worker process, by address


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_serial(tasks: Sequence[Task]) -> Rows:
    """One after the other, here."""
    for index, task in enumerate(tasks):
        with _named(task):
            row = _checked(task, evaluate_prepared(task.point, task.prepared))
        yield index, row


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that it too ends the processes; once, where this thread may.

    A second one is ignored: it must not stop the first from ending them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


# --- processes ---------------------------------------------------------------------------------------------


def run_processes(tasks: Sequence[Task], jobs: int) -> Rows:
    """In `jobs` processes; a plan's solver uses one thread, so that a core each is right.

    Whatever ends it early, an interrupt included, ends the processes at once. Raises LimitError when one dies.
    """
    models, addresses = _by_address(tasks)
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of onnxruntime and HiGHS
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(models,))
    try:
        with _deaf():  # the processes inherit it: an interrupt is for the parent, which ends them
            waiting = {
                pool.submit(_work, task.point, address): index
                for index, (task, address) in enumerate(zip(tasks, addresses, strict=True))
            }
        for future in as_completed(waiting):
            index = waiting[future]
            yield index, _result(tasks[index], future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join()


def _by_address(tasks: Sequence[Task]) -> tuple[dict[str, Prepared], list[str]]:
    """The different models of the tasks, and the address of each task's."""
    known: dict[int, str] = {}
    models: dict[str, Prepared] = {}
    for task in tasks:
        address = known.setdefault(id(task.prepared), str(len(known)))
        models[address] = task.prepared
    return models, [known[id(task.prepared)] for task in tasks]


def _start(models: Mapping[str, Prepared]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _models.update(models)


def _end_with_parent() -> None:
    """End this process when the parent is gone, however it went: a killed one cannot end its processes itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _work(point: Point, address: str) -> Row:
    return evaluate_prepared(point, _models[address])


def _result(task: Task, future: Future[Row]) -> Row:
    try:
        with _named(task):
            return _checked(task, future.result())
    except BrokenProcessPool as error:
        hint = "use fewer with --jobs; running the same command again goes on where it stopped"
        raise LimitError("a process of the sweep died", why="most often the memory is full", hint=hint) from error


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C for a moment, where this thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


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
    return program_sha256(), evaluate_prepared(point, prepared)


def _ray_result(ray: Any, task: Task, reference: Any) -> Row:
    with _named(task):
        try:
            program, row = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            hint = "running the same command again goes on where it stopped"
            raise LimitError("Ray lost a task of the sweep", why=str(error).splitlines()[0], hint=hint) from error
    if program != program_sha256():
        hint = "install the same h4hc, and the same libraries, everywhere"
        raise IntegrityError("a node of the Ray cluster runs another h4hc, or other libraries", hint=hint)
    return _checked(task, row)


# --- both --------------------------------------------------------------------------------------------------


def _checked(task: Task, row: Row) -> Row:
    if row.system_sha256 != task.system_sha256:
        hint = "leave target files alone while a sweep runs; on a cluster, give each node the same file"
        raise IntegrityError("a worker read another target", (task.point.target,), hint=hint)
    return row


@contextlib.contextmanager
def _named(task: Task) -> Iterator[None]:
    """Add the point to an error that it raised."""
    try:
        yield
    except H4hcError as error:
        where = (task.point.model, task.point.target, *task.point.sets)
        raise type(error).of(tuple(replace(p, where=(*where, *p.where)) for p in error.problems)) from error
