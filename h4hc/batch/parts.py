"""Search spaces whose genes tie stages together: parts, multiplied out once, so that a network is a few look-ups.

A part is a run of neighbouring stages with a list of the combinations of options that occur in it: all blocks of one
resolution stage, say, when one width and one depth hold for them all. Its table is the min-plus product of the tables
of its stages, for plans that pay nothing for stored bytes. Values are those of `evaluate`, to the integer; networks
whose weights overflow the store are handed to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h4hc.batch.capacity import NO_PLAN
from h4hc.batch.fit import surely_fits
from h4hc.batch.frontier import NEVER, UNITS_OF_PRICE, Ints
from h4hc.batch.groups import least
from h4hc.batch.networks import Estimates, evaluate
from h4hc.batch.tables import BlockTables
from h4hc.errors import LimitError, UserError
from h4hc.system import HOST

Picks = NDArray[np.intp]  # which combination of a part, for each network
CHUNK = 8192  # networks at a time: the columns in work stay in the cache
AT_ONCE = 2048  # options multiplied out at a time, to bound the memory
BITS = 63
LOST = NEVER // UNITS_OF_PRICE  # of an objective without its factor: no plan


@dataclass(frozen=True)
class Cell:
    """One way through a part: from a device at its entry to one at its exit.

    saves: whether what hides behind the operator before comes off. main, side: [M options], see `Coding`.
    """

    entry: int
    exit: int
    saves: bool
    main: Ints
    side: Ints


@dataclass(frozen=True)
class Part:
    """options: [M, stages] of the tables. enters, leaves, first, last: [M], as `Stage`'s; widest: [M] largest share."""

    options: Ints
    cells: tuple[Cell, ...]
    enters: Ints
    leaves: Ints
    first: Ints
    last: Ints
    widest: Ints


@dataclass(frozen=True)
class Coding:
    """How (objective, other objective, stored bytes) become two integers that keep their order and their sums.

    main = objective, side = other << stored_bits | stored; or, where all have room, main = objective << side_bits |
    side, and side is empty. A main of `never` or more is no plan: so many of them still add up without overflow.
    """

    stored_bits: int
    side_bits: int  # 0: in two integers
    never: int

    def pack(self, main: Ints, other: Ints, stored: Ints) -> tuple[Ints, Ints]:
        """(main, side); main is NEVER or more where there is no plan."""
        side = (other << self.stored_bits) | stored
        lost = main >= NEVER
        if self.side_bits:
            return np.where(lost, self.never, (main << self.side_bits) + side), np.zeros(0, np.int64)
        return np.where(lost, self.never, main), np.where(lost, 0, side)

    def unpack(self, main: Ints, side: Ints) -> tuple[Ints, Ints, Ints]:
        """(objective, other, stored) of sums of packed numbers."""
        if self.side_bits:
            main, side = main >> self.side_bits, main & ((1 << self.side_bits) - 1)
        return main, side >> self.stored_bits, side & ((1 << self.stored_bits) - 1)


@dataclass(frozen=True)
class PartTables:
    """The parts of a search space on one system. saved: (main, side) that hide [device, last, first class]."""

    tables: BlockTables
    parts: tuple[Part, ...]
    coding: Coding
    saved: tuple[Ints, Ints]


def part_tables(tables: BlockTables, parts: Sequence[NDArray[np.integer]]) -> PartTables:
    """Multiply out runs of stages. parts: for each run, in order, its combinations of options [M, stages in the run].

    Raises UserError where the runs are not all the stages, or hold options that do not exist or do not fit behind each
    other; LimitError where costs are too large for exact sums.
    """
    if sum(p.shape[1] for p in parts) != len(tables.stages) or not all(map(len, parts)):
        got = [p.shape for p in parts]
        raise UserError("the parts are not the stages of the tables", why=f"{len(tables.stages)} stages, parts {got}")
    made, at = [], 0
    for number, options in enumerate(parts):
        made.append(_run(tables, options.astype(np.int64), at, number))
        at += options.shape[1]
    for before, after in reversed(list(itertools.pairwise(made))):
        _prune(before, after, tables)
    coding = _coding(made)
    hidden = np.moveaxis(tables.hidden, 2, 0)  # [device, last, first, 2]
    main, other = hidden[..., 0] // UNITS_OF_PRICE, hidden[..., 1]
    saved = [np.ascontiguousarray(table) for table in coding.pack(main, other, np.zeros_like(other))]
    parts_ = tuple(_part(run, tables, coding, i) for i, run in enumerate(made))
    return PartTables(tables, parts_, coding, (saved[0], saved[1]))


