"""What the paper claims and leaves open, and what the study assumes: `paper.toml`, read once."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def paper() -> dict[str, Any]:
    """claims: a list of measure, saved_pct [%], mark, source; texts: lists of sentences by name."""
    return tomllib.loads((resources.files("h4hc.study") / "paper.toml").read_text(encoding="utf-8"))
