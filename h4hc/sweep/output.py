"""The folder of a sweep: sweep.csv, sweep.json, plots/, and cache/, from which an interrupted sweep goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from h4hc.errors import H4hcError, LimitError, Problem, UserError
from h4hc.sealed import write_whole
from h4hc.sweep.cache import TAG, is_ours

CACHE = "cache"
PLOTS = "plots"
PICTURES = "pictures.txt"  # in the cache: names of the pictures in plots/ that are ours
_PICTURE = re.compile(r"\w[\w.-]*\.(?:png|svg)")  # no folder in it: nothing outside plots/ is ever deleted
RESULTS = {"sweep.json": "h4hc sweep", "study.json": "h4hc study paper"}  # what such a folder may hold, and whose it is
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def output_problems(out: Path, result: str) -> list[Problem]:
    """Why the command of `result` may not write there: it takes a new or empty folder, or one of its own.

    result: of RESULTS. The other's results would stay beside new ones, and its pictures go.
    """
    shown = (str(out),)
    if not out.parent.is_dir():
        return [Problem(f"there is no folder {out.parent}", shown, hint=f"mkdir -p {out.parent}")]
    if out.exists() and not out.is_dir():
        return [Problem(f"{out} is not a folder", shown, hint="choose another name with -o")]
    if out.is_dir() and any(out.iterdir()) and not is_ours(out / CACHE):
        why = f"it has no {CACHE}/{TAG} of h4hc sweep"
        return [Problem(f"{out} exists and was not made by h4hc sweep", shown, why, "choose another folder with -o")]
    others = {name: command for name, command in RESULTS.items() if name != result and (out / name).exists()}
    return [
        Problem(f"{out} holds the results of {command}", shown, f"{name} is there", "choose another folder with -o")
        for name, command in others.items()
    ]


def write_results(out: Path, files: Mapping[str, bytes], pictures: Mapping[str, bytes] | None) -> None:
    """Write `files` into the folder, and `pictures` as its plots/, each whole or not at all.

    Pictures of an earlier grid go away, other files in plots/ stay; None leaves plots/ alone. Raises UserError,
    LimitError when the disk is full.
    """
    try:
        for name, data in files.items():
            write_whole(out / name, data)
        if pictures is not None:
            _replace_plots(out, pictures)
    except OSError as error:
        raise _translated(error, out) from error


@contextlib.contextmanager
def resumable(out: Path, say: Callable[[str], None], kept: Callable[[], str]) -> Iterator[None]:
    """Around a run whose answers go into the cache of `out`: one that is interrupted says what is `kept`.

    Raises UserError, LimitError for errors of the system.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"{kept()}; the same command goes on from there")
        raise
    except OSError as error:
        raise _translated(error, out) from error


def _translated(error: OSError, out: Path) -> H4hcError:
    """The error a user gets for one of the system's."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        return LimitError(f"no room to write {out}", (str(out),), text, "free some space, then run it again")
    return UserError(f"cannot write {out}", (str(out),), text, "choose a folder you may write to with -o")


def _replace_plots(out: Path, pictures: Mapping[str, bytes]) -> None:
    """Write the pictures, and delete those of earlier runs that are not among them: only names that are on record."""
    folder, record = out / PLOTS, out / CACHE / PICTURES
    stale = _recorded(record) - set(pictures)
    if pictures or stale:
        write_whole(record, _lines({*stale, *pictures}))  # before the pictures: a killed run must know its own
    if pictures:
        folder.mkdir(exist_ok=True)
    for name, data in pictures.items():
        write_whole(folder / name, data)
    for name in sorted(stale):
        (folder / name).unlink(missing_ok=True)
    if stale:
        write_whole(record, _lines(pictures))
    if not pictures and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _recorded(record: Path) -> set[str]:
    """Names of the pictures that earlier runs wrote. What is no name of a picture is not believed."""
    if not record.is_file():
        return set()
    lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line for line in lines if _PICTURE.fullmatch(line)}


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()
