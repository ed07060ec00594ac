"""Files that are known to be what was written: kept by what they depend on, with the hash of their content."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path

from h4hc.api import program_sha256, seal, unseal, write_whole

BLOCKS = ("blocks.py", "slots.py")  # of this folder: what decides about blocks
LIBRARIES = ("moocore", "pymoo", "scikit-learn", "scipy", "torch")  # beside those of h4hc


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
    return _hash(program_sha256(), {"space": (), "supernet": (), "search": BLOCKS})


@functools.cache
def search_sha256() -> str:
    """Hash of all that a search depends on beside its settings: source_sha256, the code of the search, libraries."""
    versions = [f"{library} {metadata.version(library)}" for library in LIBRARIES]
    return _hash("\n".join([source_sha256(), *versions]), {"search": ()})


def _hash(begin: str, sources: Mapping[str, tuple[str, ...]]) -> str:
    """Of a text and of the code in folders of nas; () = all files."""
    digest = hashlib.sha256(begin.encode())
    for folder, names in sources.items():
        for file in sorted((resources.files("nas") / folder).iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py") and (not names or file.name in names):
                digest.update(f"{folder}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
