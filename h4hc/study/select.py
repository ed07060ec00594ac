"""select: what a reader looks for first in the rows of the document. All savings are nominal [%]."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
Tree = dict[str, Any]


def grid(tree: Tree) -> list[Row]:
    """Rows of the grid that have a plan: those from which nothing was taken away."""
    return [row for row in tree["rows"] if row["ablation"] == "full" and row["plan"] is not None]


def saved(row: Row, measure: str, against: str = "npu_only", *, inside: bool = False) -> float:
    """A nominal saving [%]; inside: without the model's border."""
    return float(row["saved"][measure][against]["inside_pct" if inside else "nominal_pct"])


def of(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Rows with these values, in order."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def headline(tree: Tree, **wanted: Any) -> list[Row]:
    """The grid's rows of the headline system."""
    return of(grid(tree), **tree["design"]["headline"], **wanted)


def best(rows: Iterable[Row], measure: str, against: str = "npu_only", *, inside: bool = False) -> Row:
    """The row that saves most; of equal ones the smallest CIM. ValueError for no rows."""
    return max(rows, key=lambda row: (saved(row, measure, against, inside=inside), -row["macros"], -row["cus"]))


def reach(tree: Tree, against: str, *, inside: bool = False) -> list[Row]:
    """The grid's rows whose one plan saves as much as the paper's two figures, both at once."""
    claims = {claim["measure"]: claim["saved_pct"] for claim in tree["paper"]["claims"]}
    return [r for r in grid(tree) if all(saved(r, m, against, inside=inside) >= claims[m] for m in claims)]


def losses(tree: Tree, measure: str, against: str) -> list[Row]:
    """The grid's rows whose plan costs more than the baseline, worst first."""
    return sorted((r for r in grid(tree) if saved(r, measure, against) < 0), key=lambda r: saved(r, measure, against))


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some keys, in order."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    key: Callable[[Row], tuple[Any, ...]] = lambda row: tuple(row[k] for k in keys)  # noqa: E731
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
