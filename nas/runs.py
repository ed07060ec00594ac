"""The folder of a run: `run.yaml` says what it is and marks it as ours; training, search and export lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from h4hc.api import write_whole
from h4hc.errors import IntegrityError, Problem, UserError
from nas.config import RunConfig
from nas.data.registry import load_data
from nas.data.splits import Data
from nas.supernet.supernet import Supernet
from nas.training.checkpoint import load_weights, newest
from nas.training.trainer import CHECKPOINTS
from nas.yaml_file import parse_model, read_text

CONFIG = "run.yaml"
MARK = "# a run of h4hc nas\n"
BLOCKS, SEARCH, EXPORT = "blocks", "search", "export"


@dataclass(frozen=True)
class Run:
    """A folder and the configuration that it was begun with."""

    folder: Path
    config: RunConfig

    @property
    def blocks(self) -> Path:
        """Cache of the hardware's blocks."""
        return self.folder / BLOCKS

    def data(self) -> Data:
        """All images of the run. Raises UserError, also where they have one class: nothing could be learnt."""
        config = self.config.data
        data = load_data(config)
        if data.classes < 2:
            why, hint = f"the images have {data.classes} class", "a folder (a number) for each class, two at least"
            raise UserError("there is nothing to tell apart", (config.path or config.name,), why, hint)
        return data

    def net(self, classes: int) -> Supernet:
        """A supernet of the run with new weights; sets torch's threads."""
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        return Supernet(self.config.of_space, classes, self.config.training.seed)

    def trained(self, classes: int) -> Supernet:
        """The supernet with the weights of the newest checkpoint.

        Raises UserError without a checkpoint or where it is of another space, IntegrityError where it is damaged.
        """
        net = self.net(classes)
        weights = load_weights(self.folder / CHECKPOINTS, self.config.averaged)
        wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if differing := sorted(n for n in wanted.keys() | given.keys() if wanted.get(n) != given.get(n)):
            raise UserError(
                f"the checkpoint is not of the space {self.config.space.name!r}",
                (str(self.folder / CHECKPOINTS),),
                f"{len(differing)} tensors differ in name or shape, the first is {differing[0]}",
                "take the space and the number of classes that it was trained with",
            )
        net.load_state_dict(weights)
        if self.config.training.channels_last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net


def begin(folder: Path, config: RunConfig) -> Run:
    """Make the folder of a new run, or come back to one that holds the same configuration.

    A run of another configuration is refused; one that never came to a checkpoint is begun anew.
    """
    check_new(folder)
    if (folder / CONFIG).exists() and newest(folder / CHECKPOINTS) is not None:
        known = open_run(folder).config
        changed = [key for key in RunConfig.model_fields if getattr(known, key) != getattr(config, key)]
        if changed:
            raise UserError.of(tuple(_differs(key, folder) for key in changed))
        return Run(folder, config)
    try:
        folder.mkdir(exist_ok=True)
        write_whole(folder / CONFIG, (MARK + config.to_yaml()).encode())
    except OSError as error:
        raise UserError(f"cannot write {folder}", (str(folder),), str(error.strerror)) from error
    return Run(folder, config)


def check_new(folder: Path) -> None:
    """Raises UserError where a run cannot be kept in `folder`: it takes a new or empty folder, or that of a run."""
    shown = (str(folder),)
    hint = "choose another folder with -o"
    if not folder.parent.is_dir():
        raise UserError(f"there is no folder {folder.parent}", shown, hint=f"mkdir -p {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder", shown, hint=hint)
    if folder.is_dir() and any(folder.iterdir()) and not _is_run(folder):
        raise UserError(f"{folder} exists and was not made by h4hc nas", shown, f"it has no {CONFIG} of a run", hint)


def open_run(folder: Path, sets: tuple[str, ...] = (), free: tuple[str, ...] = ()) -> Run:
    """A run that was begun, with changes (see load_config) in the sections `free` only.

    Raises UserError where the folder is no run's, or a change reaches another section; IntegrityError for a damaged
    run.yaml.
    """
    if not folder.is_dir() or not _is_run(folder):
        hint = "`h4hc nas train CONFIG -o RUN` makes one"
        raise UserError(f"{folder} is not the folder of a run", (str(folder),), f"it has no {CONFIG}", hint)
    text = read_text(folder / CONFIG)
    try:
        known = parse_model(text, RunConfig, str(folder / CONFIG))
    except UserError as error:
        problem = error.problems[0]
        why = f"{problem.what} ({', '.join(problem.where)})"
        where, hint = (str(folder / CONFIG),), "put back what h4hc wrote there; the checkpoints are untouched"
        raise IntegrityError("the configuration of the run is damaged", where, why, hint) from error
    if not sets:
        return Run(folder, known)
    config = parse_model(text, RunConfig, str(folder / CONFIG), sets)
    fixed = [k for k in RunConfig.model_fields if k not in free and getattr(known, k) != getattr(config, k)]
    if fixed:
        why = f"it would be another run; --set reaches {', '.join(free)} here"
        raise UserError.of(tuple(Problem(f"{key} of a run cannot change", ("--set",), why) for key in fixed))
    return Run(folder, config)


def _is_run(folder: Path) -> bool:
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            return file.read(len(MARK)) == MARK
    except (OSError, UnicodeDecodeError):
        return False


def _differs(key: str, folder: Path) -> Problem:
    what = f"{key} differs from the run in the folder"
    return Problem(what, (str(folder / CONFIG),), "a folder holds one run", "choose another folder with -o")
