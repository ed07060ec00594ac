"""manifest.json of an output folder: what is in it, with hashes, and where it came from; and the check against it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h4hc
from h4hc.errors import IntegrityError, Problem, UserError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
FORMAT = "h4hc-output"
MANIFEST_LIMIT_BYTES = 4 * 2**20  # about 20,000 files
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,2}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**20
_HINT = "compile the model again; do not edit the files of an output folder"


@dataclass(frozen=True)
class FileEntry:
    """One file: its name relative to the folder, size, SHA-256 and role."""

    path: str
    size_bytes: int
    sha256: str
    role: str


@dataclass(frozen=True)
class Manifest:
    """The files, sorted by name, and the facts: target, target_sha256, model_sha256 and what else was given."""

    schema_version: int
    h4hc_version: str
    facts: dict[str, str]
    files: tuple[FileEntry, ...]

    @staticmethod
    def make(files: tuple[FileEntry, ...], facts: Mapping[str, str]) -> Manifest:
        """A manifest of this version of h4hc."""
        return Manifest(SCHEMA_VERSION, h4hc.__version__, dict(facts), files)

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, ASCII, one trailing line feed; no date, no absolute path."""
        tree = {
            "format": FORMAT,
            "schema_version": self.schema_version,
            "h4hc_version": self.h4hc_version,
            **self.facts,
            "files": [{"path": f.path, "bytes": f.size_bytes, "sha256": f.sha256, "role": f.role} for f in self.files],
        }
        return (json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`. Raises IntegrityError; UserError for a folder that holds nothing at all."""
    path = folder / MANIFEST
    if folder.is_dir() and not any(folder.iterdir()):
        raise UserError("the folder is empty", (str(folder),), hint="give the folder that `h4hc compile -o` wrote")
    try:
        data = _read(path, MANIFEST_LIMIT_BYTES)
    except OSError as error:
        why = f"{MANIFEST}: {os.strerror(error.errno) if error.errno else error}"
        raise IntegrityError(f"{folder} is no output folder of h4hc", (MANIFEST,), why) from error
    try:
        return _parse(json.loads(data.decode("utf-8")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise IntegrityError(f"{MANIFEST} of {folder} is damaged", (MANIFEST,), why, _HINT) from error


def _read(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes, never through a link. Raises OSError, IntegrityError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IntegrityError(f"{path.name} is not a regular file", (path.name,))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise IntegrityError(f"{path.name} is larger than it may be", (path.name,), f"limit {limit} bytes", _HINT)
    return data


def _parse(tree: Any) -> Manifest:
    """Raises ValueError, KeyError or TypeError for anything that `to_json` does not write."""
    if tree["format"] != FORMAT:
        raise ValueError(f"format is {tree['format']!r}, not {FORMAT!r}")
    if tree["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {tree['schema_version']!r}; this h4hc reads {SCHEMA_VERSION}")
    files = tuple(_parse_file(item) for item in tree["files"])
    names = [f.path for f in files]
    if names != sorted(set(names)):
        raise ValueError("the files are not sorted, or one is there twice")
    known = {"format", "schema_version", "h4hc_version", "files"}
    facts = {key: value for key, value in tree.items() if key not in known}
    if any(not isinstance(value, str) for value in (tree["h4hc_version"], *facts.values())):
        raise ValueError("a fact is not a text")
    return Manifest(SCHEMA_VERSION, tree["h4hc_version"], facts, files)


def _parse_file(item: Any) -> FileEntry:
    path, size, digest, role = item["path"], item["bytes"], item["sha256"], item["role"]
    if not NAME.fullmatch(path) or path == MANIFEST:
        raise ValueError(f"{path!r} is no name of an output file")
    if type(size) is not int or size < 0 or not _HASH.fullmatch(digest) or not isinstance(role, str):
        raise ValueError(f"size, hash or role of {path!r} is malformed")
    return FileEntry(path, size, digest, role)


def foreign_names(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Everything in `folder` that the manifest does not account for: files, links, folders; sorted."""
    known = {f.path for f in manifest.files} | {MANIFEST}
    homes = {parent.as_posix() for name in known for parent in Path(name).parents}
    found = []
    for root, folders, files in os.walk(folder):
        base = Path(root).relative_to(folder)
        for name in (*folders, *files):
            path = (base / name).as_posix()
            is_folder = name in folders and not (Path(root) / name).is_symlink()
            if path not in (homes if is_folder else known):
                found.append(path)
        folders[:] = [name for name in folders if (base / name).as_posix() in homes]
    return tuple(sorted(found))


def check_folder(folder: str | os.PathLike[str]) -> Manifest:
    """Compare every file with the manifest.

    Returns the manifest. Raises IntegrityError naming every file that is changed, missing, not a regular file, or
    foreign.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    problems = [p for entry in manifest.files if (p := _check_file(root, entry)) is not None]
    problems += [
        Problem(f"{name} does not belong to the output", (name,), f"{MANIFEST} does not list it", "move it elsewhere")
        for name in foreign_names(root, manifest)
    ]
    if problems:
        raise IntegrityError.of(tuple(problems))
    return manifest


def _check_file(root: Path, entry: FileEntry) -> Problem | None:
    digest, size = hashlib.sha256(), 0
    try:
        handle = _open_inside(root, entry.path)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return Problem(f"{entry.path} is not a regular file", (entry.path,), hint=_HINT)
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                digest.update(chunk)
    except FileNotFoundError:
        return Problem(f"{entry.path} is missing", (entry.path,), f"{MANIFEST} lists it", _HINT)
    except OSError as error:
        return Problem(f"{entry.path} cannot be read", (entry.path,), str(error.strerror), _HINT)
    if size != entry.size_bytes or digest.hexdigest() != entry.sha256:
        why = f"{size} bytes, SHA-256 {digest.hexdigest()[:16]}..., manifest: {entry.size_bytes} bytes, "
        return Problem(f"{entry.path} has changed", (entry.path,), f"{why}{entry.sha256[:16]}...", _HINT)
    return None


def _open_inside(root: Path, name: str) -> int:
    """Open a file below `root` without following a link in any part of `name`."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *folders, last = name.split("/")
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def read_checked(folder: str | os.PathLike[str], entry: FileEntry) -> bytes:
    """The bytes of one file, hashed as they are used: what was checked is what is read. Raises IntegrityError."""
    problem: Problem | None = None
    try:
        with os.fdopen(_open_inside(Path(folder), entry.path), "rb") as file:
            data = file.read(entry.size_bytes + 1)
    except OSError as error:
        problem = Problem(f"{entry.path} cannot be read", (entry.path,), str(error.strerror), _HINT)
    else:
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return data
        problem = Problem(f"{entry.path} has changed", (entry.path,), "its SHA-256 is not the manifest's", _HINT)
    raise IntegrityError.of((problem,))
