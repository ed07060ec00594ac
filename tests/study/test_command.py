"""`h4hc study paper` from the command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from h4hc.cli import run
from tests.sweep.processes import outlives, start, wait_for

PICTURES = {f"{name}.{kind}" for name in ("ds-cnn", "overview") for kind in ("png", "svg")}


def files(out: Path) -> dict[str, bytes]:
    """What a study left in its folder, without its cache."""
    return {p.name: p.read_bytes() for p in (*out.glob("study.*"), *(out / "plots").iterdir())}


@pytest.fixture(scope="module")
def out(tree: dict[str, Any], cache: Path) -> Path:
    """The folder of a study whose answers are known: those that `tree` left in `cache`."""
    folder = cache.parent
    assert run(["study", "paper", "--quick", "--jobs", "1", "-o", str(folder), "-q", "--json"]) == 0
    return folder


def test_every_mistake_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not ours")
    words = ["study", "paper", "--models", "ds-cnm,ds-cnn,ds-cnn", "--jobs", "0", "-o", str(tmp_path / "mine")]
    assert run(words) == 2
    said = capsys.readouterr().err
    for part in ("no zoo model 'ds-cnm'", "did you mean 'ds-cnn'", "given 2 times", "--jobs 0", "was not made by"):
        assert part in said
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_study_writes_its_folder(out: Path, tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A second run reads the answers of the first and writes the same bytes."""
    first = files(out)
    assert set(first) == {"study.csv", "study.json", "study.md"} | PICTURES
    assert json.loads(first["study.json"]) == json.loads(json.dumps(tree))
    assert run(["study", "paper", "--quick", "--jobs", "2", "-o", str(out)]) == 0
    assert files(out) == first
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 40
    assert "56.08" in shown[0]


def test_pictures_stay_where_none_are_drawn(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files(out)
    again = ["study", "paper", "--quick", "--jobs", "1", "-o", str(out)]
    assert run([*again, "--no-plots"]) == 0
    assert files(out) == first
    assert "20 rows, 0 pictures" in capsys.readouterr().err
    monkeypatch.setattr("h4hc.sweep.canvas.can_plot", lambda: False)
    assert run(again) == 0
    assert files(out) == first
    assert "no plots: matplotlib is not installed" in capsys.readouterr().err
    assert run([*again, "--plots"]) == 10


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_sigterm_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, jobs: str) -> None:
    words = ["study", "paper", "--quick", "--no-plots", "--jobs", jobs, "-o", str(tmp_path / "out"), "--json"]
    process = start(*words)
    wait_for(tmp_path / "out" / "cache", 2, process)
    os.kill(process.pid, signal.SIGTERM)
    text, log = process.communicate(timeout=600)
    assert process.returncode == 130
    assert json.loads(text)["error"]["exit_code"] == 130
    done = len(list((tmp_path / "out" / "cache").glob("*.row")))
    assert f"{done} points and 0 sets of bounds are done and kept; the same command goes on from there" in log
    assert "Traceback" not in log
    assert not outlives(process.pid)


def test_no_study_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "papper"]) == 2
    assert "No such command" in capsys.readouterr().err
