"""The folder of a sweep: sweep.csv, sweep.json, plots/, and cache/, from which an interrupted sweep goes on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from h4hc.errors import H4hcError, LimitError, Problem, UserError
from h4hc.sweep.cache import TAG, write_file

CACHE = "cache"
PLOTS = "plots"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def output_problems(out: Path) -> list[Problem]:
    """Why a sweep may not write there: it takes a new or empty folder, or one of an earlier sweep."""
    shown = (str(out),)
    if not out.parent.is_dir():
        return [Problem(f"there is no folder {out.parent}", shown, hint=f"mkdir -p {out.parent}")]
    if out.exists() and not out.is_dir():
        return [Problem(f"{out} is not a folder", shown, hint="choose another name with -o")]
    if out.is_dir() and any(out.iterdir()) and not (out / CACHE / TAG).is_file():
        why = f"it has no {CACHE}/{TAG}"
        return [Problem(f"{out} exists and was not made by h4hc sweep", shown, why, "choose another folder with -o")]
    return []


def write_results(out: Path, files: Mapping[str, bytes], pictures: Mapping[str, bytes]) -> None:
    """Write `files` into the folder, and `pictures` as its plots/, each whole or not at all.

    plots/ is replaced: pictures of an earlier grid go away. Raises UserError, LimitError when the disk is full.
    """
    try:
        for name, data in files.items():
            write_file(out / name, data)
        _replace_plots(out, pictures)
    except OSError as error:
        raise translate(error, out) from error


def translate(error: OSError, out: Path) -> H4hcError:
    """The error a user gets for one of the system's."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        return LimitError(f"no room to write {out}", (str(out),), text, "free some space, then run it again")
    return UserError(f"cannot write {out}", (str(out),), text, "choose a folder you may write to with -o")


def _replace_plots(out: Path, pictures: Mapping[str, bytes]) -> None:
    fresh, final = out / f"{PLOTS}.tmp", out / PLOTS
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    if pictures:
        fresh.mkdir()
        for name, data in pictures.items():
            (fresh / name).write_bytes(data)
    if final.is_dir():
        shutil.rmtree(final)
    if pictures:
        fresh.rename(final)
