"""`h4hc classify MODEL --target T`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.costed import costed
from h4hc.commands.flags import global_flags, pass_console
from h4hc.commands.model_options import model_options
from h4hc.console import Console
from h4hc.reporting.terminal import count
from h4hc.text import clip, table
from h4hc.units import format_time

if TYPE_CHECKING:
    from h4hc.classify import OpClass
    from h4hc.system import System


@click.command(
    "classify",
    help="For each operator of MODEL: arithmetic intensity, what bounds it on each device of the target, and why the "
    "others refuse it. Places nothing.",
)
@model_options
@global_flags
@pass_console
def command(console: Console, model: Path, **given: Any) -> None:
    done = costed(console, model, given)
    from h4hc.classify import classify, to_json

    classes = classify(done.workload, done.table, done.system)
    value = done.head | {
        "ridge_points": [
            {"device": r.device, "memory": r.memory, "macs_per_byte": r.macs_per_byte}
            for d in done.system.devices
            for r in d.ridge_points()
        ],
        "ops": to_json(classes),
    }
    system, precision = done.system, done.workload.precision
    console.result(value, lambda: _text(classes, system, precision, console.width))


def _text(classes: tuple[OpClass, ...], system: System, precision: str, width: int) -> str:
    devices = list(system.device_names)
    lines = [clip(f"{len(classes)} operators on {system.name}, {precision}", width)]
    for device in system.devices:
        for ridge in device.ridge_points():
            line = f"ridge point of {device.name} over {ridge.memory}: {ridge.macs_per_byte:.4g} MAC/byte"
            lines.append(clip(line, width))
    lines += [
        "",
        *table(("operator", "kind", "MACs", "MAC/byte", *devices), _rows(classes, devices), width, drop=(1, 2)),
    ]
    lines += ["", *_refused(classes, width), *_counts(classes, devices, width)]
    return "\n".join(lines) + "\n"


def _rows(classes: tuple[OpClass, ...], devices: list[str]) -> list[tuple[str, ...]]:
    rows = []
    for c in classes:
        cells = []
        for name in devices:
            on = c.device(name)
            code = next((r.code for r in c.refusals if r.device == name), "")
            cells.append(f"{on.bound} {format_time(on.latency_ps)}" if on is not None else f"no: {code}")
        rows.append((c.op, c.kind, count(c.macs, ""), f"{c.macs_per_byte:.4g}", *cells))
    return rows


def _refused(classes: tuple[OpClass, ...], width: int) -> list[str]:
    """Each reason code once, with its rule and one example."""
    first: dict[str, tuple[str, str, str, str, int]] = {}
    for c in classes:
        for code, r in {r.code: r for r in c.refusals}.items():
            seen = first.get(code)
            first[code] = (*seen[:4], seen[4] + 1) if seen else (r.rule, r.value, r.limit, c.op, 1)
    lines = []
    for code, (rule, value, limit, origin, number) in sorted(first.items()):
        lines.append(clip(f"{code}: {rule} ({number} operators)", width))
        lines.append(clip(f"  for example {value}, limit {limit}: {origin}", width))
    return [*lines, ""] if lines else []


def _counts(classes: tuple[OpClass, ...], devices: list[str], width: int) -> list[str]:
    lines = []
    for name in devices:
        bounds: dict[str, int] = {}
        for c in classes:
            on = c.device(name)
            what = f"{on.bound} bound" if on is not None else "refused"
            bounds[what] = bounds.get(what, 0) + 1
        lines.append(clip(f"on {name}: " + ", ".join(f"{n} {what}" for what, n in sorted(bounds.items())), width))
    return lines
