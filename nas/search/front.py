"""The Pareto front of a search: which networks, its hypervolume, and its table and picture in files.

The same evaluations give the same bytes.
"""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h4hc.api import write_whole
from h4hc.errors import MissingToolError, UserError
from nas.search.problem import ACCURACY, LOST, Metrics, SearchProblem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MARGIN = 1.05  # of a reference point, beyond the worst value of each objective
UNITS = {
    ACCURACY: (100.0, "accuracy [%]"),
    "latency_ps": (1e-9, "latency [ms]"),
    "energy_pj": (1e-6, "energy [uJ]"),
    "cim_bytes": (1 / 1024, "weights in the CIM [KiB]"),
    "sram_bytes": (1 / 1024, "SRAM [KiB]"),
    "weight_bytes": (1 / 1024, "weights [KiB]"),
}
STYLE: dict[str, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
    "savefig.dpi": 144,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Front:
    """Networks that none of the evaluated ones beats in every objective, by rising first hardware objective."""

    problem: SearchProblem
    genomes: Ints
    metrics: Metrics

    @property
    def values(self) -> Floats:
        """[N, objectives], minimised."""
        return self.problem.objective_values(self.metrics)

    def __len__(self) -> int:
        return len(self.genomes)


def front_of(problem: SearchProblem, genomes: Ints, metrics: Metrics) -> Front:
    """The feasible genomes that are not dominated; of equal ones the first."""
    values = problem.objective_values(metrics)
    candidates = np.flatnonzero(problem.feasible(metrics) & (values < LOST).all(axis=1))
    kept = candidates[non_dominated(values[candidates])]
    hardware = [i for i, name in enumerate(problem.objectives) if name != ACCURACY] or [0]
    order = kept[np.lexsort([*values[kept].T[::-1], values[kept, hardware[0]]])]
    return Front(problem, genomes[order], Metrics({n: c[order] for n, c in metrics.columns.items()}))


def non_dominated(values: Floats) -> NDArray[np.bool_]:
    """[N] whether no other row of values [N, objectives] is as small in all and smaller in one; of equal rows one."""
    import moocore

    if not len(values):
        return np.zeros(0, bool)
    found: NDArray[np.bool_] = moocore.is_nondominated(values, keep_weakly=False)
    return found


def reference(values: Sequence[Floats]) -> Floats:
    """A point that everything dominates: a little beyond the worst of each objective in all the sets."""
    every = np.concatenate(list(values))
    low, high = every.min(axis=0), every.max(axis=0)
    point: Floats = low + (high - low) * MARGIN + 1e-12
    return point


def hypervolume(values: Floats, ref: Floats, ideal: Floats) -> float:
    """Share of the box between `ideal` and `ref` that some row of values [N, objectives] dominates, in 0..1.

    Exact (Fonseca, Paquete, Lopez-Ibanez 2006), each objective scaled to the box, so that units do not matter.
    """
    import moocore

    inside = values[(values < ref).all(axis=1)]
    if not len(inside):
        return 0.0
    scaled = (np.maximum(inside, ideal) - ideal) / (ref - ideal)
    return float(moocore.hypervolume(scaled, ref=np.ones(scaled.shape[1])))


def compare(sets: Sequence[Floats]) -> list[float]:
    """Hypervolumes of several sets in the one box that holds them all."""
    ref = reference(sets)
    ideal = np.concatenate(list(sets)).min(axis=0)
    return [hypervolume(values, ref, ideal) for values in sets]


# --- files -------------------------------------------------------------------------------------------------


def front_csv(front: Front, extra: Mapping[str, Sequence[object]] | None = None) -> bytes:
    """A line a network: number, metrics, genes by name; extra: further columns by head."""
    space, columns = front.problem.space, dict(extra or {})
    names = [name for name in UNITS if name in front.metrics.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", *names, *columns, *(gene.name for gene in space.genes)])
    for i, genome in enumerate(front.genomes.tolist()):
        shown = [front.metrics[n][i] if n == ACCURACY else int(front.metrics[n][i]) for n in names]
        genes = [gene.values[index] for gene, index in zip(space.genes, genome, strict=True)]
        writer.writerow([i, *shown, *(column[i] for column in columns.values()), *genes])
    return out.getvalue().encode()


def front_png(front: Front, genomes_metrics: Metrics | None = None) -> bytes:
    """Each hardware objective against the first one (accuracy where it is one); grey: all that was evaluated.

    Raises MissingToolError without matplotlib, UserError for a search with one objective.
    """
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "pip install 'h4hc[plot]'; the CSV has all figures"
        raise MissingToolError("matplotlib is not installed", hint=hint) from error
    names = sorted(front.problem.objectives, key=lambda name: name != ACCURACY)
    if len(names) < 2:
        raise UserError("a front of one objective is a single network: there is nothing to draw")
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(4.6 * (len(names) - 1), 3.6), layout="constrained")
        panels = figure.subplots(1, len(names) - 1, squeeze=False)[0]
        for panel, name in zip(panels, names[1:], strict=True):
            if genomes_metrics is not None:
                _scatter(panel, genomes_metrics, name, names[0], s=3, color="0.8", label="evaluated")
            _scatter(panel, front.metrics, name, names[0], s=14, color="tab:red", label="front")
            panel.set(xlabel=UNITS[name][1], ylabel=UNITS[names[0]][1])
            panel.legend(frameon=False)
        figure.suptitle(f"{front.problem.space.spec.name} on {front.problem.table.target}")
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _scatter(panel: Axes, metrics: Metrics, x: str, y: str, **style: Any) -> None:
    here = metrics["latency_ps"] < LOST
    here &= metrics["latency_ps"] < 2.0**62
    panel.scatter(metrics[x][here] * UNITS[x][0], metrics[y][here] * UNITS[y][0], **style)


def front_html(front: Front, picture: bytes | None, extra: Mapping[str, Sequence[object]] | None = None) -> bytes:
    """One page that needs nothing else: the picture and a table of the front."""
    names = [name for name in UNITS if name in front.metrics.columns]
    columns = dict(extra or {})
    head = "".join(
        f"<th>{html.escape(text)}</th>" for text in ["network", *(UNITS[n][1] for n in names), *columns, "architecture"]
    )
    rows = []
    for i, genome in enumerate(front.genomes):
        shown = [f"{front.metrics[n][i] * UNITS[n][0]:.4g}" for n in names]
        cells = [str(i), *shown, *(str(column[i]) for column in columns.values())]
        arch = _short(front.problem, genome)
        rows.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in [*cells, arch]) + "</tr>")
    title = html.escape(f"Pareto front of {front.problem.space.spec.name} on {front.problem.table.target}")
    image = f'<img alt="front" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    style = "body{font:14px sans-serif}td,th{padding:2px 8px;text-align:right}td:last-child{text-align:left}"
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1>{image}<table><tr>{head}</tr>\n" + "\n".join(rows) + "\n</table></html>\n"
    )
    return page.encode()


