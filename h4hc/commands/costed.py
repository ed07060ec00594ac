"""A model with the costs of its operators on the devices of a target: what `estimate` and `classify` begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.commands.model_options import ModelOptions, compile_options
from h4hc.console import Console
from h4hc.errors import Problem

if TYPE_CHECKING:
    from h4hc.cost import CostTable
    from h4hc.system import System
    from h4hc.workload import Workload


@dataclass(frozen=True)
class Costed:
    """head: what the results of every such command say first."""

    name: str
    workload: Workload
    table: CostTable
    system: System
    head: dict[str, Any]


def costed(console: Console, model: Path, given: dict[str, Any], more: tuple[Problem, ...] = ()) -> Costed:
    """Compile up to the costs and show the diagnostics; given: the values of `model_options`; more: mistakes in others.

    Raises: UserError and what `h4hc.api.compile_model` raises.
    """
    options = compile_options(model, ModelOptions(**given), more=more)
    from h4hc.api import compile_model

    done = compile_model(model, options, stop_after="costs")
    assert done.workload is not None
    assert done.table is not None
    assert done.system is not None
    console.diagnostics(done.diagnostics)
    head = {
        "model": {"name": done.loaded.name, "sha256": done.loaded.sha256},
        "target": {"name": done.system.name, "sha256": done.system.sha256},
        "precision": done.workload.precision,
    }
    return Costed(done.loaded.name, done.workload, done.table, done.system, head)
