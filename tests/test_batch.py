"""Batch estimates against the scalar path: sums of `PlanCosts`, enumeration, and the integer program of `partition`."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from h4hc.assignment import Case, Objective, Status
from h4hc.batch.blocks import Block, cut_blocks, join_blocks, skip, whole
from h4hc.batch.capacity import NO_PLAN
from h4hc.batch.estimate import estimate_many
from h4hc.batch.fit import _pack
from h4hc.batch.frontier import NEVER, Setting, best_paths
from h4hc.batch.groups import MOST_OPTIONS
from h4hc.batch.networks import Estimates, evaluate, plan_modes
from h4hc.batch.tables import BlockTables, block_tables
from h4hc.cost import cost_table
from h4hc.costtypes import Capacity
from h4hc.errors import UserError
from h4hc.partition import PartitionOptions, partition
from h4hc.planning.packing import pack
from h4hc.planning.plan_cost import PlanCosts
from h4hc.system import System
from h4hc.target_file import load_system
from h4hc.workload import Workload
from tests.block_space import Gene, Space, mobile_space
from tests.random_plans import random_problem

LATENCY, ENERGY = Objective.LATENCY, Objective.ENERGY
SPACE = Space(
    (
        (Gene(3, 2, 24, 2), Gene(5, 4, 24, 2), Gene(3, 4, 24, 2, True)),
        (None, Gene(3, 2, 24), Gene(3, 4, 24, 1, True)),
        (Gene(3, 4, 40, 2), Gene(5, 6, 40, 2)),
        (None, Gene(3, 2, 40), Gene(5, 4, 40, 1, True)),
    )
)
# (target, settings): without a store, with one that never fills, with one that fills in some networks or in most
SYSTEMS = (
    ("npu", ()),
    ("npu+cim", ()),
    ("npu+cim", ("cim.bank_bits=65536",)),
    ("npu+cim-1x1", ("cim.bank_bits=262144",)),
)


@pytest.fixture(scope="module")
def choices() -> NDArray[np.int64]:
    """All networks of the space."""
    counts = [1, *map(len, SPACE.genes), 1]
    return np.array(list(itertools.product(*map(range, counts))))


def _value(found: Estimates, objective: Objective) -> NDArray[np.int64]:
    return found.latency_ps if objective is LATENCY else found.energy_pj


def _random(size: int, choices: NDArray[np.int64]) -> list[int]:
    return sorted(random.Random(0).sample(range(len(choices)), size))


@pytest.mark.parametrize(("target", "sets"), SYSTEMS)
@pytest.mark.parametrize("objective", [LATENCY, ENERGY])
def test_estimates_are_those_of_the_integer_program(
    target: str, sets: tuple[str, ...], objective: Objective, choices: NDArray[np.int64]
) -> None:
    """Networks are written down and lowered as a whole; their blocks come out of other networks."""
    system = load_system(target, sets)
    tables = block_tables(SPACE.stages, system, objective)
    found = estimate_many(tables, choices, refine=True)
    values = _value(found, objective)
    for n in _random(8, choices):
        workload = SPACE.workload(tuple(choices[n, 1:-1]))
        table = cost_table(workload, system)
        best = partition(workload, table, PartitionOptions(objective=objective)).assignment
        assert best.status is Status.OPTIMAL
        assert found.bound[n] <= best.value <= values[n], n
        assert not found.proved[n] or best.value == values[n] == found.bound[n], n
        modes = plan_modes(tables, choices[n], refine=True)
        assert modes is not None
        assert PlanCosts(table).total(modes) == (found.latency_ps[n], found.energy_pj[n]), n
        assert _fits(table.capacities, PlanCosts(table), modes), n
    if not sets:
        assert found.proved.all()


def _fits(capacities: tuple[Capacity, ...], costs: PlanCosts, modes: tuple[object, ...]) -> bool:
    for cap in capacities:
        if cap.unit_bytes is not None:
            chosen = [(i, m) for i, m in enumerate(modes) if getattr(m, "device", "") == cap.device]
            items = [(getattr(m, "units", 0), costs.unit_bytes[i][m]) for i, m in chosen]  # type: ignore[index]
            if pack(items, cap.units, cap.unit_bytes) is None:
                return False
    return True


def test_a_full_store_is_told_of_and_bounds_enclose() -> None:
    """With little room some networks are no longer proved; more room never makes one dearer, refining neither."""
    space = Space(tuple((options[0], options[-1]) for options in mobile_space().genes[3:]))
    small = block_tables(space.stages, load_system("npu+cim-1x1", ("cim.bank_bits=524288",)))
    large = block_tables(space.stages, load_system("npu+cim-1x1"))
    chosen = np.array(list(itertools.product(*(range(stage.options) for stage in small.stages))))
    assert small.store is not None
    assert small.store.unit_bytes is not None
    rough, fine, free = evaluate(small, chosen), evaluate(small, chosen, refine=True), evaluate(large, chosen)
    assert 0 < rough.proved.sum() < len(chosen)
    assert free.proved.all()
    assert (fine.stored_bytes <= small.store.units * small.store.unit_bytes).all()
    assert (free.latency_ps <= rough.bound).all()
    assert (rough.bound <= fine.latency_ps).all()
    assert (fine.latency_ps <= rough.latency_ps).all()
    assert (fine.latency_ps < rough.latency_ps).any()


def test_the_worst_case_is_that_of_robust_plans(choices: NDArray[np.int64]) -> None:
    system = load_system("npu+cim")
    tables = block_tables(SPACE.stages, system, LATENCY, Case.WORST)
    found = estimate_many(tables, choices)
    for n in _random(3, choices):
        workload = SPACE.workload(tuple(choices[n, 1:-1]))
        best = partition(workload, cost_table(workload, system), PartitionOptions(case=Case.WORST)).assignment
        assert found.proved[n]
        assert best.value == found.latency_ps[n]


def test_joined_blocks_cost_what_the_network_costs(choices: NDArray[np.int64]) -> None:
    """`join_blocks` gives the network back, but for names: every plan costs the same on both."""
    system = load_system("npu+cim")
    rng = random.Random(1)
    for n in _random(6, choices):
        parts = [SPACE.stages[s][o] for s, o in enumerate(choices[n])]
        joined, real = join_blocks(parts), SPACE.workload(tuple(choices[n, 1:-1]))
        ours, theirs = PlanCosts(cost_table(joined, system)), PlanCosts(cost_table(real, system))
        for _ in range(20):
            modes = [rng.choice(sorted(options, key=str)) for options in theirs.op]
            assert ours.total(modes) == theirs.total(modes)


def test_whole_workloads_give_the_same_as_their_blocks(choices: NDArray[np.int64]) -> None:
    system = load_system("npu+cim")
    some = _random(4, choices)
    networks = [SPACE.workload(tuple(choices[n, 1:-1])) for n in some]
    for objective in (LATENCY, ENERGY):
        alone = estimate_many(networks, system=system, objective=objective)
        cut = estimate_many(block_tables(SPACE.stages, system, objective), choices[some])
        assert (alone.latency_ps == cut.latency_ps).all()
        assert (alone.energy_pj == cut.energy_pj).all()
        assert alone.proved.all()


def test_whole_workloads_that_overflow_are_priced(choices: NDArray[np.int64]) -> None:
    """Some of these fit, some do not; each is between the bound and a plan, as from blocks."""
    system = load_system("npu+cim", ("cim.bank_bits=65536",))
    some = _random(6, choices)
    networks = [SPACE.workload(tuple(choices[n, 1:-1])) for n in some]
    found = estimate_many(networks, system=system, refine=True)
    assert 0 < found.proved.sum() < len(some)
    for n, workload in enumerate(networks):
        best = partition(workload, cost_table(workload, system), PartitionOptions()).assignment
        assert found.bound[n] <= best.value <= found.latency_ps[n] < NO_PLAN
        assert not found.proved[n] or best.value == found.latency_ps[n]


@pytest.mark.parametrize("seed", range(40))
def test_the_way_through_a_random_graph_is_the_best_of_all(seed: int) -> None:
    """Random graphs with shared tensors and several outputs, without a store: (value, other) by enumeration."""
    workload, table = random_problem(seed, 6)
    table = replace(table, capacities=tuple(replace(c, unit_bytes=None) for c in table.capacities))
    costs = PlanCosts(table)
    totals = [costs.total(modes) for modes in itertools.product(*costs.op)]
    devices = tuple(sorted(s.device for s in table.switches))
    for objective in (0, 1):
        setting = Setting(devices, objective, (0,), "")
        paths = best_paths(costs, range(len(workload.ops)), False, False, setting)
        place = min(paths.modes, key=lambda p: (paths.priced[p], paths.other[p]))
        found = paths.priced[place] // 64 + costs.border[objective], paths.other[place] + costs.border[1 - objective]
        assert found == min((t[objective], t[1 - objective]) for t in totals)
        total = costs.total(paths.modes[place])
        assert (total[objective], total[1 - objective]) == found


@pytest.mark.parametrize("seed", range(30))
def test_random_savings_and_groups_do_not_change_the_product(seed: int) -> None:
    """Hand-made tables with savings at borders and skips: the walk over groups against all ways one by one."""
    rng = np.random.default_rng(seed)
    tables = _random_tables(rng)
    counts = [stage.options for stage in tables.stages]
    chosen = np.column_stack([rng.integers(0, c, 50) for c in counts])
    found = evaluate(tables, chosen)
    for n in range(50):
        best = _by_hand(tables, chosen[n])
        assert (found.latency_ps[n], found.energy_pj[n]) == (best or (NO_PLAN, NO_PLAN))


@functools.cache
def _plain_tables() -> BlockTables:
    return block_tables(SPACE.stages, load_system("npu+cim"))


def _random_tables(rng: np.random.Generator) -> BlockTables:
    """Tables of the space on a system, with their numbers replaced by small random ones (many ties)."""
    from h4hc.batch.groups import make_groups

    base = _plain_tables()
    hidden = rng.integers(0, 3, base.hidden.shape) * (rng.random(base.hidden.shape) < 0.5) * 64
    hidden[:, 0], hidden[0] = 0, 0
    stages, parts = [], []
    for stage in base.stages:
        skips = stage.first == 0
        real = stage.priced < NEVER
        gone = (rng.random(stage.priced.shape) < 0.2) & ~skips[None, :, None, None]
        priced = np.where(real & ~gone, rng.integers(3, 9, real.shape) * 64, NEVER)
        priced[:, skips] = stage.priced[:, skips]
        other = np.where(skips[None, :, None, None], 0, rng.integers(200, 205, real.shape))
        made = replace(stage, priced=priced, other=other)
        stages.append(made)
        nothing = np.zeros(priced.shape[:2], np.int64)
        parts.append(((made.priced, made.other, made.stored), made.first, made.last, nothing))
    groups = make_groups(parts, hidden, base.setting.devices.index("host"))
    return replace(base, stages=tuple(stages), hidden=hidden, groups=groups, store=None)


def _by_hand(tables: BlockTables, choice: NDArray[np.int64]) -> tuple[int, int] | None:
    """Every way through the tables of one network."""
    devices = range(len(tables.setting.devices))
    ways = [(0, 0, tables.setting.devices.index("host"), 0)]  # priced, other, device, class of the last operator
    for stage, o in zip(tables.stages, choice, strict=True):
        following = []
        for priced, other, device, last in ways:
            for runs_on, to in itertools.product((0, 1), devices):
                cell = 0, o, 2 * device + runs_on, to
                if stage.priced[cell] < NEVER:
                    saved = tables.hidden[last, stage.first[o], device] * runs_on
                    total = priced + int(stage.priced[cell] - saved[0]), other + int(stage.other[cell] - saved[1])
                    following.append((*total, to, int(stage.last[o]) or last))
        ways = following
    best = min(((p, e) for p, e, _, _ in ways), default=None)
    return None if best is None else (best[0] // 64, best[1])


def test_packing_in_bulk_never_claims_what_does_not_fit() -> None:
    rng = np.random.default_rng(0)
    shares = rng.integers(0, 60, (400, 6))
    used = rng.integers(1, 5, (400, 6))
    found = _pack(shares, used, Capacity("cim", 4, 100))
    exact = [
        pack([(int(u), int(s)) for u, s in zip(us, ss, strict=True)], 4, 100)
        for us, ss in zip(used, shares, strict=True)
    ]
    assert all(e is not None for e, f in zip(exact, found, strict=True) if f)
    assert found.sum() > 0.9 * sum(e is not None for e in exact) > 20


# --- wrong use ---------------------------------------------------------------------------------------------


def test_choices_are_checked(choices: NDArray[np.int64]) -> None:
    tables = block_tables(SPACE.stages, load_system("npu"))
    for wrong in (choices[:, 1:], choices.astype(float), choices[0]):
        with pytest.raises(UserError, match="whole numbers"):
            evaluate(tables, wrong)
    far = choices[:3].copy()
    far[1, 2] = 3
    with pytest.raises(UserError, match="stage 2 has no option 3"):
        evaluate(tables, far)
    assert len(evaluate(tables, choices[:0]).bound) == 0


def test_blocks_must_fit_behind_each_other() -> None:
    """Two widths at one stage: the next block takes one of them."""
    narrow, broad = SPACE.stages, Space(((Gene(3, 2, 32, 2),), *SPACE.genes[1:])).stages
    stages = [narrow[0], [*narrow[1], *broad[1]], *narrow[2:]]
    tables = block_tables(stages, load_system("npu"))
    good, bad = np.array([[0, 0, 1, 0, 0, 0]]), np.array([[0, 3, 1, 0, 0, 0]])
    assert len(evaluate(tables, good).latency_ps) == 1
    with pytest.raises(UserError, match="option 1 of stage 2 does not fit"):
        evaluate(tables, bad)
    with pytest.raises(UserError, match="block 2 does not fit"):
        join_blocks([narrow[0][0], broad[1][0], narrow[2][1]])


def test_bad_cuts_name_what_crosses() -> None:
    workload = SPACE.workload((0, 1, 0, 0))
    inner = workload.ops[2].outputs[0]  # inside a residual block or before its end
    with pytest.raises(UserError, match="no operator makes"):
        cut_blocks(workload, ["nothing"])
    with pytest.raises(UserError, match="order"):
        cut_blocks(workload, ["b1", "b0"])
    add = next(op for op in workload.ops if len(op.inputs) == 2)
    middle = workload.ops[workload.ops.index(add) - 1].outputs[0]
    with pytest.raises(UserError, match="crosses the border"):
        cut_blocks(workload, [middle])
    assert inner != middle


def test_tables_refuse_what_they_cannot_price() -> None:
    system = load_system("npu")
    with pytest.raises(UserError, match="edp is no sum"):
        block_tables(SPACE.stages, system, Objective.EDP)
    with pytest.raises(UserError, match="does not belong there"):
        block_tables(SPACE.stages[:-1], system)
    lone = SPACE.stages[1][0]
    loose = Block(lone.workload, lone.entry, lone.workload.ops[0].outputs[0])
    with pytest.raises(UserError, match="does not make its exit"):
        block_tables([SPACE.stages[0], [loose], SPACE.stages[-1]], system)
    with pytest.raises(UserError, match="need a system"):
        estimate_many([SPACE.workload((0, 0, 0, 0))])  # type: ignore[call-overload]
    with pytest.raises(UserError, match="need choices"):
        estimate_many(block_tables(SPACE.stages, system))  # type: ignore[call-overload]


def test_order_and_chunks_do_not_matter(choices: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = block_tables(SPACE.stages, load_system("npu+cim", ("cim.bank_bits=65536",)))
    one = evaluate(tables, choices)
    monkeypatch.setattr("h4hc.batch.networks.CHUNK", 7)
    mixed = np.random.default_rng(0).permutation(len(choices))
    other = evaluate(tables, choices[mixed])
    assert (other.latency_ps == one.latency_ps[mixed]).all()
    assert (other.bound == one.bound[mixed]).all()
    assert len(tables.groups) < len(tables.stages) < MOST_OPTIONS


def test_a_model_of_the_zoo_as_one_block() -> None:
    """A residual network, with two tensors alive at a time."""
    from h4hc.api import CompileOptions, compile_model
    from h4hc.zoo.build import build_model

    done = compile_model(build_model("resnet8").SerializeToString(), CompileOptions("npu+cim"))
    assert done.workload is not None
    assert done.assignment is not None
    assert isinstance(done.system, System)
    found = estimate_many([done.workload], system=done.system)
    assert found.proved[0]
    assert found.latency_ps[0] == done.assignment.latency_ps


def test_a_skip_hands_on_and_a_network_is_a_block() -> None:
    workload: Workload = SPACE.workload((0, 0, 0, 0))
    tensor = workload.tensor["b1"]
    entry, exit_ = skip(tensor).signatures
    assert entry == exit_ == replace(tensor, name="")
    assert whole(workload).signatures == (None, None)
