"""Which networks a step trains: a function of seed and step alone, so that all ranks and resumed runs agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from nas.data.order import rng
from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.training.config import Allowed, Pick, Sampling

NETS, BANDS, POOL = 16, 17, 18  # streams of random numbers, apart from those of the data
POOL_SIZE, POOL_STEPS = 512, 512  # networks that bands choose from; steps after which they are drawn anew

Macs = Callable[[Arch], int]


def both(first: Allowed, second: Allowed) -> Allowed:
    """What two restrictions allow together."""
    common = {key: tuple(v for v in first[key] if v in second[key]) for key in first.keys() & second.keys()}
    return {**first, **second, **common}


class Sampler:
    """Networks of the steps of one phase; `macs` tells the size of one, for the complexity bands."""

    def __init__(self, space: SearchSpace, sampling: Sampling, allowed: Allowed, seed: int, macs: Macs) -> None:
        """Raises UserError where `allowed` names no gene, a value the space lacks, or leaves nothing."""
        self._space, self._sampling, self._seed, self._macs = space, sampling, seed, macs
        self._allowed = [both(allowed, pick.allowed) for pick in sampling.nets]
        self._fixed = [self._corner(pick, legal) for pick, legal in zip(sampling.nets, self._allowed, strict=True)]

    def archs(self, step: int) -> list[Arch]:
        """The networks of a step, in the order of `sampling.nets`."""
        generator = rng(self._seed, NETS, step)
        found = []
        for number, fixed in enumerate(self._fixed):
            if fixed is not None:
                found.append(fixed)
            elif self._sampling.bands:
                pool = self._pool(step // POOL_STEPS, number)[self._band(step)]
                found.append(self._space.arch(pool[generator.integers(len(pool))]))
            else:
                found.append(self._space.arch(self._space.sample(generator, 1, self._allowed[number])[0]))
        return found

    def _corner(self, pick: Pick, allowed: Allowed) -> Arch | None:
        self._space.choices(allowed)
        if pick.take == "random":
            return None
        end = self._space.maximum if pick.take == "max" else self._space.minimum
        return self._space.arch(end(allowed))

    @lru_cache(maxsize=8)  # noqa: B019 - a sampler lives as long as the run
    def _pool(self, period: int, number: int) -> list[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
        """Random genomes by band, smallest first."""
        genomes = self._space.sample(rng(self._seed, POOL, period, number), POOL_SIZE, self._allowed[number])
        order = np.argsort([self._macs(self._space.arch(genome)) for genome in genomes], kind="stable")
        return [part for part in np.array_split(genomes[order], self._sampling.bands) if len(part)]

    def _band(self, step: int) -> int:
        """A walk by -1, 0 or +1 a step, reflected at the ends; starts in the middle."""
        while step >= len(self._walk):
            block = rng(self._seed, BANDS, len(self._walk) // POOL_STEPS).integers(-1, 2, POOL_STEPS)
            for move in block.tolist():
                last = self._walk[-1] if self._walk else self._sampling.bands // 2
                self._walk.append(min(max(last + move, 0), self._sampling.bands - 1))
        return self._walk[step]

    @cached_property
    def _walk(self) -> list[int]:
        return []
