"""Pictures in folders, one a class: path/train/<class>/*.jpg, and path/val, path/test; or path/<class>/*.jpg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h4hc.errors import UserError
from nas.data.config import DataConfig
from nas.data.generate import SPLITS, Ints
from nas.data.photos import Pictures, picture_data
from nas.data.splits import Data

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True)
class FolderPictures:
    """files [n] in the order of their classes."""

    classes: tuple[str, ...]
    labels: Ints
    files: tuple[Path, ...]

    def read(self, index: int) -> bytes:
        """As Pictures.read."""
        return self.files[index].read_bytes()

    def name(self, index: int) -> str:
        """As Pictures.name."""
        return str(self.files[index])


def imagefolder(config: DataConfig) -> Data:
    """Raises UserError for a path that is no folder, has no class or a class without pictures."""
    root = Path(str(config.path))
    found = [name for name in SPLITS if (root / name).is_dir()]
    if found and "train" not in found:
        raise UserError("the data has no training images", (str(root / "train"),), f"there is {', '.join(found)}")
    parts: dict[str, Pictures] = {name: _read(root / name) for name in found} or {"train": _read(root)}
    return picture_data(config, parts)


def _read(folder: Path) -> FolderPictures:
    if not folder.is_dir():
        raise UserError("there is no such folder of images", (str(folder),))
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [[f for f in sorted(c.rglob("*")) if f.suffix.lower() in ENDINGS] for c in classes]
    empty = tuple(str(c) for c, own in zip(classes, files, strict=True) if not own)
    if not classes or empty:
        why = f"endings looked for: {', '.join(sorted(ENDINGS))}" if classes else "it has no folders, one a class"
        raise UserError("the data set is empty", empty or (str(folder),), why, "FOLDER/CLASS/IMAGE.jpg")
    labels = np.repeat(np.arange(len(classes)), [len(own) for own in files])
    return FolderPictures(tuple(c.name for c in classes), labels, tuple(f for own in files for f in own))
