"""Parts against the general path: the same integers, for every way of cutting the stages into parts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from h4hc.api import Objective, block_tables, estimate_many, estimate_parts, load_system, part_tables, peak_bytes
from h4hc.batch import parts as parts_module
from h4hc.batch.parts import Coding
from h4hc.batch.tables import BlockTables
from h4hc.errors import LimitError, UserError
from h4hc.live_memory import peak_live_bytes
from tests.test_batch import SPACE, SYSTEMS

CUTS = ((1, 1, 1, 1, 1, 1), (2, 2, 2), (1, 5), (6,))


def _tables(target: str, sets: tuple[str, ...], objective: Objective) -> BlockTables:
    return block_tables(SPACE.stages, load_system(target, sets), objective)


def _combinations(tables: BlockTables, cut: tuple[int, ...]) -> list[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    counts, at, found = [stage.options for stage in tables.stages], 0, []
    for length in cut:
        found.append(np.array(list(itertools.product(*(range(c) for c in counts[at : at + length])))))
        at += length
    return found


@pytest.mark.parametrize(("target", "sets"), [*SYSTEMS, ("cim", ())])
@pytest.mark.parametrize("objective", [Objective.LATENCY, Objective.ENERGY])
def test_parts_give_what_the_general_path_gives(target: str, sets: tuple[str, ...], objective: Objective) -> None:
    tables = _tables(target, sets, objective)
    for cut in CUTS:
        combinations = _combinations(tables, cut)
        chosen = np.array(list(itertools.product(*(range(len(c)) for c in combinations))))
        fine = np.concatenate([c[chosen[:, i]] for i, c in enumerate(combinations)], axis=1)
        found, expected = estimate_parts(part_tables(tables, combinations), chosen), estimate_many(tables, fine)
        for mine, general in zip(found.columns(), expected.columns(), strict=True):
            assert (mine == general).all()
        assert found.latency_ps.min() > 0


def test_both_codings_and_chunks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """One integer where it has room, two where it has not; fewer bits than either needs are an error."""
    tables = _tables("npu", (), Objective.LATENCY)
    combinations = _combinations(tables, (2, 2, 2))
    chosen = np.array(list(itertools.product(*(range(len(c)) for c in combinations))))
    one = part_tables(tables, combinations)
    assert one.coding.side_bits
    expected = estimate_parts(one, chosen)
    main_bits = one.coding.never.bit_length() - 1 - one.coding.side_bits
    monkeypatch.setattr(parts_module, "BITS", max(main_bits, one.coding.side_bits) + 4)
    monkeypatch.setattr(parts_module, "CHUNK", 7)
    monkeypatch.setattr(parts_module, "AT_ONCE", 5)
    two = part_tables(tables, combinations)
    assert not two.coding.side_bits
    for mine, other in zip(estimate_parts(two, chosen).columns(), expected.columns(), strict=True):
        assert (mine == other).all()
    monkeypatch.setattr(parts_module, "BITS", 20)
    with pytest.raises(LimitError, match="too large"):
        part_tables(tables, combinations)


def test_packed_numbers_keep_their_order_and_their_sums() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 3, 200))
    for coding in (Coding(5, 12, 1 << 40), Coding(5, 0, 1 << 40)):
        first, second = coding.pack(*a), coding.pack(*b)
        total = tuple(x + y for x, y in zip(first, second, strict=True))
        assert (np.array(coding.unpack(*total)) == a + b).all()
        order = sorted(range(200), key=lambda i: tuple(int(x[i]) for x in first if x.size))
        assert [tuple(a[:, i]) for i in order] == sorted(map(tuple, a.T))


def test_stored_bytes_are_told_where_the_store_cannot_overflow() -> None:
    """A search may put a limit on them."""
    tables = _tables("npu+cim", (), Objective.LATENCY)
    assert tables.store is None
    counts = [range(stage.options) for stage in tables.stages]
    found = estimate_many(tables, np.array(list(itertools.product(*counts))))
    assert found.stored_bytes.max() > found.stored_bytes.min() > 0


def test_wrong_parts_are_refused() -> None:
    tables = _tables("npu", (), Objective.LATENCY)
    good = _combinations(tables, (2, 2, 2))
    with pytest.raises(UserError, match="not the stages"):
        part_tables(tables, good[:2])
    with pytest.raises(UserError, match="no such option"):
        part_tables(tables, [good[0] + 5, *good[1:]])
    made = part_tables(tables, good)
    with pytest.raises(UserError, match="whole numbers"):
        estimate_parts(made, np.zeros((3, 2), np.int64))
    with pytest.raises(UserError, match="no such combination"):
        estimate_parts(made, np.full((1, 3), 1000))
    assert len(estimate_parts(made, np.zeros((0, 3), np.int64)).bound) == 0


def test_the_peak_of_a_network_is_that_of_its_largest_block() -> None:
    for choice in ((0, 0, 0, 0), (2, 2, 1, 2), (1, 1, 0, 0)):
        blocks = [options[o] for options, o in zip(SPACE.stages, (0, *choice, 0), strict=True)]
        assert max(map(peak_bytes, blocks)) == peak_live_bytes(SPACE.workload(choice))[0]
