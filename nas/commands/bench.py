"""`h4hc nas bench NAME`: a study, into a folder that keeps what is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from h4hc.api import cores
from nas.study.co_design.command import co_design
from nas.study.co_design.design import load_co_design
from nas.study.command import bench as two_phase
from nas.study.design import load_study

Tree = dict[str, Any]


def bench(
    name: str, folder: Path, mode: str | None, jobs: int | None, sets: tuple[str, ...], say: Callable[[str], None]
) -> Tree:
    """The study `two-phase` or `co-design`, in one of its modes, with changes. jobs: None = all cores.

    Raises UserError for a wrong mode, change or folder, and what the studies raise.
    """
    if name == "two-phase":
        study = load_study(sets=sets)
        return two_phase(study.mode(mode) if mode else study, folder, jobs or cores(), say)
    design = load_co_design(sets=sets)
    return co_design(design.mode(mode) if mode else design, folder, jobs or cores(), say)
