"""Files that are known to be what was written: kept by what they depend on, with the hash of their content."""

from __future__ import annotations

import functools
import hashlib
import os
from importlib import resources
from pathlib import Path

from h4hc.api import program_sha256, seal, unseal, write_whole

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
        return self.folder / f"{_key(name)}.{self.kind}"

    def get(self, name: str) -> bytes | None:
        """The answer, or None."""
        try:
            return unseal(_key(name), self.path(name).read_bytes())
        except (OSError, ValueError):
            return None

    def put(self, name: str, body: bytes) -> None:
        """Keep an answer, whole or not at all. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(name), seal(_key(name), body), f".tmp{os.getpid()}")


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@functools.cache
def source_sha256() -> str:
    """Hash of h4hc, its libraries, and the code of nas that decides what a network looks like."""
    digest = hashlib.sha256(program_sha256().encode())
    for folder, names in SOURCES.items():
        for file in sorted((resources.files("nas") / folder).iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py") and (not names or file.name in names):
                digest.update(f"{folder}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
