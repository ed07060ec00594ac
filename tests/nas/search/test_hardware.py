"""Tables against the whole compiler: each network written down, compiled and partitioned on its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from h4hc.api import NO_PLAN, CompileOptions, Objective, compile_model
from h4hc.errors import TargetError, UserError
from h4hc.live_memory import peak_live_bytes
from h4hc.planning.plan_cost import PlanCosts
from nas.search import hardware
from nas.search.blocks import covering, places
from nas.search.hardware import HardwareTable
from nas.search.recost import recost
from nas.search.slots import SKIP, Key, grid, keys, slots_of
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from tests.nas.search.conftest import Ints
from tests.nas.search.stand_in import write


@pytest.mark.parametrize("target", ["npu", "cim", "npu+cim"])
def test_a_genome_costs_what_its_network_costs(
    target: str, table_for: Callable[..., HardwareTable], space: SearchSpace, every: Ints
) -> None:
    table = table_for(target)
    found = table.estimate(every)
    some = [0, len(every) - 1, *np.random.default_rng(0).integers(0, len(every), 4).tolist()]
    for n, plan in zip(some, recost(table, every[some]), strict=True):
        assert plan.status == "proved optimal"
        assert found.proved[n]
        assert (found.latency_ps[n], found.energy_pj[n]) == (plan.latency_ps, plan.energy_pj)
        done = compile_model(write(space, space.arch(every[n])), CompileOptions(target), stop_after="workload")
        assert done.workload is not None
        assert found.sram_bytes[n] == peak_live_bytes(done.workload)[0]
        assert found.weight_bytes[n] == sum(op.weight_bytes for op in done.workload.ops)
    assert (found.cim_bytes > 0).any() == ("cim" in target)


def test_cim_bytes_are_those_of_the_plan(table: HardwareTable, space: SearchSpace, every: Ints) -> None:
    """Of equal plans either may be taken: so bytes may differ where time and energy do not."""
    found = table.estimate(every)
    same = 0
    for n in (3, 200, 400):
        done = compile_model(write(space, space.arch(every[n])), CompileOptions("npu+cim"))
        assert done.assignment is not None
        assert done.table is not None
        costs = PlanCosts(done.table)
        modes = [done.assignment.mode[op] for op in costs.ids]
        held = sum(costs.unit_bytes[i][m] * m.units for i, m in enumerate(modes) if m.device == "cim")
        same += held == found.cim_bytes[n]
    assert same >= 2


def test_energy_as_the_objective(space: SearchSpace, cache: Path, table: HardwareTable, every: Ints) -> None:
    frugal = HardwareTable.build(space, "npu+cim", (), Objective.ENERGY, classes=10, cache=cache, write=write)
    fast, low = table.estimate(every), frugal.estimate(every)
    assert (low.energy_pj <= fast.energy_pj).all()
    assert (fast.latency_ps <= low.latency_ps).all()
    plan = recost(frugal, every[7:8])[0]
    assert (plan.latency_ps, plan.energy_pj) == (low.latency_ps[7], low.energy_pj[7])


def test_a_small_store_bounds_what_is_kept(table_for: Callable[..., HardwareTable], every: Ints) -> None:
    """1 KiB a macro: weights that do not fit go elsewhere; what is not proved lies between the bounds."""
    small = table_for("npu+cim", "cim.bank_bits=2048")
    found = small.estimate(every)
    assert (~found.proved).sum() > 0
    store = small.tables.tables.store
    assert store is not None
    assert store.unit_bytes is not None
    assert (found.cim_bytes <= store.units * store.unit_bytes).all()
    assert (found.bound <= found.latency_ps).all()
    doubtful = np.flatnonzero(~found.proved)[:2]
    for n, plan in zip(doubtful, recost(small, every[doubtful]), strict=True):
        assert found.bound[n] <= plan.latency_ps <= found.latency_ps[n] < NO_PLAN


def test_weights_count_as_sram_where_a_device_reads_them_there(
    table_for: Callable[..., HardwareTable], every: Ints
) -> None:
    plain, resident = table_for("npu").estimate(every), table_for("npu", "npu.memory_mode=Sram_Only").estimate(every)
    assert (resident.sram_bytes == plain.sram_bytes + plain.weight_bytes).all()


def test_how_stages_are_joined_does_not_matter(
    table: HardwareTable, table_for: Callable[..., HardwareTable], every: Ints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "MOST_COMBINATIONS", 1)
    monkeypatch.setattr(hardware, "CHUNK", 100)
    apart = table_for("npu+cim")
    assert len(apart.parts) > len(table.parts)
    for field in dataclasses.fields(hardware.Costs):
        assert (getattr(apart.estimate(every), field.name) == getattr(table.estimate(every), field.name)).all()


def test_genes_without_effect_cost_nothing(table: HardwareTable, space: SearchSpace) -> None:
    raw = grid(space, range(len(space.genes)))
    some = raw[np.random.default_rng(1).integers(0, len(raw), 200)]
    assert (table.estimate(some).latency_ps == table.estimate(space.canonical(some)).latency_ps).all()


# --- blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["tiny", "alphanet", "nasvit", "h4h"])
def test_few_networks_show_every_block(preset: str) -> None:
    space = SearchSpace.load(preset)
    wanted: dict[Key, None] = {}
    rows = np.concatenate([space.sample(np.random.default_rng(0), 3000), [space.minimum(), space.maximum()]])
    for slot in slots_of(space):
        wanted.update(dict.fromkeys(k for k in keys(space, slot, rows) if not k[0].startswith(SKIP)))
    networks = covering(space, list(wanted))
    shown = {key for slot in slots_of(space) for key in keys(space, slot, np.array(networks))}
    assert set(wanted) <= shown
    assert len(networks) < len(wanted) / 2


def test_blocks_are_kept_and_a_damaged_file_is_made_anew(space: SearchSpace, tmp_path: Path) -> None:
    spec = space.spec.model_dump() | {"resolution": [16], "stem": {"width": [8]}}
    space = SearchSpace(SpaceSpec.model_validate(spec | {"stages": [spec["stages"][1] | {"width": [24]}]}))
    calls = []

    def counted(made: SearchSpace, arch: object) -> bytes:
        calls.append(arch)
        return write(made, arch)  # type: ignore[arg-type]

    first = places(space, counted, tmp_path)
    count = len(calls)
    again = places(space, counted, tmp_path)
    assert len(calls) == count
    assert [p.blocks for p in again] == [p.blocks for p in first]
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes().replace(b"conv", b"cnov", 1))
    assert [p.blocks for p in places(space, counted, tmp_path)] == [p.blocks for p in first]
    assert len(calls) == 2 * count


def test_wrong_use(table: HardwareTable, space: SearchSpace, cache: Path) -> None:
    with pytest.raises(UserError, match="indices within"):
        table.estimate(np.array([[99] * len(space.genes)]))
    with pytest.raises(UserError, match="indices within"):
        table.estimate(np.zeros((2, 3), np.int64))
    with pytest.raises(TargetError):
        HardwareTable.build(space, "no-such-chip", classes=10, cache=cache, write=write)
    assert len(table.estimate(np.zeros((0, len(space.genes)), np.int64)).latency_ps) == 0
