"""The small study: its numbers are those of `evaluate`, its savings follow from its CSV, its bytes stay the same."""

from __future__ import annotations

import csv
import io
import multiprocessing
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.errors import InfeasibleError
from h4hc.partition import PartitionOptions, partition
from h4hc.schedule import schedule
from h4hc.study import plots
from h4hc.study.border import border_cost
from h4hc.study.design import Design
from h4hc.study.markdown import markdown
from h4hc.study.run import run_study
from h4hc.study.select import losses, reach
from h4hc.study.summary import MOST_LINES, summary
from h4hc.study.table import csv_bytes
from h4hc.sweep.evaluate import evaluate, prepare
from h4hc.sweep.row import Point
from h4hc.sweep.table import json_bytes
from h4hc.target_file import load_system

MODE = "npu.memory_mode=Shared_Sram"
Tree = dict[str, Any]


def records(tree: Tree) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_bytes(tree).decode())))


def find(tree: Tree, **wanted: Any) -> dict[str, Any]:
    (row,) = [r for r in tree["rows"] if all(r[key] == value for key, value in wanted.items())]
    assert isinstance(row, dict)
    return row


@pytest.mark.parametrize(
    ("ablation", "macros", "cus", "sets", "forbids"),
    [
        ("full", 1, 4, (MODE, "cim.macros=1", "cim.cus=4"), ()),
        ("full", 4, 1, (MODE, "cim.macros=4", "cim.cus=1"), ()),
        ("no-dedup", 4, 4, (MODE, "cim.macros=4", "cim.cus=4", "cim.dedup=false"), ()),
        ("no-residency", 4, 4, (MODE, "cim.macros=4", "cim.cus=4", "cim.residency=per_inference"), ()),
    ],
)
@pytest.mark.parametrize("objective", [Objective.LATENCY, Objective.ENERGY])
def test_a_row_is_what_evaluate_finds(
    tree: Tree,
    ablation: str,
    macros: int,
    cus: int,
    sets: tuple[str, ...],
    forbids: tuple[str, ...],
    objective: Objective,
) -> None:
    row = find(tree, ablation=ablation, macros=macros, cus=cus, objective=str(objective))
    ours = evaluate(Point(model="ds-cnn", target="npu+cim", sets=sets, objective=objective, forbids=forbids))
    theirs = evaluate(Point(model="ds-cnn", target="npu", sets=(MODE,), objective=objective))
    npu_only = theirs.baseline("npu-only")
    assert ours.plan is not None
    assert theirs.plan is not None
    assert npu_only is not None
    for name, plan in (("plan", ours.plan), ("npu_host", theirs.plan), ("npu_only", npu_only)):
        for key, value in (("latency_ps", plan.latency_ps), ("energy_pj", plan.energy_pj)):
            assert row[name][key] == {"low": value.low, "nominal": value.nominal, "high": value.high}


def test_savings_follow_from_the_csv(tree: Tree) -> None:
    found = records(tree)
    assert len(found) == len(tree["rows"]) > 10
    for record in found:
        for measure, unit in (("latency", "ps"), ("energy", "pj")):
            for against in ("npu_only", "npu_host"):

                def ratio(
                    ours: str, theirs: str, against: str = against, measure: str = measure, unit: str = unit
                ) -> float:
                    cost = Fraction(record[f"{measure}{ours}_{unit}"])  # noqa: B023 (called at once)
                    base = Fraction(record[f"{against}_{measure}{theirs}_{unit}"])  # noqa: B023
                    return float(100 - 100 * cost / base)

                stem = f"{measure}_saved_vs_{against}"
                inside = Fraction(record[f"border_{unit}"])
                left = (
                    Fraction(record[f"{measure}_{unit}"]) - inside,
                    Fraction(record[f"{against}_{measure}_{unit}"]) - inside,
                )
                assert float(record[f"{stem}_inside_pct"]) == pytest.approx(
                    float(100 - 100 * left[0] / left[1]), abs=1e-4
                )
                assert float(record[f"{stem}_pct"]) == pytest.approx(ratio("", ""), abs=1e-4)
                assert float(record[f"{stem}_blind_low_pct"]) == pytest.approx(ratio("_high", "_low"), abs=1e-4)
                assert float(record[f"{stem}_blind_high_pct"]) == pytest.approx(ratio("_low", "_high"), abs=1e-4)


