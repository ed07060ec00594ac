"""render_terminal: the report on one screen. Reads the report's JSON and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h4hc.goals import Goal
from h4hc.reporting.memory import memory_text
from h4hc.reporting.trust_text import robust_line, stability_lines, value_text
from h4hc.text import clip, plural, shorten, table
from h4hc.units import format_bytes, format_energy, format_time

MAX_LINES = 40
MIN_WIDTH = 60
LABEL = 11  # columns of the label at the left
SLOWEST = 5
REASONS = 3
MAX_DEVICES = 3  # each on a line of its own; the rest are summed
MAX_MOVES = 6  # as many kinds as there are
MAX_STORES = 1  # devices that keep weights
MAX_TRUST = 6  # lines about robustness and stability, where they were asked for; they take the place of
FEWER_SLOWEST = 3  # some of the slowest operators and all the reasons
MAX_BASELINES = 4

Json = dict[str, Any]


def render_terminal(report: Json, width: int = 100) -> str:
    """At most 40 lines of at most `width` columns (60 at least), plain text, one trailing line break."""
    width = max(width, MIN_WIDTH)
    trust = _trust(report, width)
    lines = [
        *_head(report, width),
        "",
        *_ledger(report, width),
        "",
        *_verdict(report, width),
        *trust,
        "",
        *_slowest(report, width, FEWER_SLOWEST if trust or report["solver"]["schema"] == "parallel" else SLOWEST),
        *([] if trust else _off_accelerator(report, width)),
        *_remarks(report, width),
    ]
    assert len(lines) <= MAX_LINES, len(lines)
    return "\n".join(lines) + "\n"


def time_range(value: Json) -> str:
    """`4.82 ms [4.4 ms to 5.6 ms]`, or the nominal value alone when the bounds are equal."""
    if value["low"] == value["high"]:
        return format_time(value["nominal"])
    return f"{format_time(value['nominal'])} [{format_time(value['low'])} to {format_time(value['high'])}]"


def energy_range(value: Json) -> str:
    """As `time_range`, for energy."""
    if value["low"] == value["high"]:
        return format_energy(value["nominal"])
    return f"{format_energy(value['nominal'])} [{format_energy(value['low'])} to {format_energy(value['high'])}]"


def count(value: float, unit: str) -> str:
    """A number with a decimal prefix.

    >>> count(300_800_000, "MAC"), count(12, "MAC")
    ('300.8 MMAC', '12 MAC')
    """
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def share(part: float, whole: float) -> str:
    """A percentage with one decimal; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def minimised(solver: Json) -> str:
    """What the plan minimises: the objective, or its worst case, which the nominal figures beside it do not show."""
    worst = "worst " if solver["case"] == "worst" else ""
    return f"{worst}{solver['objective']}"


def solver_line(report: Json) -> str:
    """What was proved, in the words of the solver's status, with the bound and the gap."""
    s = report["solver"]
    goal = f"the worst case of {s['objective']}" if s["case"] == "worst" else s["objective"]
    bound = value_text(s["bound"], s["objective"])
    goal = goal if s["schema"] == "sequential" else f"{goal} in parallel"
    return f"{s['status']} for {goal}, gap {100 * s['gap']:.2g} %, bound {bound}; {s['name']}"


def goal_lines(report: Json) -> list[tuple[str, str]]:
    """What was proved of each of several goals, and the budgets that bound the plan."""
    lines = []
    for stage in report["solver"]["stages"]:
        goal = Goal(stage["goal"])
        proof = f"{stage['status']}, gap {100 * stage['gap']:.2g} %, bound {goal.text(stage['bound'])}"
        lines.append((f"{goal}", f"{goal.text(stage['value'])}, {proof}"))
    limits = [f"{b['goal']} {Goal(b['goal']).text(b['limit'])}" for b in report["solver"]["budget"]]
    return [*lines, *([("at most", ", ".join(limits))] if limits else [])]


def device_totals(report: Json) -> dict[str, Json]:
    """Operators, MACs, latency and energy of each device's own operators, without what hides, in order of name."""
    totals = {d["name"]: {"ops": 0, "macs": 0, "latency_ps": 0, "energy_pj": 0} for d in report["target"]["devices"]}
    for op in report["ops"]:
        totals[op["device"]]["macs"] += op["macs"]
    for row in report["ledger"]:
        if row["kind"] == "op":
            sums = {"ops": row["steps"], "latency_ps": row["latency_ps"]["nominal"]}
            totals[row["device"]].update(sums, energy_pj=row["energy_pj"]["nominal"])
    return totals


