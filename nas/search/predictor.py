"""A cheap stand-in for measured accuracy: regression on genomes, with its own encoder.

Ridge regression on one-hot genomes and boosted trees on gene values are cross-validated, and the one that orders
networks better (Kendall's tau) is kept. A predictor is saved as what it was fitted on, as JSON: loading fits it again,
the same each time, and runs no foreign code as a pickle would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h4hc.api import write_whole
from h4hc.errors import IntegrityError, UserError
from nas.space.space import SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Model = Any  # of scikit-learn: fit(x, y), predict(x)
FOLDS, LEAST = 5, 10
EXACT = 1e-9  # predictions of a loaded predictor may differ by rounding


def _ridge(seed: int) -> Model:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(-2, 3, 11))


def _trees(seed: int) -> Model:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=200, max_depth=3, learning_rate=0.05, subsample=0.7, random_state=seed
    )


MODELS: dict[str, Callable[[int], Model]] = {"ridge": _ridge, "trees": _trees}


@dataclass(frozen=True)
class Encoder:
    """Genomes -> features; knows the genes it was made for."""

    genes: tuple[tuple[str, tuple[Any, ...]], ...]

    @classmethod
    def of(cls, space: SearchSpace) -> Encoder:
        """The encoder of a space."""
        return cls(tuple((gene.name, tuple(gene.values)) for gene in space.genes))

    def encode(self, genomes: Ints, kind: str) -> Floats:
        """Features [N, K]: one column a value for ridge; one a gene for trees: its value, or the index of a name."""
        rows = np.asarray(genomes)
        columns = []
        for g, (_, values) in enumerate(self.genes):
            if kind == "ridge":
                columns.append((rows[:, g, None] == np.arange(len(values))).astype(np.float64))
            else:
                numbers = [i if isinstance(v, str) else v for i, v in enumerate(values)]
                columns.append(np.array(numbers, np.float64)[rows[:, g], None])
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class Predictor:
    """accuracy = Predictor.fit(space, genomes, accuracies).predict(genomes).

    kind: the model that was kept; tau: {kind: cross-validated Kendall tau}; nan where all predictions were equal.
    """

    encoder: Encoder
    genomes: Ints
    accuracies: Floats
    seed: int
    kind: str
    tau: dict[str, float]
    model: Model

    @classmethod
    def fit(cls, space: SearchSpace, genomes: NDArray[np.integer], accuracies: Floats, seed: int = 0) -> Predictor:
        """Fit on canonical genomes [N, genes] and their accuracies [N]. Raises UserError for fewer than 10."""
        rows, values = np.asarray(genomes, np.int64), np.asarray(accuracies, np.float64)
        if len(rows) < LEAST or len(rows) != len(values) or not np.isfinite(values).all():
            why = f"{len(rows)} networks, {len(values)} accuracies"
            raise UserError(f"a predictor needs {LEAST} measured networks at least", why=why)
        encoder = Encoder.of(space)
        tau = {kind: cross_validated(encoder.encode(rows, kind), values, kind, seed) for kind in MODELS}
        best = max(tau, key=lambda kind: -2.0 if np.isnan(tau[kind]) else tau[kind])
        return cls._made(encoder, rows, values, seed, best, tau)

    @classmethod
    def _made(
        cls, encoder: Encoder, rows: Ints, values: Floats, seed: int, kind: str, tau: dict[str, float]
    ) -> Predictor:
        model = MODELS[kind](seed).fit(encoder.encode(rows, kind), values)
        return cls(encoder, rows, values, seed, kind, tau, model)

    def predict(self, genomes: NDArray[np.integer]) -> Floats:
        """Accuracies [N] of genomes [N, genes]."""
        found: Floats = self.model.predict(self.encoder.encode(np.asarray(genomes, np.int64), self.kind))
        return found

    __call__ = predict

    @property
    def fingerprint(self) -> str:
        """Hash of all that a prediction depends on."""
        return hashlib.sha256(self._text(np.zeros(0)).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_whole(path, self._text(self.predict(self.genomes)).encode())

    def _text(self, fitted: Floats) -> str:
        tree = {
            "genes": self.encoder.genes,
            "genomes": self.genomes.tolist(),
            "accuracies": self.accuracies.tolist(),
            "fitted": fitted.tolist(),
            "seed": self.seed,
            "kind": self.kind,
            "tau": {kind: None if np.isnan(tau) else tau for kind, tau in self.tau.items()},  # JSON has no nan
        }
        return json.dumps(tree, indent=1) + "\n"

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> Predictor:
        """Read it and fit it again.

        Raises UserError for a missing file or another space, IntegrityError where it is damaged or predicts something
        else than when it was saved.
        """
        try:
            tree = json.loads(path.read_bytes())
            encoder = Encoder(tuple((name, tuple(values)) for name, values in tree["genes"]))
            rows, values = np.array(tree["genomes"], np.int64), np.array(tree["accuracies"], np.float64)
            tau = {str(kind): float("nan") if value is None else float(value) for kind, value in tree["tau"].items()}
            known = encoder, rows, values, int(tree["seed"]), str(tree["kind"]), tau
            fitted = np.array(tree["fitted"], np.float64)
        except OSError as error:
            raise UserError("cannot read the predictor", (str(path),), str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the predictor is damaged", (str(path),), str(error), "fit it again") from error
        if encoder != Encoder.of(space):
            raise UserError("the predictor was fitted on another search space", (str(path),), hint="fit it again")
        made = cls._made(*known)
        if not np.allclose(made.predict(made.genomes), fitted, rtol=0, atol=EXACT):
            why = "it predicts something else than when it was saved: another scikit-learn, or a damaged file"
            raise IntegrityError("the predictor is not what it was", (str(path),), why, "fit it again")
        return made


def cross_validated(features: Floats, values: Floats, kind: str, seed: int) -> float:
    """Kendall's tau-b between values and predictions by models that did not see them (5 folds)."""
    from scipy.stats import kendalltau

    order = np.random.default_rng(seed).permutation(len(values))
    predicted = np.zeros(len(values))
    for held in np.array_split(order, FOLDS):
        rest = np.setdiff1d(order, held)
        predicted[held] = MODELS[kind](seed).fit(features[rest], values[rest]).predict(features[held])
    if np.ptp(predicted) == 0 or np.ptp(values) == 0:
        return float("nan")
    return float(kendalltau(values, predicted).statistic)
