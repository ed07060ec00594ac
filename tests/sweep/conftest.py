"""A small grid, swept once: what the tests of this folder compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

from h4hc.cli import run
from h4hc.compilation import CompileOptions
from h4hc.sweep.grid import Axis, grid_points
from h4hc.sweep.row import Point, Row
from h4hc.sweep.run import run_points

AXES = (Axis("cim.macros", ("1", "2")), Axis("cim.cus", ("4", "1")))
MODELS = ("ds-cnn", "resnet8")
OVER = ("--over", "cim.macros=1,2", "--over", "cim.cus=4,1")


@pytest.fixture(scope="session")
def points() -> tuple[Point, ...]:
    return grid_points(MODELS, AXES, CompileOptions("npu+cim"))


@pytest.fixture(scope="session")
def rows(points: tuple[Point, ...]) -> tuple[Row, ...]:
    """The grid, one point after the other, without a cache."""
    return run_points(points)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `h4hc sweep` over the same grid."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    assert run(["sweep", *MODELS, "--target", "npu+cim", *OVER, "-o", str(out), "--jobs", "1", "-q"]) == 0
    return out
