"""`h4hc nas search`: the networks of a trained supernet that are best on a system, into the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from h4hc.api import Objective, write_whole
from h4hc.errors import IntegrityError, UserError
from nas.checks import check_config
from nas.commands.train import evaluator
from nas.config import RunConfig
from nas.runs import SEARCH, Run, open_run
from nas.search import rounds
from nas.search.accuracy import EvalCache, Evaluator, Genome, Measured
from nas.search.front import Front, can_plot, front_of, write_front
from nas.search.hardware import METRICS, HardwareTable
from nas.search.problem import ACCURACY, SearchProblem
from nas.search.recost import Plan, recost, recosted
from nas.search.workers import Workers, workers_of
from nas.space.arch import Arch

Tree = dict[str, Any]
Count = Callable[[str, int, int], None]  # what is counted, done, of how many
SECTIONS = ("calibration", "hardware", "search", "export", "threads", "averaged")
RESULT, ARCHS = "search.json", "archs"


@dataclass(frozen=True)
class Network:
    """One network of a front: its number, architecture, and metrics as the search found them."""

    number: int
    arch: Arch
    metrics: dict[str, float]


@dataclass(frozen=True)
class OnThreads:
    """An evaluation with so many threads of torch, in whatever process: their number may change the last bits."""

    evaluate: Evaluator
    threads: int

    def __call__(self, genome: Genome) -> float:
        """See Evaluator."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        return self.evaluate(genome)


def search(
    folder: Path,
    out: Path | None,
    sets: tuple[str, ...],
    say: Callable[[str], None],
    count: Count,
    jobs: int | None = None,
    ray: bool = False,
) -> Tree:
    """Search the run in `folder`; what is found lies in `out` (RUN/search). The same call again goes on or reads it.

    jobs, ray: see workers_of; the front does not depend on them. Raises what open_run, Run.trained, workers_of,
    HardwareTable.build and rounds.search raise; UserError for a foreign `out`.
    """
    run = open_run(folder, sets, SECTIONS)
    check_config(run.config)
    out = out or folder / SEARCH
    _check_out(out)
    data = run.data()
    net = run.trained(data.classes)
    if run.config.training.device != "cpu" and torch.cuda.is_available():
        net = net.to("cuda")
    asked = evaluator(run, net, data.for_search())
    cache, fingerprint = EvalCache(out / "accuracies.jsonl"), asked.fingerprint()
    evaluate = OnThreads(asked, run.config.threads or 1) if ray or jobs else asked
    with workers_of(jobs, ray, gpus=int(next(net.parameters()).is_cuda)) as workers:
        measured = Measured(evaluate, fingerprint, cache, workers, lambda d, n: count("measure networks", d, n))
        problem = problem_of(run, net.classes, lambda d, n: count("cost blocks", d, n), workers)
        out.mkdir(exist_ok=True)
        found = rounds.search(problem, measured, run.config.search.of_rounds, folder=out, progress=say)
        problem = found.evaluations.problem
        front = front_of(problem, found.evaluations.genomes, found.evaluations.metrics)
        plans = recost(problem.table, front.genomes, workers)
    found_before = len(front)
    front, plans = recosted(front, plans)
    if len(front) < found_before:
        say(f"left out {found_before - len(front)} of {found_before}: as compiled, dominated or over a limit")
    shown = {"plan": [plan.status for plan in plans], "fits_sram": [str(plan.fits).lower() for plan in plans]}
    written = write_front(front, out, found.evaluations.metrics, shown)
    _say_what_is_missing(say, plans, written)
    return _write(run.config, front, plans, out, len(found.evaluations), measured.fingerprint)


def _say_what_is_missing(say: Callable[[str], None], plans: Sequence[Plan], written: Sequence[Path]) -> None:
    if large := [f"{i:02d}" for i, plan in enumerate(plans) if not plan.fits]:
        hint = "set search.limits={sram_bytes: N}, or raise the memory of the target"
        say(f"warning: the SRAM does not hold network {', '.join(large)} of the front; {hint}")
    if not can_plot():
        say(f"no picture beside {written[0]}: pip install 'h4hc[plot]'")


def problem_of(run: Run, classes: int, progress: Callable[[int, int], None], workers: Workers) -> SearchProblem:
    """What the configuration searches for; its accuracy is still to be set."""
    config, space = run.config.search, run.config.of_space
    hardware = run.config.hardware
    table = HardwareTable.build(
        space, hardware.target, hardware.sets, Objective(hardware.objective),
        classes=classes, cache=run.blocks, workers=workers, progress=progress,
    )  # fmt: skip
    return SearchProblem(space, table, _unset, config.objectives, dict(config.limits), config.allowed or None)


def read_networks(folder: Path) -> list[Network]:
    """The front that `search` left in `folder`. Raises UserError where there is none, IntegrityError where damaged."""
    path = folder / RESULT
    if not path.exists():
        what, hint = "there is no finished search", "run `h4hc nas search RUN` first, or name a network with --arch"
        raise UserError(what, (str(path),), hint=hint)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return [Network(n["network"], Arch.from_json(n["arch"]), n["metrics"]) for n in tree["front"]]
    except (ValueError, KeyError, TypeError, UserError) as error:
        hint = "search again into another folder"
        raise IntegrityError("the result of the search is damaged", (str(path),), str(error), hint) from error


def _write(config: RunConfig, front: Front, plans: Sequence[Plan], out: Path, evaluated: int, fingerprint: str) -> Tree:
    """search.json and archs/NN.json; search.json comes last, so that it stands for a finished search."""
    space = front.problem.space
    names = [n for n in (ACCURACY, *METRICS) if n in front.metrics.columns]
    networks = []
    (out / ARCHS).mkdir(exist_ok=True)
    for i, genome in enumerate(front.genomes):
        metrics = {n: float(front.metrics[n][i]) if n == ACCURACY else int(front.metrics[n][i]) for n in names}
        arch = space.arch(genome).to_json()
        plan = {"plan": plans[i].status, "fits_sram": plans[i].fits}
        networks.append({"network": i, "metrics": metrics, **plan, "genome": [int(g) for g in genome], "arch": arch})
        write_whole(out / ARCHS / f"{i:02d}.json", json.dumps(arch, indent=1).encode() + b"\n")
    tree = {
        "space": space.spec.name, "target": config.hardware.target, "sets": list(config.hardware.sets),
        "objective": config.hardware.objective, "objectives": list(front.problem.objectives),
        "limits": dict(front.problem.limits), "evaluated": evaluated, "weights_sha256": fingerprint, "front": networks,
    }  # fmt: skip
    write_whole(out / RESULT, json.dumps(tree, indent=1).encode() + b"\n")
    return {"folder": str(out), **tree}


def _check_out(out: Path) -> None:
    ours = {"accuracies.jsonl", rounds.SETTINGS, RESULT}
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent}", (str(out),), hint=f"mkdir -p {out.parent}")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not ours & {p.name for p in out.iterdir()})):
        raise UserError(f"{out} was not made by h4hc nas search", (str(out),), hint="choose another folder with -o")


def _unset(genomes: Any) -> Any:
    raise AssertionError("the search sets the accuracy")
