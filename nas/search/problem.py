"""What is searched for: objectives and constraints on the metrics of genomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from h4hc.api import NO_PLAN
from h4hc.errors import InfeasibleError, Problem, UserError
from nas.search.hardware import METRICS, HardwareTable
from nas.search.sealed import search_sha256
from nas.space.space import Allowed, SearchSpace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Accuracy = Callable[[Ints], Floats]
ACCURACY = "accuracy"  # maximised; all other metrics are minimised
LOST = 1e30  # an objective without a plan
STARTS, MOST_ROUNDS = 64, 50


@dataclass(frozen=True)
class Metrics:
    """The numbers of N genomes by name; hardware metrics are NO_PLAN where no plan fits."""

    columns: dict[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]


@dataclass(frozen=True)
class SearchProblem:
    """Find networks of `space` that are best in `objectives` and keep `limits`.

    objectives: names of metrics: accuracy (maximised), latency_ps, energy_pj, cim_bytes, sram_bytes, weight_bytes
    (minimised). limits: the most that a metric may be; of accuracy the least. accuracy: accuracies of canonical
    genomes. allowed: restriction of the genes. of: text on which the accuracies depend, for the logs.
    """

    space: SearchSpace
    table: HardwareTable
    accuracy: Accuracy
    objectives: tuple[str, ...] = (ACCURACY, "latency_ps", "energy_pj")
    limits: Mapping[str, float] = field(default_factory=dict)
    allowed: Allowed | None = None
    of: str = ""

    def __post_init__(self) -> None:
        problems = metric_problems(self.objectives, self.limits)
        if not self.space.genes or self.space.size() == 0:
            problems.append(Problem(f"the search space {self.space.spec.name!r} has nothing to choose from"))
        if problems:
            raise UserError.of(tuple(problems))
        self.space.choices(self.allowed)

    def metrics(self, genomes: Ints) -> Metrics:
        """All metrics of canonical genomes [N, genes]."""
        costs = self.table.estimate(genomes)
        columns = {name: costs.metric(name).astype(np.float64) for name in METRICS}
        if ACCURACY in self.objectives or ACCURACY in self.limits:
            columns[ACCURACY] = np.asarray(self.accuracy(genomes), np.float64)
        return Metrics(columns)

    def objective_values(self, metrics: Metrics) -> Floats:
        """[N, objectives], all to be minimised: 1 - accuracy, the others as they are; LOST without a plan."""
        columns = [1 - metrics[n] if n == ACCURACY else np.minimum(metrics[n], LOST) for n in self.objectives]
        values: Floats = np.stack(columns, axis=1)
        values[~has_plan(metrics)] = LOST
        return values

    def violations(self, metrics: Metrics) -> Floats:
        """[N, limits + 1]: by how much each limit is broken, relative to it (<= 0: kept); last, 1 without a plan."""
        columns = []
        for name, limit in self.limits.items():
            over = limit - metrics[name] if name == ACCURACY else metrics[name] - limit
            columns.append(over / max(limit, 1e-12))
        columns.append((~has_plan(metrics)).astype(np.float64))
        return np.stack(columns, axis=1)

    def feasible(self, metrics: Metrics) -> NDArray[np.bool_]:
        """Which genomes keep all limits."""
        kept: NDArray[np.bool_] = np.all(self.violations(metrics) <= 0, axis=1)
        return kept

    def describe(self) -> str:
        """All that the outcome of a search depends on beside its own settings, as text."""
        table = self.table
        tree = {
            "space": self.space.spec.model_dump(mode="json"),
            "target": [table.system_sha256, table.objective.value],
            "program": search_sha256(),  # another h4hc, or another scikit-learn, may find other networks
            "objectives": self.objectives,
            "limits": dict(self.limits),
            "allowed": dict(self.allowed) if self.allowed else {},
            "accuracy": self.of,
        }
        return json.dumps(tree, sort_keys=True, default=list)

    def check_reachable(self, seed: int = 0) -> None:
        """Raises InfeasibleError for each hardware limit that no genome found keeps, with the nearest value found."""
        problems = []
        for name, limit in self.limits.items():
            if name == ACCURACY:
                continue
            nearest, genome = self.nearest(name, seed)
            if nearest > limit:
                where = () if nearest >= NO_PLAN else (json.dumps(self.space.arch(genome).to_json()),)
                problems.append(
                    Problem(
                        f"no network of {self.space.spec.name!r} has {name} <= {limit:g} on {self.table.target}",
                        where,
                        "none has a plan that fits" if nearest >= NO_PLAN else f"the nearest found is {nearest:.0f}",
                        f"raise the limit of {name}, or give the space smaller networks",
                    )
                )
        if problems:
            raise InfeasibleError.of(tuple(problems))

    def nearest(self, name: str, seed: int = 0) -> tuple[float, tuple[int, ...]]:
        """The least value of a hardware metric and a genome that has it, by descent gene after gene from many starts.

        Exact where the metric falls with each gene by itself; an upper bound of the least value in any case.
        """
        choices = self.space.choices(self.allowed)
        starts = [self.space.minimum(self.allowed), self.space.maximum(self.allowed)]
        rows = np.concatenate([np.array(starts), self.space.sample(np.random.default_rng(seed), STARTS, self.allowed)])
        least = np.array([legal[0] for legal in choices], np.int64)
        rows = np.where(illegal(rows, choices), least, rows)
        values = self._metric(rows, name)
        for _ in range(MOST_ROUNDS):
            before = values.copy()
            for g, legal in enumerate(choices):
                for value in legal:
                    tried = rows.copy()
                    tried[:, g] = value
                    found = self._metric(tried, name)
                    better = found < values
                    rows[better], values[better] = tried[better], found[better]
            if (values == before).all():
                break
        best = int(values.argmin())
        return float(values[best]), tuple(self.space.canonical(rows[best : best + 1])[0].tolist())

    def _metric(self, rows: Ints, name: str) -> Floats:
        costs = self.table.estimate(rows)
        lost = costs.latency_ps == NO_PLAN
        return np.where(lost, float(NO_PLAN), costs.metric(name).astype(np.float64))


def illegal(rows: Ints, choices: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """[N, genes] where a gene has a value that is not allowed.

    In a canonical genome it has no effect there; beside other genes it would.
    """
    columns = [~np.isin(column, legal) for column, legal in zip(rows.T, choices, strict=True)]
    found: NDArray[np.bool_] = np.stack(columns, axis=1)
    return found


def metric_problems(objectives: Sequence[str], limits: Mapping[str, float]) -> list[Problem]:
    """What is wrong with the objectives and limits of a search, whatever its space and system."""
    known = (ACCURACY, *METRICS)
    problems = [
        Problem(f"there is no metric {name!r}", (f"search.{key}",), f"known: {', '.join(known)}")
        for key, names in (("objectives", dict.fromkeys(objectives)), ("limits", limits))
        for name in names
        if name not in known
    ]
    if not objectives or len(set(objectives)) < len(objectives):
        why = f"got {list(objectives)}"
        problems.append(Problem("a search needs objectives, each once", ("search.objectives",), why))
    for name, limit in limits.items():
        where = (f"search.limits.{name}",)
        if not np.isfinite(limit) or limit < 0:
            problems.append(Problem(f"the limit of {name} must be a number of 0 or more", where, f"it is {limit}"))
        elif name == ACCURACY and limit > 1:
            hint = f"{limit / 100:g} for {limit:g} %" if limit <= 100 else ""
            problems.append(Problem("the limit of accuracy is a share, 1 at most", where, f"it is {limit:g}", hint))
    return problems


def measured_problems(objectives: Sequence[str], limits: Mapping[str, float]) -> list[Problem]:
    """What is wrong, beside metric_problems, with the objectives and limits of a search that measures accuracy."""
    if ACCURACY in (*objectives, *limits):
        return []
    what, hint = "the search measures accuracy, and nothing asks for it", "add it to search.objectives or search.limits"
    return [Problem(what, why=f"objectives: {', '.join(objectives)}", hint=hint)]


def has_plan(metrics: Metrics) -> NDArray[np.bool_]:
    """Which genomes have a plan that fits."""
    found: NDArray[np.bool_] = metrics["latency_ps"] < float(NO_PLAN)
    return found


def nothing_feasible(problem: SearchProblem, metrics: Metrics, genomes: Ints) -> InfeasibleError:
    """The error for a search that found no network within the limits: how near it came."""
    broken = problem.violations(metrics)
    nearest = int(np.maximum(broken, 0).sum(axis=1).argmin())
    shown = {name: metrics[name][nearest] for name in problem.limits}
    limits: Sequence[str] = [
        f"{name} {'>=' if name == ACCURACY else '<='} {limit:g}" for name, limit in problem.limits.items()
    ]
    return InfeasibleError(
        f"none of {len(genomes)} networks keeps all limits: {', '.join(limits)}",
        (json.dumps(problem.space.arch(genomes[nearest]).to_json()),),
        "the nearest has " + ", ".join(f"{name} {value:g}" for name, value in shown.items()),
        "loosen a limit, or search longer",
    )
