"""summary: the document -> what a terminal shows: at most MOST_LINES lines."""

from __future__ import annotations

import textwrap

from h4hc.study.markdown import AGAINST, TITLES, both, claims_text, pct, where
from h4hc.study.select import Row, Tree, best, grid, groups, headline, losses, of, reach, saved
from h4hc.text import table
from h4hc.units import format_energy, format_time

MOST_LINES = 40
HEAD = ("model", "weights", "npu-only", "npu-only", "for latency", "no border", "for energy", "no border")


def summary(tree: Tree, width: int) -> list[str]:
    """The default system by model and home of the weights, the best of the grid, and where it does not pay."""
    macros, cus = tree["design"]["headline"]["macros"], tree["design"]["headline"]["cus"]
    intro = (
        f"NPU + CIM of {macros} macros x {cus} CUs against NPU-only; the paper saves {claims_text(tree)}. Latency / "
        "energy saved [%] by the plan for latency and for energy; no border: without quantising the input."
    )
    above = [*textwrap.wrap(intro, width), ""]
    below = ["", *_most(tree, width), ""]
    for measure in ("latency", "energy"):
        lost = ", ".join(f"{len(losses(tree, measure, a))} against {title}" for a, title in AGAINST.items())
        below += textwrap.wrap(f"of {len(grid(tree))} plans cost more {measure}: {lost}", width)
    return [*above, *_table(tree, width, MOST_LINES - len(above) - len(below)), *below]


def _most(tree: Tree, width: int) -> list[str]:
    """The greatest savings of the grid, and how many plans reach the paper's two figures at once."""
    cells = []
    for against, title in AGAINST.items():
        for inside, name in ((False, "with"), (True, "without")):
            cells.append([title, name])
            for measure in ("latency", "energy"):
                top = best(grid(tree), measure, against, inside=inside)
                cells[-1] += [pct(saved(top, measure, against, inside=inside)), where(top)]
            cells[-1].append(str(len(reach(tree, against, inside=inside))))
    return table(("most against", "border", "latency", "by", "energy", "by", "reach both"), cells, width, shrink=5)


def _table(tree: Tree, width: int, most: int) -> list[str]:
    """At most so many lines."""
    cells = [_line(rows) for rows in groups(headline(tree), "model", "residency").values()]
    shown = len(cells) if len(cells) < most else most - 2
    more = [f"and {len(cells) - shown} more in study.md"] if shown < len(cells) else []
    return [*table(HEAD, cells[:shown], width, drop=(7, 5, 3, 2)), *more]


def _line(rows: list[Row]) -> tuple[str, ...]:
    """One model and home of the weights."""
    npu = rows[0]["npu_only"]
    cells = [rows[0]["model"], TITLES[rows[0]["residency"]]]
    cells += [format_time(npu["latency_ps"]["nominal"]), format_energy(npu["energy_pj"]["nominal"])]
    for objective in ("latency", "energy"):
        found = of(rows, objective=objective)
        cells += [both(found[0]), both(found[0], inside=True)] if found else ["-", "-"]
    return tuple(cells)
