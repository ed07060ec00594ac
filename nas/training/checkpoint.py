"""Checkpoints: whole or absent, sealed by hashes, without pickles.

A checkpoint is a folder of safetensors files and `state.json`, which holds the sha256 of each of them and of itself.
It is written beside its place and renamed into it; `last` names the newest. A process killed at any moment leaves
either the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from h4hc.errors import IntegrityError, UserError

FORMAT = 2
STATE, LAST, UNFINISHED, STEP = "state.json", "last", ".unfinished", "step_"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """tensors: file stem -> name -> tensor (`weights`, `optimizer`, ...); state: plain data."""

    tensors: dict[str, Tensors]
    state: dict[str, Any]


def save(folder: Path, step: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint into `folder` and forget all but the newest `keep`. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target, draft = folder / f"{STEP}{step:09d}", folder / UNFINISHED
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    hashes = {}
    for stem, tensors in checkpoint.tensors.items():
        path = draft / f"{stem}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        hashes[path.name] = _sha256(path.read_bytes())
    state = {"format": FORMAT, "step": step, "files": hashes, **checkpoint.state}
    _write(draft / STATE, json.dumps(state | {"seal": _seal(state)}, indent=1))
    for path in draft.iterdir():
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)  # left by a run killed before it could name it in `last`
    draft.rename(target)
    _sync(folder)
    _write(folder / (LAST + UNFINISHED), target.name)
    os.replace(folder / (LAST + UNFINISHED), folder / LAST)
    _sync(folder)
    for old in sorted(folder.glob(f"{STEP}*"))[:-keep]:
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> Path | None:
    """The checkpoint that `last` names; None where none was finished yet. Raises IntegrityError where it is gone."""
    try:
        name = (folder / LAST).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    path = folder / name
    if not name.startswith(STEP) or Path(name).name != name or not path.is_dir():
        others = [p.name for p in sorted(folder.glob(f"{STEP}*"))]
        raise IntegrityError(
            "the newest checkpoint is gone",
            (str(folder / LAST),),
            f"it names {name!r}; there are {', '.join(others) or 'none'}",
            f"write one of them into {LAST}" if others else "train again",
        )
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises IntegrityError, naming every bad file, where anything is missing or was changed."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        seal = state.pop("seal")
        if seal != _seal(state) or state["format"] != FORMAT:
            raise ValueError(f"its seal does not fit, or its format is not {FORMAT}")
        hashes = dict(state["files"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _corrupt(path, (STATE,), str(error)) from error
    bad, tensors = [], {}
    for name, digest in hashes.items():
        try:
            if _sha256((path / name).read_bytes()) != digest:
                raise ValueError("its sha256 is another")
            tensors[Path(name).stem] = load_file(path / name)
        except (OSError, ValueError, safetensors.SafetensorError):
            bad.append(name)
    if bad:
        raise _corrupt(path, tuple(bad), "missing, or its content is not what was written")
    return Checkpoint(tensors, state)


def load_weights(path: Path, averaged: bool = False) -> Tensors:
    """Weights of a checkpoint folder, or of the newest in a folder of checkpoints; averaged: those of the EMA.

    Raises UserError where there is none, IntegrityError where it is damaged.
    """
    found = path if (path / STATE).exists() else newest(path)
    if found is None:
        raise UserError("there is no checkpoint", (str(path),), hint="name the folder `checkpoints` of a run")
    checkpoint = load(found)
    stem = "average" if averaged else "weights"
    if stem not in checkpoint.tensors:
        raise UserError("the run kept no averaged weights", (str(found),), hint="train with ema: 0.999")
    return checkpoint.tensors[stem]


def _corrupt(path: Path, files: tuple[str, ...], why: str) -> IntegrityError:
    siblings = sorted(p.name for p in path.parent.glob(f"{STEP}*") if p != path)
    hint = f"write {siblings[-1]!r} into {path.parent / LAST} to go on from there" if siblings else "train again"
    return IntegrityError(f"the checkpoint {path} is damaged", files, why, hint)


def _seal(state: dict[str, Any]) -> str:
    return _sha256(json.dumps(state, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    """Have the file system keep it, also over a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
