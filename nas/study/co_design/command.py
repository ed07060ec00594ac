"""Run the co-design study and write its files: train once, search for both systems, deploy, judge, compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from h4hc.api import write_whole
from nas.checks import check_config, raise_all, system_errors
from nas.commands.train import fit
from nas.runs import Run, begin
from nas.search.predictor import Predictor
from nas.search.problem import SearchProblem
from nas.search.slots import grid
from nas.search.workers import Processes
from nas.study.co_design.compare import against, over_the_space
from nas.study.co_design.design import CoDesign, System
from nas.study.co_design.searches import SEARCHES, Task, found_by, known, search_all, table_of, tasks
from nas.study.co_design.views import markdown, networks_csv
from nas.study.command import check_folder
from nas.training.checkpoint import newest
from nas.training.trainer import CHECKPOINTS

RUN, FORMAT = "run", 1
WHOLE = 200_000  # networks of a space that can all be looked at
Document = dict[str, Any]


def co_design(study: CoDesign, folder: Path, jobs: int, tell: Callable[[str], None] = lambda line: None) -> Document:
    """Do what is missing in `folder`, then write study.json, networks.csv and study.md into it.

    Raises UserError where the folder holds another study, and what training, searching and compiling raise.
    """
    config, workers = study.run, Processes(jobs)
    check_folder(folder, RUN)
    systems = (study.deployed, study.alone, *study.systems)
    raise_all(system_errors((system.target, system.sets) for system in systems))
    check_config(config)
    (folder / SEARCHES).mkdir(parents=True, exist_ok=True)
    run = begin(folder / RUN, config)
    resumed = newest(run.folder / CHECKPOINTS) is not None
    tell(f"train the supernet of {study.config!r}, space {config.space.name!r}")
    trained = fit(run, resumed, False, tell)
    table_of(run, study.deployed, workers)  # its blocks, once for all
    asked = tasks(study, run.folder, folder)
    measured = search_all(asked, workers, tell)
    tell("compile and test the networks of all fronts")
    found = found_by(study, run, folder, asked, measured, workers)
    result = {
        "format": FORMAT,
        "study": study.model_dump(mode="json"),
        "space": config.space.name,
        "supernet": {key: trained[key] for key in ("steps", "train_macs", "accuracy_val")},
        **against(found, study.levels),
        "whole_space": _whole(study, run, asked, tell),
    }
    write(result, folder)
    return result


def _whole(study: CoDesign, run: Run, asked: list[Task], tell: Callable[[str], None]) -> Document | None:
    """Each system of the study over all networks of the space; None where they are too many, or no system is named."""
    space = run.config.of_space
    if not study.systems or np.prod(space.cardinalities, dtype=float) > WHOLE:
        return None
    tell(f"all {space.size()} networks, predicted, on {len(study.systems)} systems")
    genomes = np.unique(space.canonical(grid(space, range(len(space.genes)))), axis=0)
    seen, accuracy = known(asked)
    predictor = Predictor.fit(space, seen, accuracy, run.config.search.seed)

    def problem(system: System) -> SearchProblem:
        return SearchProblem(space, table_of(run, system), predictor, run.config.search.objectives)

    alone = problem(study.alone)
    rows = [
        {"system": system.model_dump(mode="json"), **over_the_space(alone, problem(system), genomes, study.levels)}
        for system in study.systems
    ]
    fitted = {"kind": predictor.kind, "tau": predictor.tau[predictor.kind], "networks": len(seen)}
    return {"networks": len(genomes), "predictor": fitted, "systems": rows}


def write(result: Document, folder: Path) -> None:
    """The three files. Raises OSError."""
    files = {
        "study.json": json.dumps(result, indent=1) + "\n",
        "networks.csv": networks_csv(result),
        "study.md": markdown(result),
    }
    for name, text in files.items():
        write_whole(folder / name, text.encode())
