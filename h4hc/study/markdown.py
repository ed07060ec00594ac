"""markdown: the document -> study.md: tables, where it does not pay, what is assumed, what the paper does not say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from h4hc.study.break_even import WORTH_PCT
from h4hc.study.select import Row, Tree, best, grid, groups, headline, losses, of, reach, saved
from h4hc.text import markdown as escape
from h4hc.units import format_bytes, format_energy, format_time

TITLES = {"sram": "SRAM", "flash": "flash", "mram": "MRAM"}
SHOWN_DRIVERS = 3
AGAINST = {"npu_only": "NPU-only", "npu_host": "NPU + host"}


def markdown(tree: Tree) -> str:
    """The whole page."""
    parts = [
        "# NPU-only against NPU + CIM",
        *_claims(tree),
        *_short(tree),
        *_headline(tree),
        *_drivers(tree),
        *_best(tree),
        *_ablations(tree),
        *_negatives(tree),
        *_break_even(tree),
        *_grids(tree),
        *_lists(tree),
        *_numbers(tree),
    ]
    return "\n\n".join(parts) + "\n"


def pct(value: float) -> str:
    """A saving, to a tenth of a per cent."""
    return f"{value:.1f}".replace("-0.0", "0.0")


def span(bounds: dict[str, Any] | None) -> str:
    """`10.1 to 20.2`; a dash where none were sought."""
    return "-" if bounds is None else f"{pct(bounds['low_pct'])} to {pct(bounds['high_pct'])}"


def both(row: Row, *, inside: bool = False) -> str:
    """`46.1 / 37.7`: latency and energy saved against NPU-only."""
    return " / ".join(pct(saved(row, measure, inside=inside)) for measure in ("latency", "energy"))


def where(row: Row) -> str:
    """`mobilenet-v2, flash, 4 x 4`."""
    return f"{row['model']}, {TITLES[row['residency']]}, {row['macros']} x {row['cus']}"


def claims_text(tree: Tree) -> str:
    """The paper's figures in words."""
    latency, energy = (claim["saved_pct"] for claim in tree["paper"]["claims"])
    return f"up to {latency} % of the latency, {energy} % of the energy"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _claims(tree: Tree) -> list[str]:
    source = escape(tree["paper"]["claims"][0]["source"])
    lines = []
    for against, title in AGAINST.items():
        for inside, name in ((False, ""), (True, ", the model's border left out")):
            reached = reach(tree, against, inside=inside)
            lines.append(
                f"Against {title}{name} the most that a plan saves here: {most(tree, against, inside)}. Of "
                f"{len(grid(tree))} plans {len(reached)} reach both of the paper's figures at once{_models(reached)}."
            )
    return [f"The paper ({source}) saves {claims_text(tree)}. All savings below are in per cent.", *lines]


def most(tree: Tree, against: str, inside: bool) -> str:
    """The greatest saving of latency and of energy, and where."""
    top = {m: best(grid(tree), m, against, inside=inside) for m in ("latency", "energy")}
    return ", ".join(
        f"{pct(saved(row, m, against, inside=inside))} % of the {m} ({where(row)}, minimising {row['objective']})"
        for m, row in top.items()
    )


def _models(rows: Sequence[Row]) -> str:
    names = [f"{model} ({len(own)})" for (model,), own in groups(rows, "model").items()]
    return f": {', '.join(names)}" if names else ""


def _short(tree: Tree) -> list[str]:
    """The table for a reader in a hurry: one line a model and home of the weights."""
    objectives = tree["design"]["objectives"]
    rows = []
    for (model, residency), own in groups(headline(tree), "model", "residency").items():
        npu = own[0]["npu_only"]
        cells = [model, TITLES[residency], format_time(npu["latency_ps"]["nominal"])]
        cells.append(format_energy(npu["energy_pj"]["nominal"]))
        for objective in objectives:
            found = of(own, objective=objective)
            cells.append(f"{both(found[0])} ({both(found[0], inside=True)})" if found else "no plan")
        rows.append(cells)
    claim = " / ".join(str(claim["saved_pct"]) for claim in tree["paper"]["claims"])
    rows.append(["**the paper**", "not said", "not said", "not said", f"up to {claim}", *("" for _ in objectives[1:])])
    head = ["model", "weights", "NPU-only latency", "NPU-only energy", *(f"minimising {o}" for o in objectives)]
    macros, cus = tree["design"]["headline"]["macros"], tree["design"]["headline"]["cus"]
    text = (
        f"Latency / energy saved against NPU-only by {macros} macros x {cus} CUs, nominal; in brackets without the "
        "model's border: the host's conversion of a float image to int8 and back, which every plan pays."
    )
    return ["## In one table", text, _table(head, rows)]


