"""One run of a study: train a supernet from scratch, judge the panel, probe gradients on the way; cached on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from h4hc.errors import IntegrityError
from nas.data.config import DataConfig
from nas.data.registry import load_data
from nas.data.splits import Data
from nas.space.space import SearchSpace
from nas.study.design import Probes
from nas.study.panel import judge, make_panel
from nas.study.statistics import average
from nas.supernet.supernet import Supernet
from nas.training.config import TrainConfig
from nas.training.conflict import probe
from nas.training.logs import Report
from nas.training.trainer import Trainer

SOURCES = ("data", "space", "supernet", "training", "study/panel.py", "study/run.py", "search/accuracy.py")


@dataclass(frozen=True)
class Task:
    """All that a run depends on. macs: what it is forecast to take, for the time left."""

    trial: str
    arm: str
    seed: int
    space: str
    data: DataConfig
    config: TrainConfig
    layer_scale: float
    probes: Probes | None
    macs: int

    @property
    def key(self) -> str:
        """Hash of everything that decides the result, the code and torch's version included."""
        plain = {
            "space": SearchSpace.load(self.space).spec.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "config": self.config.model_dump(mode="json"),
            "layer_scale": self.layer_scale,
            "probes": self.probes and self.probes.model_dump(mode="json", exclude={"arms", "trials", "seeds"}),
            "seed": self.seed,
            "code": code_sha256(),
            "torch": torch.__version__,
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cosine:
    """One line of a gradient probe; spent: part of the budget, 0 to 1; see nas.training.conflict.Conflict."""

    spent: float
    pair: str
    control: bool
    cosine: float
    deviation: float
    opposed: float


@dataclass(frozen=True)
class Run:
    """A finished run. accuracy: group of the panel -> each network's, in percent of the test images."""

    trial: str
    arm: str
    seed: int
    steps: int
    train_macs: int
    seconds: float
    accuracy: dict[str, list[float]]
    cosines: list[Cosine]

    def measures(self) -> dict[str, float]:
        """Mean accuracy [%] of each group, and the attention gain [points]: max - max_conv."""
        means = {group: average(values) for group, values in self.accuracy.items()}
        return means | {"attention_gain": means["max"] - means["max_conv"]}


@dataclass(frozen=True)
class Runner:
    """Does tasks, in any process; folder: of finished runs, None = keep none."""

    folder: Path | None

    def __call__(self, task: Task) -> Run:
        """The run of a task. Raises IntegrityError for a kept run that cannot be read."""
        return self.kept(task) or self._new(task)

    def kept(self, task: Task) -> Run | None:
        """The run, if it was made before."""
        path = self._path(task)
        if path is None or not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("key") != task.key:
                raise ValueError("it is of another task")
            run = Run(**data | {"cosines": [Cosine(**line) for line in data["cosines"]]})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            hint = "delete the file: the run is made again"
            raise IntegrityError("a kept run is damaged", (str(path),), str(error), hint) from error
        return run

    def _new(self, task: Task) -> Run:
        with one_thread():
            run = train(task)
        path = self._path(task)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps({"key": task.key, **asdict(run)}), encoding="utf-8")
            os.replace(draft, path)
        return run

    def _path(self, task: Task) -> Path | None:
        name = f"{task.trial}-{task.arm}-{task.seed}-{task.key[:16]}.json"
        return None if self.folder is None else self.folder / name


def train(task: Task) -> Run:
    """Train and judge, without the cache."""
    space, data = SearchSpace.load(task.space), _data(task.data)
    net = Supernet(space, data.classes, task.seed, task.layer_scale)
    cosines: list[Cosine] = []
    seen = _Prober(net, data, task.probes, task.seed, cosines) if task.probes else None
    begin = time.perf_counter()
    result = Trainer(net, data, task.config, observe=seen).fit()
    accuracy = judge(net, data, make_panel(space))
    seconds = round(time.perf_counter() - begin, 1)
    return Run(task.trial, task.arm, task.seed, result.steps, result.train_macs, seconds, accuracy, cosines)


@dataclass
class _Prober:
    """Watches a run and probes its gradients when it passes the next checkpoint."""

    net: Supernet
    data: Data
    probes: Probes
    seed: int
    found: list[Cosine]
    done: int = 0

    def __call__(self, report: Report) -> None:
        if report.spent < (self.done + 1) / self.probes.checkpoints - 1e-9:
            return
        self.done = int(report.spent * self.probes.checkpoints + 1e-9)
        with _learning(self.net):
            lines = probe(self.net, self.data.train, self.probes.batch, self.probes.draws, self.seed)
        self.found += [
            Cosine(round(report.spent, 4), c.pair, c.control, c.cosine, c.deviation, c.opposed) for c in lines
        ]


@contextmanager
def _learning(net: Supernet) -> Iterator[None]:
    """Gradients of all parameters, frozen ones too."""
    before = [p.requires_grad for p in net.parameters()]
    net.requires_grad_(True)
    yield
    for parameter, learns in zip(net.parameters(), before, strict=True):
        parameter.requires_grad_(learns)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: faster for networks this small, and sums come in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _data(config: DataConfig) -> Data:
    return load_data(config)


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """Hash of the sources that decide a run's result."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for name in SOURCES:
        for path in sorted((root / name).glob("*.py")) or [root / name]:
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
