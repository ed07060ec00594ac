"""What the study asks: each ablation changes only what it says, and the MRAM systems differ in their memory alone."""

from __future__ import annotations

import dataclasses

import pytest

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.partition import PartitionOptions, partition
from h4hc.study.design import ABLATIONS, FULL, RESIDENCIES, Ablation, Design, cim_sets, quick, trials
from h4hc.sweep.evaluate import prepare
from h4hc.sweep.row import Point
from h4hc.target_file import load_system, target_values
from h4hc.workload import OpKind, Workload

FLASH, MRAM = (next(r for r in RESIDENCIES if r.name == name) for name in ("flash", "mram"))


def workload(model: str) -> Workload:
    return prepare(Point(model=model, target="npu")).workload


def test_the_grid_is_the_one_of_the_study() -> None:
    design = Design()
    assert (design.macros, design.cus) == ((1, 2, 4, 8), (1, 2, 4))
    assert {r.name for r in design.residencies} == {"sram", "flash", "mram"}
    assert set(design.objectives) == set(Objective)
    assert {f"{m}-int8" for m in design.models if not m.endswith("-int8")} <= set(design.models)
    found = trials(dataclasses.replace(design, models=("ds-cnn",)), workload)
    points = {(t.setting, t.macros, t.cus, t.ablation) for t in found}
    assert len(points) == len(found) == 3 * 3 * (1 + 4 * 3 + len(ABLATIONS))


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda a: a.name)
def test_an_ablation_changes_only_what_it_says(ablation: Ablation) -> None:
    before = target_values(FLASH.target, cim_sets(FLASH, 4, 4))
    after = target_values(FLASH.target, cim_sets(FLASH, 4, 4, ablation))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {text.split("=")[0] for text in ablation.sets}
    reference, taken = (
        next(
            t.point for t in trials(quick(()), workload) if not t.is_baseline and (t.macros, t.cus, t.ablation) == want
        )
        for want in ((4, 4, FULL), (4, 4, ablation))
    )
    same = dataclasses.replace(taken, sets=reference.sets, forbids=())
    assert same == reference
    assert bool(taken.forbids) == (ablation.only is not None)


@pytest.mark.parametrize("only", [OpKind.DEPTHWISE, OpKind.FULLY_CONNECTED])
def test_the_cim_does_the_one_kind_of_work_that_is_left(only: OpKind) -> None:
    model = "mobilenet-v3-small"
    design = dataclasses.replace(quick((model,)), objectives=(Objective.LATENCY,))
    point = next(t.point for t in trials(design, workload) if t.ablation.only is only)
    table = cost_table(workload(model), load_system(point.target, point.sets))
    done = partition(workload(model), table, PartitionOptions(point.objective, forbids=point.forbids)).assignment
    on_cim = {op.kind for op in workload(model).ops if done.mode[op.id].device == "cim"}
    assert only in on_cim
    assert on_cim <= {only, OpKind.VIEW}


def test_the_mram_systems_have_one_memory() -> None:
    """It is that of the vendor's chip, behind the default NPU; nothing else changes."""
    chip = target_values("npu-alif-hp")
    for own, base in ((MRAM.target, "npu+cim"), (MRAM.baseline, "npu")):
        ours, theirs = target_values(own), target_values(base)
        changed = {key for key in ours if ours[key] != theirs[key]}
        assert changed == {"flash.bandwidth", "flash.read_energy", "npu.flash_port.read_latency"}
        assert ours.keys() == theirs.keys()
        assert {key: _number(ours[key]) for key in changed} == {key: _number(chip[key]) for key in changed}


def _number(quantity: dict[str, float]) -> tuple[float, float, float]:
    value = quantity["value"]
    return quantity.get("low", value), value, quantity.get("high", value)


def test_sram_resident_means_no_weight_crosses_the_second_port() -> None:
    sram = next(r for r in RESIDENCIES if r.name == "sram")
    system = load_system(sram.target, cim_sets(sram, 1, 1))
    assert system.device("npu").weights_in_sram()
    assert not load_system(FLASH.target, cim_sets(FLASH, 1, 1)).device("npu").weights_in_sram()
