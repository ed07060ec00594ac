"""`h4hc study paper` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from h4hc.cli import run


def test_every_mistake_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not ours")
    words = ["study", "paper", "--models", "ds-cnm,ds-cnn,ds-cnn", "--jobs", "0", "-o", str(tmp_path / "mine")]
    assert run(words) == 2
    said = capsys.readouterr().err
    for part in ("no zoo model 'ds-cnm'", "did you mean 'ds-cnn'", "given 2 times", "--jobs 0", "was not made by"):
        assert part in said
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_study_writes_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--quick; the second run reads its own answers and writes the same bytes."""
    out = tmp_path / "out"
    assert run(["study", "paper", "--quick", "--jobs", "1", "-o", str(out), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree == json.loads((out / "study.json").read_text())
    first = {p.name: p.read_bytes() for p in (*out.glob("study.*"), *(out / "plots").iterdir())}
    assert set(first) == {"study.csv", "study.json", "study.md"} | {
        f"{name}.{kind}" for name in ("ds-cnn", "overview") for kind in ("png", "svg")
    }
    assert run(["study", "paper", "--quick", "--jobs", "2", "-o", str(out)]) == 0
    assert {p.name: p.read_bytes() for p in (*out.glob("study.*"), *(out / "plots").iterdir())} == first
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 40
    assert "56.08" in shown[0]


def test_no_study_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "papper"]) == 2
    assert "No such command" in capsys.readouterr().err
