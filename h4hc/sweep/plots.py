"""plots: a finished sweep -> PNG and SVG pictures, the same bytes for the same sweep.

All values are nominal; their bounds are in sweep.csv. Needs matplotlib (extra `plot`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from h4hc.sweep.canvas import canvas, files, style
from h4hc.sweep.derive import NPU_ONLY, Measure, balance, pareto
from h4hc.sweep.grid import Axis, coordinates
from h4hc.sweep.row import PlanFigures, Row
from h4hc.sweep.table import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PS_PER_MS, PJ_PER_UJ = 1e9, 1e6
FIRST_AXES = (".macros", ".cus")  # keys that end so are the abscissa and the series, where they vary
MAX_PANELS = 8  # combinations of the other keys drawn, a row of panels each
MAX_NAMED = 10  # points of a front that are named


def render(sweep: Sweep) -> dict[str, bytes]:
    """All pictures by file name, for each model that has a plan. Raises MissingToolError without matplotlib.

    `<model>-grid`: latency and energy over the first key, a line for each value of the second; `-area`: area against
    latency; `-pareto`: the front of latency, energy and area; `-break-even`: operators' gain over npu-only against
    what switches and moves add, where the system has an npu.
    """
    pictures: dict[str, bytes] = {}
    with style():
        for model, label in sweep.labels().items():
            rows = [row for row in sweep.of_model(model) if row.feasible]
            for name, figure in _figures(rows, sweep.axes):
                figure.suptitle(f"{label} on {rows[0].point.target}")
                pictures |= files(f"{label}-{name}", figure)
    return pictures


def _figures(rows: Sequence[Row], axes: Sequence[Axis]) -> Iterator[tuple[str, Figure]]:
    if not rows:
        return
    if axes:
        yield "grid", _grid(rows, axes)
    yield "area", _area(rows)
    yield "pareto", _pareto(rows, axes)
    if rows[0].baseline(NPU_ONLY) is not None:
        yield "break-even", _break_even(rows)


def latency_ms(plan: PlanFigures) -> float:
    """Nominal latency [ms]."""
    return plan.latency_ps.nominal / PS_PER_MS


def energy_uj(plan: PlanFigures) -> float:
    """Nominal energy [uJ]."""
    return plan.energy_pj.nominal / PJ_PER_UJ


Figures = Callable[[PlanFigures], float]
PANELS: tuple[tuple[str, Figures], ...] = (("latency [ms]", latency_ms), ("energy [uJ]", energy_uj))


# --- latency and energy over the axes ----------------------------------------------------------------------


def _roles(axes: Sequence[Axis]) -> tuple[Axis, Axis | None, list[Axis]]:
    """(abscissa, series, the others): macros and compute units first, then as given."""
    order = sorted(axes, key=lambda axis: next((i for i, end in enumerate(FIRST_AXES) if axis.key.endswith(end)), 9))
    return order[0], order[1] if len(order) > 1 else None, order[2:]


def _grid(rows: Sequence[Row], axes: Sequence[Axis]) -> Figure:
    over, series, others = _roles(axes)
    combinations = list(itertools.product(*(axis.values for axis in others)))
    figure, panels = canvas(min(len(combinations), MAX_PANELS), len(PANELS))
    at = {tuple(coordinates(row.point, axes).items()): row for row in rows}
    for pair, values in zip(panels, combinations, strict=False):
        rest = dict(zip((axis.key for axis in others), values, strict=True))
        fixed = [{**rest, series.key: one} for one in series.values] if series else [rest]
        lines = [[at.get(tuple((a.key, {**f, over.key: v}[a.key]) for a in axes)) for v in over.values] for f in fixed]
        labels = [f"{series.key} = {one}" for one in series.values] if series else ["plan"]
        for panel, (name, value) in zip(pair, PANELS, strict=True):
            _lines(panel, lines, labels, value)
            panel.set_xticks(range(len(over.values)), over.values)
            panel.set(xlabel=over.key, ylabel=name, title=", ".join(f"{k} = {v}" for k, v in rest.items()))
    if len(combinations) > MAX_PANELS:
        figure.supxlabel(f"first {MAX_PANELS} of {len(combinations)} combinations of the other keys")
    return figure


def _lines(panel: Axes, lines: Sequence[Sequence[Row | None]], labels: Sequence[str], value: Figures) -> None:
    """A line a series, with a gap where there is no plan, and the npu-only plans in grey."""
    colors = _colors(len(lines))
    for label, line, color in zip(labels, lines, colors, strict=True):
        values = [_nominal(row.plan if row else None, value) for row in line]
        panel.plot(range(len(values)), values, marker="o", markersize=4, label=label, color=color)
    _references(panel, [[_nominal(row.baseline(NPU_ONLY) if row else None, value) for row in line] for line in lines])
    panel.legend(frameon=False)


def _references(panel: Axes, lines: Sequence[Sequence[float]]) -> None:
    """The npu-only plans: one grey line where all series share it, else one in the colour of each."""
    one = all(np.array_equal(line, lines[0], equal_nan=True) for line in lines)
    shared = [("0.45", lines[0])] if one else list(zip(_colors(len(lines)), lines, strict=True))
    for at, (color, line) in enumerate(shared):
        if not np.isnan(line).all():
            label = "_again" if at else NPU_ONLY  # a leading underscore keeps it out of the legend
            panel.plot(range(len(line)), line, "--", color=color, label=label, gid=NPU_ONLY)


def _colors(count: int) -> list[Any]:
    """Distinct colours in an order that the eye follows."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.85 * i / max(1, count - 1)) for i in range(count)]


