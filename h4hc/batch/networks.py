"""Many networks at once from per-block tables: min-plus products over the device at each border, vectorised.

For each network: least[d] = min over the device c at the entry of least[c] + table[option, c, d] - hidden, stage by
stage, in exact integers; of equal sums the one with the least of the other objective counts, then the least stored.
That is the optimum of the integer program of `h4hc.partition` as long as the weights of the plan fit the store.

Where they do not, h4hc.batch.capacity looks for a plan that fits. So `latency_ps` and `energy_pj` are always a plan's
own, `bound` is below every plan's, and `proved` says where the two meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h4hc.batch.capacity import NO_PLAN, Flags, Search, at_price
from h4hc.batch.frontier import NEVER, UNITS_OF_PRICE, Ints
from h4hc.batch.tables import BlockTables
from h4hc.batch.ways import find_ways
from h4hc.costtypes import Mode
from h4hc.errors import Problem, UserError

CHUNK = 2048  # networks at a time: the arrays of a stage stay in the cache


@dataclass(frozen=True)
class Estimates:
    """One entry for each network, in the order given.

    latency_ps, energy_pj: of a plan that fits, optimal for the objective where `proved`; NO_PLAN where none was found.
    bound: no plan has less of the objective. stored_bytes: what the plan keeps in the weight store.
    """

    latency_ps: Ints
    energy_pj: Ints
    bound: Ints
    proved: Flags
    stored_bytes: Ints

    def columns(self) -> tuple[Ints, Ints, Ints, Flags, Ints]:
        """All arrays, in the order of the fields."""
        return self.latency_ps, self.energy_pj, self.bound, self.proved, self.stored_bytes

    @staticmethod
    def of_nothing() -> Estimates:
        """Of no network."""
        empty = np.zeros(0, np.int64)
        return Estimates(empty, empty, empty, np.zeros(0, bool), empty)


def evaluate(tables: BlockTables, choices: NDArray[np.integer], refine: bool = False) -> Estimates:
    """Costs of the networks `choices` [N, S]: option of each stage. refine: look harder for plans that fit the store.

    Raises UserError for an array of another shape or type, options that do not exist, and blocks that do not fit
    behind each other.
    """
    chosen = _checked(tables, choices)
    parts = [_chunk(tables, chosen[at : at + CHUNK], refine) for at in range(0, len(chosen), CHUNK)]
    if not parts:
        return Estimates.of_nothing()
    value, other, bound, stored = (np.concatenate([p[i] for p in parts]) for i in range(4))
    pair = (value, other) if tables.setting.objective == 0 else (other, value)
    return Estimates(*pair, bound, value == bound, stored)


def plan_modes(tables: BlockTables, choice: NDArray[np.integer], refine: bool = False) -> tuple[Mode, ...] | None:
    """Modes of the plan that `evaluate` costs for one network, in the order of `join_blocks`; None without a plan."""
    chosen = _checked(tables, np.asarray(choice)[None, :])
    prices = _best_prices(tables, chosen, refine)
    if prices is None:
        return None
    way = find_ways(tables, chosen, prices)
    modes: list[Mode] = []
    for s, stage in enumerate(tables.stages):
        place = int(prices[0, s]), int(way.rows[s, 0]), int(way.exits[s, 0])
        modes += stage.paths[chosen[0, s]].modes[place]
    return tuple(modes)


def _checked(tables: BlockTables, choices: NDArray[np.integer]) -> Ints:
    array = np.asarray(choices)
    count = len(tables.stages)
    if array.ndim != 2 or array.shape[1] != count or not np.issubdtype(array.dtype, np.integer):
        why = f"got {array.dtype} of shape {array.shape}"
        raise UserError(f"choices are whole numbers in an array [networks, {count}]", ("choices",), why)
    chosen: Ints = array.astype(np.int64)
    problems = []
    last = np.full(len(chosen), tables.begin)
    for s, stage in enumerate(tables.stages):
        wrong = np.flatnonzero((chosen[:, s] < 0) | (chosen[:, s] >= stage.options))
        if len(wrong):
            where, what = f"network {wrong[0]}", int(chosen[wrong[0], s])
            why = f"options 0 to {stage.options - 1}; {len(wrong)} networks"
            problems.append(Problem(f"stage {s} has no option {what}", (where,), why))
            break
        loose = np.flatnonzero(stage.enters[chosen[:, s]] != last)
        if len(loose):
            n = int(loose[0])
            why = f"{len(loose)} networks; the tensor that one hands on is not the one the other takes"
            problems.append(Problem(f"option {chosen[n, s]} of stage {s} does not fit there", (f"network {n}",), why))
        last = stage.leaves[chosen[:, s]]
    if problems:
        raise UserError.of(tuple(problems))
    return chosen


def _chunk(tables: BlockTables, chosen: Ints, refine: bool) -> tuple[Ints, Ints, Ints, Ints]:
    """(objective, other, bound, stored) of each network of one chunk."""
    free = np.zeros(len(chosen), np.int64)
    priced, other, stored, fit = at_price(tables, chosen, free)
    lost = priced >= NEVER
    value = np.where(lost, NO_PLAN, priced // UNITS_OF_PRICE)
    other, bound = np.where(lost, NO_PLAN, other), value.copy()
    full = np.flatnonzero(~fit & ~lost)
    if len(full):
        search = Search(tables, chosen[full], bound[full])
        search.run(refine)
        value[full], other[full], bound[full], stored[full] = search.value, search.other, search.bound, search.stored
    return value, other, bound, stored


def _best_prices(tables: BlockTables, chosen: Ints, refine: bool) -> Ints | None:
    """[1, S] prices at which `find_ways` finds the plan that `evaluate` costs for one network."""
    zero = np.zeros(1, np.int64)
    priced, _, _, fit = at_price(tables, chosen, zero)
    if priced[0] >= NEVER:
        return None
    if fit[0]:
        return np.zeros_like(chosen)
    search = Search(tables, chosen, zero)
    search.run(refine)
    return search.prices if search.value[0] < NO_PLAN else None
