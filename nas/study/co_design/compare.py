"""Two fronts that run on one system: how much of the objectives each covers, and what it costs at equal accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.front import front_of, hypervolume, reference
from nas.search.problem import ACCURACY, SearchProblem
from nas.study.co_design.searches import ARMS, Found
from nas.study.statistics import average, deviation, paired

Floats = NDArray[np.float64]
Document = dict[str, Any]
MEASURES = ("hypervolume", "latency_saved_percent", "energy_saved_percent", "best_accuracy_percent")
LATENCY, ENERGY = 1, 2  # columns; the first is 1 - accuracy


@dataclass(frozen=True)
class Box:
    """What hypervolumes are measured in: shares of it."""

    ideal: Floats
    ref: Floats

    @classmethod
    def of(cls, sets: Sequence[Floats]) -> Box:
        """The box that holds all sets of [N, objectives], minimised."""
        return cls(np.concatenate(list(sets)).min(axis=0), reference(sets))

    def share(self, values: Floats) -> float:
        """The hypervolume, 0 to 1."""
        return hypervolume(values, self.ref, self.ideal)


def values(found: Found) -> Floats:
    """[N, 3] of a front: 1 - accuracy on test images, latency [ps], energy [pJ], deployed."""
    return np.array([[1 - n.accuracy_test, n.latency_ps, n.energy_pj] for n in found.front], np.float64)


def saved(base: Floats, ours: Floats, column: int, levels: int) -> float:
    """What `ours` saves [%] of a cost against `base` at equal accuracy: 100 (1 - geometric mean of the ratios).

    At each of `levels` accuracies, evenly over those that both reach, each side gives its cheapest network that is
    as accurate at least.
    """
    low = max(float((1 - v[:, 0]).min()) for v in (base, ours))
    high = min(float((1 - v[:, 0]).max()) for v in (base, ours))
    wanted = np.linspace(min(low, high), high, levels)
    ratios = [_cheapest(ours, level, column) / _cheapest(base, level, column) for level in wanted]
    return float(100 * (1 - np.exp(np.mean(np.log(ratios)))))


def _cheapest(rows: Floats, accuracy: float, column: int) -> float:
    return float(rows[1 - rows[:, 0] >= accuracy - 1e-12, column].min())


def against(found: Sequence[Found], levels: int) -> Document:
    """All searches, seed by seed, and paired differences: co-design less alone."""
    box = Box.of([values(f) for f in found])
    rows: list[Document] = []
    for seed in dict.fromkeys(f.seed for f in found):
        pair = [next(f for f in found if (f.arm, f.seed) == (arm, seed)) for arm in ARMS]
        base, ours = map(values, pair)
        rows.append(
            {
                "seed": seed,
                "networks": _by_arm(len(f.front) for f in pair),
                "measured": _by_arm(f.measured for f in pair),
                "hypervolume": _by_arm(map(box.share, (base, ours))),
                "best_accuracy_percent": _by_arm(100 * float(1 - v[:, 0].min()) for v in (base, ours)),
                "latency_saved_percent": _by_arm((0.0, saved(base, ours, LATENCY, levels))),
                "energy_saved_percent": _by_arm((0.0, saved(base, ours, ENERGY, levels))),
            }
        )
    columns = {m: [[row[m][arm] for row in rows] for arm in ARMS] for m in MEASURES}
    differences = {m: paired(*both) for m, both in columns.items()}
    return {
        "seeds": rows,
        "mean": {m: _by_arm(map(average, both)) for m, both in columns.items()},
        "deviation": {m: _by_arm(map(deviation, both)) for m, both in columns.items()},
        "difference": {m: asdict(p) | {"measurable": p.measurable} for m, p in differences.items()},
        "searches": [asdict(f) for f in found],
    }


def _by_arm(both: Iterable[Any]) -> Document:
    return dict(zip(ARMS, both, strict=True))


def over_the_space(alone: SearchProblem, deployed: SearchProblem, genomes: NDArray[np.int64], levels: int) -> Document:
    """The same for the fronts of the whole space: those of `alone` run on the system of `deployed`.

    unused: share of the networks whose plan keeps no weight in the CIM.
    """
    at = {row.tobytes(): i for i, row in enumerate(genomes)}
    metrics = deployed.metrics(genomes)
    every = deployed.objective_values(metrics)
    fronts = [front_of(p, genomes, p.metrics(genomes)).genomes for p in (alone, deployed)]
    base, ours = (_in_order(every[[at[row.tobytes()] for row in front]], deployed) for front in fronts)
    box = Box.of([base, ours])
    return {
        "networks": _by_arm(map(len, fronts)),
        "hypervolume": _by_arm(map(box.share, (base, ours))),
        "latency_saved_percent": saved(base, ours, LATENCY, levels),
        "energy_saved_percent": saved(base, ours, ENERGY, levels),
        "unused": float((metrics["cim_bytes"] == 0).mean()),
    }


def _in_order(rows: Floats, problem: SearchProblem) -> Floats:
    """Columns as LATENCY and ENERGY name them."""
    order = [problem.objectives.index(name) for name in (ACCURACY, "latency_ps", "energy_pj")]
    found: Floats = rows[:, order]
    return found
