"""The study from its YAML to its files: one small run, again, in processes; what can be wrong with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.cli import run
from h4hc.errors import UserError
from nas.config import load_config
from nas.search.front import compare
from nas.study.co_design.design import CoDesign, load_co_design
from nas.supernet.onnx_writer import zero_onnx
from tests.cli_call import Cli


@pytest.fixture(scope="session")
def words(config: Path) -> list[str]:
    """Options of a study on the small configuration of the commands' tests."""
    sets = (f"config={config}", "sets=[]", "seeds=[0]", "systems=[{name: same, target: npu+cim}]")
    return [word for text in sets for word in ("--set", text)]


@pytest.fixture(scope="session")
def done(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study. Not to be changed."""
    out = tmp_path_factory.mktemp("study") / "one"
    assert run(["nas", "bench", "co-design", "-o", str(out), "--jobs", "1", "-q", *words]) == 0
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("study.json", "networks.csv", "study.md")}


def test_figures_follow_from_the_csv(done: Path) -> None:
    rows = csv.DictReader((done / "networks.csv").read_text().splitlines())
    fronts: dict[str, list[list[float]]] = {}
    for row in rows:
        values = [1 - float(row["accuracy_test"]), float(row["latency_ps"]), float(row["energy_pj"])]
        fronts.setdefault(row["search"], []).append(values)
    shares = dict(zip(fronts, compare([np.array(front) for front in fronts.values()]), strict=True))
    tree = json.loads((done / "study.json").read_text())
    (seed,) = tree["seeds"]
    assert seed["hypervolume"] == pytest.approx(shares)
    assert seed["networks"] == {arm: len(front) for arm, front in fronts.items()}
    assert len(tree["whole_space"]["systems"]) == 1


def test_networks_cost_what_the_compiler_says_where_they_run(done: Path, config: Path) -> None:
    """Networks found for the NPU alone, too, are costed on NPU + CIM."""
    space = load_config(config).of_space
    with (done / "networks.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["search"] == "alone"
    arch = space.arch([int(index) for index in row["genome"].split("-")])
    plan = compile_model(zero_onnx(arch, space.spec, 10).SerializeToString(), CompileOptions("npu+cim")).assignment
    assert plan is not None
    assert (int(row["latency_ps"]), int(row["energy_pj"])) == (plan.latency_ps, plan.energy_pj)


def test_the_same_command_again_changes_nothing(cli: Cli, done: Path, words: list[str]) -> None:
    before = _files(done)
    again = cli("bench", "co-design", "-o", done, "--jobs", "1", "--json", *words)
    assert again.json == json.loads(before["study.json"])
    assert _files(done) == before


@pytest.mark.slow
def test_two_processes_make_the_same_study(cli: Cli, done: Path, words: list[str], tmp_path: Path) -> None:
    assert cli("bench", "co-design", "-o", tmp_path / "two", "--jobs", "2", "-q", *words).code == 0
    assert _files(tmp_path / "two") == _files(done)


def test_what_can_be_wrong(cli: Cli, words: list[str], tmp_path: Path) -> None:
    """Told before anything is trained: nothing is written."""
    for more, code, said in (
        (("--mode", "slow"), 2, "no mode 'slow'"),
        (("--set", "levels=0"), 2, "--set levels=0"),
        (("--set", "sede=[1]"), 2, "there is no key sede"),
        (("--set", 'alone.name="a | b"'), 2, "alone.name"),
        (("--jobs", "0"), 2, "--jobs 0"),
        (("--set", "deployed.target=npuu"), 6, "no system 'npuu'"),
        (("-o", tmp_path / "no" / "folder"), 2, "there is no folder"),
    ):
        done = cli("bench", "co-design", "-o", tmp_path / "out", *words, *more)
        assert (done.code, said in done.err) == (code, True), done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["co-design", "two-phase"])
def test_a_folder_of_someone_else(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "study.json").write_text("mine")
    done = cli("bench", name, "--mode", "smoke", "-o", tmp_path)
    assert (done.code, "was not made by this study" in done.err) == (2, True), done.err
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"study.json": "mine"}


def test_the_shipped_study_and_its_modes() -> None:
    study = load_co_design()
    assert (study.alone.target, study.deployed.target) == ("npu", "npu+cim")
    assert len(study.seeds) >= 5
    for name in study.modes:
        short = study.mode(name)
        assert len(short.run.search.objectives) == 3
        assert short.run.training.budget.steps < study.run.training.budget.steps  # type: ignore[operator]


def test_a_study_that_cannot_be_compared() -> None:
    plain = load_co_design().model_dump(mode="json")
    for keys, said in (
        ({"seeds": [1, 1]}, "seed stands there twice"),
        ({"sets": ["search.objectives=[accuracy, latency_ps]"]}, "must have the objectives"),
    ):
        with pytest.raises(ValueError, match=said):
            CoDesign.model_validate(plain | keys)
    with pytest.raises(UserError, match="there is no configuration"):
        load_co_design(sets=("config=tinny",))
