"""`h4hc nas demo` with a budget of seconds, and a search that is interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from h4hc.cli import run
from nas.search.accuracy import Evaluator
from tests.cli_call import Cli

SHORT = (
    "training.budget={steps: 2}", "training.batch=8", "data.train=100", "data.val=50", "data.test=50",
    "calibration.batches=1", "search.first=10", "search.rounds=1", "search.per_round=1", "search.population=8",
    "search.generations=2", "export.top=1", "export.segmentation={steps: 1, batch: 8, train: 20, val: 20}",
)  # fmt: skip


def _short() -> list[str]:
    return [word for text in SHORT for word in ("--set", text)]


@pytest.mark.slow
def test_the_demo_ends_with_networks_that_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table, the files; the same again gives the same bytes; another folder gives the same front."""
    out = tmp_path / "demo"
    words = ["nas", "demo", "--segmentation", *_short()]
    assert run([*words, "-o", str(out), "-q"]) == 0
    shown = capsys.readouterr().out
    for part in ("accuracy", "npu+cim", "cim", "with a segmentation head:", "verified"):
        assert part in shown
    tree = json.loads((out / "demo.json").read_text())
    assert [n["verified"] for n in tree["networks"]] == [{"model": "verified", "segmentation": "verified"}]
    assert set(tree["networks"][0]["devices"]) == {"npu", "cim", "npu+cim"}
    files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert run([*words, "-o", str(out), "-q"]) == 0
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == files
    assert run([*words, "-o", str(tmp_path / "again"), "-q", "--json"]) == 0
    again = json.loads((tmp_path / "again" / "demo.json").read_text())
    assert again | {"folder": str(out)} == tree


def test_an_interrupted_search_goes_on(
    cli: Cli, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the sixth network: exit 130 and advice; the same command measures the rest, to the same files."""
    folder = tmp_path / "run"
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("search"))
    calls, measure = [], Evaluator.__call__

    def counted(self: Evaluator, genome: tuple[int, ...]) -> float:
        calls.append(genome)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(self, genome)

    monkeypatch.setattr(Evaluator, "__call__", counted)
    done = cli("search", folder)
    assert done.code == 130
    assert "the same command goes on" in done.err
    assert cli("search", folder).code == 0
    assert len(set(calls)) == len(calls) - 1  # only the network in hand is measured again
    for name in ("front.csv", "search.json", "measured.csv"):
        assert (folder / "search" / name).read_bytes() == (searched / "search" / name).read_bytes()


@pytest.mark.parametrize(
    "words", [("--jobs", "2"), pytest.param(("--ray", "--jobs", "2"), marks=pytest.mark.slow)], ids=["jobs", "ray"]
)
def test_a_search_spread_out_finds_the_same_front(
    cli: Cli, searched: Path, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes and on a local Ray: every file of the search, byte for byte."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder = tmp_path / "run"
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("search"))
    done = cli("search", folder, *words)
    assert done.code == 0, done.err
    here = {p.relative_to(searched): p.read_bytes() for p in (searched / "search").rglob("*") if p.is_file()}
    assert {p.relative_to(folder): p.read_bytes() for p in (folder / "search").rglob("*") if p.is_file()} == here
