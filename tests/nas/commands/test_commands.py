"""`h4hc nas` from end to end: train, search, export, compile, verify; going on; the same seed, the same front."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file

from h4hc.cli import run
from nas.commands import train as train_command
from nas.commands.train import Panel
from nas.config import RunConfig, load_config
from nas.data.registry import load_data
from nas.runs import begin, open_run
from nas.space.arch import Arch
from nas.supernet.static import StaticNet
from nas.training.distributed import Ranks
from nas.training.trainer import CHECKPOINTS
from tests.cli_call import Cli


def test_training_writes_its_folder(cli: Cli, config: Path, tmp_path: Path) -> None:
    done = cli("train", config, "-o", tmp_path / "run", "--json", "--budget", "steps=2")
    assert done.code == 0
    assert done.json["steps"] == 2
    assert set(done.json["accuracy_val"]) == {"max", "min", "max_conv"}
    assert {"run.yaml", "log.csv", "checkpoints"} <= {p.name for p in (tmp_path / "run").iterdir()}
    assert load_config(tmp_path / "run" / "run.yaml").training.budget.steps == 2


def test_a_dry_run_says_what_it_takes_and_writes_nothing(cli: Cli, config: Path, tmp_path: Path) -> None:
    done = cli("train", config, "--dry-run", "--json", "--set", "training.budget.steps=10")
    assert done.code == 0
    assert [phase["steps"] for phase in done.json["phases"]] == [4, 6]
    assert done.json["train_macs"] == sum(phase["macs"] for phase in done.json["phases"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("budget", "key", "value"), [("steps=1000000", "steps", 1000000), ("steps=1234567", "steps", 1234567)]
)
def test_large_budgets_arrive_to_the_last_digit(cli: Cli, config: Path, budget: str, key: str, value: int) -> None:
    done = cli("train", config, "--dry-run", "--json", "--budget", budget)
    assert done.code == 0
    assert done.json[key] == value


def test_the_weights_that_search_uses_are_judged(cli: Cli, config: Path, tmp_path: Path) -> None:
    """With `averaged` the accuracies of training are those of the averaged weights."""
    sets = ("--set", "averaged=true", "--set", "training.ema=0.9", "--set", "training.evaluate_every=10")
    done = cli("train", config, "-o", tmp_path / "run", "--json", *sets)
    assert done.code == 0
    run, found = open_run(tmp_path / "run"), {}
    data = run.data()
    for stem in ("average", "weights"):
        net = run.net(data.classes)
        net.load_state_dict(
            load_file(sorted((tmp_path / "run" / CHECKPOINTS).glob("step_*"))[-1] / f"{stem}.safetensors")
        )
        found[stem] = Panel(run, data.for_search())(net)
    assert done.json["accuracy_val"] == found["average"] != found["weights"]
    last = (tmp_path / "run" / "evaluations.csv").read_text().splitlines()[-1]
    assert last == ",".join(["20", *map(str, found["average"].values())])


@pytest.mark.slow
def test_two_processes_that_torchrun_starts_make_one_run(config: Path, tmp_path: Path) -> None:
    """The command as for many GPUs; they arrive together at a folder that is not there yet."""
    root = Path(__file__).resolve().parents[3]
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "h4hc"]
    call = [*runner, "nas", "train", str(config), "-o", str(tmp_path / "run"), "--json", "--budget", "steps=4"]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 4  # one rank speaks
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 5


class _SecondRank(Ranks):
    """Rank 1 of 2: what the first rank does until they meet happens in `wait`."""

    def wait(self) -> None:
        folder, settings = FIRST_RANK.pop()
        assert not folder.exists()
        begin(folder, settings)


FIRST_RANK: list[tuple[Path, RunConfig]] = []


def test_only_the_first_rank_makes_the_folder(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FIRST_RANK.append((tmp_path / "run", load_config(config)))
    monkeypatch.setattr(train_command, "ranks", lambda device: nullcontext(_SecondRank(1, 2)))
    monkeypatch.setattr(train_command, "fit", lambda run, *rest: {"folder": run.folder})
    assert train_command.train(str(config), tmp_path / "run", (), False, False, False, print) is None
    assert not FIRST_RANK


def test_the_front_is_in_the_folder(cli: Cli, searched: Path) -> None:
    """The search that is finished is read back: the same result, and no file changes."""
    files = {p: p.read_bytes() for p in searched.rglob("*") if p.is_file()}
    done = cli("search", searched, "--json")
    assert done.code == 0
    assert done.json["front"]
    assert done.json["evaluated"] == len((searched / "search" / "measured.csv").read_text().splitlines()) - 1 > 10
    assert {p: p.read_bytes() for p in searched.rglob("*") if p.is_file()} == files
    assert {"front.csv", "pareto.html", "search.json", "accuracies.jsonl"} <= {p.name for p in files}
    for network in done.json["front"]:
        saved = json.loads((searched / "search" / "archs" / f"{network['network']:02d}.json").read_text())
        assert saved == network["arch"]


def test_the_same_seed_gives_the_same_front(cli: Cli, config: Path, searched: Path, tmp_path: Path) -> None:
    """Trained and searched again, in another folder: byte for byte. Another seed measures other accuracies."""
    for name, sets in (("same", ()), ("other", ("--set", "seed=4"))):
        assert cli("train", config, "-o", tmp_path / name, *sets).code == 0
        assert cli("search", tmp_path / name).code == 0
    kept = ("front.csv", "search.json", "measured.csv")
    for name in kept:
        assert (tmp_path / "same" / "search" / name).read_bytes() == (searched / "search" / name).read_bytes()
    other = (tmp_path / "other" / "search" / "search.json").read_bytes()
    assert other != (searched / "search" / "search.json").read_bytes()


def test_networks_that_the_memory_does_not_hold_are_told(cli: Cli, copied: Path) -> None:
    """As `h4hc compile` warns: in the words of the search, in its table and its JSON."""
    sets = ("--set", "hardware.sets=[sram.size_bytes=1024]", "--set", "hardware.target=cim")
    done = cli("search", copied, "-o", copied / "small", *sets, "--json")
    assert done.code == 0, done.err
    assert "the SRAM does not hold network 00" in done.err
    large = [n["metrics"]["sram_bytes"] > 1024 for n in done.json["front"]]
    assert any(large)
    assert [not n["fits_sram"] for n in done.json["front"]] == large
    with (copied / "small" / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fits_sram"] for row in rows] == [("true", "false")[over] for over in large]


def test_exported_files_stand_alone(cli: Cli, searched: Path, tmp_path: Path) -> None:
    """The ONNX, and a plain network from arch.json and weights.safetensors alone, give the reported accuracy."""
    done = cli("export", searched, "-o", tmp_path / "out", "--json")
    assert done.code == 0
    folder = tmp_path / "out" / "00"
    report = json.loads((folder / "report.json").read_text())
    assert report == done.json["networks"][0]
    assert report["equality"]["supernet_static"] == 0.0
    settings = load_config(searched / "run.yaml")
    data = load_data(settings.data)
    net = StaticNet(Arch.from_json((folder / "arch.json").read_text()), settings.space, data.classes)
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    right = torch.zeros(2)
    with torch.no_grad():
        for images, labels in data.val.batches(1):
            logits = session.run(None, {"image": images.contiguous().numpy()})[0]
            right += torch.tensor([int(np.argmax(logits) == labels), int(net.eval()(images).argmax() == labels)])
    assert (right / len(data.val)).tolist() == pytest.approx([report["accuracy"]["val"]] * 2, abs=1e-6)


def test_exported_networks_compile_at_the_reported_cost(cli: Cli, searched: Path, tmp_path: Path) -> None:
    """`h4hc compile` and `h4hc verify` on the ONNX; the plan's cost is that of the report, and of the front."""
    assert cli("export", searched, "-o", tmp_path / "out", "--set", "export.top=1").code == 0
    report = json.loads((tmp_path / "out" / "00" / "report.json").read_text())
    model = str(tmp_path / "out" / "00" / "model.onnx")
    assert run(["compile", model, "--target", "npu+cim", "-o", str(tmp_path / "done"), "-q"]) == 0
    assert run(["verify", str(tmp_path / "done"), "-q"]) == 0
    totals = json.loads((tmp_path / "done" / "report.json").read_text())["totals"]
    cost = report["devices"]["npu+cim"]
    assert (totals["latency_ps"]["nominal"], totals["energy_pj"]["nominal"]) == (cost["latency_ps"], cost["energy_pj"])
    front = json.loads((searched / "search" / "search.json").read_text())["front"]
    metrics = next(n["metrics"] for n in front if n["arch"] == report["arch"])
    assert (metrics["latency_ps"], metrics["energy_pj"]) == (cost["latency_ps"], cost["energy_pj"])


