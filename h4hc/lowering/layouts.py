"""Physical orders: in which order each operator works, and in which order it leaves its tensors.

Two sweeps. Backwards: which order do the consumers of a tensor want? Forwards: take inputs as they are where
the operator allows it, and decide for each reshape and transpose whether any byte moves.

A tensor with one channel, or one position a channel, or fewer than three axes lies the same way in both
orders. It is *free*: always labelled row_major, and never in need of a change (`is_free`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from h4hc.lowering.site import Lowered, Order, Vectors
from h4hc.workload import Layout, OpKind, VectorParams

ROW, LAST = Layout.ROW_MAJOR, Layout.CHANNELS_LAST
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Draft:
    """An operator on the way: what it is, and the names of the tensors that enter and leave."""

    id: str
    lowered: Lowered
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Laid:
    """An operator with its layout (`Op.layout`); transposes that move nothing have become views."""

    lowered: Lowered
    layout: Layout | None


def is_free(shape: Shape) -> bool:
    """Whether both orders are the same: fewer than three axes, one channel, or one position.

    >>> is_free((1, 64, 1, 1)), is_free((1, 1, 28, 28)), is_free((1, 64, 7, 7)), is_free((8, 10))
    (True, True, False, True)
    """
    return len(shape) < 3 or shape[1] <= 1 or math.prod(shape[2:]) <= 1


def lay_out(
    drafts: Sequence[Draft], shapes: Mapping[str, Shape], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[list[Laid], dict[str, Layout]]:
    """Layout of every operator, in execution order, and of every tensor. Model inputs and outputs are row-major."""
    wanted = _demands(drafts, shapes, outputs)
    order = dict.fromkeys(inputs, ROW)
    laid = []
    for draft in drafts:
        made = _Forward(shapes, order, wanted).lay(draft)
        laid.append(made)
    return laid, order


def axes_of(layout: Layout, rank: int) -> tuple[int, ...]:
    """Axes from the outermost to the innermost in memory."""
    return (0, *range(2, rank), 1) if layout == LAST and rank > 2 else tuple(range(rank))


def is_innermost(vectors: Vectors, layout: Layout) -> bool:
    """Whether the vectors are runs of adjacent elements: their axes are the last ones in memory (1s do not count).

    >>> tokens = Vectors((4, 128, 64), (1,))
    >>> is_innermost(tokens, ROW), is_innermost(tokens, LAST), is_innermost(Vectors((4, 128, 64), (1, 2)), ROW)
    (False, True, True)
    """
    stored = [axis for axis in axes_of(layout, len(vectors.shape)) if vectors.shape[axis] != 1]
    along = {axis for axis in vectors.axes if vectors.shape[axis] != 1}
    return set(stored[len(stored) - len(along) :]) == along


def same_bytes(shape: Shape, have: Layout, perm: Sequence[int], want: Layout) -> bool:
    """Whether transposing a tensor of `shape` held in order `have` into order `want` leaves every byte in place.

    >>> same_bytes((1, 8, 4, 4), LAST, (0, 2, 3, 1), ROW), same_bytes((1, 8, 4, 4), ROW, (0, 2, 3, 1), ROW)
    (True, False)
    """
    rank = len(shape)
    before = [axis for axis in axes_of(have, rank) if shape[axis] != 1]
    after = [perm[axis] for axis in axes_of(want, rank) if shape[perm[axis]] != 1]
    return before == after


def _demands(drafts: Sequence[Draft], shapes: Mapping[str, Shape], outputs: Sequence[str]) -> dict[str, Layout]:
    """For each tensor the order its first consumer wants; tensors that nobody cares about are missing."""
    wanted = {name: ROW for name in outputs if not is_free(shapes[name])}
    for draft in reversed(drafts):
        for name in draft.inputs:
            if not is_free(shapes[name]):
                demand = _demand(draft, shapes[name], shapes, wanted)
                if demand is not None:
                    wanted[name] = demand
    return wanted


def _demand(draft: Draft, shape: Shape, shapes: Mapping[str, Shape], wanted: Mapping[str, Layout]) -> Layout | None:
    order = draft.lowered.order
    if order in (Order.CHANNELS_LAST, Order.ROW_MAJOR):
        return Layout(order)
    target = wanted.get(draft.outputs[0]) if draft.outputs else None
    if order == Order.EITHER:
        return target
    if order == Order.RESHAPE:
        return target if _keeps_channels(shape, shapes[draft.outputs[0]]) else ROW
    if order == Order.TRANSPOSE:
        for have in (LAST, ROW):
            if same_bytes(shape, have, draft.lowered.axes, target or ROW):
                return have
    return None


def _keeps_channels(before: Shape, after: Shape) -> bool:
    """Whether a reshape keeps batch and channels and only regroups the positions: channels-last stays channels-last."""
    return len(before) > 2 and len(after) > 2 and before[:2] == after[:2]


def _placed(lowered: Lowered, work: Layout) -> Lowered:
    """With what only the physical order tells of the parameters."""
    if lowered.vectors is None or not isinstance(lowered.params, VectorParams):
        return lowered
    return replace(lowered, params=replace(lowered.params, innermost=is_innermost(lowered.vectors, work)))


class _Forward:
    """Lays out one operator, given the orders of the tensors made so far."""

    def __init__(self, shapes: Mapping[str, Shape], order: dict[str, Layout], wanted: Mapping[str, Layout]) -> None:
        self._shapes = shapes
        self._order = order
        self._wanted = wanted

    def lay(self, draft: Draft) -> Laid:
        lowered = draft.lowered
        match lowered.order:
            case Order.EITHER:
                work = self._either(draft)
                return self._done(draft, lowered, work, work)
            case Order.RESHAPE:
                work = self._reshaped(draft)
                return self._done(draft, lowered, work, work)
            case Order.TRANSPOSE:
                return self._transposed(draft)
            case Order.REDUCE:
                work, result = self._reduced(draft)
                return self._done(draft, lowered, work, result)
        fixed = Layout(lowered.order)
        self._leave(draft, fixed)
        return Laid(_placed(lowered, fixed), fixed)

    def _done(self, draft: Draft, lowered: Lowered, work: Layout, result: Layout) -> Laid:
        """None as layout where it says nothing more than the order of the first input."""
        self._leave(draft, result)
        first = self._order[draft.inputs[0]] if draft.inputs else None
        return Laid(_placed(lowered, work), None if work == first else work)

    def _leave(self, draft: Draft, layout: Layout) -> None:
        for name in draft.outputs:
            self._order[name] = ROW if is_free(self._shapes[name]) else layout

    def _either(self, draft: Draft) -> Layout:
        """The order in which most bytes lie already; row-major where the tensors' axes do not line up."""
        shapes = [self._shapes[n] for n in (*draft.inputs, *draft.outputs)]
        rank = max((len(s) for s in shapes), default=0)
        if rank < 3 or not all(len(s) == rank or is_free((1,) * (rank - len(s)) + s) for s in shapes):
            return ROW
        size = {ROW: 0, LAST: 0}
        for name in draft.inputs:
            if not is_free(self._shapes[name]):
                size[self._order[name]] += math.prod(self._shapes[name])
        if size[ROW] == size[LAST]:
            return self._wanted.get(draft.outputs[0], ROW) if draft.outputs else ROW
        return ROW if size[ROW] > size[LAST] else LAST

    def _reshaped(self, draft: Draft) -> Layout:
        source, result = draft.inputs[0], draft.outputs[0]
        keeps = _keeps_channels(self._shapes[source], self._shapes[result])
        return self._order[source] if keeps and not is_free(self._shapes[source]) else ROW

    def _transposed(self, draft: Draft) -> Laid:
        """A view where the order that is wanted of the result is the one the bytes already have."""
        source, result = draft.inputs[0], draft.outputs[0]
        have, want = self._order[source], self._wanted.get(result, ROW)
        lowered = draft.lowered
        if same_bytes(self._shapes[source], have, lowered.axes, want):
            lowered = replace(lowered, kind=OpKind.VIEW)
        return self._done(draft, lowered, have, want)

    def _reduced(self, draft: Draft) -> tuple[Layout, Layout]:
        """Axes vanish: the rest lies in one of the two orders, or the operator has to start from row-major."""
        source, result = self._shapes[draft.inputs[0]], self._shapes[draft.outputs[0]]
        have, gone = self._order[draft.inputs[0]], draft.lowered.axes
        left = [axis for axis in range(len(source)) if axis not in gone]
        place = {axis: index for index, axis in enumerate(left)}
        lies = [place[axis] for axis in axes_of(have, len(source)) if axis in place and source[axis] != 1]
        for layout in (ROW, LAST):
            if lies == [axis for axis in axes_of(layout, len(result)) if result[axis] != 1]:
                return have, layout
        return ROW, ROW