@dataclass(frozen=True)
class _Product:
    """Combinations of options multiplied out. sums: objective, other, stored [M, 2D, D], as `Stage`'s at price 0."""

    sums: tuple[Ints, Ints, Ints]
    first: Ints
    last: Ints

    def take(self, which: Ints) -> _Product:
        """Some of them."""
        return _Product(
            (self.sums[0][which], self.sums[1][which], self.sums[2][which]), self.first[which], self.last[which]
        )


@dataclass(frozen=True)
class _Run:
    """A run of stages with all of its combinations; widest: [M] the largest share of any of their plans."""

    options: Ints
    product: _Product
    enters: Ints
    leaves: Ints
    widest: Ints


def _run(tables: BlockTables, options: Ints, at: int, number: int) -> _Run:
    stages = tables.stages[at : at + options.shape[1]]
    for s, stage in enumerate(stages):
        column = options[:, s]
        if column.min() < 0 or column.max() >= stage.options:
            raise UserError(f"stage {at + s} has no such option", (f"part {number}",), f"it has {stage.options}")
        if s and (stages[s - 1].leaves[options[:, s - 1]] != stage.enters[column]).any():
            raise UserError(f"options of stages {at + s - 1} and {at + s} do not fit", (f"part {number}",))
    shares = [s.shares[:, 0][s.item_of[0]].max(axis=(1, 2)) if s.shares.shape[1] else _none(s.options) for s in stages]
    widest: Ints = np.max([share[options[:, s]] for s, share in enumerate(shares)], axis=0)
    enters, leaves = stages[0].enters[options[:, 0]], stages[-1].leaves[options[:, -1]]
    return _Run(options, _multiply(tables, options, at), enters, leaves, widest)


def _none(count: int) -> Ints:
    return np.zeros(count, np.int64)


def _multiply(tables: BlockTables, options: Ints, at: int) -> _Product:
    """Both halves of the stages, each combination once, then all pairs that occur."""
    if options.shape[1] == 1:
        stage, pick = tables.stages[at], options[:, 0]
        alone = stage.priced[0][pick] // UNITS_OF_PRICE, stage.other[0][pick], stage.stored[0][pick]
        return _Product(alone, stage.first[pick], stage.last[pick])
    half = options.shape[1] // 2
    sides = []
    for columns, start in ((options[:, :half], at), (options[:, half:], at + half)):
        once, which = np.unique(columns, axis=0, return_inverse=True)
        sides.append((_multiply(tables, once, start), which.ravel()))
    (a, of_a), (b, of_b) = sides
    pieces = [
        _join(a.take(of_a[i : i + AT_ONCE]), b.take(of_b[i : i + AT_ONCE]), tables.hidden)
        for i in range(0, len(options), AT_ONCE)
    ]
    sums = tuple(np.concatenate([p.sums[i] for p in pieces]) for i in range(3))
    first, last = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("first", "last"))
    return _Product((sums[0], sums[1], sums[2]), first, last)


