"""Where independent pieces of work are done: here, in processes, or on a Ray cluster. Results come in order."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from h4hc.errors import IntegrityError, LimitError, MissingToolError, UserError
from nas.search.sealed import search_sha256

A = TypeVar("A")
B = TypeVar("B")


class Workers(Protocol):
    """Something that does the same to many things; the result must not depend on where."""

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """work(item) for each item, in order. Raises what `work` raises."""
        ...


@contextlib.contextmanager
def workers_of(jobs: int | None, ray: bool, gpus: int = 0) -> Iterator[Workers]:
    """This process (jobs None or 1), `jobs` processes, or Ray, there `jobs` (None: all) cores of a Ray of our own.

    Raises what entering Ray raises.
    """
    if not ray:
        yield Processes(jobs or 1)
        return
    from h4hc.api import cores

    with Ray(jobs or cores(), gpus) as workers:
        yield workers


class Serial:
    """One after the other, here."""

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers."""
        return map(work, items)


class Processes:
    """In `jobs` processes of this machine, spawned anew for each map; they end with it, however it ends."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers. Raises LimitError when a process dies."""
        from h4hc.api import in_processes

        if self.jobs < 2 or len(items) < 2:
            yield from map(work, items)
            return
        # Once a process and as bytes: torch would hand tensors over in shared memory, which containers have little of.
        setup = functools.partial(_keep, pickle.dumps(work))
        done: dict[int, B] = {}
        following = 0
        with contextlib.closing(in_processes(_kept, items, min(self.jobs, len(items)), setup)) as answers:
            for index, answer in answers:
                done[index] = answer
                while following in done:
                    yield done.pop(following)
                    following += 1


_work: list[Callable[[Any], Any]] = []  # of a worker process


def _keep(work: bytes) -> None:
    _work[:] = [pickle.loads(work)]


def _kept(item: Any) -> Any:
    return _work[0](item)


class Ray:
    """On the cluster that $RAY_ADDRESS names, else on a Ray of `jobs` cores started here. A context manager.

    gpus: of each piece of work. Entering raises MissingToolError without Ray, UserError where no cluster answers. The
    nodes of a cluster need the same h4hc, which is checked.
    """

    def __init__(self, jobs: int, gpus: int = 0) -> None:
        self.jobs, self.gpus = jobs, gpus
        self._ray: Any = None
        self._ours = False

    def __enter__(self) -> Ray:
        import logging

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports to its makers
        try:
            import ray
        except ImportError as error:
            raise MissingToolError("Ray is not installed", hint="pip install 'h4hc[ray]', or use --jobs") from error
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            address = os.environ.get("RAY_ADDRESS")
            here: dict[str, Any] = {} if address else {"num_cpus": self.jobs}
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
            except (ConnectionError, ValueError, RuntimeError) as error:
                why, hint = str(error).partition("\n")[0], "mend $RAY_ADDRESS, or unset it to start a Ray here"
                raise UserError(f"no Ray cluster answers at {address}", ("$RAY_ADDRESS",), why, hint) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()
        self._ray = None

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
        """See Workers. Raises LimitError when the cluster loses a piece, IntegrityError where a node differs."""
        ray = self._ray
        shared = ray.put(work)  # one copy a node: it may hold a supernet
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus)(_call)
        waiting = [remote.remote(shared, item) for item in items]
        for reference in waiting:
            try:
                program, answer = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                why = str(error).splitlines()[0]
                raise LimitError(
                    "Ray lost a piece of work", why=why, hint="run it again; what is known is kept"
                ) from error
            if program != search_sha256():
                hint = "install the same h4hc, and the same libraries, everywhere"
                raise IntegrityError("a node of the Ray cluster runs another h4hc, or other libraries", hint=hint)
            yield answer


def _call(work: Callable[[A], B], item: A) -> tuple[str, B]:
    return search_sha256(), work(item)
