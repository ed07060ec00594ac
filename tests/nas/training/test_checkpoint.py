"""Checkpoints: what goes in comes out, damage is named, a death while writing costs nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from h4hc.errors import IntegrityError, UserError
from nas.training import checkpoint
from nas.training.checkpoint import Checkpoint, load, load_weights, newest, save


def _checkpoint(value: float = 1.0) -> Checkpoint:
    odd = torch.full((2, 3, 4, 5), value).to(memory_format=torch.channels_last)
    return Checkpoint({"weights": {"a": odd}, "optimizer": {"a/step": torch.tensor(3.0)}}, {"spent": {"steps": 3}})


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path, 3, _checkpoint(), 2)
    assert newest(tmp_path) == path
    loaded = load(path)
    assert torch.equal(loaded.tensors["weights"]["a"], _checkpoint().tensors["weights"]["a"])
    assert loaded.tensors["optimizer"]["a/step"].shape == ()
    assert loaded.state["spent"] == {"steps": 3}
    assert torch.equal(load_weights(tmp_path)["a"], load_weights(path)["a"])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        save(tmp_path, step, _checkpoint(step), 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step_000000003", "step_000000004"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_damage_is_named(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 1, _checkpoint(), 2)
    file = save(tmp_path, 2, _checkpoint(), 2) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"empty": b"", "cut": content[:-3], "flipped": flipped}[damage])
    with pytest.raises(IntegrityError, match=name) as caught:
        load_weights(tmp_path)
    assert "step_000000001" in caught.value.problems[0].hint


def test_last_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    with pytest.raises(UserError, match="no checkpoint"):
        load_weights(tmp_path)
    save(tmp_path, 1, _checkpoint(), 2)
    for name in ("step_000000009", "../elsewhere", ""):
        (tmp_path / "last").write_text(name)
        with pytest.raises(IntegrityError, match="gone"):
            newest(tmp_path)


def test_a_foreign_state_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1, _checkpoint(), 2)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"step": 7}))
    with pytest.raises(IntegrityError, match="seal"):
        load(path)


class _Death(BaseException):
    pass


class _Mortal:
    """Stands in for calls to the system; the one after the first `left` never returns."""

    def __init__(self, left: int) -> None:
        self.left = left

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keys: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise _Death
            return real(*args, **keys)

        return call


def test_death_at_any_moment_of_writing_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call to the system that a save makes is, in turn, the last one."""
    calls: list[tuple[Any, str]] = [
        (checkpoint, "_sync"), (checkpoint, "save_file"), (os, "replace"), (Path, "rename"), (shutil, "rmtree")
    ]  # fmt: skip
    deaths, saved = 0, False
    while not saved:
        save(tmp_path, 1, _checkpoint(1), 1)
        mortal = _Mortal(deaths)
        with monkeypatch.context() as patched:
            for owner, name in calls:
                patched.setattr(owner, name, mortal.wrap(getattr(owner, name)))
            try:
                save(tmp_path, 2, _checkpoint(2), 1)
                saved = True
            except _Death:
                deaths += 1
        assert float(load_weights(tmp_path)["a"].flatten()[0]) in (1.0, 2.0)
    assert deaths >= 8
    assert float(load_weights(tmp_path)["a"].flatten()[0]) == 2.0
