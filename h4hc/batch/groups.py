"""Neighbouring stages multiplied out, so that evaluating a network takes fewer and smaller steps.

A group stands for several stages; its options are all combinations of theirs, its tables their min-plus products. Sums
are ordered by objective, then the other objective, then stored bytes, an order that sums keep: so products may be taken
in any grouping and give the same three numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h4hc.batch.frontier import NEVER, Ints

MOST_OPTIONS = 1500
MOST_NUMBERS = 600_000  # of one table of a group, all prices: about 5 MB
Sums = tuple[Ints, Ints, Ints]  # priced, other, stored


@dataclass(frozen=True)
class Group:
    """Stages `first_stage` onwards, one for each entry of `radix`; option = sum of choice * radix.

    priced, other, stored: [K, M options, R rows, D exits]. row_device [R]: entry device of a row; row_saves [R]: 1
    where it is for plans whose first operator runs there, which may save what hides; else both kinds are in one row.
    first, last: [M] classes; widest: [K, M] largest share that any plan of the option keeps in a unit.
    """

    first_stage: int
    radix: Ints
    priced: Ints
    other: Ints
    stored: Ints
    row_device: Ints
    row_saves: Ints
    first: Ints
    last: Ints
    widest: Ints


def least(main: Ints, side: Ints, stored: Ints, axis: int) -> Sums:
    """Lexicographic minimum of (main, side, stored) along an axis; overwrites side and stored."""
    best = main.min(axis=axis)
    side[main > np.expand_dims(best, axis)] = NEVER
    best_side = side.min(axis=axis)
    stored[side > np.expand_dims(best_side, axis)] = NEVER
    return np.minimum(best, NEVER), best_side, stored.min(axis=axis)


@dataclass(frozen=True)
class _Part:
    """A group under construction, with all 2 * D rows."""

    sums: Sums  # [K, M, 2D, D]
    first: Ints
    last: Ints
    widest: Ints


def make_groups(stages: Sequence[tuple[Sums, Ints, Ints, Ints]], hidden: Ints, start: int) -> tuple[Group, ...]:
    """Groups of as many neighbours as MOST_OPTIONS and MOST_NUMBERS allow; start: the device a network begins on.

    stages: (sums [K, O, 2D, D], first [O], last [O], widest [K, O]); hidden as in `tables.BlockTables`.
    """
    groups: list[Group] = []
    at = 0
    while at < len(stages):
        part = _Part(*stages[at])
        counts = [len(part.first)]
        while at + len(counts) < len(stages):
            following = _Part(*stages[at + len(counts)])
            options = len(part.first) * len(following.first)
            if options > MOST_OPTIONS or options * part.sums[0][:, 0].size > MOST_NUMBERS:
                break
            part = _product(part, following, hidden)
            counts.append(len(following.first))
        groups.append(_group(part, counts, at, hidden, start))
        at += len(counts)
    return tuple(groups)


def _product(a: _Part, b: _Part, hidden: Ints) -> _Part:
    """All pairs of options of two neighbours, option = a * (options of b) + b."""
    prices, count_a, rows, _ = a.sums[0].shape
    count_b = len(b.first)
    saved = np.zeros((count_a, count_b, rows, 2), np.int64)
    saved[:, :, 1::2] = hidden[a.last[:, None], b.first[None, :]]
    made: list[Sums] = []
    for k in range(prices):  # one price at a time, to bound the memory
        whole = [
            np.repeat(first[k], 2, axis=-1)[:, None, :, :, None] + second[k][None, :, None, :, :]
            for first, second in zip(a.sums, b.sums, strict=True)
        ]  # [A, B, rows of a, rows of b, exits]
        whole[0] -= saved[:, :, None, :, None, 0]
        whole[1] -= saved[:, :, None, :, None, 1]
        made.append(least(whole[0], whole[1], whole[2], axis=3))
    skips = np.flatnonzero(a.last == 0)
    sums = []
    for i in range(3):
        table = np.stack([m[i] for m in made])  # [K, A, B, rows, exits]
        table[:, skips] = b.sums[i][:, None]
        sums.append(table.reshape(prices, count_a * count_b, rows, -1))
    first = np.where(a.first[:, None] > 0, a.first[:, None], b.first[None, :]).ravel()
    last = np.where(b.last[None, :] > 0, b.last[None, :], a.last[:, None]).ravel()
    widest = np.maximum(a.widest[:, :, None], b.widest[:, None, :]).reshape(prices, -1)
    return _Part((sums[0], sums[1], sums[2]), first, last, widest)


def _group(part: _Part, counts: Sequence[int], at: int, hidden: Ints, start: int) -> Group:
    """Drop the rows that say nothing: of devices where nothing hides, and at the start of all but the host."""
    devices = part.sums[0].shape[2] // 2
    saves: list[bool] = [bool(at and hidden[:, np.unique(part.first), d].any()) for d in range(devices)]
    columns: list[Sums] = []
    device: list[int] = []
    flags: list[bool] = []
    for d in range(devices) if at else (start,):
        pair = [table[:, :, 2 * d : 2 * d + 2] for table in part.sums]
        if saves[d]:
            columns += [(pair[0][:, :, i], pair[1][:, :, i], pair[2][:, :, i]) for i in range(2)]
            device += [d, d]
            flags += [False, True]
        else:
            columns.append(least(pair[0], pair[1].copy(), pair[2].copy(), axis=2))
            device.append(d)
            flags.append(False)
    priced, other, stored = (np.stack([c[i] for c in columns], axis=2) for i in range(3))
    ends = bool((priced[..., 1:] >= NEVER).all())  # the network does, on device 0
    exits = slice(0, 1 if ends else devices)
    priced, other, stored = (np.ascontiguousarray(table[..., exits]) for table in (priced, other, stored))
    radix = np.array([int(np.prod(counts[i + 1 :])) for i in range(len(counts))], np.int64)
    rows = np.array(device, np.int64), np.array(flags, np.int64)
    return Group(at, radix, priced, other, stored, *rows, part.first, part.last, part.widest)


def walk(groups: Sequence[Group], hidden: Ints, chosen: Ints, price: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(priced, other, stored, widest) of the best plan of each network at its price; chosen [N, S], price [N].

    widest is a bound: the largest share in any plan of the blocks chosen.
    """
    count = len(chosen)
    sums: Sums = (np.zeros((count, 1), np.int64), np.zeros((count, 1), np.int64), np.zeros((count, 1), np.int64))
    last = np.zeros(count, np.int64)
    widest = np.zeros(count, np.int64)
    for group in groups:
        stages = slice(group.first_stage, group.first_stage + len(group.radix))
        option = chosen[:, stages] @ group.radix
        cell = price * len(group.first) + option
        columns = group.row_device if group.first_stage else np.zeros(1, np.int64)
        before = [s[:, columns] for s in sums]
        if group.row_saves.any():
            rows = np.flatnonzero(group.row_saves)
            saved = hidden[last[:, None], group.first[option][:, None], group.row_device[rows]]
            before[0][:, rows] -= saved[:, :, 0]
            before[1][:, rows] -= saved[:, :, 1]
        tables = group.priced, group.other, group.stored
        totals = []
        for table, base in zip(tables, before, strict=True):
            total = table.reshape(-1, *table.shape[2:]).take(cell, axis=0)
            total += base[:, :, None]
            totals.append(total)
        sums = least(totals[0], totals[1], totals[2], axis=1)
        last = np.where(group.last[option] > 0, group.last[option], last)
        widest = np.maximum(widest, group.widest.ravel()[cell])
    return sums[0][:, 0], sums[1][:, 0], sums[2][:, 0], widest