def test_a_segmentation_head_compiles_and_verifies(cli: Cli, searched: Path, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "out", "--head", "segmentation", "--set", "export.top=1", "--json")
    report = cli("export", searched, *words).json["networks"][0]
    figures = report["segmentation"]
    assert figures["classes"] == 11
    assert figures["static_onnxruntime"] < 1e-4
    model = str(tmp_path / "out" / "00" / "segmentation.onnx")
    assert run(["compile", model, "--target", "npu+cim", "-o", str(tmp_path / "done"), "-q"]) == 0
    assert run(["verify", str(tmp_path / "done"), "-q"]) == 0


def test_the_table_says_which_accuracy_and_the_next_command_which_target(
    cli: Cli, searched: Path, tmp_path: Path
) -> None:
    done = cli("export", searched, "-o", tmp_path / "out", "--set", "export.top=1", "--set", "hardware.target=npu")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "latency, then energy, on npu, cim, npu+cim; accuracy on validation images" in said
    assert "--target npu -o compiled" in done.err


def test_an_architecture_of_ones_own(cli: Cli, searched: Path, tmp_path: Path) -> None:
    space = load_config(searched / "run.yaml").of_space
    (tmp_path / "mine.json").write_text(json.dumps(space.arch(space.maximum()).to_json()))
    done = cli("export", searched, "--arch", tmp_path / "mine.json", "-o", tmp_path / "out", "--json")
    assert done.code == 0
    assert [tuple(n["genome"]) for n in done.json["networks"]] == [space.maximum()]


def test_conflicts_of_a_trained_run(cli: Cli, searched: Path) -> None:
    done = cli("conflict", searched, "--draws", "2", "--batch", "16", "--json")
    assert done.code == 0
    assert {pair["control"] for pair in done.json["pairs"]} == {True, False}
    assert all(-1 <= pair["cosine"] <= 1 for pair in done.json["pairs"])


def test_an_interrupted_training_goes_on(config: Path, tmp_path: Path) -> None:
    """SIGTERM: exit 130, a checkpoint, advice; --resume ends with the weights of a run without a break."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = [sys.executable, "-m", "h4hc", "nas", "train"]
    sets = ["--set", "training.budget.steps=120", "--set", "training.batch=8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*words, str(config), "-o", str(broken), *sets],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (broken / "checkpoints" / "last").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"--resume -o {broken}" in said
    step = int((broken / "checkpoints" / "last").read_text().removeprefix("step_"))
    assert 0 < step < 120
    rest = ["nas", "train", "-o", str(broken), "--resume", "-q"]
    assert run(rest) == 0
    assert run(["nas", "train", str(config), "-o", str(whole), "-q", *sets]) == 0
    one, other = (load_file(f / "checkpoints" / "step_000000120" / "weights.safetensors") for f in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)
