"""The physical model of digital CIM macros (targets/cim/silicon.py) against published silicon, as tables, no verdict.

First table: each figure of each macro from constants fitted on the *other* macros of its node (leave-one-out), of a
macro of another node from all of them. "if counts differ": the error as each constant that is not fitted goes to its
bounds; the interval adds activity and spread. Second table: the presets, fully
used, against the figures they cite. Sparse figures are left out of both, and named.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from h4hc.target_file import load_system
from targets.cim.chips import Published, at_precision, read_chips, read_published
from targets.cim.device import Cim
from targets.cim.full_use import at_full_use
from targets.cim.silicon import FIGURES, Prediction, load_constants, predict

ROOT = Path(__file__).resolve().parents[1]
MACROS = ROOT / "tests" / "data" / "cim_macros.csv"
STRUCTURES = ROOT / "tests" / "data" / "cim_structures.toml"
PRESETS = ROOT / "targets" / "cim" / "presets"
UNITS = {"area": "mm2", "cycle": "ns", "energy": "fJ/MAC"}
BAR = 0.15


def predictions(published: tuple[Published, ...]) -> list[Prediction]:
    """Every figure of every dense macro whose structure is known."""
    chips, constants = read_chips(published, STRUCTURES), load_constants()
    return [predict(chip, chips, constants, figure) for chip in chips for figure in FIGURES]


def preset(name: str) -> Cim:
    """The device of a packaged CIM preset, in the system `cim`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.toml"
        file.write_text(f'extends = "cim"\ntitle = "{name}"\n[devices.cim]\npreset = "cim/{name}"\n')
        device = load_system(str(file)).device("cim")
    assert isinstance(device, Cim)
    return device


def _model_table(rows: list[Prediction]) -> Table:
    table = Table(
        "macro",
        "figure",
        "silicon",
        "model",
        "error",
        "if counts differ",
        "interval",
        "holds it",
        "fitted on",
        "scored",
    )
    for row in rows:
        table.add_row(
            row.chip,
            f"{row.figure} [{UNITS[row.figure]}]".replace("[", "\\["),
            "-" if row.silicon is None else f"{row.silicon:g}",
            f"{row.value:.4g}",
            "-" if row.error is None else f"{row.error:+.1%}",
            "-" if row.silicon is None else f"{row.least / row.silicon - 1:+.0%} to {row.most / row.silicon - 1:+.0%}",
            f"{row.low:.3g} to {row.high:.3g}",
            {None: "-", True: "yes", False: "NO"}[row.contains],
            " ".join(row.fitted_on),
            "yes" if row.scored else "no",
        )
    return table


def _preset_table(published: tuple[Published, ...]) -> Table:
    table = Table("preset", "figure", "silicon", "preset, fully used", "interval", "holds it")
    for chip in published:
        if not chip.dense:
            continue
        spec = preset(chip.id).spec
        silicon = at_precision(chip, spec.input_bits, spec.weight_bits, spec.input_cycles)
        for figure, (low, nominal, high) in at_full_use(spec).items():
            known = silicon[figure]
            if known is not None:
                shown = f"{figure} \\[{UNITS[figure]}]"
                inside = "yes" if low <= known <= high else "NO"
                table.add_row(chip.id, shown, f"{known:.4g}", f"{nominal:.4g}", f"{low:.3g} to {high:.3g}", inside)
    return table


def _summary(rows: list[Prediction], published: tuple[Published, ...]) -> list[str]:
    scored = [r for r in rows if r.scored and r.error is not None]
    met = [r for r in scored if abs(r.error or 0.0) <= BAR]
    held = [r for r in rows if r.contains is not None]
    outside = [f"{r.chip} {r.figure} {r.error:+.0%}" for r in rows if r.error is not None and abs(r.error) > BAR]
    sparse = [p.id for p in published if not p.dense]
    fitted = {r.chip for r in rows}
    digital = [p.id for p in published if p.kind in ("sram_digital", "mram_nearmem") and p.dense]
    return [
        f"leave-one-out within {BAR:.0%}: {len(met)} of {len(scored)} scored figures",
        f"interval holds the silicon: {sum(r.contains is True for r in held)} of {len(held)}",
        f"outside {BAR:.0%}: {', '.join(outside) or 'none'}",
        "not scored: energy with unpublished activity; macros whose node has no other macro",
        f"sparse, excluded: {', '.join(sparse)}",
        f"digital, structure not published, not modelled: {', '.join(d for d in digital if d not in fitted)}",
        "the counts of silicon.py were settled with these macros in view: only the fitted constants are truly left out",
    ]


def main() -> None:
    """Print the tables; with --csv, write the predictions too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--csv", type=Path, help="also write the predictions to this file")
    options = parser.parse_args()
    published = read_published(MACROS)
    rows = predictions(published)
    console = Console(width=150)
    console.print(_model_table(rows))
    console.print(_preset_table(published))
    for line in _summary(rows, published):
        console.print(line)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["macro", "figure", "unit", "silicon", "model", "low", "high", "error", "fitted_on", "scored"]
            )
            for r in rows:
                known = ["" if r.silicon is None else r.silicon, f"{r.value:.6g}", f"{r.low:.6g}", f"{r.high:.6g}"]
                error = "" if r.error is None else f"{r.error:.4f}"
                writer.writerow([r.chip, r.figure, UNITS[r.figure], *known, error, " ".join(r.fitted_on), r.scored])


if __name__ == "__main__":
    main()
