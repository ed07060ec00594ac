"""Pictures in tar shards as the webdataset tools write them: KEY.jpg and KEY.cls side by side.

The shards are indexed once by their headers and then read at random places, so that order, resume and ranks work as for
every other set; nothing but the standard library is needed. Shards must be plain tar files on a local disk.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.data.generate import SPLITS, Ints
from nas.data.imagefolder import ENDINGS
from nas.data.photos import Pictures, picture_data
from nas.data.splits import Data

LABEL_BYTES = 32


@dataclass(frozen=True)
class Piece:
    """Where the bytes of a picture lie."""

    shard: Path
    offset: int
    size: int
    key: str


@dataclass(frozen=True)
class ShardPictures:
    """Pictures in tar files; classes are numbers."""

    classes: tuple[str, ...]
    labels: Ints
    pieces: tuple[Piece, ...]

    def read(self, index: int) -> bytes:
        """As Pictures.read."""
        piece = self.pieces[index]
        handle = os.open(piece.shard, os.O_RDONLY)
        try:
            return os.pread(handle, piece.size, piece.offset)
        finally:
            os.close(handle)

    def name(self, index: int) -> str:
        """As Pictures.name."""
        return f"{self.pieces[index].shard}:{self.pieces[index].key}"


def webdataset(config: DataConfig) -> Data:
    """path: a folder with train*.tar, and val*.tar and test*.tar where there are any.

    Raises UserError without training shards, for a shard that is no tar, for pictures without class.
    """
    root = Path(str(config.path))
    shards = {name: sorted(root.glob(f"{name}*.tar")) for name in SPLITS}
    if not shards["train"]:
        raise UserError(
            "there are no training shards", (str(root / "train*.tar"),), hint="name them train-0000.tar ..."
        )
    indexed = {name: _index(paths) for name, paths in shards.items() if paths}
    count = 1 + max(int(labels.max()) for labels, _ in indexed.values())
    classes = tuple(str(number) for number in range(count))
    parts: dict[str, Pictures] = {n: ShardPictures(classes, labels, p) for n, (labels, p) in indexed.items()}
    return picture_data(config, parts)


def _index(shards: list[Path]) -> tuple[Ints, tuple[Piece, ...]]:
    """Labels and places of all pictures; a shard is read by its headers and labels alone."""
    pieces: list[Piece] = []
    labels: list[int] = []
    for shard in shards:
        images, classes = _members(shard)
        lost = sorted(images.keys() ^ classes.keys())
        if lost or not images:
            why = f"{len(lost)} keys have a picture or a .cls without the other" if lost else "no picture in it"
            raise UserError("a shard is incomplete", (str(shard), *lost[:3]), why, "KEY.jpg and KEY.cls side by side")
        pieces += images.values()
        labels += [classes[key] for key in images]
    return np.array(labels, np.int64), tuple(pieces)


def _members(shard: Path) -> tuple[dict[str, Piece], dict[str, int]]:
    images, classes = {}, {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                key = f"{folder}/{stem}"
                if member.isfile() and f".{ending.lower()}" in ENDINGS:
                    images[key] = Piece(shard, member.offset_data, member.size, member.name)
                elif member.isfile() and ending == "cls":
                    text = tar.extractfile(member)
                    classes[key] = _label(text.read(LABEL_BYTES) if text else b"", f"{shard}:{member.name}")
    except (tarfile.TarError, OSError) as error:
        raise UserError("a shard cannot be read", (str(shard),), str(error), "plain .tar, not compressed") from error
    return images, classes


def _label(text: bytes, where: str) -> int:
    if not text.strip().isdigit():
        raise UserError("a class is no number", (where,), repr(text))
    return int(text)