def _headline(tree: Tree) -> list[str]:
    macros, cus = tree["design"]["headline"]["macros"], tree["design"]["headline"]["cus"]
    rows = [
        (
            row["model"],
            TITLES[row["residency"]],
            row["objective"],
            format_time(row["npu_only"]["latency_ps"]["nominal"]),
            format_energy(row["npu_only"]["energy_pj"]["nominal"]),
            *(_cell(row, measure) for measure in ("latency", "energy")),
            " / ".join(pct(saved(row, measure, "npu_host")) for measure in ("latency", "energy")),
        )
        for row in headline(tree)
    ]
    latency, energy = (f"up to {claim['saved_pct']}" for claim in tree["paper"]["claims"])
    rows.append(("**the paper**", "not said", "not said", "not said", "not said", latency, energy, "not said"))
    head = (
        "model",
        "weights",
        "minimised",
        "NPU-only latency",
        "NPU-only energy",
        "latency saved",
        "energy saved",
        "saved against NPU + host: latency / energy",
    )
    text = f"{macros} macros x {cus} CUs. Saved against NPU-only: nominal [correlated bounds] (blind bounds)."
    return [f"## With bounds: the default system, {macros} x {cus}", text, _table(head, rows)]


def _cell(row: Row, measure: str) -> str:
    saving = row["saved"][measure]["npu_only"]
    return f"**{pct(saving['nominal_pct'])}** [{span(saving['correlated'])}] ({span(saving['blind'])})"


def _drivers(tree: Tree) -> list[str]:
    rows = []
    for row in headline(tree):
        for measure in ("latency", "energy"):
            found = row["saved"][measure]["npu_only"]["drivers"][:SHOWN_DRIVERS]
            if measure == row["objective"] and found:
                shown = ", ".join(f"`{driver['key']}` {span(driver)}" for driver in found)
                rows.append((row["model"], TITLES[row["residency"]], measure, shown))
    text = "What is saved with one number alone at its bounds, for the numbers that move it most."
    return (
        ["## What decides", text, _table(("model", "weights", "saved and minimised", "numbers"), rows)] if rows else []
    )


def _best(tree: Tree) -> list[str]:
    rows = []
    for (model, residency), own in groups(grid(tree), "model", "residency").items():
        cells = [model, TITLES[residency]]
        for against in AGAINST:
            for measure in ("latency", "energy"):
                top = best(own, measure, against)
                cells.append(
                    f"{pct(saved(top, measure, against))} ({top['macros']} x {top['cus']}, {top['objective']})"
                )
        rows.append(cells)
    latency, energy = (f"up to {claim['saved_pct']}" for claim in tree["paper"]["claims"])
    rows.append(["**the paper**", "not said", latency, energy, "not said", "not said"])
    head = ["model", "weights", *(f"{m} saved, against {t}" for t in AGAINST.values() for m in ("latency", "energy"))]
    text = "The most that any plan of the grid saves (macros x CUs, what was minimised)."
    return ["## The best of the grid", text, _table(head, rows)]


def _ablations(tree: Tree) -> list[str]:
    names = [ablation["name"] for ablation in tree["design"]["ablations"]]
    rows = []
    for (model, residency, objective), own in groups(tree["rows"], "model", "residency", "objective").items():
        cells = [model, TITLES[residency], objective]
        for name in names:
            found = of(own, ablation=name, **_at(tree, name))
            cells.append(both(found[0]) if _has(found) else "no plan")
        rows.append(cells)
    meaning = _bullets(f"`{a['name']}`: {a['title']}" for a in tree["design"]["ablations"])
    text = "Latency / energy saved against NPU-only, on the default system with one thing taken away."
    return ["## Ablations", text, meaning, _table(["model", "weights", "minimised", *names], rows)]


def _at(tree: Tree, ablation: str) -> dict[str, Any]:
    return dict(tree["design"]["headline"]) if ablation == "full" else {}


def _has(rows: Sequence[Row]) -> bool:
    return bool(rows) and rows[0]["plan"] is not None


