"""Speed of `h4hc.api.estimate_many` from per-block tables, and how near its plans are to its bounds: a table.

The search space has 9 stages of inverted residuals (kernel 3 or 5, expansion 3 or 6, with or without
squeeze-and-excite, later blocks of a width optional), 11 with stem and classifier; networks are drawn at random with a
fixed seed. `tables` is the time to cost all blocks once. `proved`: share of networks whose value is the proved optimum;
`gap`: mean distance of a plan from the lower bound. Best of three runs, on one core and on as many as there are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from h4hc.api import Block, BlockTables, Estimates, block_tables, estimate_many, load_system
from tests.block_space import mobile_space

RUNS = 3
SYSTEMS = ("npu", "npu+cim", "npu+cim-1x1", "npu+cim cim.bank_bits=524288")  # the last: a store that most overflow
HEAD = ("system", "tables [s]", "networks", "1 core [1/s]", "all cores [1/s]", "proved", "gap")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=SYSTEMS, help="`TARGET` or `TARGET KEY=VALUE ...` in quotes")
    parser.add_argument("--networks", type=int, default=100_000)
    parser.add_argument("--refine", action="store_true", help="look harder for plans that fit the store")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    stages = mobile_space().stages
    rows = [bench(text, stages, given.networks, given.refine) for text in given.systems]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    size = np.prod([len(options) for options in stages], dtype=float)
    title = f"a space of {size:.3g} networks, {len(stages)} stages; {os.cpu_count()} cores"
    table = Table(*HEAD, title=title)
    for row in rows:
        speeds = f"{row['one_core_per_s']:,.0f}", f"{row['all_cores_per_s']:,.0f}"
        numbers = f"{row['tables_s']:.2f}", f"{row['networks']:,}", *speeds
        table.add_row(row["system"], *numbers, f"{row['proved']:.1%}", f"{row['gap']:.2%}")
    Console(width=120).print(table)


def bench(text: str, stages: list[list[Block]], count: int, refine: bool) -> dict[str, Any]:
    """One system: the tables, then random networks."""
    target, *sets = text.split()
    begun = time.perf_counter()
    tables = block_tables(stages, load_system(target, tuple(sets)))
    made_s = time.perf_counter() - begun
    rng = np.random.default_rng(0)
    choices = np.column_stack([rng.integers(0, stage.options, count) for stage in tables.stages])
    found = estimate_many(tables, choices, refine=refine)
    here = found.latency_ps < np.iinfo(np.int64).max
    gap = (found.latency_ps[here] / found.bound[here] - 1).mean() if here.any() else 0.0
    return {
        "system": text,
        "tables_s": made_s,
        "networks": count,
        "one_core_per_s": count / best_s(tables, choices, 1, refine),
        "all_cores_per_s": count / best_s(tables, choices, os.cpu_count() or 1, refine),
        "proved": float(found.proved.mean()),
        "gap": float(gap),
    }


def best_s(tables: BlockTables, choices: NDArray[np.integer], threads: int, refine: bool) -> float:
    """Least wall time of a run; the networks are split among threads, since numpy lets them run side by side."""
    parts = np.array_split(choices, threads)

    def run(part: NDArray[np.integer]) -> Estimates:
        return estimate_many(tables, part, refine=refine)

    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, parts))
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main()
