"""explain: a report and a node's name -> why the node is where it is, and what each other device would cost.

Reads the report's JSON and nothing else, so it answers for any output folder without the model or the target.
"""

from __future__ import annotations

import difflib
import fnmatch
import textwrap
from typing import Any

from h4hc.errors import UserError
from h4hc.goals import Goal
from h4hc.reporting.terminal import energy_range, share, time_range
from h4hc.reporting.trust_text import value_text
from h4hc.text import clip, printable, shorten, table
from h4hc.units import format_bytes, format_energy, format_time

Json = dict[str, Any]
MAX_MATCHES = 20
DELTA_NOTE = (
    "change of the whole plan if this operator alone moved: its own cost, the moves of its tensors, the "
    "device stays that begin or end with it, and what hides behind a neighbour"
)


def find_nodes(report: Json, name: str) -> list[str]:
    """Names that `name` means: itself, or all that match it as a glob, or all that contain it.

    The names are the user's nodes, the dropped ones too, and the operators' ids. Raises: UserError with close
    names when nothing matches.
    """
    names = _names(report)
    if name in names:
        return [name]
    found = [n for n in names if fnmatch.fnmatchcase(n, name)] or [n for n in names if name and name in n]
    ops = _ops_by_name(report)
    own = [n for n in found if n in ops and ops[n]["id"] == n]
    if own:  # operators called so; nodes that are only a part of others would drown them
        return own
    once: dict[str, str] = {}  # several nodes of one operator have one answer
    for n in found:
        once.setdefault(ops[n]["id"] if n in ops else f"dropped {n}", n)
    if once:
        return list(once.values())
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    raise UserError(
        f"the report has no node {shorten(name, 200)!r}",
        why=f"close: {', '.join(repr(shorten(c, 80)) for c in close)}" if close else f"it has {len(names)} nodes",
        hint="give a node's name, a part of it, or a glob: 'h4hc explain OUT \"*Conv*\"' lists what matches",
    )


def _names(report: Json) -> list[str]:
    names = dict.fromkeys(n for op in report["ops"] for n in (op["id"], *op["origin"]))
    names.update(dict.fromkeys(r["origin"] for p in report["passes"] for r in p["removed"]))
    return list(names)


