"""canvas: what every picture is drawn on: one style, and files that are the same bytes for the same figure.

Needs matplotlib (extra `plot`).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from h4hc.errors import MissingToolError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_IN = (5.0, 3.4)  # inches
STYLE: dict[str, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.fontsize": 8,
    "axes.titlesize": 8,
    "savefig.dpi": 144,
    "svg.hashsalt": "h4hc",  # ids in the SVG are hashes of this, not random
    "text.parse_math": False,  # names are names
}
METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "png": {"Software": None}}


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def need_matplotlib() -> None:
    """Raises MissingToolError where it is not."""
    if not can_plot():
        hint = "pip install 'h4hc[plot]', or leave --plots out: the CSV has all figures"
        raise MissingToolError("matplotlib is not installed", hint=hint)


def pictures(
    draw: Callable[[], dict[str, bytes]], wanted: bool | None, say: Callable[[str], None]
) -> dict[str, bytes] | None:
    """What `draw` draws; None where no pictures are `wanted`, or nobody said so (None) and none can be drawn.

    None is not the same as no pictures: those of an earlier run stay as they are.
    """
    if wanted is False:
        return None
    if wanted is None and not can_plot():
        say("no plots: matplotlib is not installed; pip install 'h4hc[plot]', then run this again")
        return None
    return draw()


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says. Raises MissingToolError."""
    need_matplotlib()
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def canvas(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure with panels in rows and columns."""
    from matplotlib.figure import Figure

    size = PANEL_IN[0] * columns, PANEL_IN[1] * rows + 0.3
    figure = Figure(figsize=size, layout="constrained")
    return figure, [list(line) for line in figure.subplots(rows, columns, squeeze=False)]


def files(name: str, figure: Figure) -> dict[str, bytes]:
    """The figure as PNG and SVG, by file name."""
    found = {}
    for kind, metadata in METADATA.items():
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata=metadata)
        found[f"{name}.{kind}"] = out.getvalue()
    return found