def _nominal(plan: PlanFigures | None, value: Figures) -> float:
    return float("nan") if plan is None else value(plan)


# --- area, front, break-even -------------------------------------------------------------------------------


def _plans(rows: Sequence[Row]) -> list[PlanFigures]:
    return [row.plan for row in rows if row.plan is not None]


def _area(rows: Sequence[Row]) -> Figure:
    figure, [[panel]] = canvas(1, 1)
    areas = [row.area_mm2[1] for row in rows]
    bounds = [[row.area_mm2[1] - row.area_mm2[0] for row in rows], [row.area_mm2[2] - row.area_mm2[1] for row in rows]]
    times = [latency_ms(plan) for plan in _plans(rows)]
    panel.errorbar(areas, times, xerr=bounds, fmt="o", markersize=5, ecolor="0.8", elinewidth=1, label="plan")
    envelope = _envelope(list(zip(areas, times, strict=True)))
    panel.step(*zip(*envelope, strict=True), where="post", color="C1", label="least latency for the area")
    panel.set(xlabel="silicon area [mm2], with its bounds", ylabel="latency [ms]")
    panel.legend(frameon=False)
    return figure


def _envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both, by the first coordinate."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _pareto(rows: Sequence[Row], axes: Sequence[Axis]) -> Figure:
    figure, [[panel]] = canvas(1, 1)
    plans = _plans(rows)
    times, energies = [latency_ms(p) for p in plans], [energy_uj(p) for p in plans]
    dots = panel.scatter(times, energies, c=[row.area_mm2[1] for row in rows], cmap="viridis", s=28, zorder=3)
    figure.colorbar(dots, ax=panel, label="silicon area [mm2]")
    front = [i for i, on in enumerate(pareto(rows)) if on]
    ringed = [times[i] for i in front], [energies[i] for i in front]
    panel.scatter(*ringed, s=90, facecolors="none", edgecolors="C3", label="on the front of latency, energy, area")
    for i in front[:MAX_NAMED]:
        name = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in coordinates(rows[i].point, axes).items())
        panel.annotate(name, (times[i], energies[i]), xytext=(6, 6), textcoords="offset points", fontsize=7)
    panel.set(xlabel="latency [ms]", ylabel="energy [uJ]")
    panel.margins(0.15)
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def _break_even(rows: Sequence[Row]) -> Figure:
    figure, [panels] = canvas(1, 2)
    measures: tuple[tuple[Measure, str, float], ...] = (("latency", "ms", PS_PER_MS), ("energy", "uJ", PJ_PER_UJ))
    for panel, (measure, unit, scale) in zip(panels, measures, strict=True):
        for name, plans, marker in (
            ("plan", [row.plan for row in rows], "o"),
            ("greedy, blind to the overhead", [row.baseline("greedy") for row in rows], "x"),
        ):
            found = [b for row, plan in zip(rows, plans, strict=True) if (b := balance(row, plan, measure))]
            if found:
                extra, saved = [b.overhead / scale for b in found], [b.saved / scale for b in found]
                panel.scatter(extra, saved, s=28, label=name, zorder=3, marker=marker)
        panel.axline((0, 0), slope=1, color="0.45", linestyle="--", label="break-even: equals npu-only")
        panel.set(xlabel=f"switches and moves add [{unit}]", ylabel=f"operators save [{unit}]", title=measure)
        panel.margins(0.1)
        panel.legend(frameon=False)
    return figure
