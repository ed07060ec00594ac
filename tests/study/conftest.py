"""One small study, run once: ds-cnn, weights in flash, the corners of the grid, two objectives, all ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from h4hc.study.design import Design, quick
from h4hc.study.run import run_study

Counts = list[tuple[int, int, int]]


@pytest.fixture(scope="session")
def design() -> Design:
    """What `--quick` asks for."""
    return quick(())


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of answers that the study fills."""
    return tmp_path_factory.mktemp("study") / "cache"


@pytest.fixture(scope="session")
def tree(design: Design, cache: Path) -> dict[str, Any]:
    """The document of the study."""
    return run_study(design, cache)