def test_bounds_hold_each_other(tree: Tree) -> None:
    """blind low <= correlated low <= nominal <= correlated high <= blind high; sought for the headline system alone."""
    headline = tree["design"]["headline"]
    for row in tree["rows"]:
        at_headline = row["ablation"] == "full" and {k: row[k] for k in headline} == headline
        for savings in row["saved"].values():
            for saving in savings.values():
                inner, outer, nominal = saving["correlated"], saving["blind"], saving["nominal_pct"]
                assert (inner is not None) == at_headline
                assert outer["low_pct"] <= nominal <= outer["high_pct"]
                if inner:
                    assert outer["low_pct"] <= inner["low_pct"] < nominal < inner["high_pct"] <= outer["high_pct"]
                    assert saving["drivers"]
                    for driver in saving["drivers"]:
                        assert inner["low_pct"] - 1 <= driver["low_pct"] <= driver["high_pct"] <= inner["high_pct"] + 1


def test_no_objective_beats_its_own_plan(tree: Tree) -> None:
    """A system that can do more is never slower, and one objective's plan is best at that objective."""
    for row in tree["rows"]:
        fast, frugal = (
            find(tree, **{**{k: row[k] for k in ("ablation", "macros", "cus")}, "objective": objective})["plan"]
            for objective in ("latency", "energy")
        )
        assert fast["latency_ps"]["nominal"] <= frugal["latency_ps"]["nominal"]
        assert frugal["energy_pj"]["nominal"] <= fast["energy_pj"]["nominal"]
        if row["objective"] == "latency":
            assert row["saved"]["latency"]["npu_host"]["nominal_pct"] >= 0


def test_break_even_follows_from_the_rows(tree: Tree) -> None:
    assert tree["break_even"]
    for line in tree["break_even"]:
        own = [
            row
            for row in tree["rows"]
            if row["ablation"] == "full" and all(row[k] == line[k] for k in ("model", "residency", "objective", "cus"))
        ]
        assert [row["macros"] for row in own] == tree["design"]["macros"]
        for measure in ("latency", "energy"):
            unit = {"latency": "latency_ps", "energy": "energy_pj"}[measure]
            saving = [r["macros"] for r in own if r["plan"][unit]["nominal"] < r[line["against"]][unit]["nominal"]]
            assert line[f"{measure}_from_macros"] == min(saving, default=None)
        lost = [
            r["macros"] for r in own if r["plan"]["energy_pj"]["nominal"] > r[line["against"]]["energy_pj"]["nominal"]
        ]
        assert line["energy_lost_at_macros"] == lost


def test_the_same_study_gives_the_same_bytes_and_computes_nothing_twice(
    tree: Tree, design: Design, cache: Path
) -> None:
    counts: list[tuple[int, int, int]] = []
    again = run_study(
        design, cache, on_point=lambda *seen: counts.append(seen), on_bounds=lambda *seen: counts.append(seen)
    )
    assert json_bytes(again) == json_bytes(tree)
    assert markdown(again) == markdown(tree)
    assert [(computed, todo) for _, computed, todo in counts] == [(0, 0), (0, 0)]
    assert str(cache.parent) not in json_bytes(tree).decode() + markdown(tree)


def test_edited_bounds_are_sought_again(tree: Tree, design: Design, cache: Path) -> None:
    (entry,) = cache.glob("*.bounds")
    whole = entry.read_bytes()
    assert whole.count(b'"low_pct": ') > 1
    entry.write_bytes(whole.replace(b'"low_pct": ', b'"low_pct": 1', 1))
    counts: list[tuple[int, int, int]] = []
    again = run_study(design, cache, on_bounds=lambda *seen: counts.append(seen))
    assert counts == [(0, 0, 1), (0, 1, 1)]
    assert json_bytes(again) == json_bytes(tree)
    assert entry.read_bytes() == whole


