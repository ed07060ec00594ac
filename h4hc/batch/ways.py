"""The way that the best plan of a network takes through the tables, stage by stage, where sums alone do not do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h4hc.batch.frontier import NEVER, UNITS_OF_PRICE, Ints
from h4hc.batch.groups import least
from h4hc.batch.tables import BlockTables, Stage
from h4hc.system import HOST


@dataclass(frozen=True)
class Ways:
    """Plans of N networks. rows, exits: [S, N] places in the tables of each stage; prices: [N, S] as given.

    value: the objective without prices, NEVER where there is no plan; other: the other objective; stored: bytes.
    """

    prices: Ints
    rows: Ints
    exits: Ints
    value: Ints
    other: Ints
    stored: Ints

    def only(self, which: Ints) -> Ways:
        """Those of some networks."""
        places = self.rows[:, which], self.exits[:, which]
        return Ways(self.prices[which], *places, self.value[which], self.other[which], self.stored[which])


def find_ways(tables: BlockTables, chosen: Ints, prices: Ints) -> Ways:
    """Least sum of objective + price * stored over all plans, with a price for each stage; chosen, prices [N, S]."""
    count, devices = len(chosen), len(tables.setting.devices)
    sums = [np.full((count, devices), NEVER), *(np.zeros((count, devices), np.int64) for _ in range(2))]
    sums[0][:, tables.setting.devices.index(HOST)] = 0
    last = np.zeros(count, np.int64)
    steps = []
    for s, stage in enumerate(tables.stages):
        option = chosen[:, s]
        sums, step = _stage(tables, stage, option, prices[:, s], last, sums)
        steps.append(step)
        last = np.where(stage.last[option] > 0, stage.last[option], last)
    rows, exits = np.zeros((2, len(steps), count), np.int64)
    device = np.zeros(count, np.int64)  # a network ends in column 0
    charged = np.array([max(p, 0) for p in tables.setting.prices], np.int64)
    charge = np.zeros(count, np.int64)
    for s in range(len(steps) - 1, -1, -1):
        exits[s] = device
        rows[s] = steps[s][np.arange(count), device]
        charge += charged[prices[:, s]] * tables.stages[s].stored[prices[:, s], chosen[:, s], rows[s], exits[s]]
        device = rows[s] // 2
    priced = sums[0][:, 0]
    value = np.where(priced < NEVER, (priced - charge) // UNITS_OF_PRICE, NEVER)
    return Ways(prices, rows, exits, value, sums[1][:, 0], sums[2][:, 0])


def _stage(
    tables: BlockTables, stage: Stage, option: Ints, price: Ints, last: Ints, sums: list[Ints]
) -> tuple[list[Ints], NDArray[np.int8]]:
    """Sums behind a stage by exit device, and the row each came in by."""
    base_main, base_side = (np.repeat(column, 2, axis=1) for column in sums[:2])  # row = 2 * device + runs on there
    saved = tables.hidden[last, stage.first[option]]  # [N, D, 2]
    base_main[:, 1::2] -= saved[:, :, 0]
    base_side[:, 1::2] -= saved[:, :, 1]
    main = stage.priced[price, option] + base_main[:, :, None]
    side = stage.other[price, option] + base_side[:, :, None]
    stored = stage.stored[price, option] + np.repeat(sums[2], 2, axis=1)[:, :, None]
    best = least(main, side, stored, axis=1)
    return list(best), stored.argmin(axis=1).astype(np.int8)
