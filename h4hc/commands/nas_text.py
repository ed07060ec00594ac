"""What `h4hc nas` prints of its results."""

from __future__ import annotations

import textwrap
from typing import Any

from h4hc.text import table
from h4hc.units import PS_PER_S, format_energy, format_time

Tree = dict[str, Any]


def forecast_text(tree: Tree, width: int) -> str:
    """Of `train --dry-run`."""
    rows = [
        (
            p["name"],
            str(p["steps"]),
            _big(p["step_macs"]),
            _big(p["macs"]),
            _seconds(p["step_seconds"]),
            _seconds(p["seconds"]),
        )
        for p in tree["phases"]
    ]
    rows.append(("all", str(tree["steps"]), "", _big(tree["train_macs"]), "", _seconds(tree["seconds"])))
    head = ("phase", "steps", "MACs a step", "MACs", "a step", "time")
    first = (
        f"{tree['parameters']} weights, on {tree['device']}; times are those of a few steps here, evaluations left out"
    )
    return "\n".join([first, "", *table(head, rows, width)]) + "\n"


def train_text(tree: Tree, width: int) -> str:
    """Of `train`."""
    seen = ", ".join(f"{name} {_percent(value)}" for name, value in tree["accuracy_val"].items())
    spent = f"{tree['steps']} steps, {_big(tree['train_macs'])} MACs, {_seconds(tree['seconds'])}"
    return (
        f"trained {tree['run']}: {spent}\naccuracy on validation images: {seen}\nnext: h4hc nas search {tree['run']}\n"
    )


def search_text(tree: Tree, width: int) -> str:
    """Of `search`: the front."""
    rows = []
    for network in tree["front"]:
        m = network["metrics"]
        accuracy = _percent(m["accuracy"]) if "accuracy" in m else "-"
        rows.append(
            (f"{network['network']:02d}", accuracy, format_time(m["latency_ps"]), format_energy(m["energy_pj"]),
             _attention(network["arch"]), blocks(network["arch"]))
        )  # fmt: skip
    head = ("network", "accuracy", "latency", "energy", "attention", "blocks")
    first = f"{len(rows)} networks on the front of {tree['evaluated']} measured, for {tree['target']}; {tree['folder']}"
    return "\n".join([first, "", *table(head, rows, width, shrink=5)]) + "\n"


def networks_text(networks: list[Tree], width: int) -> str:
    """Exported networks: accuracy, then latency and energy on every target."""
    targets = list(networks[0]["devices"])
    verified = "verified" in networks[0]
    head = ["network", "accuracy", "test", "MACs", "attention", *targets, *targets, *(["compiled"] if verified else [])]
    rows = []
    for i, n in enumerate(networks):
        costs = [n["devices"][t] for t in targets]
        rows.append(
            [f"{i:02d}", _percent(n["accuracy"]["val"]), _percent(n["accuracy"]["test"]), _big(n["macs"]),
             _attention(n["arch"]), *(format_time(c["latency_ps"]) for c in costs),
             *(format_energy(c["energy_pj"]) for c in costs), *([n["verified"]["model"]] if verified else [])]
        )  # fmt: skip
    devices = ", ".join(targets)
    said = f"latency, then energy, on {devices}; accuracy on validation images, in report.json on test images too"
    shown = [*table(head, rows, width, drop=(2, 3)), "", *textwrap.wrap(said, width)]
    return "\n".join([*shown, *_segmentation(networks, targets, width)]) + "\n"


def _segmentation(networks: list[Tree], targets: list[str], width: int) -> list[str]:
    if "segmentation" not in networks[0]:
        return []
    rows = []
    for i, n in enumerate(networks):
        s = n["segmentation"]
        costs = [s["devices"][t] for t in targets]
        rows.append(
            [f"{i:02d}", _percent(s["val"]["mean_iou"]), _percent(s["ground_only"]["mean_iou"]),
             *(format_time(c["latency_ps"]) for c in costs), *(format_energy(c["energy_pj"]) for c in costs),
             *([n["verified"]["segmentation"]] if "verified" in n else [])]
        )  # fmt: skip
    head = [
        "network",
        "mean IoU",
        "all ground",
        *targets,
        *targets,
        *(["compiled"] if "verified" in networks[0] else []),
    ]
    return ["", "with a segmentation head:", *table(head, rows, width)]


def demo_text(tree: Tree, width: int) -> str:
    """Of `demo`."""
    first = f"{len(tree['front'])} networks on the front of {tree['evaluated']} measured; exported, compiled, verified:"
    return f"{first}\n\n{networks_text(tree['networks'], width)}\nall of it is in {tree['folder']}\n"


def conflict_text(tree: Tree, width: int) -> str:
    """Of `conflict`."""
    rows = [
        (
            p["pair"],
            "control" if p["control"] else "types",
            f"{p['cosine']:.3f}",
            f"{p['deviation']:.3f}",
            _percent(p["opposed"]),
        )
        for p in tree["pairs"]
    ]
    head = ("pair of networks", "kind", "cosine", "deviation", "tensors opposed")
    return "\n".join(table(head, rows, width)) + "\n"


def blocks(arch: Tree) -> str:
    """`w12c1k3e2 w24c2k5e3+a1`: width, convolution blocks, kernel, expansion, attention blocks of each stage."""
    parts = []
    for stage in arch["stages"]:
        depth = stage["attention_depth"]
        text = f"w{stage['width']}c{stage['conv_depth']}k{stage['kernel']}e{stage['expand']:g}"
        parts.append(text + (f"+a{depth}" if depth else ""))
    return " ".join(parts)


def _attention(arch: Tree) -> str:
    return str(sum(stage["attention_depth"] for stage in arch["stages"]))


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _seconds(seconds: float) -> str:
    return format_time(int(seconds * PS_PER_S))


def _big(count: float) -> str:
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g}"
