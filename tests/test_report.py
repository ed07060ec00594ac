"""The report holds what the plan says, exactly; its views show it and nothing of a hostile name gets through."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from h4hc.assignment import Objective, Placement
from h4hc.errors import IntegrityError, InternalError, UserError
from h4hc.explain import explain
from h4hc.outdir import OutputFolder
from h4hc.plan_check import _walk
from h4hc.report import make_report, report_bytes
from h4hc.report_views import render_markdown, render_terminal
from h4hc.reporting.saved import checked, load_report
from h4hc.reporting.schema_check import check, load_schema
from h4hc.reporting.terminal import MAX_LINES
from h4hc.text import columns
from tests.fake_compilation import compile_fake, fake_system, fake_workload, total

HOSTILE = "a|b`c\n## x\x1b[31m\x07\u202e<img src=x onerror=alert(1)>[l](http://e.vil)@team\ud800" + "n" * 1024
WIDTHS = (60, 61, 79, 80, 100, 120, 200)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return make_report(compile_fake())


def bounds(value: dict[str, int]) -> tuple[int, int, int]:
    return value["low"], value["nominal"], value["high"]


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("objective", list(Objective))
def test_valid_against_the_shipped_schema(objective: Objective, trust: bool) -> None:
    made = make_report(compile_fake(objective=objective, robust=trust, stable=trust))
    jsonschema.Draft202012Validator.check_schema(load_schema("report"))
    jsonschema.Draft202012Validator(load_schema("report")).validate(made)
    assert check(made, load_schema("report")) == []


def test_schema_describes_every_field_and_allows_no_other() -> None:
    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object":
                assert node["additionalProperties"] is False, path
                assert sorted(node["required"]) == sorted(node["properties"]), path
                for name, field in node["properties"].items():
                    assert field.get("description"), f"{path}/{name}"
                    unit = re.search(r"_(ps|pj|bytes|s)$", name)
                    if unit and "$ref" not in field:
                        word = {"ps": "[ps", "pj": "[pJ", "bytes": "bytes", "s": "[s"}[unit[1]]
                        assert word.lower() in field["description"].lower(), f"{path}/{name} does not name its unit"
            for key, value in node.items():
                walk(value, f"{path}/{key}")

    walk(load_schema("report"), "")


def test_own_schema_check_agrees_with_jsonschema() -> None:
    """Damage the report in many places; both checkers must give the same verdict."""
    schema = load_schema("report")
    theirs = jsonschema.Draft202012Validator(schema)
    rng = random.Random(5)
    report = make_report(compile_fake(fake_workload(3)))
    verdicts = []
    for _ in range(100):
        damaged = copy.deepcopy(report)
        damage(damaged, rng)
        verdicts.append(theirs.is_valid(damaged))
        assert (check(damaged, schema) == []) == verdicts[-1]
    assert verdicts.count(False) > 30  # the damage bites


def damage(value: Any, rng: random.Random) -> None:
    """Walk down to a random container and drop, add, replace or negate one entry."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.85:
            value = value[key]
            continue
        action = rng.randrange(4)
        if action == 0:
            del value[key]
        elif action == 1 and isinstance(value, dict):
            value["extra"] = 1
        elif action == 2:
            value[key] = rng.choice([None, -1, "text", [], {}, 1.5, True])
        elif isinstance(value[key], int):
            value[key] = -value[key] - 1
        return


def test_ledger_and_steps_sum_exactly_to_the_totals(report: dict[str, Any]) -> None:
    for field in ("latency_ps", "energy_pj"):
        wanted = bounds(report["totals"][field])
        for rows in (report["ledger"], report["steps"]):
            assert tuple(map(sum, zip(*(bounds(r[field]) for r in rows), strict=True))) == wanted
    assert sum(r["steps"] for r in report["ledger"]) == len(report["steps"])
    assert report["solver"]["value"] == report["totals"]["latency_ps"]["nominal"]


def test_what_hides_is_shown_and_not_paid(report: dict[str, Any]) -> None:
    paid = {s["subject"]: s for s in report["steps"] if s["kind"] == "op"}
    on_fast = [op["device"] == "fast" and bool(op["weight_bytes"]) for op in report["ops"]]
    for at, op in enumerate(report["ops"]):
        weights = op["weight_bytes"] if at and on_fast[at] and on_fast[at - 1] else 0  # as the fake device says
        assert bounds(op["hidden"]["latency_ps"]) == (weights, weights * 2, weights * 3)
        for field in ("latency_ps", "energy_pj"):
            low, nominal, high = bounds(op["cost"][field])
            most, part, least = bounds(op["hidden"][field])[::-1]
            assert bounds(paid[op["id"]][field]) == (max(0, low - most), nominal - part, high - least)
    assert sum(bounds(op["hidden"]["latency_ps"])[1] > 0 for op in report["ops"]) == 3
    assert sum(bounds(op["hidden"]["energy_pj"])[1] > 0 for op in report["ops"]) == 3  # leakage of that time
    assert "| 2.048 ns |" in render_markdown(report)


