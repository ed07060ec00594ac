"""`h4hc targets cost T --layers layers.csv`: predicted cycles of single layers, beside those that the table gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.flags import (
    file_problems,
    global_flags,
    new_file_problems,
    pass_console,
    raise_all,
    set_problems,
    write_new,
)
from h4hc.console import Console
from h4hc.layer_kinds import KINDS
from h4hc.text import clip, csv_text, plural, table
from h4hc.units import format_energy, format_time

if TYPE_CHECKING:
    from h4hc.costtypes import Interval
    from h4hc.estimate import KindError, LayerCost

PREDICTED = "predicted_"
SHOWN = 30


@click.command(
    "cost",
    help="Cost every layer of a CSV: predicted cycles of each resource and in total, latency and energy, and the error "
    "where the table has cycles of its own. Columns layer, kind, h, w, cin, cout, kh, kw, stride, dil, pad; accel, "
    "sysconf and memmode choose the NPU by its vendor's names, also with --device npu; without them it is that of T. "
    "Without stride and dil they are 1, without pad it is SAME (else VALID). Kinds: " + ", ".join(KINDS) + ".",
)
@click.argument("target", metavar="T")
@click.option("--layers", type=click.Path(path_type=Path), required=True, metavar="CSV", help="The layers.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="CSV", help="Write the table with the costs.")
@click.option("--force", is_flag=True, help="Replace the output file.")
@click.option("--device", metavar="D", help="Cost another device of T: cim, host.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a number, as `compile --set` does.")
@global_flags
@pass_console
def cost_command(
    console: Console,
    target: str,
    layers: Path,
    output: Path | None,
    force: bool,
    device: str | None,
    sets: tuple[str, ...],
) -> None:
    raise_all([*file_problems("--layers file", layers), *set_problems(sets), *new_file_problems(output, force)])
    from h4hc.estimate import cost_layers, errors_by_kind
    from h4hc.layer_table import read_layers

    given = read_layers(layers)
    costs = cost_layers(given.rows, target, sets, device, f"{layers.name}:")
    for line in _notes(costs, target):
        console.say(line)
    lanes = _lanes(costs)
    errors = {lane: errors_by_kind(costs, lane) for lane in (*lanes, "total")}
    if output is not None:
        write_new(output, _csv(given.columns, costs, lanes).encode(), force)
        console.say(f"wrote {output}")
    value = {
        "target": target,
        "overrides": list(sets),
        "layers": [_json(c, lanes) for c in costs],
        "errors": {lane: [_error_json(e) for e in found] for lane, found in errors.items() if found},
        "refused": sum(c.cost is None for c in costs),
    }
    console.result(value, lambda: _text(costs, lanes, errors["total"], console.width))


def _notes(costs: tuple[LayerCost, ...], target: str) -> list[str]:
    """How many rows have an NPU of their own instead of the target's, and how many speak of another device."""
    named = [c for c in costs if c.row.named]
    others = [c for c in named if not c.comparable]
    count = plural(len(costs), "layer")
    if others:
        return [f"{len(others)} of {count} name an NPU: their cycles are not compared with those of {costs[0].device}"]
    return [f"{len(named)} of {count} name an NPU, which overrides that of {target}"] if named else []


def _lanes(costs: tuple[LayerCost, ...]) -> tuple[str, ...]:
    """Resources that any layer keeps busy, in the order of the device's own terms."""
    from h4hc.estimate import lane_cycles

    return tuple(dict.fromkeys(lane for c in costs if c.cost for lane in lane_cycles(c.cost)))


def _predicted(cost: LayerCost, lanes: tuple[str, ...]) -> dict[str, Any]:
    """All that is predicted of a layer, by column; None where there is nothing to say."""
    from h4hc.estimate import lane_cycles

    found = cost.cost
    busy = lane_cycles(found) if found else {}
    values: dict[str, Any] = {"system": cost.system, "device": found.mode.name if found else cost.device}
    for lane in lanes:
        values[f"{lane}_cycles"] = round(busy.get(lane, 0.0)) if found and found.clock_hz else None
    total = cost.total_cycles
    values["total_cycles"] = None if total is None else round(total)
    values |= _bounds("latency", "ps", found.latency if found else None)
    values |= _bounds("energy", "pj", found.energy if found else None)
    values["bound"] = found.bound.value if found else None
    error = cost.error("total")
    values["error_ratio"] = None if error is None else round(error, 6)
    values["refused"] = None if cost.refused is None else f"{cost.refused.code}: {cost.refused.value}"
    return values


