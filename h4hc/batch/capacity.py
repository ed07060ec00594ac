"""Networks whose weights do not fit the store for nothing: prices of weight bytes, what they prove, and plans that fit.

For every price >= 0, the least of objective + price * (stored - capacity) is below every plan that fits: the bound.
The least of the tables' prices at which the plan fits is found by bisection. It leaves room, since a block is stored or
not: refining tries each stage in turn at the next lower price, and keeps it where all still fits and the network gains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from h4hc.batch.fit import packs, surely_fits
from h4hc.batch.frontier import NEVER, NO_STORE, UNITS_OF_PRICE, Ints
from h4hc.batch.groups import walk
from h4hc.batch.tables import BlockTables
from h4hc.batch.ways import Ways, find_ways

NO_PLAN = np.iinfo(np.int64).max  # cost of a network for which no plan that fits was found
Flags = NDArray[np.bool_]


def at_price(tables: BlockTables, chosen: Ints, price: Ints) -> tuple[Ints, Ints, Ints, Flags]:
    """(priced, other, stored, whether it fits) of each network's best plan; chosen [N, S], price [N]."""
    priced, other, stored, widest = walk(tables.groups, tables.hidden, chosen, price)
    fit, unsure = surely_fits(tables, stored, widest)
    if len(unsure):
        ways = find_ways(tables, chosen[unsure], _everywhere(price[unsure], tables))
        fit[unsure] = packs(tables, chosen[unsure], ways)
    return priced, other, stored, fit & (priced < NEVER)


def _everywhere(price: Ints, tables: BlockTables) -> Ints:
    return np.repeat(price[:, None], len(tables.stages), axis=1)


class Search:
    """Plans that fit, for networks whose best plans do not; bound [N]: what is known at price 0.

    value, other, stored: of the plan that is kept, NO_PLAN without one; prices [N, S]: those it was found at.
    """

    def __init__(self, tables: BlockTables, chosen: Ints, bound: Ints) -> None:
        self.tables, self.chosen, self.bound = tables, chosen, bound.copy()
        count = len(chosen)
        self.value, self.other = np.full(count, NO_PLAN), np.full(count, NO_PLAN)
        self.stored = np.zeros(count, np.int64)
        self.prices = np.zeros((count, len(tables.stages)), np.int64)
        self._low = np.zeros(count, np.int64)
        self._high = np.full(count, len(tables.setting.prices) - 1)

    def run(self, refine: bool) -> None:
        """Try the last price, at which nothing is stored, halve the interval of prices; refine: fill what is left."""
        self._try(np.arange(len(self.chosen)), self._high)
        while True:
            open_ = np.flatnonzero(self._high - self._low > 1)
            if not len(open_):
                break
            middle = (self._low[open_] + self._high[open_]) // 2
            fit = self._try(open_, middle)
            self._high[open_[fit]] = middle[fit]
            self._low[open_[~fit]] = middle[~fit]
        found = np.flatnonzero((self.value < NO_PLAN) & (self.value > self.bound))
        for s in range(len(self.tables.stages) if refine else 0):
            self._fill(found, s)

    def _try(self, which: Ints, price: Ints) -> Flags:
        """Plans at these prices: whether they fit; better plans and bounds are kept."""
        setting, store = self.tables.setting, self.tables.store
        assert store is not None
        assert store.unit_bytes is not None
        priced, other, stored, fit = at_price(self.tables, self.chosen[which], price)
        charged = np.array([max(p, 0) for p in setting.prices], np.int64)[price]
        proves = np.array([p != NO_STORE for p in setting.prices])[price] & (priced < NEVER)
        proved = -((charged * store.units * store.unit_bytes - priced) // UNITS_OF_PRICE)  # rounded up
        self.bound[which] = np.where(proves, np.maximum(self.bound[which], proved), self.bound[which])
        value: Ints = (priced - charged * stored) // UNITS_OF_PRICE
        self._keep(which, fit, value, other, stored, _everywhere(price, self.tables))
        return fit

    def _fill(self, which: Ints, stage: int) -> None:
        """One stage at the highest price that did not fit everywhere."""
        prices = self.prices[which].copy()
        prices[:, stage] = self._low[which]
        ways = find_ways(self.tables, self.chosen[which], prices)
        self._keep(which, self._fits(which, ways), ways.value, ways.other, ways.stored, prices)

    def _fits(self, which: Ints, ways: Ways) -> Flags:
        store = self.tables.store
        assert store is not None
        assert store.unit_bytes is not None
        fit: Flags = (ways.value < NEVER) & (ways.stored <= store.units * store.unit_bytes)
        some = np.flatnonzero(fit)
        if len(some):
            fit[some] = packs(self.tables, self.chosen[which[some]], ways.only(some))
        return fit

    def _keep(self, which: Ints, fit: Flags, value: Ints, other: Ints, stored: Ints, prices: Ints) -> None:
        equal = value == self.value[which]
        better = fit & ((value < self.value[which]) | (equal & (other < self.other[which])))
        at = which[better]
        self.value[at], self.other[at], self.stored[at] = value[better], other[better], stored[better]
        self.prices[at] = prices[better]
