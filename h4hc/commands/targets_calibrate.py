"""`h4hc targets calibrate DEVICE --with vela|table.csv`: how far the cost model is from a reference, and the fit."""

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
from h4hc.errors import Problem, UserError
from h4hc.text import clip, plural, table

if TYPE_CHECKING:
    from h4hc.calibrate import Refusal
    from h4hc.calibration import Calibration, KindFit
    from h4hc.model_error import Errors

MOST_SAMPLES = 1000
VENDOR = "vela"
SHOWN = 10


@click.command(
    "calibrate",
    help="Compare the cost model of DEVICE with a reference on single layers, fit it kind by kind, and keep the fit: a "
    "file that `--npu-cost FILE.json` takes. The reference is the vendor's compiler or a table of measurements.",
)
@click.argument("device", metavar="DEVICE")
@click.option("--with", "reference", required=True, metavar="vela|TABLE.csv", help="What to compare with.")
@click.option("--target", metavar="T", help="System of the device; without it, the system that is called DEVICE.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a number: npu.macs=128.")
@click.option("--layers", type=click.Path(path_type=Path), metavar="FILE.csv", help="Layers for the vendor's compiler.")
@click.option("--samples", type=int, default=12, show_default=True, help="Layers of each kind, where none are given.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which layers are drawn.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.json", help="Keep the calibration.")
@click.option("--force", is_flag=True, help="Replace FILE.json.")
@global_flags
@pass_console
def calibrate_command(
    console: Console,
    device: str,
    reference: str,
    target: str | None,
    sets: tuple[str, ...],
    layers: Path | None,
    samples: int,
    seed: int,
    output: Path | None,
    force: bool,
) -> None:
    output_problems = new_file_problems(output, force)
    raise_all([*_problems(reference, layers, samples, seed), *set_problems(sets), *output_problems])
    from h4hc.calibrate import Wish, calibrate
    from h4hc.layer_table import read_layers
    from h4hc.target_file import load_system

    system = load_system(target or device, sets)
    if target is None and device not in system.device_names:
        raise UserError(
            f"{device} is a system, and none of its devices is called so",
            ("DEVICE",),
            f"devices: {', '.join(system.device_names)}",
            f"name the device and its system: h4hc targets calibrate {system.device_names[-1]} --target {device}",
        )
    model = system.device(device)
    rows = read_layers(layers).rows if layers else None
    wish = Wish(reference, rows, samples, seed, layers.name if layers else "")
    made, refused = calibrate(system, model, wish)
    if output is not None:
        write_new(output, made.to_json(), force)
        console.say(f"wrote {output}")
    console.result(_json(made, refused), lambda: _text(made, refused, console.width))


def _problems(reference: str, layers: Path | None, samples: int, seed: int) -> list[Problem]:
    problems = file_problems("--layers file", layers)
    if reference != VENDOR:
        if not reference.lower().endswith(".csv"):
            problems.append(Problem(f"--with {reference!r} is no reference", ("--with",), "known: vela, a table .csv"))
        else:
            problems += file_problems("table of measurements", Path(reference))
        if layers is not None:
            problems.append(Problem("--layers has no use with a table", ("--layers",), "the table has its own layers"))
    if not 1 <= samples <= MOST_SAMPLES:
        problems.append(Problem(f"--samples {samples} is out of range", ("--samples",), f"1 to {MOST_SAMPLES}"))
    if seed < 0:
        problems.append(Problem(f"--seed {seed} is negative", ("--seed",), hint="take a number from 0"))
    return problems


def _json(made: Calibration, refused: tuple[Refusal, ...]) -> dict[str, Any]:
    return {
        "source": made.source,
        "reference": made.reference,
        "method": made.method,
        "target": made.target,
        "target_sha256": made.target_sha256,
        "device": made.device,
        "facts": dict(made.facts),
        "seed": made.seed,
        "samples": made.samples,
        "layers": len(made.rows),
        "latency": [_fit_json(fit) for fit in made.latency],
        "energy": [_fit_json(fit) for fit in made.energy],
        "refused": [{"layer": r.layer, "kind": r.kind, "why": r.why} for r in refused],
    }


def _fit_json(fit: KindFit) -> dict[str, Any]:
    return {
        "kind": fit.kind,
        "layers": fit.rows,
        "ratio": fit.ratio,
        "low_ratio": fit.low,
        "high_ratio": fit.high,
        "before": _errors_json(fit.before),
        "after": _errors_json(fit.after),
        "left_out": _errors_json(fit.left_out) if fit.left_out else None,
    }


def _errors_json(errors: Errors) -> dict[str, float]:
    return {"median_ratio": errors.median, "p95_ratio": errors.p95}


def _text(made: Calibration, refused: tuple[Refusal, ...], width: int) -> str:
    layers = plural(len(made.rows), "layer")
    lines = [clip(f"{made.device} of {made.target} against {made.reference}: {layers}", width)]
    for name, fits in (("latency", made.latency), ("energy", made.energy)):
        if fits:
            head = ("kind", "layers", "ratio", "spread", "error before", "after", "left out")
            lines += ["", name, *table(head, [_cells(fit) for fit in fits], width, drop=(6, 3))]
    lines += ["", "ratio: median of reference / model; spread: 5 % to 95 % of what the ratio leaves"]
    lines += ["errors: |model / reference - 1|, median and 95th percentile; left out: fitted without the layer judged"]
    if any(fit.rows == 1 for fit in (*made.latency, *made.energy)):
        lines += ["one layer has no spread: its kind keeps the interval of the model, times the ratio"]
    if refused:
        lines += ["", f"not fitted: {plural(len(refused), 'layer')}"]
        lines += [clip(f"  {r.layer}: {r.why}", width) for r in refused[:SHOWN]]
        lines += [f"  and {len(refused) - SHOWN} more; --json lists all"] if refused[SHOWN:] else []
    return "\n".join(lines) + "\n"


def _cells(fit: KindFit) -> tuple[str, ...]:
    spread = f"{fit.low:.3f} to {fit.high:.3f}" if fit.rows > 1 else "-"
    return (
        fit.kind,
        str(fit.rows),
        f"{fit.ratio:.4f}",
        spread,
        *(f"{100 * e.median:.1f}, {100 * e.p95:.1f} %" if e else "-" for e in (fit.before, fit.after, fit.left_out)),
    )