def _negatives(tree: Tree) -> list[str]:
    parts = ["## Where it does not pay"]
    for against, title in AGAINST.items():
        lines = []
        for measure in ("latency", "energy"):
            bad = losses(tree, measure, against)
            lines.append(f"{measure}: {len(bad)} of {len(grid(tree))} plans cost more{_worst(bad, measure, against)}")
            lines += [f"{measure}, minimising {o}: {_places(own)}" for (o,), own in groups(bad, "objective").items()]
        parts += [f"Against {title}:", _bullets(lines)]
    return parts


def _worst(bad: Sequence[Row], measure: str, against: str) -> str:
    if not bad:
        return ""
    return f"; worst {pct(saved(bad[0], measure, against))} % ({where(bad[0])}, minimising {bad[0]['objective']})"


def _places(rows: Sequence[Row]) -> str:
    """`mobilenet-v2 flash at 1x1, 2x1`, model by model."""
    places = []
    for (model, residency), own in groups(rows, "model", "residency").items():
        sizes = ", ".join(f"{row['macros']}x{row['cus']}" for row in _sorted(own))
        places.append(f"{model} {TITLES[residency]} at {sizes}")
    return "; ".join(places)


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["macros"], row["cus"]))


def _break_even(tree: Tree) -> list[str]:
    head = [
        "model",
        "weights",
        "minimised",
        "CUs",
        "latency pays from",
        "energy pays from",
        "more energy at",
        "enough macros",
    ]
    text = (
        "Least number of macros that saves latency or energy against the best plan for NPU + host; the numbers of "
        "macros whose plan takes more energy than that; and the number beyond which the next size of the grid saves "
        f"less than {WORTH_PCT:g} point more of what is minimised."
    )
    rows = [
        (
            line["model"],
            TITLES[line["residency"]],
            line["objective"],
            str(line["cus"]),
            _macros(line["latency_from_macros"]),
            _macros(line["energy_from_macros"]),
            ", ".join(map(str, line["energy_lost_at_macros"])) or "none",
            str(line["enough_macros"]),
        )
        for line in tree["break_even"]
        if line["against"] == "npu_host"
    ]
    return ["## Break-even", text, _table(head, rows)]


def _macros(count: int | None) -> str:
    return "never" if count is None else str(count)


def _grids(tree: Tree) -> list[str]:
    parts = ["## The whole grid", "Latency / energy saved against NPU-only, by macros (columns) and CUs (rows)."]
    sizes = tree["design"]["macros"]
    for objective in tree["design"]["objectives"]:
        rows = []
        for (model, residency, cus), own in groups(
            of(tree["rows"], objective=objective, ablation="full"), "model", "residency", "cus"
        ).items():
            cells = [model, TITLES[residency], str(cus)]
            for macros in sizes:
                found = of(own, macros=macros)
                cells.append(both(found[0]) if _has(found) else "no plan")
            rows.append(cells)
        head = ["model", "weights", "CUs", *(f"{macros} macro{'s' if macros > 1 else ''}" for macros in sizes)]
        parts += [f"### Minimising {objective}", _table(head, rows)]
    return parts


def _lists(tree: Tree) -> list[str]:
    sizes = [
        (
            model["name"],
            str(model["operators"]),
            f"{model['macs'] / 1e6:.4g} M",
            format_bytes(model["weight_bytes"]),
            format_bytes(model["live_bytes"]),
            "yes" if model["fits_sram_with_weights"] else "no",
        )
        for model in tree["models"]
    ]
    sram = format_bytes(min(system["sram_bytes"] for system in tree["systems"]))
    head = ("model", "operators", "MACs", "weights", "live tensors at most", f"both fit {sram} of SRAM")
    return [
        "## What is assumed",
        _bullets(map(escape, tree["assumptions"])),
        _table(head, sizes),
        "## What the paper does not say",
        _bullets(map(escape, tree["paper"]["not_stated"])),
        "## How the bounds are found",
        _bullets(map(escape, tree["bounds"])),
    ]


def _numbers(tree: Tree) -> list[str]:
    parts = ["## The numbers", "Value [bounds] and the kind of evidence, as `h4hc targets show` prints them."]
    seen: set[tuple[str, str, str]] = set()
    for system in tree["systems"]:
        all_of_it = [(number["part"], number["name"], number["value"]) for number in system["numbers"]]
        new = [number for number in all_of_it if number not in seen]
        seen.update(new)
        title = f"### Weights in {TITLES[system['residency']]}: {escape(system['title'])}"
        kept = "" if len(new) == len(all_of_it) else "What differs from the above."
        parts += [
            title,
            *([kept] if kept else []),
            _table(("part", "name", "value"), [[escape(cell) for cell in row] for row in new]),
        ]
    return parts
