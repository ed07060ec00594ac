"""--objective with several goals, --budget and --pareto on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from h4hc.cli import run
from h4hc.sweep.canvas import can_plot
from tests.cli_call import Cli


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("budget") / "model.onnx"
    assert run(["zoo", "ds-cnn", "-o", str(path), "-q"]) == 0
    return path


def test_goals_in_order_have_a_proof_each(cli: Cli, model: Path) -> None:
    said = cli("compile", model, "--target", "npu+cim", "--dry-run", "--objective", "sram,latency,energy", "--json")
    assert said.code == 0
    solver = said.json["solver"]
    assert [stage["goal"] for stage in solver["stages"]] == ["sram", "latency", "energy"]
    assert all(stage["status"] == "proved optimal" for stage in solver["stages"])
    assert solver["objective"] == "latency"
    assert solver["value"] == solver["stages"][1]["value"] == said.json["totals"]["latency_ps"]["nominal"]
    region = said.json["memory"][0]
    assert solver["stages"][0]["value"] - 32 < region["high_water_bytes"] <= solver["stages"][0]["value"]


def test_sram_alone_says_what_chooses_among_its_plans(cli: Cli, model: Path) -> None:
    said = cli("compile", model, "--target", "npu+cim", "--dry-run", "--objective", "sram", "--json")
    assert [stage["goal"] for stage in said.json["solver"]["stages"]] == ["sram", "latency"]


def test_a_budget_binds_and_is_in_the_report(cli: Cli, model: Path) -> None:
    free = cli("compile", model, "--target", "npu+cim", "--dry-run", "--json").json
    slow = ["compile", model, "--target", "npu+cim", "--dry-run", "--forbid", "conv=cim", "--json"]
    alone = cli(*slow).json
    energy, latency = (alone["totals"][key]["nominal"] for key in ("energy_pj", "latency_ps"))
    assert energy > free["totals"]["energy_pj"]["nominal"]
    kept = cli(*slow, "--budget", f"energy={energy}pJ,latency=1s").json
    assert kept["totals"]["latency_ps"]["nominal"] == latency
    assert {b["goal"]: b["limit"] for b in kept["solver"]["budget"]} == {"latency": 10**12, "energy": energy}
    text = cli(*slow[:-1], "--budget", "latency=1s").out
    assert "at most" in text
    assert "latency 1 s" in text


def test_what_conflicts_is_said_with_the_least_change(cli: Cli, model: Path) -> None:
    said = cli("compile", model, "--target", "npu+cim", "--dry-run", "--budget", "latency=1us,sram=1K", "--json")
    assert said.code == 5
    problems = said.json["error"]["problems"]
    assert len(problems) == 2
    for problem, option in zip(problems, ("latency", "sram"), strict=True):
        assert f"--budget {option}=" in problem["what"]
        again = problem["hint"].split()[1]
        assert cli("compile", model, "--target", "npu+cim", "--dry-run", "-q", "--budget", again).code == 0


def test_all_mistakes_in_options_at_once(cli: Cli, model: Path) -> None:
    given = ["--objective", "edp,latency", "--budget", "sram=256", "--pareto", "latency", "--pareto-points", "1"]
    said = cli("compile", model, "--target", "npu+cim", "--dry-run", *given, "--stability", "--json")
    assert said.code == 2
    text = json.dumps(said.json["error"]["problems"])
    for part in ("edp is not the last", "sram=256", "no pair of goals", "--pareto-points", "--stability takes one"):
        assert part in text


def test_pareto_writes_the_front_beside_the_plan(cli: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["--pareto", "latency,energy", "--forbid", "conv=cim", "--pareto-points", "4", "--objective", "energy"]
    said = cli("compile", model, "--target", "npu+cim", "-o", out, *given)
    assert said.code == 0
    assert "Pareto front of latency and energy" in said.out
    front = json.loads((out / "pareto.json").read_text())
    rows = list(csv.DictReader((out / "pareto.csv").read_text().splitlines()))
    assert [int(row["latency_ps"]) for row in rows] == [point["values"]["latency_ps"] for point in front["points"]]
    pairs = [(point["latency_ps"], point["energy_pj"]) for point in front["points"]]
    assert pairs == sorted(pairs)
    assert [e for _, e in pairs] == sorted((e for _, e in pairs), reverse=True)
    assert front["chosen"]["energy_pj"] == pairs[-1][1]
    assert front["complete"] == (front["stopped"] == "")
    assert (out / "pareto.png").is_file() == (out / "pareto.svg").is_file() == can_plot()
    first = {name: (out / name).read_bytes() for name in ("pareto.json", "pareto.csv")}
    assert cli("compile", model, "--target", "npu+cim", "-o", out, *given, "-q").code == 0
    assert first == {name: (out / name).read_bytes() for name in first}
    assert cli("report", out).code == 0
