"""Files that are known to be what was written: kept by what they depend on, with the hash of their content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from importlib import resources
from pathlib import Path

from h4hc.api import program_sha256

SOURCES = {
    "space": (),
    "supernet": (),
    "search": ("blocks.py", "slots.py"),
}  # what decides about blocks; () = all files


class Sealed:
    """A folder of answers. One that is damaged, or was made from anything else, counts as missing."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind

    def path(self, name: str) -> Path:
        """Where the answer to `name` (all that it depends on, as text) is kept."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()}.{self.kind}"

    def get(self, name: str) -> bytes | None:
        """The answer, or None."""
        try:
            entry = self.path(name).read_bytes()
        except OSError:
            return None
        _, _, body = entry.partition(b"\n")
        return body if entry == self._seal(name, body) else None

    def put(self, name: str, body: bytes) -> None:
        """Keep an answer, whole or not at all. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(name), self._seal(name, body))

    def _seal(self, name: str, body: bytes) -> bytes:
        key = hashlib.sha256(name.encode()).hexdigest()
        return f"{key} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then give it its own in one step. Raises OSError."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@functools.cache
def source_sha256() -> str:
    """Hash of h4hc, its libraries, and the code of nas that decides what a network looks like."""
    digest = hashlib.sha256(program_sha256().encode())
    for folder, names in SOURCES.items():
        for file in sorted((resources.files("nas") / folder).iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py") and (not names or file.name in names):
                digest.update(f"{folder}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
