"""The document of a study as Markdown and CSV. Nothing is computed here."""

from __future__ import annotations

import csv
import io
from typing import Any

Document = dict[str, Any]
COLUMNS = {
    "random_any": "random, any",
    "random_full": "random, all attention",
    "random_conv": "random, conv-only",
    "max": "max",
    "max_conv": "max conv-only",
    "min": "min",
    "attention_gain": "attention gain",
}


def runs_csv(document: Document) -> str:
    """A line a run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    points = [f"{name}_{'points' if name == 'attention_gain' else 'percent'}" for name in COLUMNS]
    writer.writerow(["trial", "arm", "seed", "steps", "train_macs", "seconds", *points])
    for run in document["runs"]:
        figures = [f"{run['measures'][name]:.3f}" for name in COLUMNS]
        writer.writerow([*(run[k] for k in ("trial", "arm", "seed", "steps", "train_macs", "seconds")), *figures])
    return out.getvalue()


def markdown(document: Document) -> str:
    """Tables: what was compared, accuracies, paired differences, the target, gradient cosines."""
    study = document["study"]
    compared = {entry["arm"] for part in document["sets"] for entry in part["arms"]}
    arms = [arm for arm in study["arms"] if arm["name"] in compared]
    lines = [
        f"# {study['name']}: schedules of supernet training",
        "",
        f"Space `{study['space']}`. Accuracy in percent of the test images: mean ± standard deviation over seeds.",
        "Differences in points, paired by seed: mean ± half width of the 95 % confidence interval (Student's t), wins;",
        "**bold** where zero lies outside. Attention gain: max less max conv-only.",
        "",
        *table(["arm", "compute", "what"], [[a["name"], _budget(study, a), a["what"]] for a in arms]),
    ]
    for part in document["sets"]:
        lines += _set(part, study["arms"][0]["name"])
    lines += _cosines(document["runs"])
    return "\n".join(lines).rstrip() + "\n"


def verdict_text(verdict: Document) -> str:
    """One sentence on the target."""
    passed = verdict["more_than_wanted"] and verdict["above_zero"] and verdict["gain_kept"]
    return (
        f"Target {'reached' if passed else 'missed'}: `{verdict['arm']}` gains "
        f"{verdict['random_any_points']:+.2f} points on random networks of the whole space (wanted: more than "
        f"{verdict['points_wanted']:g}), confidence interval {'above' if verdict['above_zero'] else 'not above'} zero, "
        f"attention gain {verdict['attention_gain_points']:+.2f} points against the baseline's."
    )


def _budget(study: Document, arm: Document) -> str:
    if arm["name"] == study["arms"][0]["name"]:
        return "baseline"
    return {"macs": "equal MACs", "steps": "equal steps"}.get(arm["budget"], f"steps of {arm['budget']}")


def _set(part: Document, baseline: str) -> list[str]:
    lines = ["", f"## {part['trial']}", "", f"Seeds: {', '.join(map(str, part['seeds']))}.", ""]
    rows = [
        [arm["arm"], f"{arm['steps']:.0f}", f"{arm['train_macs'] / 1e9:.0f}"]
        + [f"{arm['mean'][name]:.2f} ± {arm['deviation'][name]:.2f}" for name in COLUMNS]
        for arm in part["arms"]
    ]
    lines += table(["arm", "steps", "GMAC", *COLUMNS.values()], rows)
    lines += ["", f"Against `{baseline}`:", ""]
    rows = [
        [entry["arm"], *(_difference(entry["difference"][name]) for name in COLUMNS)]
        for entry in part["against_baseline"]
    ]
    lines += table(["arm", *COLUMNS.values()], rows)
    if part["target"]:
        lines += ["", verdict_text(part["target"])]
    return lines


def _difference(found: Document) -> str:
    if found["half_width"] is None:
        return f"{found['mean']:+.2f}, {found['wins']}/{found['pairs']}"
    text = f"{found['mean']:+.2f} ± {found['half_width']:.2f}"
    return f"{f'**{text}**' if found['measurable'] else text}, {found['wins']}/{found['pairs']}"


def _cosines(runs: list[Document]) -> list[str]:
    probed = [run for run in runs if run["cosines"]]
    if not probed:
        return []
    lines = ["", "## Gradient cosines on shared convolution weights", ""]
    lines += ["Mean cosine, and share of tensors whose inner product is negative. Controls differ in other ways."]
    for run in probed:
        spent = list(dict.fromkeys(line["spent"] for line in run["cosines"]))
        pairs = {line["pair"]: line["control"] for line in run["cosines"]}
        at = {(line["pair"], line["spent"]): line for line in run["cosines"]}
        rows = [
            [pair + (" (control)" if control else "")]
            + [f"{at[pair, s]['cosine']:.2f} ({100 * at[pair, s]['opposed']:.0f} %)" for s in spent]
            for pair, control in pairs.items()
        ]
        head = ["pair", *(f"{100 * s:.0f} % spent" for s in spent)]
        lines += ["", f"{run['trial']}, {run['arm']}, seed {run['seed']}:", "", *table(head, rows)]
    return lines


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
