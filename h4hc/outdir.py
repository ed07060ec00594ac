"""The output folder: written whole or not at all, and checked against its own manifest.

All files go into a temporary folder beside the output, which takes the output's name in one atomic step at the end.
Whatever goes wrong before, an interrupt included, removes the temporary folder and changes nothing else. A folder
that exists is replaced only if it is empty, or h4hc's own without foreign files in it, or with `force`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from h4hc.errors import H4hcError, LimitError, UserError
from h4hc.manifest import MANIFEST, NAME, FileEntry, Manifest, foreign_names, read_manifest

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ATTEMPTS = 8  # times that another writer may get in between before we give up


class OutputFolder:
    """Context manager: `with OutputFolder(out, ...) as folder: folder.add(name, data, role)`; done at the end.

    Raises UserError for a path that cannot or may not be written, LimitError when the disk is full.
    """

    def __init__(self, out: str | os.PathLike[str], facts: Mapping[str, str], *, force: bool = False) -> None:
        """facts: what the manifest says besides the files (target, target_sha256, model_sha256 ...)."""
        self._shown = os.fspath(out)
        self._out = Path(os.path.realpath(self._shown))
        self._facts = dict(facts)
        self._force = force
        self._entries: dict[str, FileEntry] = {}
        self._temp: Path | None = None

    def __enter__(self) -> Self:
        _check_place(self._out, self._shown)
        _check_replaceable(self._out, self._shown, self._force)
        temp = self._out.with_name(f"{self._out.name}.tmp-{secrets.token_hex(8)}")
        try:
            os.mkdir(temp)
        except OSError as error:
            raise _translate(error, self._shown) from error
        self._temp = temp
        return self

    def add(self, name: str, data: bytes, role: str) -> None:
        """Write one file. `name`: up to two folders and a plain file name; `role`: what the manifest calls it."""
        assert self._temp is not None, "use OutputFolder as a context manager"
        assert NAME.fullmatch(name), f"not a plain relative name: {name!r}"
        assert name not in self._entries, f"{name} is there twice"
        assert name != MANIFEST, "the manifest is written at the end"
        self._write(name, data)
        self._entries[name] = FileEntry(name, len(data), hashlib.sha256(data).hexdigest(), role)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._temp is not None
        try:
            if kind is None:
                files = tuple(self._entries[name] for name in sorted(self._entries))
                self._write(MANIFEST, Manifest.make(files, self._facts).to_json())
                _sync_tree(self._temp)
                self._take_place(self._temp)
        except OSError as problem:
            raise _translate(problem, self._shown) from problem
        finally:
            shutil.rmtree(self._temp, ignore_errors=True)  # the old folder after an exchange, or what was half done

    def _write(self, name: str, data: bytes) -> None:
        assert self._temp is not None
        path = self._temp / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _translate(error, self._shown) from error

    def _take_place(self, temp: Path) -> None:
        """Give the finished folder its name; what had the name before ends up in `temp`."""
        for _ in range(_ATTEMPTS):
            try:
                os.rename(temp, self._out)  # onto nothing, or onto an empty folder
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _check_replaceable(self._out, self._shown, self._force)
            try:
                exchange(temp, self._out)
            except FileNotFoundError:
                continue  # another writer moved it away in between
            try:  # what we took away must be what we may take away, even if it came a moment ago
                _check_replaceable(temp, self._shown, self._force)
            except H4hcError:
                exchange(temp, self._out)
                raise
            break
        else:
            raise UserError(f"{self._shown} keeps changing while it is written", (self._shown,))
        _sync(self._out.parent)


def exchange(one: Path, other: Path) -> None:
    """Swap the names of two folders, atomically where the system can.

    Linux: renameat2(RENAME_EXCHANGE). Elsewhere, or on a file system without it, three renames: a crash between them
    leaves the complete old folder under `<name>.old-...` and the complete new one under its temporary name.
    """
    if _exchange_atomically(one, other):
        return
    aside = other.with_name(f"{other.name}.old-{secrets.token_hex(8)}")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _exchange_atomically(one: Path, other: Path) -> bool:
    """False where the system or the file system has no such call."""
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    at_cwd, rename_exchange = -100, 2  # AT_FDCWD of <fcntl.h>, RENAME_EXCHANGE of <stdio.h>
    if rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), rename_exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))


def check_output(out: str | os.PathLike[str], *, force: bool = False, keep: tuple[Path, ...] = ()) -> None:
    """Raise UserError now, before the work, for a folder that could not be written or replaced at the end.

    keep: files that the run reads, which must not be lost with a folder that is replaced.
    """
    place = Path(os.path.realpath(out))
    _check_place(place, os.fspath(out))
    lost = [path for path in keep if place in Path(os.path.realpath(path)).parents]
    if lost:
        why = "replacing the folder would delete what it is made from"
        raise UserError(f"{out} holds {lost[0]}", (str(lost[0]),), why, "name another folder: -o out")
    _check_replaceable(place, os.fspath(out), force)


def _check_place(out: Path, shown: str) -> None:
    """The parent must be a folder; the output must not be, or hold, what everything else stands on."""
    parent = out.parent
    if not parent.exists():
        raise UserError(f"cannot write {shown}", (shown,), f"there is no folder {parent}", f"mkdir -p {parent}")
    if not parent.is_dir():
        raise UserError(f"cannot write {shown}", (shown,), f"{parent} is not a folder")
    holds = [p for p in (Path.cwd(), Path(os.path.realpath(Path.home()))) if p == out or out in p.parents]
    if holds or out == parent:
        why = f"{holds[0]} is in it" if holds else "it is the root of the file system"
        raise UserError(f"{shown} cannot be an output folder", (shown,), why, "name a folder of its own: -o out")


def _check_replaceable(out: Path, shown: str, force: bool) -> None:
    """Raise UserError unless `out` is missing, an empty folder, h4hc's own and nothing else's, or given up by force."""
    try:
        mode = os.lstat(out).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _translate(error, shown) from error
    if not stat.S_ISDIR(mode):
        raise UserError(f"cannot write {shown}", (shown,), "it is not a folder", "choose another name with -o")
    if force:
        return
    try:
        if not any(out.iterdir()):
            return
        foreign = foreign_names(out, read_manifest(out)) if (out / MANIFEST).is_file() else None
    except H4hcError:
        foreign = None
    except OSError as error:
        raise _translate(error, shown) from error
    hint = "choose another folder with -o, or give this one up with --force"
    if foreign is None:
        raise UserError(f"{shown} exists and was not made by h4hc", (shown,), f"it has no valid {MANIFEST}", hint)
    if foreign:
        raise UserError(f"{shown} holds files that h4hc did not write", foreign, "they would be lost", hint)


def _sync_tree(root: Path) -> None:
    """Make the names of all files durable; their contents are already."""
    for folder, _, _ in os.walk(root):
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot sync a folder, nor need it
            raise
    finally:
        os.close(handle)


def _translate(error: OSError, shown: str) -> H4hcError:
    """The error a user gets for one of the system's."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        hint = "free some space, or write elsewhere with -o"
        return LimitError(f"no room to write {shown}", (shown,), text, hint)
    return UserError(f"cannot write {shown}", (shown,), text, "choose a folder you may write to with -o")