def between(report: Json) -> list[tuple[str, int, int, int, int]]:
    """What lies between the operators: (kind, steps, bytes, ps, pj), summed over the devices that do it."""
    sums: dict[str, list[int]] = {}
    for row in report["ledger"]:
        if row["kind"] != "op":
            entry = sums.setdefault(row["kind"], [0, 0, 0, 0])
            values = (row["steps"], row["size_bytes"], row["latency_ps"]["nominal"], row["energy_pj"]["nominal"])
            for i, value in enumerate(values):
                entry[i] += value
    return [(kind, v[0], v[1], v[2], v[3]) for kind, v in sums.items()]


def origin_text(op: Json, width: int) -> str:
    """The user's names of an operator, shortened: its own node first, then how many more it stands for."""
    names = op["origin"]
    first = op["id"] if op["id"] in names else names[0]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return shorten(first, width - len(more)) + more


def _line(label: str, text: str, width: int) -> str:
    return clip(f"{label:<{LABEL}}{text}", width)


def _head(report: Json, width: int) -> list[str]:
    model, target = report["model"], report["target"]
    moved = sum(row[2] for row in between(report) if row[0] == "transfer")
    switches = sum(row[1] for row in between(report) if row[0] == "switch")
    changed = ", ".join(f"{o['key']}={o['value']}" for o in target["overrides"])
    return [
        clip(f"h4hc {report['h4hc_version']}  {shorten(model['name'], 30)} for {target['name']}", width),
        _line(
            "model",
            f"{model['nodes']} nodes -> {model['ops']} ops, {count(model['macs'], 'MAC')}, "
            f"{count(model['parameters'], 'parameters')}, {report['precision']}, sha {model['sha256'][:8]}",
            width,
        ),
        _line(
            "target",
            f"{target['name']} sha {target['sha256'][:8]}" + (f", with {changed}" if changed else ""),
            width,
        ),
        _line(
            "placement",
            f"{plural(len(report['partitions']), 'partition')}, {plural(switches, 'device switch', 'es')}, "
            f"{format_bytes(moved)} copied",
            width,
        ),
    ]


def _ledger(report: Json, width: int) -> list[str]:
    total = report["totals"]
    latency, energy = total["latency_ps"]["nominal"], total["energy_pj"]["nominal"]
    macs = report["model"]["macs"]
    rows: list[Sequence[str]] = []

    def add(name: str, ops: str, mac_share: str, ps: int, pj: int) -> None:
        rows.append((name, ops, mac_share, format_time(ps), share(ps, latency), format_energy(pj), share(pj, energy)))

    devices = sorted(device_totals(report).items(), key=lambda item: -item[1]["ops"])
    for name, row in devices[:MAX_DEVICES]:
        add(f"on {name}", str(row["ops"]), share(row["macs"], macs), row["latency_ps"], row["energy_pj"])
    if devices[MAX_DEVICES:]:
        rest = [row for _, row in devices[MAX_DEVICES:]]
        sums = {key: sum(row[key] for row in rest) for key in rest[0]}
        add(
            f"on {len(rest)} others",
            str(sums["ops"]),
            share(sums["macs"], macs),
            sums["latency_ps"],
            sums["energy_pj"],
        )
    for kind, steps, _, ps, pj in between(report)[:MAX_MOVES]:
        add(kind, str(steps), "-", ps, pj)
    if beside := total["work_ps"]["nominal"] - latency:
        rows.append(("at the same time", "-", "-", f"-{format_time(beside)}", f"-{share(beside, latency)}", "-", "-"))
    steps_total = len(report["steps"])
    add("total", str(steps_total), "100.0 %" if macs else "-", latency, energy)
    return table(("where it goes", "steps", "MACs", "time", "share", "energy", "share"), rows, width, drop=(6, 1, 2))


def _verdict(report: Json, width: int) -> list[str]:
    lines = [
        _line("latency", time_range(report["totals"]["latency_ps"]), width),
        _line("energy", energy_range(report["totals"]["energy_pj"]), width),
        _line("solver", solver_line(report), width),
    ]
    lines.extend(_line(head, text, width) for head, text in goal_lines(report))
    lines.extend(_line("against" if i == 0 else "", text, width) for i, text in enumerate(_baselines(report)))
    lines.extend(_capacity(report, width))
    lines.extend(_line(row["region"], memory_text(row), width) for row in report["memory"])
    return lines


