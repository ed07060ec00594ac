"""The loop: learns, repeats itself to the bit, resumes to the bit, keeps phases and budgets, fails clearly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from h4hc.errors import ExitCode, IntegrityError, NumericsError, UserError
from nas.data.splits import Data, TensorSplit
from nas.space.space import SearchSpace
from nas.supernet.macs import macs
from nas.supernet.supernet import Supernet
from nas.training.checkpoint import load, load_weights, newest
from nas.training.config import TrainConfig
from nas.training.logs import Report
from nas.training.trainer import CHECKPOINTS, Result, Trainer
from tests.nas.training.conftest import CLASSES, make_data

Make = Callable[..., TrainConfig]
CONV = {"*.attention_depth": [0]}
EVERYTHING: dict[str, Any] = {
    "ema": 0.9,
    "regularisation": {"dropout": 0.2, "drop_path": 0.2},
    "distillation": {"loss": "alpha", "label_weight": 0.2},
    "conflict": "pcgrad",
    "sampling": {"nets": ["max", "min", "random"], "bands": 3},
    "phases": [
        {"name": "conv", "share": 0.3, "allowed": CONV},
        {"name": "grow", "share": 0.4, "layer_scale": 0.5, "teacher": {"weight": 0.3}, "freeze": ["conv"]},
        {"name": "all", "share": 0.3, "lr": {"attention": {"cycle": "grow", "factor": 2}}},
    ],
}


def _run(space: SearchSpace, config: TrainConfig, folder: Path | None = None, **keys: Any) -> tuple[Supernet, Result]:
    net = Supernet(space, CLASSES)
    return net, Trainer(net, make_data(), config, folder).fit(**keys)


def _weights(net: Supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _rows(folder: Path) -> list[list[str]]:
    """The log without its column of seconds."""
    return [line.split(",")[:-1] for line in (folder / "log.csv").read_text().splitlines()]


def test_training_learns(space: SearchSpace, config: Make) -> None:
    seen: list[Report] = []
    net = Supernet(space, CLASSES)
    Trainer(net, make_data(), config(budget={"steps": 120}, batch=20), observe=seen.append).fit()
    assert seen[-1].loss < 0.6 * seen[0].loss
    assert [report.step for report in seen] == list(range(1, 121))
    assert seen[-1].spent == 1
    assert seen[-1].seconds_left == 0
    images, labels = next(make_data(60, seed=1).test.batches(60))
    with torch.no_grad():
        for genome in (space.maximum(), space.minimum()):
            right = net(images, space.arch(genome)).argmax(1) == labels
            assert float(right.float().mean()) > 0.9


def test_the_same_seed_gives_the_same_bits(space: SearchSpace, config: Make) -> None:
    first, second, other = (_run(space, config(seed=seed))[0] for seed in (0, 0, 1))
    assert _same(_weights(first), _weights(second))
    assert not _same(_weights(first), _weights(other))


@pytest.mark.parametrize("conflict", ["none", "projection", "pcgrad"])
def test_bfloat16_keeps_weights_and_moments_whole(
    space: SearchSpace, config: Make, tmp_path: Path, conflict: str
) -> None:
    """On a CPU, where the casts are those of a GPU: it learns, in other bits, and resumes to the same ones."""
    keys: dict[str, Any] = {"amp": "bf16", "conflict": conflict, "ema": 0.9, "distillation": {"loss": "alpha"}}
    net, result = _run(space, config(**keys), tmp_path / "whole")
    assert {tensor.dtype for tensor in load(_newest(tmp_path / "whole")).tensors["optimizer"].values()} == {
        torch.float32
    }
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not _same(_weights(net), _weights(_run(space, config(**keys | {"amp": "off"}))[0]))
    _break_off(space, config(**keys), tmp_path / "stop", 5)
    assert _same(_weights(net), _weights(_run(space, config(**keys), tmp_path / "stop", resume=True)[0]))
    long = _run(space, config(**keys, budget={"steps": 60}, batch=20))[1]
    assert long.loss < 0.6 * result.loss


@pytest.mark.parametrize("keys", [{"phases": "two-phase"}, EVERYTHING, {"optimizer": {"name": "sgd", "lr": 0.1}}])
def test_resume_gives_the_same_bits_as_no_break(
    space: SearchSpace, config: Make, tmp_path: Path, keys: dict[str, Any]
) -> None:
    whole, result = _run(space, config(**keys), tmp_path / "whole")
    for stop in (3, 4, 7, 8):
        folder = tmp_path / f"stop{stop}"
        _break_off(space, config(**keys), folder, stop)
        resumed, again = _run(space, config(**keys), folder, resume=True)
        assert _same(_weights(whole), _weights(resumed))
        assert (again.loss, again.train_macs, again.steps) == (result.loss, result.train_macs, result.steps)
        assert _rows(folder) == _rows(tmp_path / "whole")
        ends = [load(_newest(f)) for f in (folder, tmp_path / "whole")]
        assert ends[0].tensors.keys() == ends[1].tensors.keys()
        assert all(_same(ends[0].tensors[stem], ends[1].tensors[stem]) for stem in ends[0].tensors)


def _newest(folder: Path) -> Path:
    found = newest(folder / CHECKPOINTS)
    assert found is not None
    return found


def _break_off(space: SearchSpace, config: TrainConfig, folder: Path, step: int) -> None:
    """A run that dies in the step after `step`, as by an exception out of nowhere."""

    class Gone(Exception):
        pass

    def die(report: Report) -> None:
        if report.step == step + 1:
            raise Gone

    with pytest.raises(Gone):
        Trainer(Supernet(space, CLASSES), make_data(), config, folder, observe=die).fit()


def test_conv_only_phase_leaves_attention_alone(space: SearchSpace, config: Make) -> None:
    net = Supernet(space, CLASSES)
    before = _weights(net)
    Trainer(net, make_data(), config(phases=[{"name": "conv", "share": 1, "allowed": CONV}])).fit()
    attention = [name for name in before if ".attention." in name]
    changed = [name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])]
    assert attention
    assert not set(attention) & set(changed)
    assert any(".conv." in name for name in changed)


def test_frozen_groups_do_not_learn(space: SearchSpace, config: Make) -> None:
    net = Supernet(space, CLASSES)
    before = _weights(net)
    Trainer(net, make_data(), config(phases=[{"name": "a", "share": 1, "freeze": ["conv", "shared"]}])).fit()
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(".attention." in name for name in changed)


def test_macs_are_those_of_the_networks_sampled(space: SearchSpace, config: Make, net: Supernet, data: Data) -> None:
    phases = [{"name": "a", "share": 1, "sampling": {"nets": ["max", "min"]}}]
    result = Trainer(net, data, config(phases=phases, budget={"steps": 5})).fit()
    ends = [macs(space.arch(genome), space.spec, CLASSES) for genome in (space.maximum(), space.minimum())]
    assert result.train_macs == 5 * 8 * 3 * sum(ends)


def test_a_budget_of_macs_buys_more_steps_of_smaller_networks(space: SearchSpace, config: Make) -> None:
    budget = _run(space, config(budget={"steps": 20}))[1].train_macs
    runs = {
        phases: _run(space, config(budget={"macs": budget}, phases=phases))[1] for phases in ("single", "two-phase")
    }
    step = budget / 20
    for result in runs.values():
        assert budget <= result.train_macs < budget + 1.5 * step
    assert runs["single"].steps == 20
    assert runs["two-phase"].steps > 20


def test_a_budget_of_minutes_ends(space: SearchSpace, config: Make) -> None:
    result = _run(space, config(budget={"minutes": 0.01}))[1]
    assert result.steps >= 1
    assert result.seconds >= 0.6


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    space: SearchSpace, config: Make, tmp_path: Path
) -> None:
    images = torch.randn(60, 1, 8, 8)
    data = make_data()
    bad = Data("bad", CLASSES, 1, 8, TensorSplit(images, torch.zeros(60, dtype=torch.int64)), data.val, data.test)
    trainer = Trainer(Supernet(space, CLASSES), bad, config(), tmp_path)

    def poison(report: Report) -> None:
        if report.step == 5:
            images.fill_(float("nan"))
            bad.train.images.fill_(float("nan"))  # type: ignore[attr-defined]

    trainer._observe = poison
    with pytest.raises(NumericsError, match="diverged in step 6") as caught:
        trainer.fit()
    assert caught.value.exit_code == ExitCode.NUMERICS
    kept = load(_newest(tmp_path))
    assert kept.state["step"] == 4
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.tensors["weights"].values())


def test_a_folder_with_a_run_is_not_overwritten(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    _run(space, config(), tmp_path)
    with pytest.raises(UserError, match="holds a run"):
        _run(space, config(), tmp_path)


def test_resume_with_another_configuration_names_the_keys(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    _run(space, config(), tmp_path)
    with pytest.raises(UserError) as caught:
        _run(space, config(batch=12, seed=1), tmp_path, resume=True)
    assert [problem.what.split()[0] for problem in caught.value.problems] == ["batch", "seed"]
    _run(space, config(log_every=2, keep=1), tmp_path, resume=True)


def test_a_damaged_checkpoint_is_an_integrity_error(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    _run(space, config(), tmp_path)
    weights = _newest(tmp_path) / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"weights\.safetensors") as caught:
        _run(space, config(), tmp_path, resume=True)
    assert caught.value.exit_code == ExitCode.INTEGRITY


def test_what_does_not_fit_is_said_before_training(space: SearchSpace, config: Make, data: Data) -> None:
    with pytest.raises(UserError, match="data and network"):
        Trainer(Supernet(space, CLASSES + 1), data, config())
    colour = TensorSplit(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(UserError, match="3 channels"):
        Trainer(Supernet(space, CLASSES), Data("c", CLASSES, 3, 8, colour, colour, colour), config())
    with pytest.raises(UserError, match="no gene"):
        Trainer(Supernet(space, CLASSES), data, config(phases=[{"name": "a", "share": 1, "allowed": {"x": [1]}}]))


def test_averaged_weights_follow(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    net, _ = _run(space, config(ema=0.5, budget={"steps": 1}), tmp_path)
    start, end = Supernet(space, CLASSES).state_dict(), net.state_dict()
    average = load_weights(tmp_path / CHECKPOINTS, averaged=True)
    for name, tensor in average.items():  # decay of the first step: (1 + 0) / (10 + 0)
        assert torch.allclose(tensor, 0.1 * start[name] + 0.9 * end[name], atol=1e-6)
    _run(space, config(), tmp_path / "plain")
    with pytest.raises(UserError, match="no averaged"):
        load_weights(tmp_path / "plain" / CHECKPOINTS, averaged=True)


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from nas.supernet.supernet import Supernet
from nas.training.config import TrainConfig
from nas.training.trainer import Trainer
from tests.nas.training.conftest import CLASSES, make_data
space = SearchSpace(SpaceSpec.model_validate_json(sys.argv[1]))
config = TrainConfig.model_validate_json(sys.argv[2])
print("ready", flush=True)
Trainer(Supernet(space, CLASSES), make_data(), config, Path(sys.argv[3])).fit(resume=True)
"""