@pytest.mark.slow
def test_processes_find_the_bounds_of_one(design: Design, tree: Tree, cache: Path, tmp_path: Path) -> None:
    """Two searches, each in a process of its own, from answers that are known; the bounds are not."""
    both = replace(design, models=("ds-cnn", "ds-cnn-int8"))
    shutil.copytree(cache, tmp_path / "cache", ignore=shutil.ignore_patterns("*.bounds"))
    counts: list[tuple[int, int, int]] = []
    found = run_study(both, tmp_path / "cache", 2, on_bounds=lambda *seen: counts.append(seen))
    assert counts == [(0, n, 2) for n in range(3)]
    assert [row for row in found["rows"] if row["model"] == "ds-cnn"] == tree["rows"]
    assert multiprocessing.active_children() == []


def test_pictures_are_the_same_bytes_and_show_the_paper(tree: Tree) -> None:
    found = plots.render(tree)
    assert set(found) == {f"{name}.{kind}" for name in ("ds-cnn", "overview") for kind in ("png", "svg")}
    assert plots.render(tree) == found
    assert all(data.startswith(b"\x89PNG") for name, data in found.items() if name.endswith("png"))


def test_the_page_names_losses_and_the_paper(tree: Tree) -> None:
    page = markdown(tree)
    for needed in ("56.08", "41.72", "ASP-DAC 2025", "## What the paper does not say", "## What is assumed"):
        assert needed in page
    bad = losses(tree, "energy", "npu_host")
    assert bad, "one compute unit reads a word for one window: dearer than the NPU"
    assert all(row["plan"]["energy_pj"]["nominal"] > row["npu_host"]["energy_pj"]["nominal"] for row in bad)
    assert f"{len(bad)} of 8 plans cost more" in page
    for row in reach(tree, "npu_only"):
        assert row["saved"]["latency"]["npu_only"]["nominal_pct"] >= 56.08


def test_the_summary_fits_a_screen(tree: Tree) -> None:
    """Also for the full study: eight models on three homes of the weights."""
    rows = [
        {**row, "model": f"model-{i}", "residency": home}
        for i in range(8)
        for home in ("sram", "flash", "mram")
        for row in tree["rows"]
    ]
    for width, shown in ((100, 24), (60, 10)):
        lines = summary({**tree, "rows": rows}, width)
        assert len(lines) <= MOST_LINES
        assert all(len(line) <= width for line in lines)
        assert sum(line.startswith("model-") for line in lines) >= shown


def test_a_baseline_without_a_plan_ends_the_study(tree: Tree, design: Design, cache: Path) -> None:
    from h4hc.study.design import trials
    from h4hc.study.savings import results

    found = trials(design, lambda model: prepare(Point(model=model, target="npu")).workload)[:1]
    row = evaluate(Point(model="ds-cnn", target="npu", forbids=("conv=npu", "conv=host")))
    assert not row.feasible
    with pytest.raises(InfeasibleError, match="without a CIM"):
        results(found, [row], {}, {("ds-cnn", "flash"): (0, 0)})


@pytest.mark.parametrize("model", ["ds-cnn", "ds-cnn-int8"])
def test_the_border_is_what_the_plan_spends_on_conversions(model: str) -> None:
    """As the schedule tells it: the steps that quantise the input and dequantise the output, on the host."""
    workload = prepare(Point(model=model, target="npu")).workload
    table = cost_table(workload, load_system("npu"))
    done = partition(workload, table, PartitionOptions()).assignment
    kinds = {op.id: op.kind for op in workload.ops}
    steps = [
        step
        for step in schedule(workload, done, table).steps
        if step.kind in ("quantize", "dequantize") or kinds.get(step.subject) == "quantize"
    ]
    assert len(steps) == 2
    assert border_cost(workload, table) == (
        sum(step.latency.nominal for step in steps),
        sum(step.energy.nominal for step in steps),
    )