def test_baselines_have_intervals_that_hold_everything() -> None:
    done = compile_fake()
    assert done.workload is not None
    assert done.table is not None
    assert done.assignment is not None
    for row, plan in zip(make_report(done)["baselines"], done.baselines, strict=True):
        placed = tuple(Placement(p.op, mode) for p, mode in zip(done.assignment.placements, plan.modes, strict=True))
        moved = replace(done.assignment, placements=placed)
        for at, field in enumerate(("latency_ps", "energy_pj")):
            low, nominal, high = bounds(row[field])
            assert (
                nominal == _walk(done.table, moved, "nominal", "nominal")[at] == (plan.latency_ps, plan.energy_pj)[at]
            )
            assert high == _walk(done.table, moved, "high", "low")[at]
            assert low == _walk(done.table, moved, "low", "high")[at]  # here nothing hides below zero
            assert low <= nominal < high


def test_a_robust_plan_says_what_it_costs_and_saves() -> None:
    made = make_report(compile_fake(robust=True))
    this, other = made["robustness"]
    assert made["solver"]["case"] == made["options"]["case"] == "worst"
    assert made["solver"]["value"] == this["worst_value"] == made["totals"]["latency_ps"]["high"]
    assert this["worst_value"] <= other["worst_value"]
    assert other["nominal_value"] <= this["nominal_value"]
    assert other["nominal_value"] == make_report(compile_fake())["solver"]["value"]
    for view in (render_terminal(made), render_markdown(made)):
        assert "the worst case of latency" in view
        assert "nominal optimum" in view
    assert make_report(compile_fake())["robustness"] == []


def test_stability_is_shown_in_all_views() -> None:
    made = make_report(compile_fake(stable=True))
    radii = {(r["device"], r["quantity"]): r for r in made["stability"]["radii"]}
    assert set(radii) == {("fast", "latency"), ("host", "latency")}
    high = radii["fast", "latency"]["high"]
    assert high["factor"] > 1
    assert high["flips"]
    text, page = render_terminal(made), render_markdown(made)
    assert f"x {high['factor']:.4g}" in text
    assert f"x {high['factor']:.4g}" in page
    assert high["flips"][0]["op"] in page
    flipped = explain(made, high["flips"][0]["op"])["reasons"]
    assert any("in the plan that takes over" in reason for reason in flipped)
    plain = make_report(compile_fake())
    assert plain["stability"] == {"largest_factor": 1000, "radii": [], "break_evens": []}
    assert "Stability" not in render_markdown(plain)


def test_what_stability_could_not_settle_is_not_claimed() -> None:
    made = copy.deepcopy(make_report(compile_fake(stable=True)))
    for radius in made["stability"]["radii"]:
        radius["low"].update(factor=None, proof="time limit", flips=[])
        radius["high"].update(proof="time limit")
    for view in (render_terminal(made, 120), render_markdown(made)):
        assert "unknown (time limit)" in view
        assert "perhaps nearer to 1" in view
    made["stability"]["radii"] = []
    for view in (render_terminal(made), render_markdown(made)):
        assert "not proved optimal" in view


def test_every_operator_and_origin_has_its_row(report: dict[str, Any]) -> None:
    workload = fake_workload()
    assert [op["id"] for op in report["ops"]] == [op.id for op in workload.ops]
    assert [n for op in report["ops"] for n in op["origin"]] == [n for op in workload.ops for n in op.origin]
    assert sum(p["macs"] for p in report["partitions"]) == report["model"]["macs"] == 6 * 1024
    assert report["model"]["parameters"] == 6 * 1024
    modes = {m.name for device in fake_system().devices for m in device.modes()}
    for op in report["ops"]:
        answered = [
            op["mode"],
            *(a["mode"] for a in op["alternatives"]),
            *(m for r in op["rejections"] for m in r["modes"]),
        ]
        assert sorted(answered) == sorted(modes), "every mode has a cost or a rejection, once"