def _ops_by_name(report: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for op in report["ops"]:
        for name in (op["id"], *op["origin"]):
            found.setdefault(name, op)
    for op in report["ops"]:
        found[op["id"]] = op
    return found


def explain(report: Json, name: str) -> Json:
    """All that the report knows of one name (exact, from `find_nodes`)."""
    op = _ops_by_name(report).get(name)
    removed = [
        {"pass": p["name"], "why": r["why"]} for p in report["passes"] for r in p["removed"] if r["origin"] == name
    ]
    own = {name} if op is None else {name, *op["origin"]}
    skipped = [
        {"pass": p["name"], "node": s["node"], "why": s["why"]}
        for p in report["passes"]
        for s in p["skipped"]
        if s["node"] in own
    ]
    answer: Json = {"node": name, "removed": removed, "skipped": skipped, "op": op, "reasons": [], "partition": None}
    if op is not None:
        answer["reasons"] = reasons(report, op)
        answer["partition"] = next(p for p in report["partitions"] if p["id"] == op["partition"])
        answer["delta_includes"] = DELTA_NOTE
        answer["steps"] = [s for s in report["steps"] if s["subject"] in (op["id"], *op["inputs"], *op["outputs"])]
    return answer


def reasons(report: Json, op: Json) -> list[str]:
    """Why the operator is where it is, in sentences that follow from the report's numbers."""
    refused = sorted({r["device"] for r in op["rejections"]} - {a["device"] for a in op["alternatives"]})
    said = [_main_reason(report, op)]
    if refused:
        said.append(f"{' and '.join(refused)} refused it: see below")
    return said + _flips(report, op)


def _flips(report: Json, op: Json) -> list[str]:
    """At which error of a device's costs the plan that takes over runs it elsewhere."""
    return [
        f"it runs on {flip['after']} in the plan that takes over when the {r['quantity']} of {r['device']} is {word} "
        f"x {r[side]['factor']:.4g} the model"
        for r in report["stability"]["radii"]
        for side, word in (("low", "below"), ("high", "above"))
        for flip in r[side]["flips"]
        if flip["op"] == op["id"]
    ]


def _main_reason(report: Json, op: Json) -> str:
    objective = report["solver"]["objective"]
    goal = f"the worst case of {objective}" if report["solver"]["case"] == "worst" else f"the {objective}"
    if not op["alternatives"]:
        return f"{op['mode']} is the only mode that may run it"
    free = [a for a in op["alternatives"] if not a["ruled_out"]]
    if not free:
        return f"the options leave no other mode: {', '.join(_demands(report))}"
    fitting = [a for a in free if not a["misfit"]]
    if not fitting:
        return "no other mode has room for its weights beside those already placed"
    best = min(fitting, key=lambda a: int(a["delta_value"]))
    if best["delta_value"] < 0:
        return (
            f"moving it alone to {best['mode']} would improve {goal} by "
            f"{value_text(-best['delta_value'], objective)}; the plan is {report['solver']['status']}"
        )
    alone = min(fitting, key=lambda a: _alone(report, a))
    if _alone(report, alone) < _alone(report, op["cost"]):
        return (
            f"by itself it is cheaper on {alone['mode']}, but moving it there makes {goal} of the whole "
            f"plan worse by {value_text(alone['delta_value'], objective)}"
        )
    if best["delta_value"] == 0:
        return f"no other mode is cheaper; {best['mode']} would cost the same"
    return f"it costs least here, by itself and in the plan; next is {best['mode']}"


def _demands(report: Json) -> list[str]:
    options = report["options"]
    limits = [f"--budget {b['goal']}={Goal(b['goal']).exact(b['limit'])}" for b in options["budget"]]
    goals = [f"--objective {','.join(options['goals'])}"] if options["goals"] else []
    return [*(f"--pin {p}" for p in options["pins"]), *(f"--forbid {f}" for f in options["forbids"]), *limits, *goals]


def _alone(report: Json, cost: Json) -> int:
    """Objective of one operator by itself, in the case that was minimised."""
    objective, bound = report["solver"]["objective"], {"nominal": "nominal", "worst": "high"}[report["solver"]["case"]]
    latency, energy = int(cost["latency_ps"][bound]), int(cost["energy_pj"][bound])
    return {"latency": latency, "energy": energy, "edp": latency * energy}[objective]


def render(report: Json, answer: Json, width: int = 100) -> str:
    """An answer of `explain` for a terminal."""
    lines = [clip(shorten(answer["node"], width), width)]
    for r in answer["removed"]:
        lines.append(f"  dropped by {r['pass']}: {r['why']}")
    op = answer["op"]
    if op is not None:
        lines += _place_lines(report, answer, op)
        lines += _cost_lines(op, width)
        lines += _elsewhere_lines(op, width)
        lines += _refusal_lines(op)
    elif not answer["removed"]:
        lines.append("  no operator stands for it")
    left = [f"  pass {s['pass']} left {shorten(s['node'], 60)}: {s['why']}" for s in answer["skipped"]]
    lines += dict.fromkeys(left)  # a pass may stand in the list twice
    return "\n".join(_wrap(line, width) for line in lines) + "\n"


def _place_lines(report: Json, answer: Json, op: Json) -> list[str]:
    part = answer["partition"]
    where = op["mode"] + (f" (units {', '.join(map(str, op['units']))})" if op["units"] else "")
    lines = [
        f"  is       {op['kind']} ({', '.join(op['op_types'])}), {op['shape']}, {op['dtype']}, {op['macs']} MAC",
        f"  runs on  {where}, in partition {part['id']} ({_operators(len(part['ops']))})",
    ]
    others = [n for n in op["origin"] if n != answer["node"]]
    if others:
        shown = ", ".join(shorten(n, 60) for n in others[:6])
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        lines.append(f"  together with  {shown}{more}: they run as one operator, {shorten(op['id'], 60)}")
    if op["activation"]:
        lines.append(f"  fused    activation {op['activation']}")
    if op["region"]:
        lines.append(f"  region   {shorten(op['region'], 60)}")
    return lines + [f"  why      {reason}" for reason in answer["reasons"]]


def _operators(number: int) -> str:
    return f"{number} operator" + ("" if number == 1 else "s")


def _cost_lines(op: Json, width: int) -> list[str]:
    cost = op["cost"]
    latency = cost["latency_ps"]["nominal"]
    lines = [
        f"  cost     {time_range(cost['latency_ps'])}, {energy_range(cost['energy_pj'])}, {cost['bound']} bound",
        f"  formula  {cost['model']}",
        f"  basis    {', '.join(cost['marks']) or 'no numbers'}",
    ]
    if op["hidden"]["latency_ps"]["high"]:
        hidden = op["hidden"]
        lines.append(
            f"  hidden   {time_range(hidden['latency_ps'])}, {energy_range(hidden['energy_pj'])} of it: fetched during "
            "the operator before"
        )
    rows = [
        (
            t["name"],
            t["resource"],
            t["role"],
            format_time(t["latency_ps"]["nominal"]),
            share(t["latency_ps"]["nominal"], latency),
            format_energy(t["energy_pj"]["nominal"]),
        )
        for t in cost["terms"]
    ]
    if rows:
        head = ("term", "occupies", "counts", "time", "of it", "energy")
        lines += [f"    {line}" for line in table(head, rows, width - 4, drop=(2, 1))]
    for r in next((d["rooflines"] for d in op["class"]["devices"] if d["device"] == op["device"]), []):
        lines.append(
            f"  roofline {r['macs_per_byte']:.4g} MAC/byte at {r['memory']} ({format_bytes(r['moved_bytes'])}), ridge "
            f"point {r['ridge_macs_per_byte']:.4g}: {r['side']} side"
        )
    return lines


def _elsewhere_lines(op: Json, width: int) -> list[str]:
    if not op["alternatives"]:
        return []
    rows = [
        (
            a["mode"],
            format_time(a["latency_ps"]["nominal"]),
            format_energy(a["energy_pj"]["nominal"]),
            _signed(format_time, a["delta_latency_ps"]),
            _signed(format_energy, a["delta_energy_pj"]),
            a["bound"],
        )
        for a in op["alternatives"]
    ]
    head = ("elsewhere", "time alone", "energy alone", "plan's time", "plan's energy", "bound by")
    lines = [f"    {line}" for line in table(head, rows, width - 4, drop=(5, 2))]
    lines += [f"    {a['mode']}: {a['ruled_out']}" for a in op["alternatives"] if a["ruled_out"]]
    lines += [f"    {a['mode']}: no room: {a['misfit']}" for a in op["alternatives"] if a["misfit"]]
    return [*lines, *_parts_lines(op), f"    plan's = {DELTA_NOTE}"]


def _parts_lines(op: Json) -> list[str]:
    """What takes the time on each other device, in its fastest mode there."""
    return [
        f"    {d['mode']}, {d['bound']} bound: "
        + ", ".join(f"{p['name']} {format_time(p['latency_ps'])}" for p in d["parts"])
        for d in op["class"]["devices"]
        if d["device"] != op["device"]
    ]


def _signed(form: Any, value: int) -> str:
    return f"{'+' if value >= 0 else '-'}{form(abs(value))}"


def _refusal_lines(op: Json) -> list[str]:
    lines = []
    for r in op["rejections"]:
        modes = r["modes"][0] if len(r["modes"]) == 1 else f"{r['modes'][0]} to {r['modes'][-1]}"
        lines.append(f"  refused  {modes}  {r['code']}: {r['rule']}")
        lines.append(f"    seen   {r['value']}; limit {r['limit']}" + (f"; do: {r['fix']}" if r["fix"] else ""))
    return lines


def _wrap(line: str, width: int) -> str:
    """Break a long line between words, further lines set in under the first."""
    line = printable(line)
    indent = " " * min(11, len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, width, subsequent_indent=indent, replace_whitespace=False, break_on_hyphens=False)
