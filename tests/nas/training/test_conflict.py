"""The probe: cosines by hand, controls, weights untouched; forecast and logs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from h4hc.errors import IntegrityError
from nas.data.order import rng
from nas.data.splits import Data
from nas.space.space import SearchSpace
from nas.supernet.supernet import Supernet
from nas.training import conflict
from nas.training.config import TrainConfig
from nas.training.conflict import PAIRS, attention_full, compare, probe
from nas.training.forecast import forecast
from nas.training.gradients import Part
from nas.training.logs import RunLog
from nas.training.trainer import Trainer


def test_cosine_by_hand() -> None:
    first: Part = [torch.tensor([3.0, 4.0, 0.0]), torch.tensor([1.0]), None]
    second: Part = [torch.tensor([4.0, 3.0, 9.0]), torch.tensor([-1.0]), torch.tensor([1.0])]
    cosine, opposed = compare(first, second)  # the 9 lies outside the first network
    assert cosine == pytest.approx((24 - 1) / 26)
    assert opposed == 0.5


def test_a_network_with_itself_on_one_batch_agrees_fully(
    net: Supernet, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = net.space.arch(net.space.maximum())
    monkeypatch.setattr(conflict, "PAIRS", {"itself": (lambda space, generator: (arch, arch), True)})
    found = probe(net, data.train, 8, 3)[0]
    assert found.cosine == pytest.approx(1)
    assert (found.opposed, found.draws, found.control) == (0, 3, True)


def test_the_probe_has_controls_and_changes_nothing(net: Supernet, data: Data) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = probe(net, data.train, 8, 2)
    assert [c.pair for c in found] == list(PAIRS)
    assert sum(c.control for c in found) == 4
    assert all(-1 <= c.cosine <= 1 and 0 <= c.opposed <= 1 and c.deviation >= 0 for c in found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert found == probe(net, data.train, 8, 2)


def test_pairs_are_what_they_say(space: SearchSpace) -> None:
    full = {s.attention_depth for s in space.arch(space.maximum(attention_full(space))).stages}
    assert full == {0, 2}
    for name, (draw, _) in PAIRS.items():
        first, second = draw(space, rng(0, 1))
        assert space.arch(space.genome(first)) == first
        if name.startswith("conv-only"):
            assert {s.attention_depth for s in first.stages} == {0}
        if name.endswith("all attention"):
            assert (first.stem, first.stages[1].width) == (second.stem, second.stages[1].width)
            assert second.stages[1].attention_depth == 2


@pytest.mark.parametrize("budget", [{"steps": 10}, {"macs": 3e8}, {"minutes": 0.5}])
def test_a_forecast_tells_what_a_run_takes(
    space: SearchSpace, net: Supernet, data: Data, config: Callable[..., TrainConfig], budget: dict[str, float]
) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    plan = config(budget=budget, phases="two-phase")
    found = forecast(net, data, plan)
    assert [phase.name for phase in found.phases] == ["conv", "hybrid"]
    assert found.phases[0].step_macs < found.phases[1].step_macs
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    if "minutes" in budget:
        assert found.seconds == pytest.approx(30, rel=0.2)
        return
    result = Trainer(net, data, plan).fit()
    assert found.steps == pytest.approx(result.steps, rel=0.1)
    assert found.macs == pytest.approx(result.train_macs, rel=0.1)


def test_evaluations_and_tensorboard(
    net: Supernet, data: Data, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    plan = config(tensorboard=True, evaluate_every=4)
    Trainer(net, data, plan, tmp_path, evaluate=lambda supernet: {"max": 0.5}).fit()
    rows = list(csv.reader((tmp_path / "evaluations.csv").read_text().splitlines()))
    assert rows == [["step", "max"], ["4", "0.5"], ["8", "0.5"], ["10", "0.5"]]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss_first")] == list(range(1, 11))
    assert [event.value for event in events.Scalars("evaluation/max")] == [0.5] * 3


def test_a_log_is_cut_to_the_checkpoint_and_a_half_row_dropped(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,phase\n1,a\n2,a\n3,a\n4,")
    RunLog(tmp_path, 2, False).close()
    assert (tmp_path / "log.csv").read_text() == "step,phase\n1,a\n2,a\n"
    (tmp_path / "log.csv").write_text("step,phase\nx,a\n")
    with pytest.raises(IntegrityError, match="damaged"):
        RunLog(tmp_path, 2, False)
