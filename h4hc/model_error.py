"""How far a model is from a reference over many layers: the errors model / reference - 1, ranked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from h4hc.units import ceil_div

WORST_PERCENT = 95


def nearest_rank(ranked: Sequence[float], percent: int) -> float:
    """The percentile of values in rising order: the least that is not below `percent` % of them.

    >>> nearest_rank([1.0, 2.0, 3.0, 4.0], 50), nearest_rank([1.0, 2.0, 3.0, 4.0], 51)
    (2.0, 3.0)
    """
    return ranked[max(0, ceil_div(percent * len(ranked), 100) - 1)]


@dataclass(frozen=True)
class Errors:
    """Median and 95th percentile (nearest rank) of |model / reference - 1|."""

    median: float
    p95: float

    @classmethod
    def of(cls, errors: Iterable[float]) -> Self:
        """Of one error or more, with or without a sign."""
        ranked = sorted(map(abs, errors))
        return cls(median(ranked), nearest_rank(ranked, WORST_PERCENT))