def _child(space: SearchSpace, config: TrainConfig, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, space.spec.model_dump_json(), config.model_dump_json(exclude_unset=True)]
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True, cwd=root)


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_in_the_same_bits(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    short = config(**EVERYTHING, budget={"steps": 40}, save_every=1, keep=1)
    whole, _ = _run(space, short, tmp_path / "whole")
    folder = tmp_path / "killed"
    for number in range(5):
        child = _child(space, short, folder)
        assert child.stdout is not None
        child.stdout.readline()
        log = folder / "log.csv"
        before = log.stat().st_size if log.exists() else 0
        while child.poll() is None and (not log.exists() or log.stat().st_size <= before + 150 * number):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    last, _ = _run(space, short, folder, resume=True)
    assert _same(_weights(whole), _weights(last))
    assert _rows(folder) == _rows(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["between steps", "within a step"])
def test_ctrl_c_ends_with_a_checkpoint(space: SearchSpace, config: Make, tmp_path: Path, moment: str) -> None:
    """Two steps later at most: the step in hand is finished, and the system may hand over the signal late."""
    trainer = Trainer(Supernet(space, CLASSES), make_data(), config(save_every=1000), tmp_path)
    update = trainer.learner.update

    def interrupt(report: Report) -> None:
        if report.step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupted_update(step: int) -> None:
        update(step)
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    if moment == "between steps":
        trainer._observe = interrupt
    else:
        trainer.learner.update = interrupted_update  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert load(_newest(tmp_path)).state["step"] in (6, 7, 8)
    resumed, _ = _run(space, config(save_every=1000), tmp_path, resume=True)
    assert _same(_weights(resumed), _weights(_run(space, config())[0]))


def test_a_run_at_its_end_tells_its_loss_again(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    """Also where the last step was not one of the log."""
    _, whole = _run(space, config(log_every=3), tmp_path)
    _, again = _run(space, config(log_every=3), tmp_path, resume=True)
    assert (again.loss, again.steps) == (whole.loss, whole.steps)


def test_a_layer_scale_that_is_set_is_set_in_the_average_too(space: SearchSpace, config: Make, tmp_path: Path) -> None:
    phases = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "layer_scale": 0.7, "freeze": ["attention"]}]
    _run(space, config(phases=phases, ema=0.9), tmp_path)
    average = load_weights(tmp_path / CHECKPOINTS, averaged=True)
    scales = Supernet(space, CLASSES).layer_scales()
    assert scales
    for name in scales:
        assert torch.allclose(average[name], torch.tensor(0.7)), name
