"""Files that are whole or not there, and entries of a cache that are as they were written."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

TEMPORARY = ".tmp"


def write_whole(path: Path, data: bytes, suffix: str = TEMPORARY) -> None:
    """Write a file under a temporary name, then give it its own in one step. Raises OSError.

    suffix: of the temporary name; where several processes write the same file, one for each.
    """
    temporary = path.with_name(f"{path.name}{suffix}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def seal(key: str, body: bytes) -> bytes:
    """An entry: a line with its key and the SHA-256 of its body, then the body."""
    return f"{key} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def unseal(key: str, entry: bytes) -> bytes:
    """The body of an entry. Raises ValueError where it is that of another key, or not the body that was written."""
    _, _, body = entry.partition(b"\n")
    if entry != seal(key, body):
        raise ValueError(f"the entry {key} is damaged")
    return body
