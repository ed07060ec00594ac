"""What is known already: a sealed file for each answer, named by its address, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from h4hc.errors import LimitError, UserError
from h4hc.sealed import TEMPORARY, seal, unseal, write_whole
from h4hc.sweep.evaluate import Prepared, prepare, zoo_name
from h4hc.sweep.row import Point, Row
from h4hc.sweep.tasks import Task, program_sha256
from h4hc.workload import Workload

TAG = "CACHEDIR.TAG"  # https://bford.info/cachedir: backup programs leave such a folder out
TAG_TEXT = b"Signature: 8a477f597d28d172789f06886806bc55\n# answers of h4hc sweep; may be deleted\n"
_LEFT = re.compile(rf"(?:[0-9a-f]{{64}}\.\w+|{re.escape(TAG)}){re.escape(TEMPORARY)}")  # by a killed writer


class Cache:
    """Context manager over a folder; one process at a time. An entry that is not as it was written counts as missing.

    Entering raises UserError where the folder is another program's, or another sweep is using it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        tag = self._folder / TAG
        if not tag.exists():
            write_whole(tag, TAG_TEXT)
        if not is_ours(self._folder):
            why = f"its {TAG} is not that of h4hc sweep"
            hint = "choose another folder with -o"
            raise UserError("the folder is a cache of another program", (str(self._folder),), why, hint)
        self._lock = tag.open("rb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            hint = "wait for it, or name another folder with -o"
            raise UserError("another sweep is writing there", (str(self._folder),), hint=hint) from None
        for left in self._folder.iterdir():
            if _LEFT.fullmatch(left.name):
                left.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def get(self, task: Task) -> Row | None:
        """The answer to a task, under the names that the task uses for its model and target."""
        try:
            row = Row.from_json(self.read(task.key, "row"))
        except (OSError, ValueError):
            return None
        if (row.model_sha256, row.system_sha256) != (task.prepared.model_sha256, task.system_sha256):
            return None
        return replace(row, point=task.point)

    def put(self, task: Task, row: Row) -> None:
        """Keep an answer. One for which the time ran out is not kept: the next run tries again."""
        if row.code != LimitError.code:
            self.write(task.key, "row", row.to_json())

    def prepare(self, point: Point) -> Prepared:
        """As `prepare`, with zoo models kept: they are made by the code, so its hash is theirs. Files are read anew."""
        if zoo_name(point.model) is None:
            return prepare(point)
        front = repr((point.model, point.precision, point.input_shapes, point.fix_dims, point.passes, point.limits))
        key = hashlib.sha256(f"{program_sha256()} {front}".encode()).hexdigest()
        try:
            digest, _, workload = self.read(key, "model").partition(b"\n")
            return Prepared(digest.decode(), Workload.from_json(workload))
        except (OSError, ValueError):
            model = prepare(point)
            self.write(key, "model", model.model_sha256.encode() + b"\n" + model.workload.to_json())
            return model

    def read(self, key: str, kind: str) -> bytes:
        """The body of an entry. Raises OSError where there is none, ValueError where it is not as it was written."""
        return unseal(key, self._path(key, kind).read_bytes())

    def write(self, key: str, kind: str, body: bytes) -> None:
        """Make an entry. key: SHA-256, in hex digits, of all that the body depends on."""
        write_whole(self._path(key, kind), seal(key, body))

    def _path(self, key: str, kind: str) -> Path:
        return self._folder / f"{key}.{kind}"


def is_ours(folder: Path) -> bool:
    """Whether a cache of this program is there. Every program's tag begins alike: the whole text has to agree."""
    try:
        return (folder / TAG).read_bytes() == TAG_TEXT
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
