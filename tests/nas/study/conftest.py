"""A study so small that its runs take a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.study.design import Study
from tests.nas.mini import SPACE

ARMS = [
    {"name": "single", "what": "a", "budget": "steps", "train": {"phases": "single"}},
    {"name": "two", "what": "b", "train": {"phases": "two-phase"}},
    {"name": "longer", "what": "c", "budget": "two", "train": {"phases": "single"}},
]


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """The space as YAML."""
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


@pytest.fixture
def study(space_file: Path) -> Callable[..., Study]:
    """Six steps of the baseline on the digits, two seeds; keys as given."""

    def make(**keys: Any) -> Study:
        plain = {
            "name": "mini",
            "space": str(space_file),
            "steps": 6,
            "seeds": [0, 1],
            "arms": ARMS,
            "sets": [{"data": {"name": "digits", "resolution": 8}}],
            "target": {"arm": "two", "points": 1.0},
            "train": {"batch": 8},
        }
        return Study.model_validate(plain | keys)

    return make
