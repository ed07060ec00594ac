"""Differences between arms that share their seeds: mean, confidence interval, wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """Differences of pairs. half_width: of the confidence interval of the mean, None for one pair; wins: above zero."""

    mean: float
    half_width: float | None
    wins: int
    pairs: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def measurable(self) -> bool:
        """Zero lies outside the interval."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """second - first, pair by pair; the interval is Student's t, mean ± t(0.975, n-1) s / sqrt(n)."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    n, mean = len(differences), average(differences)
    half = None if n < 2 else t_quantile((1 + CONFIDENCE) / 2, n - 1) * deviation(differences) / math.sqrt(n)
    return Paired(mean, half, sum(d > 0 for d in differences), n)


def average(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); 0 for one value."""
    mean = average(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def t_quantile(probability: float, freedom: int) -> float:
    """The t that Student's distribution of `freedom` degrees stays below with `probability` (0.5 to 1, 1 excluded)."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"no quantile {probability} of {freedom} degrees of freedom")
    low, high = 0.0, 1.0
    while _t_distribution(high, freedom) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_distribution(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _t_distribution(t: float, freedom: int) -> float:
    """Chance of less than t >= 0 (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    square, term, total = math.cos(angle) ** 2, 1.0, 0.0
    odd = freedom % 2
    for k in range((freedom - odd) // 2):
        total += term
        term *= square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    if odd:
        return 0.5 + (angle + math.sin(angle) * math.cos(angle) * total) / math.pi
    return 0.5 + math.sin(angle) * total / 2
