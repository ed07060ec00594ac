"""plots: the document -> PNG and SVG pictures, the same bytes for the same document. All values are nominal.

Needs matplotlib (extra `plot`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h4hc.study.markdown import TITLES
from h4hc.study.select import Row, Tree, grid, of, saved
from h4hc.sweep.canvas import canvas, files, style
from h4hc.sweep.evaluate import INT8_SUFFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = tuple[str, list[Row]]  # label, rows by macros
MEASURES = ("latency", "energy")


def render(tree: Tree) -> dict[str, bytes]:
    """Pictures by file name: one a model with a line for each number of CUs, and `overview` with a line a model.

    Rows of panels: latency saved by the plans that minimise latency, energy saved by those that minimise energy;
    columns: where the NPU's weights lie; abscissa: macros; dashed: the paper's figure. Raises MissingToolError.
    """
    pictures: dict[str, bytes] = {}
    rows, cus = grid(tree), tree["design"]["cus"]
    with style():
        for model in tree["design"]["models"]:
            of_cus = [(f"{n} CU{'s' if n > 1 else ''}", of(rows, model=model, cus=n)) for n in cus]
            pictures |= files(model, _figure(tree, model, of_cus))
        of_model = [(model, of(rows, model=model, cus=cus[-1])) for model in tree["design"]["models"]]
        pictures |= files("overview", _figure(tree, f"{cus[-1]} CUs a macro", of_model))
    return pictures


def _figure(tree: Tree, title: str, lines: Sequence[Line]) -> Figure:
    residencies = [residency["name"] for residency in tree["design"]["residencies"]]
    figure, panels = canvas(len(MEASURES), len(residencies))
    for row, claim in zip(panels, tree["paper"]["claims"], strict=True):
        for panel, residency in zip(row, residencies, strict=True):
            _panel(panel, tree, claim["measure"], residency, lines)
            _paper(panel, claim)
        low, high = min(panel.get_ylim()[0] for panel in row), max(panel.get_ylim()[1] for panel in row)
        for panel in row:
            panel.set_ylim(low, high)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.suptitle(f"{title}: saved by NPU + CIM against NPU-only")
    return figure


def _paper(panel: Axes, claim: dict[str, Any]) -> None:
    """The paper's figure as a dashed line, and zero as a thin one."""
    panel.axhline(0, color="0.6", linewidth=0.8)
    panel.axhline(claim["saved_pct"], linestyle="--", color="0.3", linewidth=1)
    text, at = f"the paper: up to {claim['saved_pct']} %", (0.02, claim["saved_pct"])
    where = panel.get_yaxis_transform()  # x as a part of the panel, y as data
    panel.annotate(text, at, (0, 3), xycoords=where, textcoords="offset points", fontsize=7, color="0.3")


def _panel(panel: Axes, tree: Tree, measure: str, residency: str, lines: Sequence[Line]) -> None:
    """A line for each label; a model and its quantised form share a colour."""
    sizes = tree["design"]["macros"]
    names = dict.fromkeys(label.removesuffix(INT8_SUFFIX) for label, _ in lines)
    colors = {name: f"C{index}" for index, name in enumerate(names)}
    for label, rows in lines:
        found = {row["macros"]: saved(row, measure) for row in of(rows, residency=residency, objective=measure)}
        values = [found.get(macros, float("nan")) for macros in sizes]
        quantised = label.endswith(INT8_SUFFIX)
        base = label.removesuffix(INT8_SUFFIX)
        line, marker = (":", "s") if quantised else ("-", "o")
        look: dict[str, Any] = {"linestyle": line, "marker": marker, "color": colors[base]}
        panel.plot(range(len(sizes)), values, markersize=4, label=label, **look)
    panel.set_xticks(range(len(sizes)), [str(macros) for macros in sizes])
    panel.set(xlabel="macros", ylabel=f"{measure} saved [%]", title=f"NPU weights in {TITLES[residency]}")
