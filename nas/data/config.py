"""What data a run uses, as its YAML states it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

SetName = Literal["digits", "clutter", "glyphs", "relations", "imagefolder", "webdataset"]
OWN_DATA = frozenset({"imagefolder", "webdataset"})
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class DataConfig(BaseModel):
    """Name, sizes and seed of a data set. Only images of `imagefolder` and `webdataset` come from `path`.

    seed: of the generated images and of the splits; not of the order of training, which is the trainer's.
    train, val, test: images generated (`digits` has 1797 and takes shares of them: its numbers are fixed).
    resolution: pixels a side. val_share, test_share: parts of one's own data held out where it has no such folder.
    workers: processes that decode one's own images; 0 decodes in the trainer's.
    augment: random crop and flip of one's own training images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: SetName
    seed: Seed = 0
    resolution: PositiveInt = 24
    train: PositiveInt = 8000
    val: PositiveInt = 2000
    test: PositiveInt = 2000
    path: str | None = None
    channels: Literal[1, 3] = 3
    val_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    workers: Annotated[int, Field(ge=0)] = 0
    augment: bool = True

    @model_validator(mode="after")
    def _path(self) -> Self:
        own = self.name in OWN_DATA
        if own and not self.path:
            raise ValueError(f"data {self.name!r} needs `path`")
        if not own and self.path:
            raise ValueError(f"data {self.name!r} is made by code and takes no `path`")
        return self
