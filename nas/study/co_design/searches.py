"""The searches of the study: `h4hc nas search` of one run for each system and seed, then what was found, deployed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from h4hc.api import Objective
from nas.commands.search import OnThreads, read_networks, search
from nas.commands.train import evaluator
from nas.runs import Run
from nas.search.accuracy import EvalCache, Evaluator, Measured
from nas.search.hardware import HardwareTable
from nas.search.recost import recost
from nas.search.workers import Workers
from nas.study.co_design.design import CoDesign, System
from nas.study.panel import whole

Ints = NDArray[np.int64]
Genome = tuple[int, ...]
ARMS = ("alone", "co-design")  # the baseline first
SEARCHES, TESTED = "searches", "tested.jsonl"


@dataclass(frozen=True)
class Network:
    """A network of a front. accuracies: on validation images, by which it was found, and on test images, by which it
    is judged; latency and energy: by the compiler, on the system that it runs on.
    """

    genome: Genome
    accuracy_val: float
    accuracy_test: float
    latency_ps: int
    energy_pj: int
    plan: str


@dataclass(frozen=True)
class Found:
    """What one search found. measured: networks that it measured."""

    arm: str
    seed: int
    measured: int
    front: tuple[Network, ...]


@dataclass(frozen=True)
class Task:
    """One search; can be sent to another process."""

    run: Path
    out: Path
    system: System
    arm: str
    seed: int

    @property
    def sets(self) -> tuple[str, ...]:
        """What it changes of the run's configuration."""
        listed = "[" + ", ".join(f"'{text}'" for text in self.system.sets) + "]"
        return f"hardware.target={self.system.target}", f"hardware.sets={listed}", f"search.seed={self.seed}"


def tasks(study: CoDesign, run: Path, folder: Path) -> list[Task]:
    """Both arms of each seed, seed by seed."""
    systems = dict(zip(ARMS, (study.alone, study.deployed), strict=True))
    return [
        Task(run, folder / SEARCHES / f"{arm}-{seed}", systems[arm], arm, seed) for seed in study.seeds for arm in ARMS
    ]


def do(task: Task) -> int:
    """Search, or go on; how many networks were measured."""
    tree = search(task.run, task.out, task.sets, lambda line: None, lambda what, done, total: None)
    return int(tree["evaluated"])


def search_all(asked: Sequence[Task], workers: Workers, tell: Callable[[str], None]) -> list[int]:
    """Networks measured by each search; `tell` takes a line for each, with the time left."""
    begun, found = time.perf_counter(), []
    for number, (task, measured) in enumerate(zip(asked, workers.map(do, asked), strict=True), 1):
        found.append(measured)
        left = (time.perf_counter() - begun) / number * (len(asked) - number)
        tell(
            f"{number}/{len(asked)} searched for {task.system.name}, seed {task.seed}: {measured} networks measured, "
            f"about {left / 60:.0f} min left"
        )
    return found


def found_by(
    study: CoDesign, run: Run, folder: Path, asked: Sequence[Task], measured: Sequence[int], workers: Workers
) -> list[Found]:
    """The fronts of finished searches, on the system that they run on and on test images; each network once."""
    fronts = [{tuple(run.config.of_space.genome(n.arch)): n for n in read_networks(task.out)} for task in asked]
    every = np.array(sorted({genome for front in fronts for genome in front}), np.int64)
    accuracy = dict(zip(map(tuple, every.tolist()), tested(run, folder, workers)(every).tolist(), strict=True))
    table = table_of(run, study.deployed)
    plans = dict(zip(accuracy, recost(table, every, workers), strict=True))

    def network(genome: Genome, accuracy_val: float) -> Network:
        plan = plans[genome]
        return Network(genome, accuracy_val, accuracy[genome], plan.latency_ps, plan.energy_pj, plan.status)

    return [
        Found(task.arm, task.seed, count, tuple(network(g, n.metrics["accuracy"]) for g, n in front.items()))
        for task, count, front in zip(asked, measured, fronts, strict=True)
    ]


def tested(run: Run, folder: Path, workers: Workers) -> Measured:
    """Accuracies on all test images; no search sees them."""
    data = run.data()
    net = run.trained(data.classes)
    calibration = evaluator(run, net, data.for_search()).calibration
    judge = Evaluator(net, calibration, *whole(data.test))
    return Measured(OnThreads(judge, run.config.threads or 1), judge.fingerprint(), EvalCache(folder / TESTED), workers)


def table_of(run: Run, system: System, workers: Workers | None = None) -> HardwareTable:
    """The tables of the run's space on a system; their blocks are kept in the run."""
    hardware = run.config.hardware
    return HardwareTable.build(
        run.config.of_space, system.target, system.sets, Objective(hardware.objective),
        classes=run.data().classes, cache=run.blocks, workers=workers,
    )  # fmt: skip


def known(asked: Sequence[Task]) -> tuple[Ints, NDArray[np.float64]]:
    """Every network that the searches measured [N, genes], once, and its accuracy on validation images."""
    accuracy: dict[Genome, float] = {}
    for task in asked:
        with (task.out / "measured.csv").open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            accuracy.update({tuple(map(int, row["genome"].split("-"))): float(row["accuracy"]) for row in rows})
    genomes = sorted(accuracy)
    return np.array(genomes, np.int64), np.array([accuracy[genome] for genome in genomes])
