"""One point of a sweep against `h4hc compile` of the same model for the same system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.assignment import Objective
from h4hc.report import make_report
from h4hc.sweep.evaluate import evaluate, prepare, zoo_name
from h4hc.sweep.row import Point, Row
from h4hc.target_file import load_system
from h4hc.zoo.build import build_model

OVERHEAD = ("switch", "transfer", "cache", "layout")


def compiled(**options: Any) -> dict[str, Any]:
    data = build_model("ds-cnn").SerializeToString(deterministic=True)
    return make_report(compile_model(data, CompileOptions(**options)))


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("robust", [False, True])
def test_a_point_has_the_numbers_of_compile(objective: Objective, robust: bool) -> None:
    options: dict[str, Any] = {
        "target": "npu+cim",
        "sets": ("cim.macros=2", "cim.cus=2"),
        "objective": objective,
        "robust": robust,
        "forbids": ("depthwise=cim",),
    }
    row = evaluate(Point(model="ds-cnn", **options))
    report = compiled(**options)
    assert row.plan is not None
    for mine, key in ((row.latency_ps, "latency_ps"), (row.energy_pj, "energy_pj")):
        assert {"low": mine.low, "nominal": mine.nominal, "high": mine.high} == report["totals"][key]
    assert row.status == report["solver"]["status"]
    assert (row.gap, row.bound) == (report["solver"]["gap"], report["solver"]["bound"])
    assert (row.model_sha256, row.system_sha256) == (report["model"]["sha256"], report["target"]["sha256"])
    steps = [s for s in report["steps"] if s["kind"] in OVERHEAD]
    assert row.plan.overhead_ps.nominal == sum(s["latency_ps"]["nominal"] for s in steps)
    assert row.plan.overhead_pj.high == sum(s["energy_pj"]["high"] for s in steps)
    assert row.plan.switches == sum(s["kind"] == "switch" for s in steps)
    assert row.plan.moved_bytes == sum(s["size_bytes"] for s in steps if s["kind"] != "switch")
    devices = [op["device"] for op in report["ops"]]
    assert dict(row.plan.placements) == {device: devices.count(device) for device in set(devices)}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"target": "npu+cim"}, []),
        ({"target": "npu+cim-analog", "sets": ("sram.size_bytes=1024",)}, ["H4W120", "H4W121"]),
    ],
)
def test_a_point_has_the_remarks_of_compile(options: dict[str, Any], codes: list[str]) -> None:
    row = evaluate(Point(model="ds-cnn", **options))
    data = build_model("ds-cnn").SerializeToString(deterministic=True)
    assert row.diagnostics == compile_model(data, CompileOptions(**options)).plan_diagnostics
    assert [d.code for d in row.diagnostics] == codes
    assert Row.from_json(row.to_json()) == row


def test_a_point_has_the_remarks_on_the_source_of_the_costs(tmp_path: Path) -> None:
    measured = tmp_path / "table.csv"
    head, layer = "layer,kind,h,w,cin,cout,kh,kw,stride,pad,cycles", "a,conv,14,14,16,32,3,3,1,SAME,7000"
    measured.write_text(f"{head}\n{layer}\n")
    options: dict[str, Any] = {"target": "npu", "npu_cost": str(measured)}
    row = evaluate(Point(model="ds-cnn", **options))
    data = build_model("ds-cnn").SerializeToString(deterministic=True)
    assert row.diagnostics == compile_model(data, CompileOptions(**options)).plan_diagnostics
    assert {"H4W130", "H4W131"} <= {d.code for d in row.diagnostics}


def test_baselines_have_the_numbers_of_compile() -> None:
    row, report = evaluate(Point(model="ds-cnn", target="npu+cim")), compiled(target="npu+cim")
    assert [b.name for b in row.baselines] == [b["name"] for b in report["baselines"]]
    for mine, theirs in zip(row.baselines, report["baselines"], strict=True):
        assert mine.plan is not None
        for value, key in ((mine.plan.latency_ps, "latency_ps"), (mine.plan.energy_pj, "energy_pj")):
            assert {"low": value.low, "nominal": value.nominal, "high": value.high} == theirs[key]
    assert row.baseline("npu-only") is not None
    assert row.baseline("gpu-only") is None


def test_area_is_the_sum_over_the_devices() -> None:
    system = load_system("npu+cim", ("cim.macros=2",))
    row = evaluate(Point(model="ds-cnn", target="npu+cim", sets=("cim.macros=2",)))
    for bound in range(3):
        assert row.area_mm2[bound] == pytest.approx(sum(d.area_mm2()[bound] for d in system.devices))
    assert 0 < row.area_mm2[0] <= row.area_mm2[1] <= row.area_mm2[2]


def test_more_macros_take_more_area() -> None:
    areas = [
        evaluate(Point(model="ds-cnn", target="npu+cim", sets=(f"cim.macros={n}",))).area_mm2[1] for n in (1, 2, 4)
    ]
    assert areas == sorted(set(areas))


def test_a_point_without_a_plan_is_a_row_with_the_reason() -> None:
    row = evaluate(Point(model="ds-cnn", target="npu+cim", pins=("Softmax=cim",)))
    assert (row.feasible, row.plan, row.code) == (False, None, "H4E500")
    assert "no device left" in row.reason
    assert row.area_mm2[1] > 0
    with pytest.raises(ValueError, match="there is no plan for ds-cnn"):
        _ = row.latency_ps


def test_a_model_is_prepared_once() -> None:
    assert prepare(Point(model="ds-cnn", target="npu")) is prepare(Point(model="ds-cnn", target="npu+cim"))
    other = prepare(Point(model="ds-cnn", target="npu", precision="stored"))
    assert other is not prepare(Point(model="ds-cnn", target="npu"))


def test_rows_survive_json() -> None:
    for pins in ((), ("Softmax=cim",)):
        row = evaluate(Point(model="ds-cnn", target="npu+cim", pins=pins, objective=Objective.EDP))
        assert Row.from_json(row.to_json()) == row


def test_names_of_the_zoo() -> None:
    assert zoo_name("hybrid-xxs-int8") == ("hybrid-xxs", True)
    assert zoo_name("hybrid-xxs") == ("hybrid-xxs", False)
    assert zoo_name("./hybrid-xxs") is None
    assert zoo_name("model.onnx") is None
