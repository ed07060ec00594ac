"""Whether the weights of many plans go into the units of the store: a sound test, vectorised.

Putting each share on the units that are emptiest keeps any two units within the largest share of each other. So what is
in all units together decides most cases: too much for them, or so little that no unit can overflow. For the others the
packing is carried out, largest share first, as `h4hc.planning.packing` does before it searches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from h4hc.batch.frontier import Ints
from h4hc.batch.tables import BlockTables
from h4hc.batch.ways import Ways
from h4hc.costtypes import Capacity


def surely_fits(tables: BlockTables, stored: Ints, widest: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which plans fit by their sums alone, and the numbers of those of which these say nothing.

    stored: bytes in all units together; widest: no share is larger.
    """
    if tables.store is None:
        return np.ones(len(stored), bool), np.zeros(0, np.int64)
    units, limit = tables.store.units, tables.store.unit_bytes
    assert limit is not None
    found: NDArray[np.bool_] = stored + (units - 1) * widest <= units * limit
    return found, np.flatnonzero(~found & (stored <= units * limit))


def packs(tables: BlockTables, chosen: Ints, ways: Ways) -> NDArray[np.bool_]:
    """Whether a packing is found for each plan; chosen [N, S] are the networks of `ways`.

    True is certain. False may be wrong where the plan leaves almost no room.
    """
    assert tables.store is not None
    assert tables.store.unit_bytes is not None
    shares, used = [], []
    for s, stage in enumerate(tables.stages):
        entry = stage.item_of[ways.prices[:, s], chosen[:, s], ways.rows[s], ways.exits[s]]
        shares.append(stage.shares[entry])
        used.append(stage.units[entry])
    return _pack(np.concatenate(shares, axis=1), np.concatenate(used, axis=1), tables.store)


def _pack(shares: Ints, used: Ints, store: Capacity) -> NDArray[np.bool_]:
    """Largest share first, each on the emptiest units; shares, used [N, items], 0 where there are fewer."""
    order = np.argsort(-shares, axis=1, kind="stable")
    shares, used = np.take_along_axis(shares, order, axis=1), np.take_along_axis(used, order, axis=1)
    load = np.zeros((len(shares), store.units), np.int64)
    for i in range(shares.shape[1]):
        if not shares[:, i].any():
            break
        load.sort(axis=1)
        load += shares[:, i : i + 1] * (np.arange(store.units) < used[:, i : i + 1])
    found: NDArray[np.bool_] = load.max(axis=1) <= store.unit_bytes
    return found