def _baselines(report: Json) -> list[str]:
    shown = [b for b in report["baselines"] if len(report["baselines"]) <= MAX_BASELINES or b["name"] != "greedy"]
    shown = shown[:MAX_BASELINES]
    what = minimised(report["solver"])
    out = []
    for b in shown:
        if b["latency_ps"] is None:
            out.append(f"{b['name']:<10} no plan: {b['why']}")
        else:
            ratio = f"{b['value_ratio']:.4g} x {what}" if b["value_ratio"] is not None else ""
            out.append(
                f"{b['name']:<10} {format_time(b['latency_ps']['nominal']):>10}  "
                f"{format_energy(b['energy_pj']['nominal']):>10}  {ratio}"
            )
    return out


def _capacity(report: Json, width: int) -> list[str]:
    lines = []
    for entry in report["capacity"][:MAX_STORES]:
        used = sum(u["used_bytes"] for u in entry["units"])
        whole = entry["unit_bytes"] * len(entry["units"])
        fullest = max((u["used_bytes"] for u in entry["units"]), default=0)
        lines.append(
            _line(
                "weights",
                f"{format_bytes(used)} of {format_bytes(whole)} ({share(used, whole)}) in {len(entry['units'])} units "
                f"of {entry['device']}, fullest {share(fullest, entry['unit_bytes'])}",
                width,
            )
        )
    return lines


def _trust(report: Json, width: int) -> list[str]:
    lines = [_line("robust", text, width) for text in [robust_line(report)] if text]
    stable = stability_lines(report, MAX_TRUST - len(lines))
    return lines + [_line("" if i else "stable", text, width) for i, text in enumerate(stable)]


def _slowest(report: Json, width: int, most: int) -> list[str]:
    ops = sorted(report["ops"], key=lambda op: -op["cost"]["latency_ps"]["nominal"])[:most]
    total = report["totals"]["latency_ps"]["nominal"]
    rows = [
        (
            origin_text(op, 60),
            op["kind"],
            op["mode"],
            format_time(op["cost"]["latency_ps"]["nominal"]),
            share(op["cost"]["latency_ps"]["nominal"], total),
            op["cost"]["bound"],
        )
        for op in ops
    ]
    return (
        table(("slowest operators", "kind", "on", "time", "share", "bound by"), rows, width, drop=(1, 4))
        if rows
        else []
    )


def refusal_counts(report: Json) -> list[tuple[str, str, int]]:
    """Why operators run on the host though an accelerator exists: (code, rule, operators), most frequent first.

    The code of an operator that an accelerator would take is the device's name.
    """
    found: dict[tuple[str, str], int] = {}
    for op in report["ops"]:
        if op["device"] == "host":
            for key in dict.fromkeys((r["code"], r["rule"]) for r in op["rejections"]):
                found[key] = found.get(key, 0) + 1
            for device in dict.fromkeys(a["device"] for a in op["alternatives"]):
                key = (device, "may run there, but the plan is dearer with it there")
                found[key] = found.get(key, 0) + 1
    return [(c, rule, n) for (c, rule), n in sorted(found.items(), key=lambda item: (-item[1], item[0]))]


def _off_accelerator(report: Json, width: int) -> list[str]:
    counts = refusal_counts(report)
    if not counts:
        return []
    lines = ["why operators run on the host: most frequent reasons"]
    lines += [f"  {n:>4} x {code}: {rule}" for code, rule, n in counts[:REASONS]]
    return [clip(line, width) for line in lines]


def _remarks(report: Json, width: int) -> list[str]:
    total = report["totals"]["latency_ps"]["nominal"]
    marks = sorted(report["basis"], key=lambda b: (-b["latency_ps"], b["mark"]))
    basis = ", ".join(f"{b['mark']} {share(b['latency_ps'], total)}" for b in marks)
    lines = [_line("evidence", f"{basis or 'no numbers'} of the latency", width)]
    warnings = [d for d in report["diagnostics"] if d["severity"] == "warning"]
    if warnings:
        codes: dict[str, int] = {}
        for d in warnings:
            codes[d["code"]] = codes.get(d["code"], 0) + 1
        shown = ", ".join(f"{n} x {code}" for code, n in sorted(codes.items()))
        lines.append(_line("warnings", f"{len(warnings)}: {shown}", width))
    return lines
