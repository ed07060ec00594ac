"""`h4hc estimate MODEL --target T`: a whole network on each device, operator by operator, without placing anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.commands.costed import costed
from h4hc.commands.flags import global_flags, new_file_problems, pass_console, write_new
from h4hc.commands.model_options import model_options
from h4hc.console import Console
from h4hc.text import clip, csv_text, plural, table
from h4hc.units import format_energy, format_time

if TYPE_CHECKING:
    from h4hc.estimate import NetworkEstimate, OpEstimate

SHOWN = 60
UNITS = (("latency", "ps"), ("energy", "pj"))


@click.command(
    "estimate",
    help="Estimate MODEL on each device of the target, with the host for what the device cannot run: cycles, latency "
    "and energy of every operator and of the network, as the NPU vendor's compiler sums them. Places nothing.",
)
@model_options
@click.option("--device", metavar="D", help="This device only: npu, cim, host.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="CSV", help="Write a row for each operator.")
@click.option("--force", is_flag=True, help="Replace the output file.")
@global_flags
@pass_console
def command(console: Console, model: Path, device: str | None, output: Path | None, force: bool, **given: Any) -> None:
    done = costed(console, model, given, tuple(new_file_problems(output, force)))
    from h4hc.estimate import estimate_network

    devices = done.system.device_names if device is None else (device,)
    found = tuple(estimate_network(done.workload, done.table, name) for name in devices)
    if output is not None:
        write_new(output, _csv(found).encode(), force)
        console.say(f"wrote {output}")
    value = done.head | {"devices": [_json(estimate) for estimate in found]}
    name = f"{done.name} on {done.system.name}, {done.workload.precision}"
    console.result(value, lambda: _text(name, found, console.width))


def _totals(estimate: NetworkEstimate) -> dict[str, Any]:
    """Sums of the operators on the device, of those on the host, of what lies between, and of all."""
    from h4hc.reporting.ops import cost_intervals

    clock_hz = estimate.clock_hz
    both = estimate.latency, estimate.energy
    parts = {"on_device": estimate.here, "on_host": estimate.host, "between": estimate.between, "network": both}
    values: dict[str, Any] = {name: cost_intervals(*pair) for name, pair in parts.items()}
    values["on_device"]["ops"] = sum(o.cost.mode.device == estimate.device for o in estimate.ops)
    values["on_host"]["ops"] = len(estimate.ops) - values["on_device"]["ops"]
    values["on_device"]["cycles"] = _cycles(estimate.here[0].nominal, clock_hz)
    values["hidden_ps"] = sum(o.hidden_ps for o in estimate.ops)
    return values


def _cycles(latency_ps: int, clock_hz: int) -> int | None:
    from h4hc.estimate import cycles

    return round(cycles(latency_ps, clock_hz)) if clock_hz else None


def _json(estimate: NetworkEstimate) -> dict[str, Any]:
    from h4hc.reporting.ops import cost_intervals

    return {
        "device": estimate.device,
        "clock_hz": estimate.clock_hz or None,
        "totals": _totals(estimate),
        "ops": [_op(o) | cost_intervals(o.latency, o.energy) for o in estimate.ops],
    }


def _op(row: OpEstimate) -> dict[str, Any]:
    from h4hc.estimate import lane_cycles

    return {
        "op": row.op.id,
        "kind": row.op.kind.value,
        "macs": row.op.macs,
        "on": row.cost.mode.name,
        "cycles": _cycles(row.latency.nominal, row.cost.clock_hz),
        "busy_cycles": {lane: round(count) for lane, count in lane_cycles(row.cost).items()},
        "hidden_ps": row.hidden_ps,
        "bound": row.cost.bound.value,
        "refused": row.refused or None,
    }


def _csv(estimates: tuple[NetworkEstimate, ...]) -> str:
    """A row for each device and operator."""
    rows = [(e.device, _op(o), o) for e in estimates for o in e.ops]
    lanes = list(dict.fromkeys(lane for _, values, _ in rows for lane in values["busy_cycles"]))
    plain = [k for k in rows[0][1] if k != "busy_cycles"] if rows else []
    bounds = [f"{name}{bound}_{unit}" for name, unit in UNITS for bound in ("_low", "", "_high")]
    table_ = []
    for device, values, row in rows:
        busy = [values["busy_cycles"].get(lane) for lane in lanes]
        numbers = [n for i in (row.latency, row.energy) for n in (i.low, i.nominal, i.high)]
        table_.append([device, *(values[k] for k in plain), *busy, *numbers])
    return csv_text(["device", *plain, *(f"{lane}_cycles" for lane in lanes), *bounds], table_)


def _text(name: str, estimates: tuple[NetworkEstimate, ...], width: int) -> str:
    lines = [clip(f"{name}: {plural(len(estimates[0].ops), 'operator')}", width), ""]
    head = ("all on", "ops there", "cycles there", "time there", "on host", "between", "network", "energy")
    lines += table(head, [_total_row(e) for e in estimates], width, drop=(2, 1))
    lines.append("network: one inference, with moves, stays, and on the host what the device refuses; its bounds:")
    lines += [clip(_bounds_line(e), width) for e in estimates]
    if len(estimates) == 1:
        lines += ["", *_op_table(estimates[0], width)]
    else:
        lines += ["", *_op_times(estimates, width)]
    if estimates[0].ops[SHOWN:]:
        lines.append(f"and {len(estimates[0].ops) - SHOWN} more operators; -o writes and --json prints all")
    return "\n".join(lines) + "\n"


def _total_row(e: NetworkEstimate) -> tuple[str, ...]:
    count = _cycles(e.here[0].nominal, e.clock_hz)
    ops = sum(o.cost.mode.device == e.device for o in e.ops)
    times = [format_time(part[0].nominal) for part in (e.here, e.host, e.between)]
    both = format_time(e.latency.nominal), format_energy(e.energy.nominal)
    return (e.device, str(ops), "-" if count is None else f"{count / 1e6:.4g} M", *times, *both)


def _bounds_line(e: NetworkEstimate) -> str:
    time, energy = e.latency, e.energy
    times = f"{format_time(time.low)} to {format_time(time.high)}"
    return f"  {e.device}: {times}, {format_energy(energy.low)} to {format_energy(energy.high)}"


def _op_table(estimate: NetworkEstimate, width: int) -> list[str]:
    head = ("operator", "kind", "on", "cycles", "hidden", "time", "energy", "bound by")
    rows = []
    for row in estimate.ops[:SHOWN]:
        values = _op(row)
        cells = (values["op"], values["kind"], values["on"], "-" if values["cycles"] is None else str(values["cycles"]))
        times = format_time(row.hidden_ps) if row.hidden_ps else "-", format_time(row.latency.nominal)
        rows.append((*cells, *times, format_energy(row.energy.nominal), values["bound"]))
    return table(head, rows, width, drop=(4, 1, 7))


def _op_times(estimates: tuple[NetworkEstimate, ...], width: int) -> list[str]:
    """Each operator's time by device; where the host does it, the word host."""
    rows = []
    for at, row in enumerate(estimates[0].ops[:SHOWN]):
        cells = []
        for e in estimates:
            there = e.ops[at]
            away = "" if there.cost.mode.device == e.device else f"{there.cost.mode.device} "
            cells.append(away + format_time(there.latency.nominal))
        rows.append((row.op.id, row.op.kind.value, *cells))
    return table(("operator", "kind", *(e.device for e in estimates)), rows, width, drop=(1,))
