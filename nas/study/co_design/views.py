"""The document of the study as Markdown and CSV. Nothing is computed here."""

from __future__ import annotations

import csv
import io
from typing import Any

from nas.study.co_design.searches import ARMS
from nas.study.views import table

Document = dict[str, Any]
MEASURES = {  # head, digits
    "hypervolume": ("hypervolume", 4),
    "latency_saved_percent": ("latency saved [%]", 1),
    "energy_saved_percent": ("energy saved [%]", 1),
    "best_accuracy_percent": ("best accuracy [%]", 1),
}
FIGURES = ("accuracy_val", "accuracy_test", "latency_ps", "energy_pj", "plan")
ALONE, OURS = ARMS


def networks_csv(document: Document) -> str:
    """A line a network of each front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["search", "seed", "network", *FIGURES, "genome"])
    for search in document["searches"]:
        for number, network in enumerate(search["front"]):
            genome = "-".join(map(str, network["genome"]))
            writer.writerow([search["arm"], search["seed"], number, *(network[key] for key in FIGURES), genome])
    return out.getvalue()


def markdown(document: Document) -> str:
    """What was done, the searches and their paired differences, the whole space on each system."""
    study, nets = document["study"], document["supernet"]
    deployed = _system(study["deployed"])
    done = (
        f"One supernet of the space `{document['space']}` ({nets['steps']} steps; its largest network has "
        f"{100 * nets['accuracy_val']['max']:.1f} % of the validation images) is searched with latency and energy of "
        f"{study['alone']['name']} (`{ALONE}`) and of {deployed} (`{OURS}`). Both fronts are then compiled for "
        f"{deployed} and judged on test images."
    )
    lines = [f"# {study['name']}: searching for the system that the network will run on", "", done, ""]
    lines += _searches(document)
    if document["whole_space"]:
        lines += _whole(document["whole_space"])
    return "\n".join(lines) + "\n"


def _searches(document: Document) -> list[str]:
    rows = [
        [
            f"{row['seed']}",
            *(f"{row['networks'][arm]} of {row['measured'][arm]}" for arm in ARMS),
            *(f"{row['hypervolume'][arm]:.4f}" for arm in ARMS),
            *(f"{row[f'{name}_saved_percent'][OURS]:+.1f}" for name in ("latency", "energy")),
            *(f"{row['best_accuracy_percent'][arm]:.1f}" for arm in ARMS),
        ]
        for row in document["seeds"]
    ]
    both = [f"{name}, {arm}" for name in ("front of measured", "hypervolume") for arm in ARMS]
    head = ["seed", *both, "latency saved [%]", "energy saved [%]", *(f"best accuracy [%], {arm}" for arm in ARMS)]
    means = (
        f"Saved: by `{OURS}` against `{ALONE}` at equal accuracy, geometric mean over {document['study']['levels']} "
        "accuracies that both reach. Hypervolume of accuracy, latency and energy: share of one box for all fronts."
    )
    paired = (
        f"`{OURS}` less `{ALONE}`, paired by the seed of the search (one supernet): mean ± half width of the 95 % "
        "confidence interval (Student's t), wins; **bold** where zero lies outside."
    )
    lines = [means, "", *table(head, rows), "", paired, ""]
    rows = [[text, _difference(document["difference"][name], digits)] for name, (text, digits) in MEASURES.items()]
    return [*lines, *table(["measure", "difference"], rows)]


def _difference(found: Document, digits: int) -> str:
    if found["half_width"] is None:
        return f"{found['mean']:+.{digits}f}, {found['wins']}/{found['pairs']}"
    text = f"{found['mean']:+.{digits}f} ± {found['half_width']:.{digits}f}"
    return f"{f'**{text}**' if found['measurable'] else text}, {found['wins']}/{found['pairs']}"


def _whole(whole: Document) -> list[str]:
    fitted = whole["predictor"]
    rows = [
        [
            _system(row["system"]),
            *(f"{row['networks'][arm]}" for arm in ARMS),
            *(f"{row['hypervolume'][arm]:.4f}" for arm in ARMS),
            *(f"{row[f'{name}_saved_percent']:+.1f}" for name in ("latency", "energy")),
            f"{100 * row['unused']:.0f} %",
        ]
        for row in whole["systems"]
    ]
    both = [f"{name}, {arm}" for name in ("front", "hypervolume") for arm in ARMS]
    head = ["deployed on", *both, "latency saved [%]", "energy saved [%]", "networks that leave the CIM empty"]
    how = (
        f"Exact fronts of all {whole['networks']} networks: no search, so no luck of one. Accuracy is predicted "
        f"({fitted['kind']}, fitted on the {fitted['networks']} networks measured above, Kendall's tau "
        f"{fitted['tau']:.2f} on those left out). Nothing is drawn here, so there is no interval."
    )
    return ["", "## The whole space", "", how, "", *table(head, rows)]


def _system(system: Document) -> str:
    sets = f", {', '.join(system['sets'])}" if system["sets"] else ""
    return f"{system['name']} (`{system['target']}`{sets})"
