"""`h4hc sweep`: every mistake at once and before anything runs, exit codes, streams, missing extras."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from h4hc.cli import run
from h4hc.sweep.cache import TAG_TEXT
from tests.sweep.conftest import OVER

SWEEP = ("sweep", "ds-cnn", "--target", "npu+cim")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def problems(out: str) -> list[str]:
    return [problem["what"] for problem in json.loads(out)["error"]["problems"]]


def test_every_mistake_of_the_options_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments: list[Any] = ["sweep", "ds-cnn", "ds-cnn", "nowhere.onnx", "resnet9", "--target", "npu+cim", "--json"]
    arguments += ["--over", "cim.makros=1,2", "--over", "cim.macros=", "--over", "cim.cus=1,x", "--gap", "7"]
    arguments += ["-o", tmp_path / "a" / "b", "--jobs", "0"]
    code, out, _ = call(capsys, *arguments)
    found = problems(out)
    assert code == 2
    for said in (
        "is given 2 times",
        "no such model file, nor zoo model",
        "--over 'cim.macros=' is not KEY=V1,V2,...",
        "--over: there is no key 'cim.makros'",
        "--over cim.cus: cannot read 'x'",
        "--gap 7 is out of range",
        "--jobs 0 is out of range",
        "there is no folder",
    ):
        assert sum(said in what for what in found) == (2 if said.startswith("no such model") else 1), said
    assert not (tmp_path / "a").exists()


def test_missing_model_target_and_output(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "sweep", "--json")
    assert code == 2
    assert problems(out) == ["no model is given", "-o OUT is missing", "--target is missing"]


def test_values_outside_their_range_are_errors_of_the_target(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = call(
        capsys, *SWEEP, "--over", "cim.macros=0,4", "--over", "cim.cus=4,-1", "-o", tmp_path / "o", "--json"
    )
    assert code == 6
    assert len(problems(out)) == 2
    assert not (tmp_path / "o").exists()


def test_an_unknown_target(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "sweep", "ds-cnn", "--target", "npu+gpu", *OVER, "-o", tmp_path / "o", "--json")
    assert code == 6
    assert "there is no system 'npu+gpu'" in problems(out)


def test_models_that_cannot_be_read_are_all_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.onnx").write_bytes(b"not a model")
    models = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    code, out, _ = call(capsys, "sweep", *models, "--target", "npu", "-o", tmp_path / "o", "--json")
    assert code == 3
    where = [problem["where"][0] for problem in json.loads(out)["error"]["problems"]]
    assert where == [str(model) for model in models]


def test_demands_are_checked_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = (*SWEEP, *OVER, "--pin", "Nothing=npu", "--forbid", "Conv=gpu", "-o", tmp_path / "o", "--json")
    code, out, _ = call(capsys, *arguments)
    assert code == 2
    assert problems(out)[0] == "--pin 'Nothing=npu' matches no operator"
    assert set(problems(out)[1:]) == {"'Conv=gpu': there is no such device or mode"}
    assert not list((tmp_path / "o" / "cache").glob("*.row"))


def test_a_folder_of_somebody_else_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, out, _ = call(capsys, *SWEEP, "-o", tmp_path, "--json")
    assert code == 2
    assert "was not made by h4hc sweep" in problems(out)[0]
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_with_the_cache_of_another_program_is_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {
        "cache/CACHEDIR.TAG": TAG_TEXT.splitlines(keepends=True)[0] + b"# made by another program\n",
        "cache/theirs.tmp": b"theirs",
        "plots/theirs.png": b"theirs",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    code, out, _ = call(capsys, *SWEEP, "-o", tmp_path, "--json")
    assert code == 2
    assert "was not made by h4hc sweep" in problems(out)[0]
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == files


def test_the_results_of_a_study_are_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Both keep their answers alike, so the folder looks like one of its own; but its pictures would go."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "CACHEDIR.TAG").write_bytes(TAG_TEXT)
    (tmp_path / "study.json").write_text("{}")
    code, out, _ = call(capsys, *SWEEP, "-o", tmp_path, "--json")
    assert code == 2
    assert "holds the results of h4hc study paper" in problems(out)[0]
    (tmp_path / "study.json").rename(tmp_path / "sweep.json")
    code, _, log = call(capsys, "study", "paper", "--quick", "-o", tmp_path)
    assert code == 2
    assert "holds the results of h4hc sweep" in log


def test_too_large_a_grid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    many = ",".join(str(n) for n in range(1, 401))
    over = ("--over", f"cim.macros={many}", "--over", f"cim.cus={many}")
    code, out, _ = call(capsys, *SWEEP, *over, "-o", tmp_path / "o", "--json")
    assert code == 2
    assert problems(out) == ["the grid has 160000 points"]


def test_points_without_a_plan_are_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, *SWEEP, *OVER, "--pin", "Softmax=cim", "-o", tmp_path / "o", "--json", "--jobs", "1")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["plan"], row["code"], row["status"]) for row in rows] == [(None, "H4E500", "")] * 4
    assert all("no device left" in row["reason"] for row in rows)
    assert not (tmp_path / "o" / "plots").exists()


def test_streams(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = (*SWEEP, *OVER, "-o", tmp_path / "o", "--jobs", "1", "--no-plots")
    code, text, log = call(capsys, *arguments)
    assert (code, log) == (0, f"wrote {tmp_path / 'o'}: 4 points, 0 pictures\n")
    assert text.startswith("ds-cnn for npu+cim: 4 points, 0 without a plan")
    code, out, log = call(capsys, *arguments, "--json", "-q")
    assert (code, log) == (0, "")
    assert out == (tmp_path / "o" / "sweep.json").read_text()


def test_pictures_of_an_earlier_grid_go_away(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "o"
    assert call(capsys, *SWEEP, *OVER, "-o", out, "--jobs", "1")[0] == 0
    assert (out / "plots" / "ds-cnn-grid.svg").exists()
    for name in ("holiday.png", "ds-cnn-mine.svg", "ds-cnn-grid.tmp"):
        (out / "plots" / name).write_bytes(b"mine")
    made = {p.name: p.read_bytes() for p in (out / "plots").iterdir()}
    assert call(capsys, *SWEEP, "-o", out, "--jobs", "1", "--no-plots")[0] == 0
    assert {p.name: p.read_bytes() for p in (out / "plots").iterdir()} == made
    assert call(capsys, *SWEEP, "-o", out, "--jobs", "1")[0] == 0
    assert all((out / "plots" / name).exists() for name in ("holiday.png", "ds-cnn-mine.svg", "ds-cnn-grid.tmp"))
    assert not (out / "plots" / "ds-cnn-grid.svg").exists()
    assert (out / "plots" / "ds-cnn-pareto.svg").exists()


def test_without_matplotlib(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h4hc.sweep.canvas.can_plot", lambda: False)
    code, _, log = call(capsys, *SWEEP, "-o", tmp_path / "o", "--plots")
    assert (code, (tmp_path / "o").exists()) == (10, False)
    assert "pip install 'h4hc[plot]'" in log
    code, _, log = call(capsys, *SWEEP, "-o", tmp_path / "o", "--jobs", "1")
    assert code == 0
    assert "no plots: matplotlib is not installed; pip install 'h4hc[plot]'" in log
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["cache", "sweep.csv", "sweep.json"]


def test_without_ray(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, log = call(capsys, *SWEEP, "-o", tmp_path / "o", "--ray")
    assert (code, (tmp_path / "o").exists()) == (10, False)
    assert "pip install 'h4hc[ray]'" in log


def test_remarks_are_said_once_for_a_model_and_a_system(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two spellings of one target value are one system; another value is another."""
    arguments = ("sweep", "ds-cnn", "--target", "npu+cim-analog", "--no-plots", "--jobs", "1")
    over = ("--over", "sram.size_bytes=1024,01024,2048")
    code, out, log = call(capsys, *arguments, *over, "-o", tmp_path / "o", "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [[d["code"] for d in row["diagnostics"]] for row in rows] == [["H4W120", "H4W121"]] * 3
    assert rows[0]["system_sha256"] == rows[1]["system_sha256"] != rows[2]["system_sha256"]
    assert log.count("warning[H4W120]: ds-cnn, sram.size_bytes=1024: ") == 1  # it names the memory's size
    assert log.count("warning[H4W120]: ds-cnn, sram.size_bytes=2048: ") == 1
    assert log.count("warning[H4W121]: ds-cnn, sram.size_bytes=1024 and 1 system more: ") == 1
    assert log.count("warning[") == 3
    _, again, log = call(capsys, *arguments, *over, "-o", tmp_path / "o", "--json", "-q")
    assert (again, log) == (out, "")  # known answers bring their remarks with them


def test_a_remark_on_many_systems_is_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("sweep", "ds-cnn", "--target", "npu+cim-analog", "--set", "sram.size_bytes=1024", "--no-plots")
    over = ("--over", "flash.read_energy=10,20,30")
    code, out, log = call(capsys, *arguments, *over, "--jobs", "1", "-o", tmp_path / "o", "--json")
    assert code == 0
    assert len({row["system_sha256"] for row in json.loads(out)["rows"]}) == 3
    assert log.count("warning[H4W120]: ") == 1
    assert "warning[H4W120]: ds-cnn, flash.read_energy=10 and 2 systems more: " in log


@pytest.mark.slow
def test_a_terminal_sees_a_bar_with_the_time_left(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    arguments = [*SWEEP, *OVER, "-o", str(tmp_path / "o"), "--jobs", "1", "--no-plots"]
    command = [sys.executable, "-m", "h4hc", *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = bytearray()
    with contextlib.suppress(OSError):  # the way a terminal says that nobody writes to it any more
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "4/4" in text
    assert re.search(r"left +(-:--:--|[0-9]+:[0-9]{2}:[0-9]{2})", text)
