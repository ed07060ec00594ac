"""A configuration so small that train, search and export take seconds, and one run of it that the tests share."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest

from h4hc.cli import run
from tests.cli_call import Cli

CONFIG = """
seed: 3
threads: 1
space:
  name: mini
  resolution: [16]
  channels_in: 1
  stem: {width: [8]}
  stages:
    - {name: s1, width: [8, 16], conv_depth: [1], expand: [1, 2]}
    - {name: s2, width: [16, 24], stride: 2, conv_depth: [1, 2], kernel: [3, 5], expand: [2],
       attention: {depth: [0, 1], head_dim: 8}}
  head: {width: [16]}
data: {name: glyphs, resolution: 16, train: 200, val: 60, test: 60}
training: {budget: {steps: 20}, batch: 32, save_every: 2, log_every: 1, optimizer: {lr: 5.0e-3}}
calibration: {batches: 1, batch: 32}
search: {first: 10, rounds: 1, per_round: 3, population: 16, generations: 4}
export: {top: 2, segmentation: {steps: 2, batch: 8, train: 40, val: 20, width: 8}}
"""


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """cli("train", ...) runs `h4hc nas train ...`."""
    return functools.partial(cli, "nas")


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration as a file."""
    path = tmp_path_factory.mktemp("config") / "mini.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def searched(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained and searched. Not to be changed: see `copied`."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(["nas", "train", str(config), "-o", str(folder), "-q"]) == 0
    assert run(["nas", "search", str(folder), "-q"]) == 0
    return folder


@pytest.fixture
def copied(searched: Path, tmp_path: Path) -> Path:
    """A copy of `searched` to change."""
    return Path(shutil.copytree(searched, tmp_path / "run"))
