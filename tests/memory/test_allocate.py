"""The allocator against enumeration, against its own bound, and on problems that are full to the last byte."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.memory.allocate import next_height, pack
from h4hc.memory.minimalloc import check_packing
from h4hc.memory.problem import Item, PackingStatus, aligned
from h4hc.memory.sections import components, lower_bound, sections
from tests.memory.families import FAMILIES, MIB, cut_rectangle


def least_height(items: list[Item]) -> int:
    """By enumeration: every packing can be pushed down, so items go on in order of offset, as low as they can."""
    best = sum(aligned(item.size_bytes, 64) for item in items) + 64 * len(items)

    def place(placed: list[tuple[Item, int]], last: int, left: frozenset[int]) -> None:
        nonlocal best
        high = max((at + item.size_bytes for item, at in placed), default=0)
        if high >= best:
            return
        if not left:
            best = high
        for i in left:
            one = items[i]
            below = [at + o.size_bytes for o, at in placed if o.start < one.end and one.start < o.end and o.size_bytes]
            at = aligned(max(below, default=0), one.align_bytes)
            if at >= last:
                place([*placed, (one, at)], at, left - {i})

    place([], 0, frozenset(range(len(items))))
    return best if items else 0


def tiny(seed: int) -> list[Item]:
    rng = random.Random(seed)
    times, aligns = rng.choice([3, 6, 10]), rng.choice([[1], [4], [1, 2], [1, 2, 4, 8], [3, 2]])
    items = []
    for i in range(rng.randint(1, 6)):
        start = rng.randrange(times)
        size = rng.randint(int(rng.random() > 0.1), rng.choice([4, 9, 30]))
        items.append(Item(f"b{i}", start, rng.randint(start + 1, times), size, rng.choice(aligns)))
    return items


def test_equals_enumeration() -> None:
    searched = 0
    for seed in range(400):
        items = tiny(seed)
        least, found = least_height(items), pack(items)
        said = (found.high_water_bytes, found.lower_bound_bytes, found.status)
        assert said == (least, least, PackingStatus.OPTIMAL), f"seed {seed}"
        assert check_packing(items, found.offsets, least) == [], f"seed {seed}"
        searched += found.nodes > 0
        assert pack(items, least).high_water_bytes == least, f"seed {seed}"
        if least:
            assert pack(items, least - 1).status is PackingStatus.INFEASIBLE, f"seed {seed}"
    assert searched > 40  # greedy alone does not do it


ITEMS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 99), st.sampled_from([1, 2, 4, 16])), max_size=14
).map(lambda rows: [Item(str(i), a, a + n, size, align) for i, (a, n, size, align) in enumerate(rows)])


@given(ITEMS)
@settings(max_examples=150, deadline=None)
def test_packings_are_valid_and_bounded(items: list[Item]) -> None:
    found = pack(items, most_nodes=300)
    assert check_packing(items, found.offsets, found.high_water_bytes) == []
    assert lower_bound(items) <= found.lower_bound_bytes <= found.high_water_bytes
    assert (found.status is PackingStatus.OPTIMAL) == (found.lower_bound_bytes == found.high_water_bytes)
    assert found == pack(items, most_nodes=300)  # nothing of it is left to chance
    assert found.high_water_bytes <= pack(items, most_nodes=0).high_water_bytes
    if found.high_water_bytes:
        fitting = pack(items, found.high_water_bytes, 300)
        assert fitting.high_water_bytes <= found.high_water_bytes


@given(ITEMS)
@settings(max_examples=100, deadline=None)
def test_sections_are_the_conflicts(items: list[Item]) -> None:
    found = sections(items)
    for i, a in enumerate(items):
        assert [k for k, live in enumerate(found.live) if i in live] == list(range(found.first[i], found.last[i]))
        for j, b in enumerate(items):
            overlap = a.start < b.end and b.start < a.end
            assert overlap == any(i in live and j in live for live in found.live)
    for one in found.live:
        assert not any(set(one) < set(other) for other in found.live)  # cliques are maximal
    parts = components(items)
    assert sorted(i for part in parts for i in part) == [i for i, item in enumerate(items) if item.size_bytes]


def test_next_height_skips_what_no_packing_can_have() -> None:
    assert next_height([Item("a", 0, 1, 12), Item("b", 0, 1, 20)], 12) == 16
    assert next_height([Item("a", 0, 1, 12, 16), Item("b", 0, 1, 20, 16)], 12) == 20
    assert next_height([Item("a", 0, 1, 12, 2), Item("b", 0, 1, 21, 4)], 12) == 13


def test_limits_and_capacities_are_told_apart() -> None:
    tight = cut_rectangle(0, 60)
    assert pack(tight, MIB - 1).status is PackingStatus.INFEASIBLE  # by the bound alone
    given_up = pack(tight, MIB, 0)
    assert given_up.status is PackingStatus.LIMIT
    assert given_up.high_water_bytes > MIB
    assert pack(tight, 2 * MIB, 0).status in (PackingStatus.FITS, PackingStatus.OPTIMAL)
    assert pack([]).status is PackingStatus.OPTIMAL


@pytest.mark.slow
def test_a_thousand_random_lifetimes_are_within_five_percent_of_the_bound() -> None:
    overheads = []
    for seed in range(1000):
        family = list(FAMILIES.values())[seed % len(FAMILIES)]
        items = family(seed, random.Random(seed).randint(5, 80))
        found = pack(items, most_nodes=300)
        assert check_packing(items, found.offsets, found.high_water_bytes) == [], f"seed {seed}"
        overheads.append((found.high_water_bytes - lower_bound(items)) / lower_bound(items))
    assert sum(overheads) / len(overheads) <= 0.05


@pytest.mark.slow
def test_full_rectangles_of_some_hundred_buffers() -> None:
    """1 MiB, no free byte: what is found is valid, what is not found is neither claimed nor called impossible."""
    solved = 0
    for seed, count in enumerate((100, 150, 200, 200, 300, 300)):
        items = cut_rectangle(seed, count, grain=1024)
        found = pack(items, MIB, 4000)
        assert found.lower_bound_bytes == MIB
        assert found.status in (PackingStatus.OPTIMAL, PackingStatus.LIMIT)
        assert check_packing(items, found.offsets, found.high_water_bytes) == []
        solved += found.status is PackingStatus.OPTIMAL
    assert solved >= 3
