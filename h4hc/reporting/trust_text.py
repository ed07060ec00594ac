"""Sentences about robustness and stability, for all views. Reads the report's JSON and nothing else."""

from __future__ import annotations

import math
from typing import Any

from h4hc.text import plural, shorten
from h4hc.units import format_energy, format_time

Json = dict[str, Any]


def value_text(value: int, objective: str) -> str:
    """An objective's value with its unit."""
    if objective == "latency":
        return format_time(value)
    return format_energy(value) if objective == "energy" else f"{value:.4g} ps x pJ"


def robust_line(report: Json) -> str:
    """What the robust plan costs beside the nominal optimum, in both cases; empty for a plan that is not robust."""
    if not report["robustness"]:
        return ""
    this, other = report["robustness"]
    objective = report["solver"]["objective"]
    worst, theirs = (value_text(row["worst_value"], objective) for row in (this, other))
    dearer, price = _excess(other, this, "worst_value"), _excess(this, other, "nominal_value")
    return f"worst {objective} {worst}, of the nominal optimum {theirs} ({dearer}); price: {price} nominal"


def _excess(one: Json, other: Json, key: str) -> str:
    if not other[key]:
        return "-"
    return f"{100 * (one[key] - other[key]) / other[key]:+.2g} %"


def range_text(radius: Json, largest: int) -> str:
    """`x 0.43 to x 1.8`: the factors that leave the plan best, and what is not known of them."""
    low, high = radius["low"], radius["high"]
    return f"{_end_text(low, 'x 0')} to {_end_text(high, f'x {largest} or more')}"


def _end_text(end: Json, whole_range: str) -> str:
    if end["factor"] is None:
        return whole_range if end["proof"] == "proved" else "unknown (time limit)"
    near = "" if end["proof"] == "proved" else ", perhaps nearer to 1 (time limit)"
    return f"x {end['factor']:.4g}{near}"


def flip_text(end: Json, width: int) -> str:
    """The operators that change in the plan that takes over: the first by name, the others by number."""
    first = end["flips"][0]
    more = f" and {plural(len(end['flips']) - 1, 'other')}" if len(end["flips"]) > 1 else ""
    return f"{shorten(first['op'], width)} {first['before']} -> {first['after']}{more}"


def wins_text(row: Json) -> str:
    """`npu-only wins above x 1.7`, `greedy never wins`."""
    if row["factor"] is None:
        return f"{row['baseline']} {row['wins']} wins"
    return f"{row['baseline']} wins {row['wins']} x {row['factor']:.4g}"


def stability_lines(report: Json, most: int) -> list[str]:
    """A line for each device and quantity, then one for each device's break-evens in the objective; at most `most`."""
    section = report["stability"]
    if not section["break_evens"] and not section["radii"]:
        return []
    lines = [
        f"{r['device']} {r['quantity']} {range_text(r, section['largest_factor'])}{_first(r)}" for r in section["radii"]
    ]
    if not section["radii"]:
        lines.append("no radius: the plan is not proved optimal")
    wins: dict[str, list[Json]] = {}
    for b in section["break_evens"]:
        if b["objective"] == report["solver"]["objective"] and b["wins"] in ("above", "below"):
            wins.setdefault(f"{b['device']} {b['quantity']}", []).append(b)
    for what, rows in wins.items():
        rows.sort(key=lambda b: (_distance(b["factor"]), b["baseline"]))
        lines.append(f"{what}: {', '.join(wins_text(b) for b in rows)}")
    return lines[:most]


def _first(radius: Json) -> str:
    """What flips at the end that is nearer to 1."""
    ends = [radius[side] for side in ("low", "high") if radius[side]["flips"]]
    return f"; first {flip_text(min(ends, key=lambda end: _distance(end['factor'])), 28)}" if ends else ""


def _distance(factor: float) -> float:
    """How far a factor is off, halving as far as doubling."""
    return abs(math.log(factor)) if factor else math.inf