@pytest.mark.parametrize("objective", list(Objective))
def test_delta_of_an_alternative_is_the_difference_of_two_schedules(objective: Objective) -> None:
    """Independent of plan_cost: move the operator in the assignment, schedule again, compare the sums."""
    done = compile_fake(objective=objective, forbids=("*layer4*=fast",))
    workload, table, plan = done.workload, done.table, done.assignment
    assert workload is not None
    assert table is not None
    assert plan is not None
    before = total(table, workload, plan)
    seen = 0
    for row in make_report(done)["ops"]:
        for other in row["alternatives"]:
            mode = next(c.mode for c in table.row[row["id"]].costs if c.mode.name == other["mode"])
            placements = tuple(Placement(p.op, mode, ()) if p.op == row["id"] else p for p in plan.placements)
            after = total(table, workload, replace(plan, placements=placements))
            assert (other["delta_latency_ps"], other["delta_energy_pj"]) == (after[0] - before[0], after[1] - before[1])
            seen += 1
    assert seen > 15


def test_misfit_names_what_is_missing() -> None:
    """Eighteen dense layers of 1 KiB fill four units of 4 KiB: those left on the host find no room in one unit."""
    rows = make_report(compile_fake(fake_workload(27)))["ops"]
    dense = [r for r in rows if r["macs"]]
    outside = [r for r in dense if r["device"] == "host"]
    assert len(dense) == 18
    assert len(outside) == 2
    for row in outside:
        assert all("0 of 4" in a["misfit"] for a in row["alternatives"] if a["device"] == "fast")
    inside = next(r for r in dense if r["device"] == "fast")
    assert all(a["misfit"] == "" for a in inside["alternatives"] if a["device"] == "host")


def test_ruled_out_by_the_user(report: dict[str, Any]) -> None:
    pinned = make_report(compile_fake(pins=("/net/layer1=host",)))["ops"][1]
    assert pinned["device"] == "host"
    assert all(a["ruled_out"] for a in pinned["alternatives"])
    assert not any(a["ruled_out"] for a in report["ops"][1]["alternatives"])


def test_capacity_adds_up(report: dict[str, Any]) -> None:
    (entry,) = report["capacity"]
    assert entry["device"] == "fast"
    assert sum(u["used_bytes"] for u in entry["units"]) == 6 * 1024
    assert all(u["used_bytes"] <= entry["unit_bytes"] for u in entry["units"])
    assert sorted(op for u in entry["units"] for op in u["ops"]) == [f"/net/layer{i}" for i in (0, 1, 3, 4, 6, 7)]


def test_basis_counts_each_step_under_its_marks(report: dict[str, Any]) -> None:
    steps = {b["mark"]: b["steps"] for b in report["basis"]}
    kinds = [s["kind"] for s in report["steps"]]
    fast = sum(op["device"] == "fast" for op in report["ops"])
    assert steps["vendor"] == kinds.count("quantize") + kinds.count("dequantize") == 2
    assert steps["published"] == fast + kinds.count("transfer")
    assert steps["guess"] == len(kinds)  # every step leaks, and the devices' leakage is a guess
    assert steps["derived"] == len(report["ops"]) - fast


