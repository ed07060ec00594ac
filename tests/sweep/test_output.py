"""The folder of a sweep: CSV, JSON against its schema, and pictures that show something; the same bytes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import jsonschema
import matplotlib.image
import pytest

from h4hc.reporting.schema_check import load_schema
from h4hc.sweep.plots import render
from h4hc.sweep.row import Row
from h4hc.sweep.table import Sweep, csv_bytes, document
from tests.sweep.conftest import AXES, MODELS, OVER

PICTURES = [
    f"{model}-{name}.{kind}"
    for model in MODELS
    for name in ("area", "break-even", "grid", "pareto")
    for kind in ("png", "svg")
]


@pytest.fixture(scope="session")
def sweep(rows: tuple[Row, ...]) -> Sweep:
    return Sweep(MODELS, AXES, rows)


def test_json_is_valid_and_a_damaged_one_is_not(swept: Path) -> None:
    schema = load_schema("sweep")
    jsonschema.Draft202012Validator.check_schema(schema)
    tree = json.loads((swept / "sweep.json").read_text())
    jsonschema.validate(tree, schema)
    del tree["rows"][0]["plan"]["latency_ps"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


def test_rows_without_a_plan_are_valid_too(sweep: Sweep) -> None:
    stuck = replace(sweep.rows[0], plan=None, baselines=(), code="H4E500", reason="=too big", status="", bound=0)
    tree = document(replace(sweep, rows=(stuck, *sweep.rows[1:])))
    jsonschema.validate(tree, load_schema("sweep"))
    first, *_ = csv.DictReader(io.StringIO(csv_bytes(tree).decode()))
    assert (first["status"], first["latency_ps"], first["code"], first["reason"]) == (
        "no plan",
        "",
        "H4E500",
        "'=too big",
    )


def test_csv_holds_the_figures_of_the_rows(swept: Path, rows: tuple[Row, ...]) -> None:
    records = list(csv.DictReader(io.StringIO((swept / "sweep.csv").read_text())))
    assert [(r["model"], r["cim.macros"], r["cim.cus"]) for r in records] == [
        (model, macros, cus) for model in MODELS for macros in ("1", "2") for cus in ("4", "1")
    ]
    for record, row in zip(records, rows, strict=True):
        assert int(record["latency_low_ps"]) == row.latency_ps.low
        assert int(record["latency_ps"]) == row.latency_ps.nominal
        assert int(record["energy_high_pj"]) == row.energy_pj.high
        npu = row.baseline("npu-only")
        assert npu is not None
        assert int(record["npu-only_latency_ps"]) == npu.latency_ps.nominal
        assert row.plan is not None
        counts = {key.removeprefix("ops_"): int(record[key]) for key in record if key.startswith("ops_")}
        assert {device: count for device, count in counts.items() if count} == dict(row.plan.placements)
        assert float(record["area_mm2"]) == pytest.approx(row.area_mm2[1])


def test_models_of_one_name_get_names_of_their_own() -> None:
    labels = Sweep(("a/m.onnx", "b/m.onnx", "resnet8-int8", "M_.onnx"), (), ()).labels()
    assert labels == {"a/m.onnx": "m", "b/m.onnx": "m-2", "resnet8-int8": "resnet8-int8", "M_.onnx": "m-3"}


def test_all_pictures_are_there_and_show_something(swept: Path) -> None:
    assert sorted(p.name for p in (swept / "plots").iterdir()) == sorted(PICTURES)
    for path in (swept / "plots").glob("*.png"):
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[0] > 300
        assert (pixels[..., :3].min(axis=2) < 0.7).mean() > 0.005  # ink
    for path in (swept / "plots").glob("*.svg"):
        tree = ET.parse(path)
        assert sum(1 for e in tree.iter() if e.tag.endswith("}path")) > 20


def test_a_plot_holds_a_mark_for_every_point(sweep: Sweep) -> None:
    """The grid of one model: 2 panels x 4 marks, and the npu-only line once a panel."""
    one = replace(sweep, models=("ds-cnn",), rows=sweep.of_model("ds-cnn"))
    svg = render(one)["ds-cnn-grid.svg"].decode()
    assert svg.count('id="npu-only"') == 2
    root = ET.fromstring(svg)
    lines = [g for g in root.iter() if g.get("id", "").startswith("line2d_")]
    marks = [len([u for u in g.iter() if u.tag.endswith("}use")]) for g in lines]
    assert marks.count(2) >= 4  # two series of two points in each of two panels


@pytest.mark.slow
def test_the_same_sweep_gives_the_same_bytes(swept: Path, tmp_path: Path) -> None:
    command = ["sweep", *MODELS, "--target", "npu+cim", *OVER, "-o", str(tmp_path / "out"), "--jobs", "2", "-q"]
    style = tmp_path / "matplotlibrc"
    style.write_text("figure.facecolor: red\nsvg.hashsalt: other\n")
    changed = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(style)}
    subprocess.run([sys.executable, "-m", "h4hc", *command], check=True, env=changed, stdout=subprocess.DEVNULL)
    names = ["sweep.csv", "sweep.json", *(f"plots/{name}" for name in PICTURES)]
    assert [n for n in names if (swept / n).read_bytes() != (tmp_path / "out" / n).read_bytes()] == []


def test_no_axis_and_no_plan_leave_out_their_pictures(sweep: Sweep) -> None:
    one = Sweep(("ds-cnn",), (), (replace(sweep.rows[0], point=replace(sweep.rows[0].point, sets=())),))
    assert {name.partition(".")[0] for name in render(one)} == {"ds-cnn-area", "ds-cnn-pareto", "ds-cnn-break-even"}
    none = replace(one, rows=(replace(one.rows[0], plan=None),))
    assert render(none) == {}