def _bounds(name: str, unit: str, interval: Interval | None) -> dict[str, int | None]:
    low, nominal, high = (interval.low, interval.nominal, interval.high) if interval else (None, None, None)
    return {f"{name}_low_{unit}": low, f"{name}_{unit}": nominal, f"{name}_high_{unit}": high}


def _json(cost: LayerCost, lanes: tuple[str, ...]) -> dict[str, Any]:
    given = {c: v for c, v in cost.row.cells if not c.startswith(PREDICTED)}
    return {"line": cost.row.line, "given": given, "predicted": _predicted(cost, lanes)}


def _error_json(error: KindError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "layers": error.layers,
        "median_ratio": error.median,
        "p95_ratio": error.p95,
        "worst_ratio": error.worst,
        "worst_layer": error.worst_layer,
    }


def _csv(columns: tuple[str, ...], costs: tuple[LayerCost, ...], lanes: tuple[str, ...]) -> str:
    """The table as given with the predicted columns behind; those of an earlier run are replaced."""
    kept = [c for c in columns if not c.startswith(PREDICTED)]
    predicted = [_predicted(cost, lanes) for cost in costs]
    rows = []
    for cost, values in zip(costs, predicted, strict=True):
        cells = dict(cost.row.cells)
        rows.append([*(cells[c] for c in kept), *values.values()])
    return csv_text([*kept, *(PREDICTED + name for name in predicted[0])], rows)


def _text(costs: tuple[LayerCost, ...], lanes: tuple[str, ...], errors: tuple[KindError, ...], width: int) -> str:
    head = ("layer", "kind", "on", *(f"{lane} cyc" for lane in lanes), "total cyc", "time", "energy", "error")
    rows = [_row(cost, lanes) for cost in costs[:SHOWN]]
    drop = (2, *range(3, 3 + len(lanes)))
    lines = [plural(len(costs), "layer"), "", *table(head, rows, width, drop=drop)]
    if costs[SHOWN:]:
        lines.append(f"and {len(costs) - SHOWN} more; -o writes and --json prints all")
    refused: dict[str, list[LayerCost]] = {}
    for cost in costs:
        if cost.refused is not None:
            refused.setdefault(f"{cost.refused.code}: {cost.refused.rule}", []).append(cost)
    for rule, rows_ in sorted(refused.items()):
        lines += ["", clip(f"refused, {plural(len(rows_), 'layer')}: {rule}", width)]
        lines.append(clip("  " + ", ".join(dict.fromkeys(c.row.layer for c in rows_)), width))
    if errors:
        cells = [(e.kind, str(e.layers), *map(_percent, (e.median, e.p95, e.worst)), e.worst_layer) for e in errors]
        lines += ["", "total cycles against the table's own, |predicted / given - 1|"]
        lines += table(("kind", "layers", "median", "p95", "worst", "worst layer"), cells, width, shrink=5)
    return "\n".join(lines) + "\n"


def _row(cost: LayerCost, lanes: tuple[str, ...]) -> tuple[str, ...]:
    values = _predicted(cost, lanes)
    error = cost.error("total")
    counted = [values[f"{lane}_cycles"] for lane in lanes] + [values["total_cycles"]]
    return (
        cost.row.layer,
        cost.row.kind,
        values["device"] if cost.cost else "refused",
        *("-" if v is None else str(v) for v in counted),
        format_time(cost.cost.latency.nominal) if cost.cost else "-",
        format_energy(cost.cost.energy.nominal) if cost.cost else "-",
        "-" if error is None else f"{100 * error:+.2f} %",
    )


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2f} %"
