"""Two gloo processes that torchrun starts: the gradient is the mean over ranks, all ranks stay equal, resume works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from h4hc.errors import UserError
from nas.data.splits import Data
from nas.space.space import SearchSpace
from nas.supernet.supernet import Supernet
from nas.training.checkpoint import load_weights
from nas.training.config import TrainConfig
from nas.training.distributed import Ranks, ranks
from nas.training.gradients import Part
from nas.training.step import Stepper
from nas.training.trainer import CHECKPOINTS, Trainer
from tests.nas.training.conftest import CLASSES, make_data

ROOT = Path(__file__).resolve().parents[3]
WORKER = """
import hashlib, json, sys
from pathlib import Path
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from nas.space.space import SearchSpace
from nas.space.spec import SpaceSpec
from nas.supernet.supernet import Supernet
from nas.training.config import TrainConfig
from nas.training.distributed import ranks
from nas.training.trainer import Trainer
from tests.nas.training.conftest import CLASSES, make_data
space = SearchSpace(SpaceSpec.model_validate_json(sys.argv[1]))
config = TrainConfig.model_validate_json(sys.argv[2])
folder = Path(sys.argv[3])
calls = []
reduce = dist.all_reduce
dist.all_reduce = lambda tensor: (calls.append(len(tensor)), reduce(tensor))
with ranks("cpu") as group:
    net = Supernet(space, CLASSES, seed=group.rank)  # ranks that start apart are brought together
    result = Trainer(net, make_data(), config, folder, group).fit(resume=True)
digest = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in net.state_dict().values())).hexdigest()
report = {"weights": digest, "steps": result.steps, "all_reduces": len(calls), "macs": result.train_macs}
(folder / f"rank{group.rank}.json").write_text(json.dumps(report))
"""


def _torchrun(space: SearchSpace, config: TrainConfig, folder: Path) -> list[dict[str, object]]:
    """Reports of two ranks."""
    folder.mkdir(exist_ok=True)
    script = folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    arguments = [space.spec.model_dump_json(), config.model_dump_json(exclude_unset=True), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def _step_gradient(space: SearchSpace, config: TrainConfig, data: Data, rank: int, size: int) -> Part:
    """Gradient of the first step of one rank, alone."""
    trainer = Trainer(Supernet(space, CLASSES), data, config)
    batch = next(data.train.stream(config.seed, config.batch, 0, rank, size))
    span = trainer.plan.at(0)
    stepper = Stepper(trainer.learner, config, Ranks(), lambda arch: 0)
    stepper.gradient(span, 0, span.sampler.archs(0), batch, [0.0, 0.0], None)
    return [p.grad for p in trainer.learner.parameters]


@pytest.mark.slow
@pytest.mark.parametrize("conflict", ["none", "pcgrad"])
def test_two_processes(space: SearchSpace, config: Callable[..., TrainConfig], tmp_path: Path, conflict: str) -> None:
    whole = config(budget={"steps": 6}, save_every=3, conflict=conflict, phases="two-phase")
    first, second = _torchrun(space, whole, tmp_path / "whole")
    assert first == second
    assert (first["steps"], first["all_reduces"]) == (6, 6)
    assert len((tmp_path / "whole" / "log.csv").read_text().splitlines()) == 7
    # killed after the checkpoint of step 3, both go on from there
    folder = tmp_path / "again"
    _torchrun(space, whole, folder)
    (folder / CHECKPOINTS / "last").write_text("step_000000003")
    assert [report["weights"] for report in _torchrun(space, whole, folder)] == [first["weights"]] * 2


@pytest.mark.slow
def test_the_gradient_is_the_mean_over_the_ranks(
    space: SearchSpace, config: Callable[..., TrainConfig], data: Data, tmp_path: Path
) -> None:
    """Plain SGD without momentum or clip: the weights after a step tell the gradient that two processes used."""
    sgd = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "clip": None, "warmup": 0.0}
    one = config(optimizer=sgd, budget={"steps": 1})
    _torchrun(space, one, tmp_path)
    parts = [_step_gradient(space, one, data, rank, 2) for rank in range(2)]
    after = load_weights(tmp_path / CHECKPOINTS)
    start = Supernet(space, CLASSES)
    apart = 0.0
    for (name, weight), a, b in zip(start.named_parameters(), *parts, strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(after[name], weight - (a + b) / 2, atol=1e-6)
        apart = max(apart, float((a - b).abs().max()))
    assert apart > 0.01  # the halves of the batch do differ


def test_half_an_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="incomplete"), ranks("cpu"):
        pass


def test_alone_without_torchrun() -> None:
    with ranks("cpu") as group:
        assert (group.rank, group.size, group.first) == (0, 1, True)


def test_a_batch_that_ranks_cannot_share_is_an_error(
    space: SearchSpace, config: Callable[..., TrainConfig], data: Data
) -> None:
    with pytest.raises(UserError, match="shared out"):
        Trainer(Supernet(space, CLASSES), data, config(batch=9), ranks=Ranks(0, 2))


def test_data_is_shared_out() -> None:
    data = make_data()
    halves = [next(data.train.stream(0, 8, 0, rank, 2))[0] for rank in range(2)]
    whole = next(data.train.stream(0, 8))[0]
    assert torch.equal(torch.stack([halves[0], halves[1]], 1).flatten(0, 1), whole)
