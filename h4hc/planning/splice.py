"""New plans out of two: where both pass through the same state, either may take over from the other at no cost.

Between such places lie segments in which the plans differ, each with a difference in cost and in bytes held, whatever
is chosen in the others. So the best mixture is a knapsack of a few items, and all of them are tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h4hc.planning.frontier import Ints
from h4hc.planning.walk import Floats

MOST_SEGMENTS = 12  # 4096 mixtures at once


@dataclass(frozen=True)
class Trail:
    """A plan as a path. chosen [n]: numbers of its modes; states [n]: the state behind each operator; cost [n] and held
    [stores, n]: what the plan costs and holds up to there."""

    chosen: Ints
    states: Ints
    cost: Floats
    held: Floats


def best_mixture(base: Trail, other: Trail, room: Floats, prices: Floats) -> Trail:
    """The cheapest plan that holds no more than the room, out of segments of two; the base itself must fit.

    prices: by which the segments are ranked where there are too many of them.
    """
    meets = np.flatnonzero(base.states == other.states)
    ends = np.unique(np.append(meets, len(base.states) - 1))  # behind the last operator nothing is shared any more
    differ = np.add.reduceat(base.chosen != other.chosen, np.append(0, ends[:-1] + 1)) > 0
    gain = np.diff((other.cost - base.cost)[ends], prepend=0.0)
    more = np.diff((other.held - base.held)[:, ends], prepend=0.0, axis=1)
    segments = np.flatnonzero(differ)
    if len(segments) > MOST_SEGMENTS:
        rank = np.abs(gain + prices @ more)[segments]
        segments = np.sort(segments[np.argsort(rank, kind="stable")[:MOST_SEGMENTS]])
    sets = (np.arange(2 ** len(segments))[:, None] >> np.arange(len(segments))) & 1
    fits = (sets @ more[:, segments].T + base.held[:, -1] <= room).all(axis=1)
    costs = np.where(fits, sets @ gain[segments], np.inf)
    taken = np.zeros(len(ends), bool)
    taken[segments[sets[int(np.argmin(costs))] == 1]] = True
    if not taken.any():
        return base
    lengths = np.diff(ends, prepend=-1)
    theirs = np.repeat(taken, lengths)
    steps = np.where(theirs, np.diff(other.cost, prepend=0.0), np.diff(base.cost, prepend=0.0))
    held = np.where(theirs, np.diff(other.held, prepend=0.0, axis=1), np.diff(base.held, prepend=0.0, axis=1))
    chosen, states = np.where(theirs, other.chosen, base.chosen), np.where(theirs, other.states, base.states)
    return Trail(chosen, states, np.cumsum(steps), np.cumsum(held, axis=1))
