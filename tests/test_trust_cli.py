"""`h4hc compile --robust --stability`: what a user asks for is what the report holds, from the flags to explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from h4hc.cli import run
from h4hc.reporting.saved import load_report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "model.onnx"
    assert run(["zoo", "ds-cnn", "-o", str(path), "-q"]) == 0
    return path


def compiled(model: Path, out: Path, *flags: str) -> dict[str, Any]:
    assert run(["compile", str(model), "--target", "npu+cim", "-o", str(out), "-q", *flags]) == 0
    return load_report(out)


def test_flags_reach_the_report(model: Path, tmp_path: Path) -> None:
    plain = compiled(model, tmp_path / "plain")
    assert plain["robustness"] == plain["stability"]["radii"] == plain["stability"]["break_evens"] == []
    both = compiled(model, tmp_path / "both", "--robust", "--stability")
    assert both["options"]["case"] == "worst"
    this, other = both["robustness"]
    assert other["nominal_value"] == plain["solver"]["value"]
    assert this["worst_value"] == both["solver"]["value"] <= plain["totals"]["latency_ps"]["high"]
    assert [(r["device"], r["quantity"]) for r in both["stability"]["radii"]] == [
        (device, "latency") for device in ("cim", "host", "npu")
    ]
    assert all(r[side]["proof"] == "proved" for r in both["stability"]["radii"] for side in ("low", "high"))


def test_ratios_to_simpler_plans_say_what_they_compare(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planned for the worst case, they are of worst latencies, while the figures beside them are nominal."""
    for flags, said in (((), " x latency"), (("--robust",), " x worst latency")):
        report = compiled(model, tmp_path / said.strip(), *flags)
        case = "high" if flags else "nominal"
        row = next(b for b in report["baselines"] if b["name"] == "npu-only")
        assert row["value_ratio"] == pytest.approx(
            row["latency_ps"][case] / report["totals"]["latency_ps"][case], rel=1e-5
        )
        assert said in next(line for line in capsys.readouterr().out.splitlines() if "npu-only" in line)


def test_the_same_bytes_twice(model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        compiled(model, tmp_path / name, "--robust", "--stability", "--objective", "edp")
    one, two = ((tmp_path / name / "report.json").read_bytes() for name in ("one", "two"))
    assert one == two
    quantities = [(r["device"], r["quantity"]) for r in json.loads(one)["stability"]["radii"]]
    assert quantities == [(d, q) for d in ("cim", "host", "npu") for q in ("latency", "energy")]
