"""`h4hc nas train`: a supernet from a configuration, into the folder of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from h4hc.errors import UserError
from nas.checks import check_config
from nas.config import RunConfig, load_config
from nas.data.splits import SearchData
from nas.runs import CONFIG, Run, begin, check_new, open_run
from nas.search.accuracy import Evaluator
from nas.supernet.supernet import Supernet
from nas.training.checkpoint import newest
from nas.training.distributed import Ranks, ranks
from nas.training.forecast import forecast
from nas.training.logs import progress_bar
from nas.training.trainer import CHECKPOINTS, Trainer

Tree = dict[str, Any]


def train(
    config: str | None,
    folder: Path | None,
    sets: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    show: bool,
    say: Callable[[str], None],
) -> Tree | None:
    """Train as a configuration says, or go on with the run in `folder`. None on ranks other than the first.

    Raises what load_config, open_run, load_data and Trainer raise; KeyboardInterrupt after a checkpoint is kept.
    """
    settings = _settings(config, folder, sets, resume)
    check_config(settings)
    with ranks(settings.training.device) as here:
        tell = say if here.first else lambda line: None
        if dry_run:
            tree = _forecast(Run(Path(), settings), here)
        else:
            assert folder is not None
            run = open_run(folder, sets, ("training",)) if resume else _begun(folder, settings, here)
            tree = fit(run, resume, show and here.first, tell, here)
        return tree if here.first else None


def _settings(config: str | None, folder: Path | None, sets: tuple[str, ...], resume: bool) -> RunConfig:
    if resume:
        if config is not None:
            raise UserError("a run that goes on has its configuration", (config,), hint="leave it out with --resume")
        assert folder is not None
        return open_run(folder, sets, ("training",)).config
    assert config is not None
    found = load_config(config, sets)
    if folder is not None:
        check_new(folder)
    return found


def _begun(folder: Path, settings: RunConfig, here: Ranks) -> Run:
    """A new run: the first rank makes its folder, the others read it. Two that write it would meet half-made files."""
    if here.first:
        begin(folder, settings)
    here.wait()
    return open_run(folder)


def fit(run: Run, resume: bool, show: bool, say: Callable[[str], None], here: Ranks | None = None) -> Tree:
    """Train the supernet of a run to the end of its budget."""
    data = run.data()
    net = run.net(data.classes)
    here = here or Ranks()
    panel = Panel(run, data.for_search())
    with progress_bar() if show else nullcontext() as observe:
        trainer = Trainer(net, data.for_search(), run.config.training, run.folder, here, panel, observe)
        panel.average = trainer.learner.average if run.config.averaged else None
        try:
            found = trainer.fit(resume)
        except KeyboardInterrupt:
            kept = newest(run.folder / CHECKPOINTS)
            if kept is not None:
                say(f"kept {kept}; go on with `h4hc nas train --resume -o {run.folder}`")
            raise
    accuracy = panel.last or (panel(net) if here.first else {})  # measured before where the run was at its end already
    return {"run": str(run.folder), "config": str(run.folder / CONFIG), **asdict(found), "accuracy_val": accuracy}


def evaluator(run: Run, net: Supernet, data: SearchData) -> Evaluator:
    """Accuracy of subnets on the validation images that search may use."""
    calibration, search = run.config.calibration, run.config.search
    stream = data.train.batches(calibration.batch, calibration.batch * calibration.batches)
    parts = list(data.val.batches(500, search.images))
    images, labels = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    return Evaluator(net, [images for images, _ in stream], images, labels)


class Panel:
    """Accuracies of the largest, the smallest and the largest conv-only network, on validation images.

    average: the averaged weights, where search is to use them; None: those of the network.
    """

    def __init__(self, run: Run, data: SearchData) -> None:
        space = run.config.of_space
        self._run, self._data = run, data
        self._genomes = {"max": space.maximum(), "min": space.minimum()}
        zero = {n: [v[0]] for n, v in space.fields.items() if n.endswith(".attention_depth") and v[0] == 0}
        if zero:
            self._genomes["max_conv"] = space.maximum(zero)
        self.last: dict[str, float] = {}
        self.average: dict[str, Tensor] | None = None

    def __call__(self, net: Supernet) -> dict[str, float]:
        if self.average is not None:
            net = copy.deepcopy(net)
            net.load_state_dict(self.average)
        asked = evaluator(self._run, net, self._data)
        self.last = {name: asked(genome) for name, genome in self._genomes.items()}
        return self.last


def _forecast(run: Run, here: Ranks) -> Tree:
    data = run.data()
    found = forecast(run.net(data.classes), data.for_search(), run.config.training, here)
    phases = [asdict(p) | {"macs": p.macs, "seconds": p.seconds} for p in found.phases]
    return {
        "dry_run": True, "parameters": found.parameters, "steps": found.steps, "train_macs": found.macs,
        "seconds": found.seconds, "phases": phases, "device": str(here.device),
    }  # fmt: skip
