"""render_markdown: the report as a page for reviewers. Reads the report's JSON and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h4hc.reporting.memory import memory_text
from h4hc.reporting.terminal import (
    between,
    count,
    device_totals,
    energy_range,
    goal_lines,
    minimised,
    refusal_counts,
    share,
    solver_line,
    time_range,
)
from h4hc.reporting.trust_markdown import markdown_table, render_trust
from h4hc.text import code_span, markdown
from h4hc.units import format_bytes, format_energy, format_time

Json = dict[str, Any]
ORIGINS = 3  # names in a cell; report.json has them all


def render_markdown(report: Json) -> str:
    """The whole report in Markdown; every name from the model is escaped. Ends with one line break."""
    sections = (
        _summary(report),
        _ledger(report),
        _baselines(report),
        render_trust(report),
        _partitions(report),
        _operators(report),
        _refusals(report),
        _capacity(report),
        _memory(report),
        _passes(report),
        _diagnostics(report),
        _basis(report),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - ORIGINS} more" if len(names) > ORIGINS else ""
    return ", ".join(code_span(n) for n in names[:ORIGINS]) + more


def _summary(report: Json) -> str:
    model, target = report["model"], report["target"]
    size = f"{model['nodes']} nodes, {model['ops']} operators, {count(model['macs'], 'MAC')}"
    rows = [
        ("model", f"{code_span(model['name'])}, SHA-256 `{model['sha256']}`"),
        ("size", f"{size}, {count(model['parameters'], 'parameters')}"),
        ("precision", markdown(report["precision"])),
        ("target", f"{code_span(target['name'])}, SHA-256 `{target['sha256']}`"),
        ("latency", time_range(report["totals"]["latency_ps"])),
        ("energy", energy_range(report["totals"]["energy_pj"])),
        ("plan", markdown(solver_line(report))),
        *((markdown(head), markdown(text)) for head, text in goal_lines(report)),
    ]
    if target["overrides"]:
        changed = ", ".join(code_span(f"{o['key']}={o['value']}") for o in target["overrides"])
        rows.append(("changed by --set", changed))
    tensors = [
        (side, code_span(t["name"]), "x".join(map(str, t["shape"])) or "scalar", t["stored_dtype"])
        for side in ("inputs", "outputs")
        for t in model[side]
    ]
    return "\n\n".join(
        (
            f"# Partition report, h4hc {markdown(report['h4hc_version'])}",
            markdown_table(("", ""), rows),
            markdown_table(("side", "tensor", "shape", "type in the file"), tensors),
        )
    )


def _ledger(report: Json) -> str:
    total = report["totals"]
    latency, energy = total["latency_ps"]["nominal"], total["energy_pj"]["nominal"]

    def row(name: str, steps: int, macs: str, moved: str, ps: int, pj: int) -> tuple[str, ...]:
        return (
            name,
            str(steps),
            macs,
            moved,
            format_time(ps),
            share(ps, latency),
            format_energy(pj),
            share(pj, energy),
        )

    rows = [
        row(f"operators on {code_span(name)}", d["ops"], count(d["macs"], "MAC"), "", d["latency_ps"], d["energy_pj"])
        for name, d in device_totals(report).items()
    ]
    rows += [row(kind, steps, "", format_bytes(size), ps, pj) for kind, steps, size, ps, pj in between(report)]
    if beside := total["work_ps"]["nominal"] - latency:
        rows.append(("at the same time", "", "", "", f"-{format_time(beside)}", f"-{share(beside, latency)}", "", ""))
    rows.append(row("**total**", len(report["steps"]), count(report["model"]["macs"], "MAC"), "", latency, energy))
    head = ("where it goes", "steps", "MACs", "bytes", "time", "share", "energy", "share")
    return f"## Ledger\n\nThe rows sum to the total exactly.\n\n{markdown_table(head, rows)}"


def _baselines(report: Json) -> str:
    rows = [
        (b["name"], "no plan", "", "", markdown(b["why"]))
        if b["latency_ps"] is None
        else (
            b["name"],
            time_range(b["latency_ps"]),
            energy_range(b["energy_pj"]),
            f"{b['value_ratio']:.4g}" if b["value_ratio"] is not None else "-",
            markdown(b["why"]),
        )
        for b in report["baselines"]
    ]
    ratio = f"{minimised(report['solver'])} / chosen"
    return f"## Against simpler plans\n\n{markdown_table(('plan', 'latency', 'energy', ratio, 'remark'), rows)}"


def _partitions(report: Json) -> str:
    rows = [
        (
            code_span(p["id"]),
            code_span(p["device"]),
            str(len(p["ops"])),
            count(p["macs"], "MAC"),
            format_bytes(p["weight_bytes"]),
            format_bytes(p["input_bytes"]),
            format_bytes(p["output_bytes"]),
        )
        for p in report["partitions"]
    ]
    head = ("partition", "device", "operators", "MACs", "weights", "in", "out")
    return f"## Partitions\n\n{markdown_table(head, rows)}"


def _operators(report: Json) -> str:
    rows = [
        (
            _names(op["origin"]),
            op["kind"] + (f" + {markdown(op['activation'])}" if op["activation"] else ""),
            markdown(op["shape"]),
            count(op["macs"], "MAC"),
            f"{op['class']['macs_per_byte']:.4g}",
            op["mode"],
            op["cost"]["bound"],
            time_range(op["cost"]["latency_ps"]),
            energy_range(op["cost"]["energy_pj"]),
            format_time(hidden) if (hidden := op["hidden"]["latency_ps"]["nominal"]) else "-",
            ", ".join(_elsewhere(op)) or "-",
        )
        for op in report["ops"]
    ]
    head = (
        *("nodes", "kind", "shape", "MACs", "MAC/byte", "on", "bound by", "time", "energy", "hidden"),
        "elsewhere, alone",
    )
    said = "`hidden` is the part of the time that lies in the operator before on the same device."
    return f"## Operators\n\n{said}\n\n{markdown_table(head, rows)}"


def _elsewhere(op: Json) -> list[str]:
    """Fastest other mode of each device, then the reason codes of the devices that refuse."""
    best: dict[str, Json] = {}
    for a in op["alternatives"]:
        if a["device"] not in best or a["latency_ps"]["nominal"] < best[a["device"]]["latency_ps"]["nominal"]:
            best[a["device"]] = a
    legal = [f"{a['mode']} {format_time(a['latency_ps']['nominal'])}" for a in best.values()]
    taken = {*best, op["device"]}
    codes = dict.fromkeys(r["code"] for r in op["rejections"] if r["device"] not in taken)
    return legal + [code_span(code) for code in codes]


def _refusals(report: Json) -> str:
    counts = refusal_counts(report)
    if not counts:
        return ""
    rows = [(str(n), code_span(code), markdown(rule)) for code, rule, n in counts]
    return f"## Why operators run on the host\n\n{markdown_table(('operators', 'reason', 'rule'), rows)}"


def _capacity(report: Json) -> str:
    rows = [
        (
            code_span(f"{entry['device']} {unit['unit']}"),
            format_bytes(unit["used_bytes"]),
            format_bytes(entry["unit_bytes"]),
            share(unit["used_bytes"], entry["unit_bytes"]),
            str(len(unit["ops"])),
        )
        for entry in report["capacity"]
        for unit in entry["units"]
    ]
    return (
        f"## Resident weights\n\n{markdown_table(('unit', 'used', 'of', 'share', 'operators'), rows)}" if rows else ""
    )


def _memory(report: Json) -> str:
    parts = []
    for row in report["memory"]:
        said = f"{markdown(row['region'])}: {memory_text(row)}. In use at the peak, {_names([row['peak_subject']])}:"
        largest = [
            (code_span(b["name"]), b["kind"], format_bytes(b["size_bytes"]), str(b["offset_bytes"]))
            for b in row["largest_at_peak"]
        ]
        more = row["peak_buffers"] - len(largest)
        largest += [(f"and {more} more", "", "", "")] if more else []
        parts.append(f"{said}\n\n{markdown_table(('buffer', 'holds', 'size', 'offset [byte]'), largest)}")
    return "## Memory\n\n" + "\n\n".join(parts)


def _passes(report: Json) -> str:
    rows = [
        (p["name"], str(p["changed"]), str(p["nodes_before"]), str(p["nodes_after"]), str(len(p["removed"])))
        for p in report["passes"]
    ]
    if not rows:
        return ""
    text = f"## Passes\n\n{markdown_table(('pass', 'rewrites', 'nodes before', 'after', 'user nodes dropped'), rows)}"
    skipped = [(p["name"], s["node"], s["why"]) for p in report["passes"] for s in p["skipped"]]
    if skipped:
        cells = [(name, code_span(node), markdown(why)) for name, node, why in skipped]
        text += (
            f"\n\nPlaces that looked like a match and were left:\n\n{markdown_table(('pass', 'node', 'why'), cells)}"
        )
    return text


def _diagnostics(report: Json) -> str:
    rows = [
        (markdown(d["code"]), d["severity"], markdown(d["what"]), _names(d["where"]), markdown(d["hint"]))
        for d in report["diagnostics"]
    ]
    return (
        f"## Warnings and notes\n\n{markdown_table(('code', '', 'what', 'where', 'what to do'), rows)}" if rows else ""
    )


def _basis(report: Json) -> str:
    total = report["totals"]["latency_ps"]["nominal"]
    rows = [(b["mark"], str(b["steps"]), share(b["latency_ps"], total)) for b in report["basis"]]
    said = "\n".join(f"- {markdown(a)}" for a in report["assumptions"])
    marks = markdown_table(("mark", "steps that use it", "share of the latency"), rows)
    return f"## What the numbers rest on\n\nA step may rest on several marks.\n\n{marks}\n\n{said}"
