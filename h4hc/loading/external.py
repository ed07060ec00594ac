"""External data: weights in files beside the model, read without following anything out of that folder.

Every component of the path is opened by itself, relative to the one before, with O_NOFOLLOW; the file must be regular
and have one hard link; the bytes are read (not mapped) through the same descriptor that was checked, so that nothing
can be exchanged in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings, shown
from h4hc.units import MIB, format_bytes

if TYPE_CHECKING:
    import onnx

_KEYS = ("location", "offset", "length", "checksum")  # onnxruntime refuses any other
_ADDRESS_MARKER = "_ORT_MEM_ADDR_"  # onnxruntime reads the "offset" behind it as a pointer into its own memory
_HINT = "keep the data in a plain file beside the model, or save the model with the data inside"


class _Refused(Exception):
    """Why an external file is not read; private to this file."""


class ExternalFiles:
    """Reads external data below one folder. A context manager: holds the folder and the last file open."""

    def __init__(self, folder: Path | None, limits: Limits, findings: Findings) -> None:
        self._folder = folder
        self._limits = limits
        self._findings = findings
        self._root = -1
        self._open: tuple[str, int, int] | None = None  # location, descriptor, size
        self._sha1: dict[str, str] = {}

    def __enter__(self) -> ExternalFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_file()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def refuse_address_marker(self, tensor: onnx.TensorProto, where: str) -> None:
        """Note a tensor that points into memory, wherever its data is said to be."""
        for entry in tensor.external_data:
            if _ADDRESS_MARKER in entry.value:
                self._findings.add(
                    "a tensor points into the memory of the process",
                    (where,),
                    f"external data {shown(entry.key)} = {shown(entry.value)}",
                    "a file must not hold such a marker",
                )

    def embed(self, tensor: onnx.TensorProto, size: int, where: str) -> None:
        """Read the `size` bytes of an external tensor and store them inside; a finding when that is not allowed."""
        try:
            data = self._read(tensor, size)
        except _Refused as error:
            self._findings.add("external data cannot be used", (where,), str(error), _HINT)
            return
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = data

    def _read(self, tensor: onnx.TensorProto, size: int) -> bytes:
        entries = self._entries(tensor)
        location = entries.get("location", "")
        descriptor, available = self._file(location)
        offset, length = self._number(entries, "offset", 0), self._number(entries, "length", size)
        if offset + length > available:
            raise _Refused(f"{shown(location)!r}: offset {offset} + length {length} is past its end at {available}")
        if length != size:
            raise _Refused(f"{shown(location)!r}: length {length}, but the dims ask for {size} bytes")
        if "checksum" in entries:
            self._check_sha1(location, descriptor, available, entries["checksum"])
        return _read_exactly(descriptor, offset, size, location)

    def _entries(self, tensor: onnx.TensorProto) -> dict[str, str]:
        if tensor.data_type == 8:
            raise _Refused("strings cannot be external data")
        if tensor.raw_data or any(len(v) for v in (tensor.float_data, tensor.int32_data, tensor.int64_data)):
            raise _Refused("the tensor has data inside the file, too")
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key not in _KEYS:
                raise _Refused(f"unknown key {shown(entry.key)!r}; known: {', '.join(_KEYS)}")
            if entry.key in entries:
                raise _Refused(f"the key {entry.key!r} stands there twice")
            entries[entry.key] = entry.value
        return entries

    @staticmethod
    def _number(entries: dict[str, str], key: str, default: int) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise _Refused(f"{key} = {shown(text)!r} is not a whole number from 0 to 2^63")
        return int(text)

    def _file(self, location: str) -> tuple[int, int]:
        """Descriptor and size of the file at `location`; the last one is kept open."""
        if self._open is not None and self._open[0] == location:
            return self._open[1], self._open[2]
        parts = _parts(location)
        if self._folder is None:
            raise _Refused("a model given as bytes has no folder to read external data from")
        self._close_file()
        try:
            descriptor = self._walk_down(parts)
        except (OSError, ValueError) as error:
            raise _Refused(f"{shown(location)!r} cannot be opened: {_why_not_open(error)}") from error
        state = os.fstat(descriptor)
        problem = ""
        if not stat.S_ISREG(state.st_mode):
            problem = "is not a regular file"
        elif state.st_nlink != 1:
            problem = f"has {state.st_nlink} hard links; another name of it may be outside the folder"
        if problem:
            os.close(descriptor)
            raise _Refused(f"{shown(location)!r} {problem}")
        self._open = (location, descriptor, state.st_size)
        return descriptor, state.st_size

    def _walk_down(self, parts: list[str]) -> int:
        if self._root < 0:
            assert self._folder is not None
            self._root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        at = os.dup(self._root)
        try:
            for name in parts[:-1]:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at = below
            return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)

    def _close_file(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _check_sha1(self, location: str, descriptor: int, size: int, wanted: str) -> None:
        """ONNX: `checksum` is the SHA1 of the whole file."""
        if location not in self._sha1:
            if size > self._limits.initializer_bytes:
                raise _Refused(f"{shown(location)!r} has {format_bytes(size)}, more than limit initializer-bytes")
            digest = hashlib.sha1(usedforsecurity=False)
            for offset in range(0, size, MIB):
                digest.update(_read_exactly(descriptor, offset, min(MIB, size - offset), location))
            self._sha1[location] = digest.hexdigest()
        if self._sha1[location] != wanted.lower():
            raise _Refused(f"{shown(location)!r} has SHA1 {self._sha1[location]}, the model says {shown(wanted)}")


def _why_not_open(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):  # what O_NOFOLLOW gives for a link to a file, to a folder
        return "it is a symbolic link or goes through one, and links are not followed"
    return error.strerror or type(error).__name__


def _parts(location: str) -> list[str]:
    if not location:
        raise _Refused("it names no file (key 'location')")
    if location.startswith("/"):
        raise _Refused(f"{shown(location)!r} is an absolute path")
    if "\0" in location or "\\" in location:
        raise _Refused(f"{shown(location)!r} has a backslash or a NUL in it")
    parts = [p for p in location.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise _Refused(f"{shown(location)!r} leads out through '..'")
    if not parts or location.endswith("/"):
        raise _Refused(f"{shown(location)!r} names no file")
    return parts


def _read_exactly(descriptor: int, offset: int, size: int, location: str) -> bytes:
    chunks: list[bytes] = []
    left = size
    while left:
        chunk = os.pread(descriptor, min(left, 64 * MIB), offset)
        if not chunk:
            raise _Refused(f"{shown(location)!r} became shorter while it was read")
        chunks.append(chunk)
        offset += len(chunk)
        left -= len(chunk)
    return b"".join(chunks) if len(chunks) != 1 else chunks[0]