def test_same_bytes_twice_and_nothing_of_the_machine(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (report_bytes(make_report(compile_fake())) for _ in range(2))
    assert first == second
    assert first.endswith(b"}\n")
    assert b"\r" not in first
    assert json.loads(first) == make_report(compile_fake())
    assert b"seconds" not in first
    assert str(tmp_path).encode() not in first
    assert os.getcwd().encode() not in first


def test_stopped_compilation_has_no_report() -> None:
    done = compile_fake()
    done.schedule = None
    with pytest.raises(InternalError, match="ran to its schedule"):
        make_report(done)


def test_views_of_the_saved_report_are_the_same(report: dict[str, Any]) -> None:
    saved = json.loads(report_bytes(report))
    assert render_markdown(saved) == render_markdown(report)
    for width in WIDTHS:
        assert render_terminal(saved, width) == render_terminal(report, width)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("ops", [1, 8, 400])
def test_terminal_view_keeps_its_bounds(ops: int, width: int, trust: bool) -> None:
    lines = render_terminal(crowded(report_of(ops, trust)), width).split("\n")
    assert lines[-1] == ""
    assert len(lines) - 1 <= MAX_LINES == 40
    assert max(columns(line) for line in lines) <= width


@functools.cache
def report_of(ops: int, trust: bool) -> dict[str, Any]:
    return make_report(compile_fake(fake_workload(ops), robust=trust, stable=trust))


def crowded(report: dict[str, Any]) -> dict[str, Any]:
    """The report with more of everything that adds lines: devices, baselines, refusals, warnings, moves."""
    report = copy.deepcopy(report)
    for i in range(5):
        report["target"]["devices"].append({**report["target"]["devices"][0], "name": f"extra{i}"})
        report["capacity"].append({**report["capacity"][0], "device": f"extra{i}"})
        report["baselines"].append({**report["baselines"][0], "name": f"extra{i}-only"})
        report["stability"]["radii"] *= 2
        report["diagnostics"].append({**report["diagnostics"][0], "code": f"H4W00{i}"})
    for kind in ("cache", "layout", "transfer", "switch", "quantize", "dequantize"):
        report["ledger"].append({**report["ledger"][0], "kind": kind})
    refusal = {"device": "fast", "modes": ["fast"], "rule": "a rule", "value": "1", "limit": "2", "fix": ""}
    for i in range(9):
        report["ops"][0]["rejections"].append({**refusal, "code": f"fast.rule{i}"})
    report["ops"][0]["device"] = "host"
    return report


def test_proof_is_claimed_only_when_it_was_made(report: dict[str, Any]) -> None:
    weaker = copy.deepcopy(report)
    weaker["solver"].update(status="feasible, bound not closed", gap=0.25)
    assert "proved optimal" in render_terminal(report)
    assert "proved optimal" not in render_terminal(weaker)
    assert "gap 25 %" in render_terminal(weaker)
    plan = next(line for line in render_markdown(weaker).splitlines() if line.startswith("| plan |"))
    assert "proved" not in plan


def test_missing_baseline_says_why(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    changed["baselines"][0].update(latency_ps=None, energy_pj=None, value_ratio=None, why="pinned elsewhere")
    for view in (render_terminal(changed), render_markdown(changed)):
        assert "pinned elsewhere" in view


def hostile_report() -> dict[str, Any]:
    return make_report(compile_fake(fake_workload(4, prefix=HOSTILE), why=HOSTILE, robust=True, stable=True))


def test_hostile_names_reach_no_terminal_and_break_no_table() -> None:
    made = json.loads(report_bytes(hostile_report()))
    assert check(made, load_schema("report")) == []
    for width in WIDTHS:
        text = render_terminal(made, width)
        assert all(c.isprintable() for c in text.replace("\n", ""))
        assert len(text.split("\n")) - 1 <= MAX_LINES
    page = render_markdown(made)
    assert all(c.isprintable() for c in page.replace("\n", ""))
    bare = re.sub(r"`[^`\n]*`", "", page)  # what is not inside a code span
    assert "<img" not in bare
    assert "](http" not in bare
    assert "http://" not in bare
    assert not re.search(r"@(?!<!-- -->)", bare)
    heads = {"# Partition report, h4hc 0.1.0"}
    assert all(line.startswith("## ") or line in heads for line in page.splitlines() if line.startswith("#"))
    widths: list[int] = []
    for line in page.splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            widths.append(cells)
            assert cells == widths[0], line
        else:
            widths = []


def test_saved_report_is_checked(tmp_path: Any, report: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"no report\.json"):
        load_report(tmp_path)
    file = tmp_path / "report.json"
    file.write_bytes(report_bytes(report))
    assert load_report(file) == json.loads(report_bytes(report))
    for text, why in ((b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[]", "version"), (b"\xff", "not JSON")):
        file.write_bytes(text)
        with pytest.raises(IntegrityError, match=why):
            load_report(file)
    with pytest.raises(IntegrityError, match="another version") as caught:
        checked({**report, "schema_version": 99}, "here")
    assert "99" in caught.value.problems[0].why
    broken = copy.deepcopy(report)
    del broken["ops"][0]["cost"], broken["solver"]["bound"]
    with pytest.raises(IntegrityError) as caught:
        checked(broken, "here")
    assert {p.why for p in caught.value.problems} == {"/ops/0: lacks 'cost'", "/solver: lacks 'bound'"}


def test_a_report_changed_in_its_folder_is_refused(tmp_path: Any, report: dict[str, Any]) -> None:
    out = tmp_path / "out"
    with OutputFolder(out, {}) as folder:
        folder.add("report.json", report_bytes(report), "the report")
    assert load_report(out) == json.loads(report_bytes(report))
    file = out / "report.json"
    file.write_bytes(file.read_bytes().replace(b'"latency"', b'"energy"', 1))
    with pytest.raises(IntegrityError, match="was changed"):
        load_report(out)
    (out / "manifest.json").unlink()
    with pytest.raises(IntegrityError):
        load_report(out)
