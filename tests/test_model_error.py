"""Ranks of errors, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.model_error import Errors, nearest_rank

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=50)


@settings(deadline=None)
@given(VALUES, st.integers(1, 100))
def test_nearest_rank_is_the_inverted_distribution(values: list[float], percent: int) -> None:
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert nearest_rank(sorted(values), percent) == expected


@settings(deadline=None)
@given(VALUES)
def test_errors_have_no_sign(values: list[float]) -> None:
    found, sizes = Errors.of(values), np.abs(values)
    assert found.median == pytest.approx(np.median(sizes))
    assert found.p95 == np.percentile(sizes, 95, method="inverted_cdf")
    assert found == Errors.of(-v for v in values)
