"""Which image comes when: a function of seed and position, so ranks agree and a resumed run repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHUFFLE, SPLIT, IMAGES, AUGMENT = range(4)  # streams of random numbers that must not meet


def rng(seed: int, *stream: int) -> np.random.Generator:
    """Random numbers that depend on nothing but `seed` and the numbers of the stream."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=stream)))


@dataclass
class Order:
    """An endless row of permutations of range(size), one an epoch; any part of it can be asked for."""

    size: int
    seed: int

    def __post_init__(self) -> None:
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Indices at the positions start to stop of the row."""
        pieces = []
        while start < stop:
            epoch, begin = divmod(start, self.size)
            end = min(self.size, begin + stop - start)
            pieces.append(self._of(epoch)[begin:end])
            start += end - begin
        return np.concatenate(pieces)

    def _of(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, rng(self.seed, SHUFFLE, epoch).permutation(self.size)
        return self._permutation

    def batches(self, batch: int, start: int, rank: int, ranks: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Endless (position of the batch, indices of this rank) from batch number `start` on.

        `batch` images on all ranks together; rank r of n takes every n-th of them from the r-th on.
        """
        while True:
            yield start, self.part(start * batch, (start + 1) * batch)[rank::ranks]
            start += 1


def split(labels: NDArray[np.int64], shares: tuple[float, ...], seed: int) -> list[NDArray[np.int64]]:
    """Indices of parts with the given shares of every class, and of the rest; disjoint and complete.

    A class of n images gives round(share * n) to a part, at least one while any is left for the rest.
    """
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    generator = rng(seed, SPLIT)
    for label in np.unique(labels):
        mixed = generator.permutation(np.flatnonzero(labels == label))
        cuts, taken = [], 0
        for share in shares:
            taken = min(taken + max(1, round(share * len(mixed))), len(mixed) - 1)
            cuts.append(taken)
        for part, piece in zip(parts, np.split(mixed, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]
