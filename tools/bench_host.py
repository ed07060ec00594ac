"""The host model beside published inferences and kernels of Cortex-M cores: a table, no verdict.

Rows: tests/data/cmsis_nn_networks.csv (MLPerf Tiny, whole networks: cycles, and energy where submitted) and
cmsis_nn_kernels.csv (single operators). Error: model / published - 1, nominal. `inside`: whether the model's interval
holds the published figure. `fitted`: whether the preset's rates rest on it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.targets.published_hosts import TARGETS, Comparison, kernels, networks

WIDTH = 150  # characters of a line when the output is no terminal
SCALE = {"cycles": (1e6, "Mcycle"), "pJ": (1e6, "uJ")}


def main() -> None:
    """Parse arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cores", nargs="*", metavar="CORE", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    unknown = sorted(set(given.cores) - set(TARGETS))
    if unknown:
        parser.error(f"no core called {', '.join(unknown)}: known are {', '.join(TARGETS)}")
    wanted = given.cores or list(TARGETS)
    rows = [row for row in (*networks(), *kernels()) if row.core in wanted]
    if given.json:
        print(json.dumps([as_json(row) for row in rows], indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(as_table(rows))


def as_json(row: Comparison) -> dict[str, object]:
    """One row with its unit in the keys."""
    suffix = row.unit.lower()
    plain = dataclasses.asdict(row)
    model = plain.pop("model")
    published = plain.pop("published")
    plain.pop("unit")
    bounds = {f"model_{name}_{suffix}": value for name, value in model.items()}
    return {**plain, f"published_{suffix}": published, **bounds, "error": round(row.error, 4)}


def as_table(rows: list[Comparison]) -> Table:
    """All rows."""
    table = Table(
        "core", "part", "network or operator", "engine", "published", "model", "interval", "error", "inside", "fitted"
    )
    for row in rows:
        divisor, unit = SCALE[row.unit]
        low, nominal, high = (f"{t / divisor:.3g}" for t in (row.model.low, row.model.nominal, row.model.high))
        table.add_row(
            row.core,
            row.part,
            row.what,
            row.engine,
            f"{row.published / divisor:.3g} {unit}",
            nominal,
            f"{low} to {high}",
            f"{row.error:+.0%}",
            "yes" if row.model.low <= row.published <= row.model.high else "NO",
            "yes" if row.fitted else "no",
        )
    return table


if __name__ == "__main__":
    main()
