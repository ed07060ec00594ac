"""The packing of weights into units against enumeration."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.planning.packing import pack

ITEMS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=6)


def _possible(items: list[tuple[int, int]], units: int, unit_bytes: int) -> bool:
    loads = {(0,) * units}
    for count, share in items:
        loads = {
            tuple(load[u] + (share if u in pick else 0) for u in range(units))
            for load in loads
            for pick in itertools.combinations(range(units), count)
        }
        loads = {load for load in loads if max(load, default=0) <= unit_bytes}
    return bool(loads)


@settings(deadline=None, max_examples=300)
@given(ITEMS, st.integers(1, 3), st.integers(0, 20))
def test_finds_a_packing_exactly_when_there_is_one(items: list[tuple[int, int]], units: int, unit_bytes: int) -> None:
    packed = pack(items, units, unit_bytes)
    assert (packed is not None) == _possible(items, units, unit_bytes)
    if packed is None:
        return
    load = [0] * units
    for (count, share), chosen in zip(items, packed, strict=True):
        assert len(set(chosen)) == count
        for unit in chosen:
            load[unit] += share
    assert max(load) <= unit_bytes


def test_search_finds_what_first_fit_misses() -> None:
    items = [(1, 4), (1, 4), (1, 3), (1, 3), (1, 3), (1, 3)]  # 2 x 10: 4+3+3 twice; largest-first puts the 4s apart
    assert pack(items, 2, 10, node_limit=0) is not None
    awkward = [(1, 5), (1, 4), (1, 3), (1, 3), (1, 3)]  # 2 x 9: 5+4 and 3+3+3; the emptiest unit takes the 4 first
    assert pack(awkward, 2, 9, node_limit=0) is None
    assert pack(awkward, 2, 9) is not None


def test_many_units_do_not_blow_the_search_up() -> None:
    half = 24
    items = [(half, 5), (half, 4), (half, 3), (half, 3), (half, 3)]  # the awkward case, on 48 units
    packed = pack(items, 2 * half, 9)
    assert packed is not None
    load = [0] * (2 * half)
    for (_, share), chosen in zip(items, packed, strict=True):
        for unit in chosen:
            load[unit] += share
    assert max(load) <= 9
