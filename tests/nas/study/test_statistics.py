"""Paired statistics against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nas.study.statistics import deviation, paired, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30, 101])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.975, 0.9995])
def test_quantiles_are_those_of_scipy(freedom: int, probability: float) -> None:
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_no_quantile_below_the_median() -> None:
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(0.4, 3)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_the_interval_is_that_of_the_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    first, second = generator.normal(0, 1, n), generator.normal(0.8, 1, n)
    found = paired(first.tolist(), second.tolist())
    interval = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert found.low == pytest.approx(interval.low)
    assert found.half_width is not None
    assert found.mean + found.half_width == pytest.approx(interval.high)
    assert found.wins == int((second > first).sum())
    assert found.measurable == (interval.low > 0 or interval.high < 0)


def test_one_pair_has_no_interval() -> None:
    found = paired([1.0], [3.0])
    assert (found.mean, found.half_width, found.low, found.wins, found.measurable) == (2.0, None, None, 1, False)


def test_deviation_is_that_of_a_sample() -> None:
    assert deviation([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert deviation([7.0]) == 0.0