def _join(a: _Product, b: _Product, hidden: Ints) -> _Product:
    """Each of `a` with that of `b` behind it."""
    saved = hidden[a.last, b.first]  # [M, D, 2]
    whole = [np.repeat(x, 2, axis=-1)[..., None] + y[:, None] for x, y in zip(a.sums, b.sums, strict=True)]
    whole[0][:, :, 1::2] -= (saved[..., 0] // UNITS_OF_PRICE)[:, None, :, None]
    whole[1][:, :, 1::2] -= saved[:, None, :, None, 1]
    joined = least(whole[0], whole[1], whole[2], axis=2)
    begins = (a.last == 0)[:, None, None]  # nothing but skips before
    sums = tuple(np.where(begins, y, x) for x, y in zip(joined, b.sums, strict=True))
    first, last = np.where(a.first > 0, a.first, b.first), np.where(b.last > 0, b.last, a.last)
    return _Product((sums[0], sums[1], sums[2]), first, last)


def _prune(before: _Run, after: _Run, tables: BlockTables) -> None:
    """Strike ways out of a part that no best plan takes, whatever follows; in place.

    Leaving on e is useless where leaving on d and the dearest difference between going on from d and from e, over all
    combinations that may follow, cost strictly less: most often the host, where the other devices run every block.
    """
    devices = range(before.product.sums[0].shape[2])
    plain, saves = after.product.sums[0][:, 0::2], after.product.sums[0][:, 1::2]  # [M, entry, exit]
    most = tables.hidden[..., 0].max(axis=(0, 1), initial=0) // UNITS_OF_PRICE
    high, low = np.minimum(plain, saves), np.minimum(plain, saves - most[None, :, None])
    main = before.product.sums[0]
    for signature in np.unique(before.leaves):
        behind, here = after.enters == signature, np.flatnonzero(before.leaves == signature)
        costs = main[here]
        for d, e in itertools.permutations(devices, 2):
            ways = low[behind, e] < LOST - most[e]
            if not ways.any():
                continue
            difference = int((high[behind, d] - low[behind, e])[ways].max())
            if difference < LOST // 2:
                useless = costs[:, :, d] + difference < costs[:, :, e]
                main[here, :, e] = np.where(useless, LOST, main[here, :, e])


def _coding(runs: Sequence[_Run]) -> Coding:
    """The most compact coding that holds the dearest sum of all parts."""
    dearest = [0, 0, 0]
    for run in runs:
        here = run.product.sums[0] < LOST
        for i in range(3):
            dearest[i] += int(run.product.sums[i][here].max(initial=0))
    main, other, stored = (most.bit_length() for most in dearest)
    spare = (len(runs) + 2).bit_length()  # so many that are never
    if main + other + stored + spare <= BITS:
        return Coding(stored, other + stored, 1 << (main + other + stored))
    if main + spare <= BITS and other + stored <= BITS:
        return Coding(stored, 0, 1 << main)
    raise LimitError("the costs of this search space are too large for exact sums", why=f"{dearest} of 2**{BITS}")


def _part(run: _Run, tables: BlockTables, coding: Coding, number: int) -> Part:
    """Cells that some option uses. Where nothing can hide on a device, both of its rows are one."""
    product = run.product
    main, other, stored = product.sums
    main = np.where(main >= LOST, NEVER, main)
    devices = main.shape[2]
    cells = []
    for d in range(devices) if number else [tables.setting.devices.index(HOST)]:
        hides = bool(number) and bool(tables.hidden[:, np.unique(product.first), d].any())
        for e in range(devices):
            pair = [(main[:, r, e], other[:, r, e], stored[:, r, e]) for r in (2 * d, 2 * d + 1)]
            if not hides:
                both = [np.stack(columns, axis=1) for columns in zip(*pair, strict=True)]
                pair = [least(both[0], both[1], both[2], axis=1)]
            for saves, ways in enumerate(pair):
                if (ways[0] < NEVER).any():
                    cells.append(Cell(d, e, bool(saves), *coding.pack(*ways)))
    ends = run.options, tuple(cells), run.enters, run.leaves
    return Part(*ends, product.first, product.last, run.widest)


# --- networks ----------------------------------------------------------------------------------------------


def estimate_parts(parts: PartTables, choices: NDArray[np.integer]) -> Estimates:
    """Costs of the networks `choices` [N, P]: which combination of each part; as `estimate_many` on the tables.

    Raises UserError for an array of another shape or type, combinations that do not exist, and parts that do not fit
    behind each other.
    """
    chosen = np.asarray(choices)
    if chosen.ndim != 2 or chosen.shape[1] != len(parts.parts) or not np.issubdtype(chosen.dtype, np.integer):
        why = f"got {chosen.dtype} of shape {chosen.shape}"
        raise UserError(f"choices are whole numbers in an array [networks, {len(parts.parts)}]", ("choices",), why)
    for p, part in enumerate(parts.parts):
        if len(chosen) and not 0 <= chosen[:, p].min() <= chosen[:, p].max() < len(part.first):
            raise UserError(f"part {p} has no such combination", ("choices",), f"it has {len(part.first)}")
    found = [_chunk(parts, chosen[at : at + CHUNK]) for at in range(0, len(chosen), CHUNK)]
    if not found:
        return Estimates.of_nothing()
    value, other, bound, stored = (np.concatenate([f[i] for f in found]) for i in range(4))
    pair = (value, other) if parts.tables.setting.objective == 0 else (other, value)
    return Estimates(*pair, bound, value == bound, stored)


def _chunk(parts: PartTables, chosen: NDArray[np.integer]) -> tuple[Ints, Ints, Ints, Ints]:
    """(objective, other, bound, stored) of each network; those that overflow the store go the general way."""
    picks = [np.ascontiguousarray(chosen[:, p], np.intp) for p in range(len(parts.parts))]
    _check(parts, picks)
    main, side = _walk(parts, picks)
    lost = main >= parts.coding.never
    value, other, stored = parts.coding.unpack(main, side)
    value, other = np.where(lost, NO_PLAN, value), np.where(lost, NO_PLAN, other)
    bound = value.copy()
    if parts.tables.store is not None:
        widest = np.max([part.widest[pick] for part, pick in zip(parts.parts, picks, strict=True)], axis=0)
        full = np.flatnonzero(~surely_fits(parts.tables, stored, widest)[0] & ~lost)
        if len(full):
            fine = [part.options[pick[full]] for part, pick in zip(parts.parts, picks, strict=True)]
            slow = evaluate(parts.tables, np.concatenate(fine, axis=1))
            mine = (slow.latency_ps, slow.energy_pj)
            first = parts.tables.setting.objective
            value[full], other[full] = mine[first], mine[1 - first]
            bound[full], stored[full] = slow.bound, slow.stored_bytes
    return value, other, bound, stored


def _check(parts: PartTables, picks: Sequence[Picks]) -> None:
    for p in range(1, len(picks)):
        before, here = parts.parts[p - 1], parts.parts[p]
        if (before.leaves.take(picks[p - 1]) != here.enters.take(picks[p])).any():
            raise UserError(f"combinations of parts {p - 1} and {p} do not fit", ("choices",))


def _walk(parts: PartTables, picks: Sequence[Picks]) -> tuple[Ints, Ints]:
    """(main, side) of the best plan of each network."""
    count, single = len(picks[0]), bool(parts.coding.side_bits)
    start = parts.tables.setting.devices.index(HOST)
    zero = np.zeros(count, np.int64)
    states = {start: (zero, zero)}
    last = np.zeros(count, np.intp)
    for part, pick in zip(parts.parts, picks, strict=True):
        saved = _saved(parts, part, pick, last)
        following: dict[int, tuple[Ints, Ints]] = {}
        for cell in part.cells:
            if cell.entry not in states:
                continue
            base = states[cell.entry]
            main = cell.main.take(pick)
            main += base[0]
            side = zero
            if not single:
                side = cell.side.take(pick)
                side += base[1]
            if cell.saves:
                main -= saved[cell.entry][0]
                if not single:
                    side -= saved[cell.entry][1]
            _keep(following, cell.exit, main, side, single)
        states = following
        if any(c.saves for p in parts.parts for c in p.cells):
            mine = part.last.take(pick)
            last = np.where(mine > 0, mine, last)
    return states[0]


def _saved(parts: PartTables, part: Part, pick: Picks, last: Picks) -> dict[int, tuple[Ints, ...]]:
    """What hides behind the operator before, by device."""
    devices = {cell.entry for cell in part.cells if cell.saves}
    if not devices:
        return {}
    width = parts.saved[0].shape[2]
    index = last * width + part.first.take(pick)
    return {d: tuple(t[d].ravel().take(index) for t in parts.saved if t.size) for d in devices}


def _keep(best: dict[int, tuple[Ints, Ints]], device: int, main: Ints, side: Ints, single: bool) -> None:
    """The lesser of (main, side) and what is known for a device."""
    known = best.get(device)
    if known is None:
        best[device] = main, side
    elif single:
        np.minimum(known[0], main, out=known[0])
    else:
        better = main == known[0]
        better &= side < known[1]
        better |= main < known[0]
        np.copyto(known[0], main, where=better)
        np.copyto(known[1], side, where=better)
