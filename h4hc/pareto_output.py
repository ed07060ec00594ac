"""A front as JSON, CSV, a table for the terminal, and pictures (which need matplotlib, extra `plot`)."""

from __future__ import annotations

import json
from typing import Any

from h4hc.assignment import Assignment
from h4hc.goals import Goal
from h4hc.pareto import Front, FrontPoint
from h4hc.text import csv_text, table

UNIT = {Goal.LATENCY: "ps", Goal.ENERGY: "pj", Goal.SRAM: "bytes"}
PICTURE_UNIT = {Goal.LATENCY: ("ms", 1e9), Goal.ENERGY: ("uJ", 1e6), Goal.SRAM: ("KiB", 1024.0)}
STOPPED = {
    "": "every point of the front is there",
    "points": "not all points were looked for: raise --pareto-points for more",
    "time": "the time ended before all points were found: raise --time-limit",
}


def front_json(front: Front, chosen: Assignment) -> dict[str, Any]:
    """The front with its plans. chosen: the plan of --objective; on_front says which point has its modes."""
    return {
        "goals": [str(goal) for goal in front.goals],
        "case": str(chosen.case),
        "budget": [{"goal": str(goal), "limit": limit} for goal, limit in front.budget.limits],
        "complete": front.complete,
        "stopped": front.stopped,
        "chosen": {
            "latency_ps": chosen.latency_ps,
            "energy_pj": chosen.energy_pj,
            "on_front": next((n for n, p in enumerate(front.points) if p.assignment.mode == chosen.mode), None),
        },
        "points": [_point(front, point) for point in front.points],
    }


def _point(front: Front, point: FrontPoint) -> dict[str, Any]:
    plan = point.assignment
    return {
        "values": {f"{g}_{UNIT[g]}": value for g, value in zip(front.goals, point.values, strict=True)},
        "latency_ps": plan.latency_ps,
        "energy_pj": plan.energy_pj,
        "stages": [
            {"goal": str(s.goal), "value": s.value, "bound": s.bound, "gap": s.gap, "status": str(s.status)}
            for s in plan.stages
        ],
        "placements": [{"op": p.op, "mode": p.mode.name, "units": list(p.units)} for p in plan.placements],
    }


def front_csv(front: Front) -> bytes:
    """A line a point: values in the case planned for, bounds and gaps of both goals in the order they were pursued."""
    heads = [f"{goal}_{UNIT[goal]}" for goal in front.goals]
    head = ["point", *heads, "nominal_latency_ps", "nominal_energy_pj", "first_goal", "first_bound", "first_gap"]
    rows = []
    for number, point in enumerate(front.points):
        plan, stages = point.assignment, point.assignment.stages
        proofs = [cell for s in stages for cell in (str(s.goal), s.bound, s.gap)] or [""] * 6
        rows.append([number, *point.values, plan.latency_ps, plan.energy_pj, *proofs, plan.status.value])
    return csv_text([*head, "then_goal", "then_bound", "then_gap", "status"], rows).encode()


def front_bytes(front: Front, chosen: Assignment) -> bytes:
    """`front_json` as a file."""
    return json.dumps(front_json(front, chosen), indent=1, sort_keys=True).encode("ascii") + b"\n"


def front_text(front: Front, width: int) -> str:
    """The points for the terminal."""
    head = ("point", *(str(goal) for goal in front.goals), "proof")
    rows = [
        (str(n), *(g.text(v) for g, v in zip(front.goals, p.values, strict=True)), p.assignment.status.value)
        for n, p in enumerate(front.points)
    ]
    name = (
        f"Pareto front of {front.goals[0]} and {front.goals[1]}: {len(front.points)} points; {STOPPED[front.stopped]}"
    )
    return "\n".join(["", name, *table(head, rows, width), ""])


def front_pictures(front: Front, chosen: Assignment) -> dict[str, bytes]:
    """pareto.png and pareto.svg. Raises MissingToolError without matplotlib."""
    from h4hc.sweep.canvas import canvas, files, style

    with style():
        figure, [[panel]] = canvas(1, 1)
        scales = [PICTURE_UNIT[goal] for goal in front.goals]
        xs, ys = ([p.values[axis] / scales[axis][1] for p in front.points] for axis in (0, 1))
        panel.step(xs, ys, where="post", color="0.7", zorder=1)
        for proved, marker, label in ((True, "o", "proved"), (False, "x", "bound not closed")):
            there = [n for n, p in enumerate(front.points) if p.proved is proved]
            if there:
                panel.scatter([xs[n] for n in there], [ys[n] for n in there], marker=marker, label=label, zorder=3)
        at = next((n for n, p in enumerate(front.points) if p.assignment.mode == chosen.mode), None)
        if at is not None:
            panel.scatter(xs[at], ys[at], s=110, facecolors="none", edgecolors="C3", label="the plan compiled")
        for axis, goal in zip(("x", "y"), front.goals, strict=True):
            panel.set(**{f"{axis}label": f"{goal} [{PICTURE_UNIT[goal][0]}]"})
        panel.set(title=STOPPED[front.stopped])
        panel.legend(frameon=False)
        return files("pareto", figure)