def _short(problem: SearchProblem, genome: Ints) -> str:
    """`resolution 24 | s2 mbconv w24 c2 k3 e2 a1 m2`: stage by stage."""
    arch = problem.space.arch(genome)
    parts = [f"resolution {arch.resolution}"]
    for spec, stage in zip(problem.space.spec.stages, arch.stages, strict=True):
        text = f"{spec.name} {stage.block} w{stage.width} c{stage.conv_depth} k{stage.kernel} e{stage.expand:g}"
        parts.append(text + (f" a{stage.attention_depth} m{stage.mlp_ratio:g}" if stage.attention_depth else ""))
    return " | ".join(parts)


def write_front(
    front: Front, folder: Path, evaluated: Metrics | None = None, extra: Mapping[str, Sequence[object]] | None = None
) -> tuple[Path, ...]:
    """front.csv, pareto.html and, where matplotlib is there and two objectives are, pareto.png; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"front.csv": front_csv(front, extra)}
    picture = None
    if len(front.problem.objectives) > 1 and can_plot():
        picture = files["pareto.png"] = front_png(front, evaluated)
    files["pareto.html"] = front_html(front, picture, extra)
    for name, data in files.items():
        write_whole(folder / name, data)
    return tuple(folder / name for name in files)


def can_plot() -> bool:
    """Whether matplotlib is there."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None
