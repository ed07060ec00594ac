"""Order and splits: functions of seed and position, disjoint, complete."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.data.order import Order, rng, split


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (7, 7), (5, 12)])
def test_every_epoch_shows_every_image_once(size: int, batch: int) -> None:
    order = Order(size, 3)
    row = np.concatenate([index for _, index in itertools.islice(order.batches(batch, 0, 0, 1), 3 * size)])
    epochs = row[: len(row) // size * size].reshape(-1, size)
    assert (np.sort(epochs, 1) == np.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_a_start_in_the_middle_continues_the_same_row() -> None:
    whole = list(itertools.islice(Order(10, 1).batches(4, 0, 0, 1), 9))
    later = list(itertools.islice(Order(10, 1).batches(4, 5, 0, 1), 4))
    for (number, index), (other_number, other) in zip(whole[5:], later, strict=True):
        assert number == other_number
        assert index.tolist() == other.tolist()


def test_ranks_share_a_batch_out() -> None:
    whole = next(Order(100, 1).batches(8, 3, 0, 1))[1]
    parts = [next(Order(100, 1).batches(8, 3, rank, 4))[1] for rank in range(4)]
    assert sorted(np.concatenate(parts).tolist()) == sorted(whole.tolist())
    assert {len(part) for part in parts} == {2}


def test_seeds_and_streams_differ() -> None:
    draws = {float(rng(*key).random()) for key in [(0,), (1,), (0, 0), (0, 1), (0, 0, 1), (1, 0)]}
    assert len(draws) == 6


def test_split_is_disjoint_complete_and_keeps_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    parts = split(labels, (0.2, 0.1), 7)
    assert sorted(np.concatenate(parts).tolist()) == list(range(160))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[20, 10, 2], [10, 5, 1], [70, 35, 7]]
    assert parts[0].tolist() != split(labels, (0.2, 0.1), 8)[0].tolist()


def test_training_keeps_an_image_of_each_class() -> None:
    *_, train = split(np.array([0, 1, 1, 2, 2, 2]), (0.4, 0.4), 0)
    assert set(np.array([0, 1, 1, 2, 2, 2])[train]) == {0, 1, 2}
