"""Where independent pieces of work are done: here, in processes, or on a Ray cluster. Results come in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from h4hc.errors import LimitError, MissingToolError

A = TypeVar("A")
B = TypeVar("B")


class Workers(Protocol):
    """Something that does the same to many things; the result must not depend on where."""

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """work(item) for each item, in order. Raises what `work` raises."""
        ...


class Serial:
    """One after the other, here."""

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers."""
        return map(work, items)


class Processes:
    """In `jobs` processes of this machine, spawned anew for each map."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers. Raises LimitError when a process dies."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        if self.jobs < 2 or len(items) < 2:
            yield from map(work, items)
            return
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of onnxruntime and torch
        pool = ProcessPoolExecutor(min(self.jobs, len(items)), mp_context=context)
        try:
            yield from pool.map(work, items)
        except BrokenProcessPool as error:
            raise LimitError("a worker process died", why="most often the memory is full", hint="use fewer") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Ray:
    """On the cluster that $RAY_ADDRESS names, else on a Ray of `jobs` cores started here. A context manager.

    Entering raises MissingToolError without Ray. A cluster's nodes need the same h4hc.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._ray: Any = None
        self._ours = False

    def __enter__(self) -> Ray:
        import logging

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports to its makers
        try:
            import ray
        except ImportError as error:
            raise MissingToolError("Ray is not installed", hint="pip install 'h4hc[ray]', or use processes") from error
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            here: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.jobs}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()
        self._ray = None

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers. Raises LimitError when the cluster loses a piece."""
        ray = self._ray
        shared = ray.put(work)  # one copy a node: it may hold a supernet
        remote = ray.remote(num_cpus=1)(_call)
        waiting = [remote.remote(shared, item) for item in items]
        for reference in waiting:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                why = str(error).splitlines()[0]
                raise LimitError(
                    "Ray lost a piece of work", why=why, hint="run it again; what is known is kept"
                ) from error


def _call(work: Callable[[A], B], item: A) -> B:
    return work(item)
