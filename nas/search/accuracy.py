"""Accuracy of a subnet on validation images, its batch norms calibrated first; never measured twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from h4hc.errors import IntegrityError, UserError
from nas.search.workers import Serial, Workers
from nas.supernet.supernet import Supernet, calibrate

Genome = tuple[int, ...]
Floats = NDArray[np.float64]


@dataclass
class Evaluator:
    """Accuracy of one genome: the share of validation images that the calibrated subnet gets right, in 0..1.

    calibration: batches of training images [B, C, H, W]; images, labels: the validation split [N, C, H, W], [N].
    Can be sent to other processes.
    """

    net: Supernet
    calibration: Sequence[Tensor]
    images: Tensor
    labels: Tensor
    batch: int = 500

    def __post_init__(self) -> None:
        if not len(self.images) or not len(self.calibration):
            raise UserError("there are no images to evaluate or to calibrate with", hint="see the data's sizes")

    @torch.no_grad()
    def __call__(self, genome: Sequence[int]) -> float:
        arch = self.net.space.arch(genome)
        device = next(self.net.parameters()).device
        stats = calibrate(self.net, arch, (batch.to(device) for batch in self.calibration))
        right = 0
        for images, labels in zip(self.images.split(self.batch), self.labels.split(self.batch), strict=True):
            right += int((self.net(images.to(device), arch, stats).argmax(1).cpu() == labels).sum())
        return right / len(self.labels)

    def fingerprint(self) -> str:
        """Hash of the space, whose indices a genome holds, of the weights and of all images."""
        space = self.net.space.spec.model_dump(mode="json")
        digest = hashlib.sha256(f"{json.dumps(space, sort_keys=True)} {torch.__version__}".encode())
        for name, tensor in sorted(self.net.state_dict().items()):
            digest.update(name.encode() + _bytes(tensor))
        for tensor in (*self.calibration, self.images, self.labels):
            digest.update(_bytes(tensor))
        return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    data: bytes = tensor.detach().cpu().contiguous().numpy().tobytes()
    return f"{tuple(tensor.shape)} {tensor.dtype}".encode() + data


@dataclass
class EvalCache:
    """Accuracies that are known, a line of JSON each, by fingerprint and genome; path None: in memory only.

    A last line that was cut off by a kill is dropped. Raises IntegrityError for any other line that is none.
    """

    path: Path | None = None
    known: dict[tuple[str, Genome], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self.known[entry["of"], tuple(entry["genome"])] = float(entry["accuracy"])
            except (ValueError, KeyError, TypeError) as error:
                hint = "delete the line, or the file: what is missing is measured again"
                where = (f"{self.path}:{number}",)
                raise IntegrityError("the cache of accuracies is damaged", where, str(error), hint) from error
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def put(self, of: str, genome: Genome, accuracy: float) -> None:
        """Keep one, on disk at once."""
        self.known[of, genome] = accuracy
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"of": of, "genome": list(genome), "accuracy": accuracy}) + "\n")


@dataclass
class Measured:
    """Accuracies of genomes by an evaluator, through a cache, on workers. calls: genomes that were really evaluated."""

    evaluate: Callable[[Genome], float]
    fingerprint: str
    cache: EvalCache = field(default_factory=EvalCache)
    workers: Workers = field(default_factory=Serial)
    progress: Callable[[int, int], None] = lambda done, total: None
    calls: int = 0

    def __call__(self, genomes: NDArray[np.integer]) -> Floats:
        """Accuracies [N] of canonical genomes [N, genes]."""
        rows: list[Genome] = [tuple(row) for row in np.asarray(genomes).tolist()]
        missing = [row for row in dict.fromkeys(rows) if (self.fingerprint, row) not in self.cache.known]
        for done, (row, found) in enumerate(zip(missing, self.workers.map(self.evaluate, missing), strict=True), 1):
            self.cache.put(self.fingerprint, row, found)
            self.calls += 1
            self.progress(done, len(missing))
        return np.array([self.cache.known[self.fingerprint, row] for row in rows])
