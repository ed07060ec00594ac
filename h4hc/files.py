"""Small files that the user names: tables, calibrations. Models have their own reader, `loading/read_file.py`."""

from __future__ import annotations

import stat
from pathlib import Path

from h4hc.errors import UserError

MOST_BYTES = 64 * 2**20


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a regular file of at most MOST_BYTES; `what` it is, for the messages. Raises UserError."""
    where = (str(path),)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # to read a pipe would wait for a writer
            raise UserError(f"the {what} is not a regular file", where, hint="give a file")
        if found.st_size > MOST_BYTES:
            raise UserError(f"the {what} is too large", where, f"at most {MOST_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the {what}", where, str(error.strerror), "check the path") from error
