"""What a user can do wrong with `h4hc nas`: a clear error, the right exit code, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas.training.checkpoint import newest
from tests.cli_call import Cli


def _state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_wrong_keys_are_all_named_with_their_lines(cli: Cli, config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("first: 10", "frist: 10").replace("steps: 20}", "steps: 0}")
    (tmp_path / "wrong.yaml").write_text(text)
    done = cli("train", tmp_path / "wrong.yaml", "-o", tmp_path / "run")
    assert done.code == 2
    lines = text.splitlines()
    for what, key in (("there is no key search.frist", "frist"), ("training.budget.steps", "steps: 0")):
        assert what in done.err
        assert f"wrong.yaml:{1 + next(i for i, line in enumerate(lines) if key in line)}" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("training.bugdet=5", "there is no key training.bugdet"),
        ("training.batch=-1", "--set training.batch=-1"),
        ("training", "is not KEY=VALUE"),
        ("training.batch.size=3", "leads nowhere"),
        ("training.budget={steps: 1, minutes: 1}", "one of steps, minutes, macs"),
        ("search.first=[", "is no YAML"),
        ("trainig.batch=3", "--set trainig.batch=3"),
        ("training.budget={steps: 2.5}", "--set training.budget={steps: 2.5}"),
        ("space.resolution=24", "space.resolution: must be a list"),
        ("space=spaces/mine.yaml", "counts from the folder the command runs in"),
        ("search.limits={accuracy: 90}", "a share, 1 at most"),
    ],
)
def test_wrong_overrides(cli: Cli, config: Path, tmp_path: Path, given: str, said: str) -> None:
    done = cli("train", config, "-o", tmp_path / "run", "--set", given)
    assert (done.code, said in done.err) == (2, True), done.err
    assert not (tmp_path / "run").exists()


def test_a_wrong_seed_is_told_once(cli: Cli, config: Path, tmp_path: Path) -> None:
    """Sections take the seed of the run, but not its faults."""
    done = cli("train", config, "-o", tmp_path / "run", "--set", "seed=three")
    assert done.code == 2
    assert done.err.count("error[") == 1
    assert "--set seed=three" in done.err


@pytest.mark.parametrize("budget", ["steps=2.5", "steps=inf", "minutes=nan", "macs=0", "12"])
def test_a_budget_that_is_none(cli: Cli, config: Path, tmp_path: Path, budget: str) -> None:
    done = cli("train", config, "-o", tmp_path / "run", "--budget", budget)
    assert (done.code, f"--budget '{budget}' is no budget" in done.err) == (2, True), done.err


def test_a_budget_is_taken_to_the_last_digit(cli: Cli, config: Path) -> None:
    done = cli("train", config, "--dry-run", "--budget", "steps=1234567", "--json")
    assert done.code == 0
    assert json.loads(done.out)["steps"] == 1234567


def test_memory_that_is_not_there(cli: Cli, config: Path) -> None:
    """A limit (exit 9), whoever of numpy and torch meets it first."""
    for wrong in ("space.head.width=[3000000000000]", "data.train=1000000000000000"):
        done = cli("train", config, "--dry-run", "--set", wrong)
        assert (done.code, "out of memory" in done.err) == (9, True), done.err


def test_one_class_is_no_task(cli: Cli, config: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for i in range(20):
        Image.new("L", (16, 16), i).save(folder / f"{i}.png")
    own = f"data={{name: imagefolder, path: {tmp_path / 'images'}, channels: 1, resolution: 16}}"
    done = cli("train", config, "-o", tmp_path / "run", "--set", own)
    assert (done.code, "the images have 1 class" in done.err) == (2, True), done.err


def test_all_wrong_options_at_once(cli: Cli, config: Path) -> None:
    done = cli("train", config, "--budget", "epochs=3", "--set", "training.budget={steps: 1}")
    assert done.code == 2
    for part in ("-o RUN is missing", "'epochs=3' is no budget", "exclude each other"):
        assert part in done.err


@pytest.mark.parametrize("budget", ["macs=inf", "steps=nan", "minutes=0"])
def test_budgets_that_never_or_at_once_end(cli: Cli, config: Path, tmp_path: Path, budget: str) -> None:
    done = cli("train", config, "-o", tmp_path / "run", "--budget", budget)
    assert (done.code, "is no budget" in done.err) == (2, True), done.err


def test_an_unknown_configuration_or_space(cli: Cli, config: Path, tmp_path: Path) -> None:
    done = cli("train", "tinny", "-o", tmp_path / "run")
    assert done.code == 2
    assert "demo, imagenet, tiny" in done.err
    assert cli("train", config, "-o", tmp_path / "run", "--set", "space=tinny").code == 2


def test_a_space_without_choices(cli: Cli, config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("width: [16, 24]", "width: []")
    (tmp_path / "empty.yaml").write_text(text)
    done = cli("train", tmp_path / "empty.yaml", "-o", tmp_path / "run")
    assert done.code == 2
    assert "space.stages[1].width: the list is empty" in done.err


def test_a_folder_of_someone_else(cli: Cli, config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for words in (("train", config, "-o"), ("demo", "-o"), ("search",), ("export",), ("conflict",)):
        done = cli(*words, tmp_path / "mine")
        assert done.code == 2
        assert "was not made by" in done.err or "is not the folder of a run" in done.err
    assert _state(tmp_path / "mine") == {"thesis.txt": b"years of work"}


def test_a_run_is_not_overwritten(cli: Cli, config: Path, searched: Path) -> None:
    """The same configuration again points to --resume; another one is refused by name."""
    before = _state(searched)
    same = cli("train", config, "-o", searched)
    assert same.code == 2
    assert "resume" in same.err
    other = cli("train", config, "-o", searched, "--set", "training.batch=8")
    assert other.code == 2
    assert "training differs from the run" in other.err
    assert _state(searched) == before


def test_what_a_run_was_trained_on_cannot_change(cli: Cli, searched: Path) -> None:
    done = cli("search", searched, "--set", "data.seed=9")
    assert done.code == 2
    assert "data of a run cannot change" in done.err


def test_an_empty_data_set(cli: Cli, config: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    own = f"data={{name: imagefolder, path: {tmp_path / 'images'}, channels: 1, resolution: 16}}"
    done = cli("train", config, "-o", tmp_path / "run", "--set", own)
    assert done.code == 2
    assert "the data set is empty" in done.err


def test_a_limit_that_no_network_keeps(cli: Cli, copied: Path) -> None:
    """Exit 5, naming the limit and the nearest value; the search that was there stays as it is."""
    before = _state(copied / "search")
    done = cli("search", copied, "-o", copied / "fast", "--set", "search.limits={latency_ps: 1000}")
    assert done.code == 5
    assert "latency_ps <= 1000" in done.err
    assert "the nearest found is" in done.err
    assert _state(copied / "search") == before


def test_an_unknown_metric_is_named_before_anything_is_measured(cli: Cli, copied: Path) -> None:
    done = cli("search", copied, "-o", copied / "x", "--set", "search.objectives=[accuracy, speed]")
    assert done.code == 2
    assert "there is no metric 'speed'" in done.err


def test_metrics_that_make_no_search(cli: Cli, copied: Path) -> None:
    """Accuracy that nothing asks for; accuracy in percent, of which no network has 80."""
    for given, said in (
        ("search.objectives=[latency_ps, energy_pj]", "the search measures accuracy, and nothing asks for it"),
        ("search.limits={accuracy: 80}", "0.8 for 80 %"),
    ):
        done = cli("search", copied, "-o", copied / "x", "--set", given)
        assert (done.code, said in done.err) == (2, True), done.err
    assert not (copied / "x").exists()


def test_a_damaged_checkpoint(cli: Cli, copied: Path) -> None:
    """Exit 11, naming the file, for every command that reads it; what was searched is untouched."""
    checkpoint = newest(copied / "checkpoints")
    assert checkpoint is not None
    path = checkpoint / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    before = _state(copied)
    for words in (("search", copied), ("export", copied), ("conflict", copied), ("train", "-o", copied, "--resume")):
        done = cli(*words)
        assert done.code == 11, words
        assert "weights.safetensors" in done.err
    assert _state(copied) == before


def test_a_checkpoint_of_another_space(cli: Cli, config: Path, copied: Path) -> None:
    text = (copied / "run.yaml").read_text()
    (copied / "run.yaml").write_text(text.replace("    width:\n    - 16\n    - 24", "    width:\n    - 16\n    - 32"))
    done = cli("export", copied)
    assert done.code == 2
    assert "the checkpoint is not of the space 'mini'" in done.err


def test_a_damaged_run_file(cli: Cli, copied: Path) -> None:
    path = copied / "run.yaml"
    path.write_text(path.read_text().replace("seed: 3", "sead: 3", 1))
    done = cli("search", copied)
    assert done.code == 11
    assert "there is no key sead" in done.err


def test_an_architecture_of_another_space(cli: Cli, searched: Path, tmp_path: Path) -> None:
    name = sorted((searched / "search" / "archs").iterdir())[0]
    (tmp_path / "wide.json").write_text(name.read_text().replace('"head": 16', '"head": 17'))
    done = cli("export", searched, "--arch", tmp_path / "wide.json", "-o", tmp_path / "out")
    assert done.code == 2
    assert "head.width 17 is not in the space" in done.err
    assert "wide.json" in done.err
    assert not (tmp_path / "out").exists()


def test_export_before_search(cli: Cli, config: Path, tmp_path: Path) -> None:
    assert cli("train", config, "-o", tmp_path / "run", "--budget", "steps=1").code == 0
    done = cli("export", tmp_path / "run")
    assert done.code == 2
    assert "h4hc nas search RUN" in done.err


def test_what_only_the_search_needs_is_checked_before_training(cli: Cli, config: Path, tmp_path: Path) -> None:
    """All of it at once, and no folder is made."""
    wrong = (
        "hardware.target=npuu",
        "search.objectives=[speed]",
        'search.allowed={"*.kernel": [9]}',
        "export.targets=[cimm]",
    )
    words = [word for text in wrong for word in ("--set", text)]
    done = cli("train", config, "-o", tmp_path / "run", *words)
    assert done.code == 2
    for part in ("no system 'npuu'", "no metric 'speed'", "'*.kernel' has no value 9", "no system 'cimm'"):
        assert part in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_data_does_not_use_up_the_folder(cli: Cli, config: Path, tmp_path: Path) -> None:
    """Nothing was trained there: with the mistake mended, the same folder serves."""
    wrong = "data={name: imagefolder, path: nowhere, channels: 1, resolution: 16}"
    assert cli("train", config, "-o", tmp_path / "run", "--set", wrong).code == 2
    assert cli("train", config, "-o", tmp_path / "run", "--budget", "steps=1").code == 0


def test_a_search_folder_holds_one_search(cli: Cli, copied: Path) -> None:
    """Other settings are refused by name, and what was found stays as it is."""
    before = _state(copied / "search")
    done = cli("search", copied, "--set", "search.first=12", "--set", "hardware.target=npu")
    assert (done.code, "it differs in: first, target" in done.err) == (2, True), done.err
    assert _state(copied / "search") == before


def test_more_images_than_there_are(cli: Cli, searched: Path) -> None:
    done = cli("conflict", searched, "--batch", "60000")
    assert (done.code, "200 at most" in done.err) == (2, True), done.err


def test_wrong_workers(cli: Cli, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number nobody can mean, and a Ray cluster that is not there: told at once, and nothing is written."""
    done = cli("search", searched, "-o", tmp_path / "out", "--jobs", "0")
    assert (done.code, "--jobs 0" in done.err) == (2, True), done.err
    monkeypatch.setenv("RAY_ADDRESS", "no such cluster")
    done = cli("search", searched, "-o", tmp_path / "out", "--ray")
    assert (done.code, "no Ray cluster answers at no such cluster" in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()


def test_without_the_extra() -> None:
    """Exit 10 and the command that installs it, also where torch alone is missing; help works."""
    hide = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name in ('torch', 'pymoo') else real(name, *more)\n"
        "from h4hc.cli import run\n"
    )
    code = hide + "print(run(['nas', 'train', '--help'])); sys.exit(run(['nas', 'train', 'tiny', '-o', 'nowhere']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert "pip install 'h4hc[nas]'" in done.stderr
    assert "pymoo, torch" in done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_help_imports_no_torch() -> None:
    code = "import sys; from h4hc.cli import run; run(['nas', 'train', '--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False"
