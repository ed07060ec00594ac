"""pool: (function, questions) -> answers, as they are finished, in several processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from h4hc.errors import LimitError

Question = TypeVar("Question")
Answer = TypeVar("Answer")
PATIENCE_S = 10  # until a process that was asked to end is killed


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    work: Callable[[Question], Answer],
    asked: Sequence[Question],
    jobs: int,
    setup: Callable[[], None] | None = None,
) -> Generator[tuple[int, Answer], None, None]:
    """(position, answer) of each question; close it to end the work. `setup` is called once in each process.

    Whatever ends it early, an interrupt included, ends the processes at once. Raises LimitError when one dies, and
    what `work` raises.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of onnxruntime and HiGHS
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(setup,))
    try:
        with _deaf():  # the processes inherit it: an interrupt is for the parent, which ends them
            waiting = {pool.submit(work, question): index for index, question in enumerate(asked)}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        hint = "use fewer with --jobs; running the same command again goes on where it stopped"
        raise LimitError("a worker process died", why="most often the memory is full", hint=hint) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in (children := set(multiprocessing.active_children()) - before):
            child.terminate()
        for child in children:
            child.join(PATIENCE_S)
            child.kill()  # the work may have taken SIGTERM for its own
            child.join()


def _start(setup: Callable[[], None] | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if setup is not None:
        setup()


def _end_with_parent() -> None:
    """End this process when the parent is gone, however it went: a killed one cannot end its processes itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


# --- interrupts --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that it too ends the processes; once, where this thread may.

    A second one is ignored: it must not stop the first from ending them.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    with _handled(signal.SIGTERM, interrupt):
        yield


def _deaf() -> contextlib.AbstractContextManager[None]:
    """Ignore Ctrl-C for a moment, where this thread may."""
    return _handled(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _handled(number: signal.Signals, handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    """A signal in other hands for a while. Only the main thread may change that: elsewhere it stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, old)
