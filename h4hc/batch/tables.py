"""Per-block tables of a search space: what each block option costs between any two devices, made once.

A network is one option of each stage. Tables hold, for each stage and option, the best plan of the block from each
device at its entry to each device at its exit (`frontier.best_paths`), and for each pair of neighbours what the first
operator of the one hides behind the last of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h4hc.assignment import Case, Objective
from h4hc.batch.blocks import Block, block_problems, border_marker, renamed
from h4hc.batch.frontier import NEVER, NO_STORE, UNITS_OF_PRICE, Ints, Paths, Setting, best_paths
from h4hc.batch.groups import Group, make_groups
from h4hc.batch.meeting import Classes, border_costs, sum_pairs
from h4hc.cost import cost_table
from h4hc.costtypes import Capacity, Mode
from h4hc.errors import Problem, UserError
from h4hc.planning.plan_cost import NOTHING, Pair, PlanCosts
from h4hc.system import HOST, System
from h4hc.workload import Op, Tensor, Workload

PRICES = 30  # of a stored byte, between none and not at all


@dataclass(frozen=True)
class Stage:
    """The options of one stage as arrays. K prices, R = 2 * devices rows, D exit devices, O options.

    priced, other, stored: [K, O, R, D], see `frontier.Paths`. shares, units: [entry, items] of what a plan keeps in
    the store, largest first; item_of: [K, O, R, D] the entry of each plan. enters, leaves: [O] number of the entry's
    and exit's signature; first, last: [O] class of the first and the last operator, 0 for a skip.
    """

    priced: Ints
    other: Ints
    stored: Ints
    item_of: Ints
    shares: Ints
    units: Ints
    enters: Ints
    leaves: Ints
    first: Ints
    last: Ints
    paths: tuple[Paths, ...]

    @property
    def options(self) -> int:
        """How many blocks there are to choose from."""
        return len(self.enters)


@dataclass(frozen=True)
class BlockTables:
    """Tables of a search space on one system, for one objective.

    hidden: [last class, first class, device, 2] = (objective * UNITS_OF_PRICE, other objective) that a network saves
    where two such operators meet on a device. store: the weight store that may overflow, None where none can. begin:
    number of the signature at both ends of a network. groups: the stages multiplied out.
    """

    system: str
    objective: Objective
    case: Case
    setting: Setting
    stages: tuple[Stage, ...]
    hidden: Ints
    store: Capacity | None
    begin: int
    groups: tuple[Group, ...]


def block_tables(
    stages: Sequence[Sequence[Block]],
    system: System,
    objective: Objective = Objective.LATENCY,
    case: Case = Case.NOMINAL,
    prices: int = PRICES,
) -> BlockTables:
    """Cost all options of all stages: the expensive step, once a search space and system.

    prices: of a stored byte, tried where weights overflow the store; with 0 such networks find no plan.
    Raises UserError with every block that is none, for an objective that is no sum (edp), and for a system with more
    than one weight store; UnsupportedOpError and LimitError as `cost_table` and `best_paths` do.
    """
    _check(stages, system, objective)
    named = [[renamed(b, f"{s}.{o}/") for o, b in enumerate(options)] for s, options in enumerate(stages)]
    flat = [block for options in named for block in options]
    workload, spans = _side_by_side(flat)
    table = cost_table(workload, system)
    costs = PlanCosts(table, case)
    keeper = next((c for c in system.capacities() if c.unit_bytes is not None), None)
    store = keeper if keeper and _may_fill(keeper, costs, [len(options) for options in stages], spans) else None
    index = int(objective is Objective.ENERGY)
    asked = (0, *_prices(costs, store.device, index, prices), NO_STORE) if store and prices else (0,)
    setting = Setting(system.device_names, index, asked, keeper.device if keeper else "")
    paths = _all_paths(costs, [b for options in stages for b in options], spans, setting)
    border = border_costs(table, case)
    classes = Classes(flat)
    made, at = [], 0
    for options in named:
        here = slice(at, at + len(options))
        fixed = [sum_pairs(border.get(t.name, NOTHING) for t in block.workload.tensors) for block in options]
        made.append(_stage(classes, paths[here], spans[here], fixed, costs, setting, at))
        at += len(options)
    hidden = classes.hidden(_meetings(named, classes), system, setting, case)
    parts = [((st.priced, st.other, st.stored), st.first, st.last, _widest(st)) for st in made]
    groups = make_groups(parts, hidden, setting.devices.index(HOST))
    return BlockTables(system.name, objective, case, setting, tuple(made), hidden, store, classes.begin, groups)


def _check(stages: Sequence[Sequence[Block]], system: System, objective: Objective) -> None:
    problems = []
    if objective is Objective.EDP:
        problems.append(Problem("edp is no sum over blocks", hint="minimise latency and energy, and multiply"))
    if not stages or not all(stages):
        problems.append(Problem("a search space has at least one stage, and each stage an option"))
    stores = [c.device for c in system.capacities() if c.unit_bytes is not None]
    if len(stores) > 1:
        problems.append(Problem(f"{system.name} has several weight stores", tuple(stores), "one can be priced"))
    for s, options in enumerate(stages):
        for o, block in enumerate(options):
            problems += block_problems(block, f"{s}.{o}")
            if (s == 0) != (block.entry == "") or (s == len(stages) - 1) != (block.exit == ""):
                problems.append(Problem(f"block {s}.{o} does not belong there", (), "loose ends meet the network's"))
    if problems:
        raise UserError.of(tuple(problems))


def _side_by_side(blocks: Sequence[Block]) -> tuple[Workload, list[range]]:
    """One workload with all blocks in it, so that equal operators are costed once; and where each block is.

    Each stands between two markers, so that its entry and its exit are inner tensors, as they are in the network.
    """
    ops: list[Op] = []
    tensors: list[Tensor] = []
    inputs: list[str] = []
    outputs: list[str] = []
    spans = []
    for i, block in enumerate(blocks):
        work = block.workload
        if block.entry and work.ops:
            ops.append(border_marker(f"{i} before", work.tensor[block.entry], makes=True))
        spans.append(range(len(ops), len(ops) + len(work.ops)))
        ops += work.ops
        if block.exit and work.ops:
            ops.append(border_marker(f"{i} behind", work.tensor[block.exit], makes=False))
        tensors += work.tensors
        inputs += work.inputs
        outputs += work.outputs
    precision = blocks[0].workload.precision
    return Workload("blocks", precision, tuple(ops), tuple(tensors), tuple(inputs), tuple(outputs)), spans


def _all_paths(costs: PlanCosts, blocks: Sequence[Block], spans: Sequence[range], setting: Setting) -> list[Paths]:
    """Best plans of all options; a block that stands in several stages (one object) is worked out once."""
    known: dict[int, Paths] = {}
    for block, span in zip(blocks, spans, strict=True):
        if id(block) not in known:
            known[id(block)] = _paths(costs, block, span, setting)
    return [known[id(block)] for block in blocks]


def _paths(costs: PlanCosts, block: Block, span: range, setting: Setting) -> Paths:
    """Best plans of one option; a skip goes from each device to the same device for nothing."""
    if block.workload.ops:
        return best_paths(costs, span, bool(block.entry), bool(block.exit), setting)
    count = len(setting.devices)
    shape = (len(setting.prices), 2 * count, count)
    priced = np.full(shape, NEVER)
    modes: dict[tuple[int, int, int], tuple[Mode, ...]] = {}
    for d in range(count):
        priced[:, 2 * d, d] = 0
        modes.update({(k, 2 * d, d): () for k in range(shape[0])})
    return Paths(priced, np.zeros(shape, np.int64), np.zeros(shape, np.int64), modes)


def _may_fill(store: Capacity, costs: PlanCosts, counts: Sequence[int], spans: Sequence[range]) -> bool:
    """Whether some network can fill one unit of the weight store."""
    assert store.unit_bytes is not None
    most, at = 0, 0
    for count in counts:
        most += max(sum(_largest(costs, i, store.device) for i in span) for span in spans[at : at + count])
        at += count
    return most > store.unit_bytes


def _largest(costs: PlanCosts, at: int, device: str) -> int:
    return max((size for mode, size in costs.unit_bytes[at].items() if mode.device == device), default=0)


def _prices(costs: PlanCosts, store: str, objective: int, count: int) -> tuple[int, ...]:
    """Prices at which operators give up the store by themselves: (elsewhere - there) / bytes, `count` quantiles."""
    found = set()
    for modes, sizes in zip(costs.op, costs.unit_bytes, strict=True):
        held = {m: m.units * sizes[m] for m in modes if m.device == store and sizes[m]}
        others = [modes[m][objective] for m in modes if m not in held]
        if held and others:
            best = min(held, key=lambda m: (modes[m][objective], held[m]))
            gain = (min(others) - modes[best][objective]) * UNITS_OF_PRICE // held[best]
            if gain > 0:
                found.add(gain)
    ranked = sorted(found)
    return tuple(sorted({ranked[i * (len(ranked) - 1) // max(1, count - 1)] for i in range(count)})) if ranked else ()


def _stage(
    classes: Classes,
    paths: Sequence[Paths],
    spans: Sequence[range],
    fixed: Sequence[Pair],
    costs: PlanCosts,
    setting: Setting,
    at: int,
) -> Stage:
    """Arrays of one stage; `at` is the number of its first option among all blocks."""
    priced = np.stack([p.priced for p in paths], axis=1)
    other = np.stack([p.other for p in paths], axis=1)
    for o, pair in enumerate(fixed):
        priced[:, o] = np.minimum(priced[:, o] + pair[setting.objective] * UNITS_OF_PRICE, NEVER)
        other[:, o] += pair[1 - setting.objective]
    entries: dict[tuple[tuple[int, int], ...], int] = {(): 0}
    item_of = np.zeros_like(priced)
    for o, (path, span) in enumerate(zip(paths, spans, strict=True)):
        for (k, r, d), modes in path.modes.items():
            item_of[k, o, r, d] = entries.setdefault(_items(costs, span, modes, setting.store), len(entries))
    length = max(map(len, entries))
    shares, units = (np.zeros((len(entries), length), np.int64) for _ in range(2))
    for items, e in entries.items():
        for i, (share, count) in enumerate(items):
            shares[e, i], units[e, i] = share, count
    here = range(at, at + len(paths))
    return Stage(
        priced=priced,
        other=other,
        stored=np.stack([p.stored for p in paths], axis=1),
        item_of=item_of,
        shares=shares,
        units=units,
        enters=np.array([classes.enters[i] for i in here], np.int64),
        leaves=np.array([classes.leaves[i] for i in here], np.int64),
        first=np.array([classes.first[i] for i in here], np.int64),
        last=np.array([classes.last[i] for i in here], np.int64),
        paths=tuple(paths),
    )


def _widest(stage: Stage) -> Ints:
    """[K, O] largest share of any plan of an option."""
    if not stage.shares.shape[1]:
        return np.zeros(stage.priced.shape[:2], np.int64)
    widest: Ints = stage.shares[:, 0][stage.item_of].max(axis=(2, 3))
    return widest


def _items(costs: PlanCosts, span: range, modes: tuple[Mode, ...], store: str) -> tuple[tuple[int, int], ...]:
    """(bytes in each unit, units) of what a plan keeps in the store, largest first."""
    held = ((costs.unit_bytes[at][m], m.units) for at, m in zip(span, modes, strict=True) if m.device == store)
    return tuple(sorted((item for item in held if item[0]), reverse=True))


def _meetings(stages: Sequence[Sequence[Block]], classes: Classes) -> set[tuple[int, int]]:
    """(number of a block, number of one that may stand behind it in a network), skips in between left out."""
    numbers: list[list[int]] = []
    count = 0
    for options in stages:
        numbers.append(list(range(count, count + len(options))))
        count += len(options)
    found = set()
    for s, earlier in enumerate(numbers):
        for later in numbers[s + 1 :]:
            for a in earlier:
                for b in later:
                    if classes.last[a] and classes.first[b] and classes.leaves[a] == classes.enters[b]:
                        found.add((a, b))
            if all(classes.first[b] for b in later):  # no skip: nothing behind this stage meets the earlier one
                break
    return found
