"""The report's sections on robustness and stability, in Markdown. Reads the report's JSON and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from h4hc.reporting.trust_text import range_text, robust_line, value_text, wins_text
from h4hc.text import code_span, markdown

Json = dict[str, Any]
FLIPS = 20  # rows for one end; report.json has them all


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render_trust(report: Json) -> str:
    """Both sections, or nothing for a report that was made without --robust and --stability."""
    return "\n\n".join(section for section in (_robustness(report), _stability(report)) if section)


def _robustness(report: Json) -> str:
    if not report["robustness"]:
        return ""
    objective = report["solver"]["objective"]
    rows = [
        (
            row["plan"],
            value_text(row["nominal_value"], objective),
            value_text(row["worst_value"], objective),
            str(row["ops_elsewhere"]),
            markdown(row["status"]),
        )
        for row in report["robustness"]
    ]
    head = ("plan", f"nominal {objective}", f"worst {objective}", "operators in another mode", "proof, in its own case")
    said = "The worst case has every cost at its high bound, and what hides at its low one."
    return f"## Robustness\n\n{said} Here: {markdown(robust_line(report))}.\n\n{markdown_table(head, rows)}"


def _stability(report: Json) -> str:
    section = report["stability"]
    if not section["radii"] and not section["break_evens"]:
        return ""
    said = (
        "A factor multiplies all operator costs of one device, all else as modelled. Within the range the plan stays "
        "the best; beyond an end the operators listed run elsewhere."
    )
    parts = ["## Stability", said]
    if section["radii"]:
        rows = [
            (code_span(r["device"]), r["quantity"], markdown(range_text(r, section["largest_factor"])))
            for r in section["radii"]
        ]
        parts.append(markdown_table(("device", "factor on", "plan is best"), rows))
    else:
        parts.append("The plan is not proved optimal, so it has no range.")
    flips = [row for r in section["radii"] for row in _flip_rows(r)]
    if flips:
        parts.append(markdown_table(("beyond", "operator", "from", "to"), flips))
    wins = [
        (code_span(b["device"]), b["quantity"], markdown(wins_text(b)), b["objective"]) for b in section["break_evens"]
    ]
    parts.append("By what factor a device's model must be off before a simpler plan beats this one:")
    parts.append(markdown_table(("device", "factor on", "simpler plan", "compared in"), wins))
    return "\n\n".join(parts)


def _flip_rows(radius: Json) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for side in ("low", "high"):
        end = radius[side]
        where = f"{code_span(radius['device'])} {radius['quantity']}"
        for flip in end["flips"][:FLIPS]:
            factor = f"{where} x {end['factor']:.4g}"
            rows.append((factor, code_span(flip["op"]), code_span(flip["before"]), code_span(flip["after"])))
        if len(end["flips"]) > FLIPS:
            rows.append((where, f"and {len(end['flips']) - FLIPS} more", "", ""))
    return rows
