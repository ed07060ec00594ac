"""Data a run sees: three splits that share no image, and the two of them that search may see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from h4hc.errors import UserError
from nas.data.order import Order, rng

Batch = tuple[Tensor, Tensor]


class Split(Protocol):
    """Images float32 [N, C, H, W] of mean about 0 and deviation about 1, and labels int64 [N]."""

    def __len__(self) -> int:
        """How many images."""
        ...

    def stream(self, seed: int, batch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Endless shuffled batches from number `start` on, a function of the arguments; `batch` sums over ranks."""
        ...

    def batches(self, batch: int, limit: int | None = None) -> Iterator[Batch]:
        """Every image once (the first `limit`), mixed over classes, always in the same order, not augmented."""
        ...


@dataclass(frozen=True)
class SearchData:
    """What search may see: it holds no test images, so none can leak into a choice."""

    train: Split
    val: Split


@dataclass(frozen=True)
class Data:
    """A data set: train fits weights, val chooses architectures, test is read once, for the report."""

    name: str
    classes: int
    channels: int
    resolution: int
    train: Split
    val: Split
    test: Split

    def for_search(self) -> SearchData:
        """The part without the test images."""
        return SearchData(self.train, self.val)


class TensorSplit:
    """A split that fits in memory, on any device."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """images [N, C, H, W] float32, labels [N] int64; the images are kept channels-last."""
        if len(images) == 0 or len(images) != len(labels):
            raise UserError("the data set is empty", why=f"{len(images)} images, {len(labels)} labels")
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> TensorSplit:
        """The same images on another device, once for the whole run instead of batch by batch."""
        return TensorSplit(self.images.to(device), self.labels.to(device))

    def stream(self, seed: int, batch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """As Split.stream."""
        for _, index in Order(len(self), seed).batches(batch, start, rank, ranks):
            yield self._take(torch.from_numpy(index))

    def batches(self, batch: int, limit: int | None = None) -> Iterator[Batch]:
        """As Split.batches."""
        order = torch.from_numpy(rng(0).permutation(len(self))[:limit])
        for index in order.split(batch):
            yield self._take(index)

    def _take(self, index: Tensor) -> Batch:
        index = index.to(self.labels.device)
        return self.images[index].contiguous(memory_format=torch.channels_last), self.labels[index]
