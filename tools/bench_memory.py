"""High-water mark, lower bound, overhead and time of memory plans: the zoo, families of random lifetimes, and full
rectangles of 1 MiB cut into some hundred buffers, in which a packing without a free byte exists.

Files in MiniMalloc's CSV format can be named as well; they are packed into `--capacity`. Times are CPU seconds.
`greedy`: the overhead of the best greedy order alone.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from h4hc.memory.allocate import pack
from h4hc.memory.minimalloc import check_packing, read_csv
from h4hc.memory.problem import Item, PackingStatus
from tests.memory.families import FAMILIES, MIB, cut_rectangle

RUNS = 20  # problems of a family
BUFFERS = (100, 200, 300, 500)
GRAINS = (1, 1024)  # sizes are multiples of it


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.csv")
    parser.add_argument("--capacity", type=int, default=MIB, help="bytes, for the files")
    parser.add_argument("--nodes", type=int, default=20_000, help="effort of the exact search, a problem")
    parser.add_argument("--seeds", type=int, default=4, help="rectangles of each size")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    if given.files:
        rows = [
            _row(p.name, [read_csv(p.read_bytes(), str(p)).items], given.capacity, given.nodes) for p in given.files
        ]
    else:
        rows = [*_zoo(), *_families(given.nodes), *_rectangles(given.nodes, given.seeds)]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*(key.replace("_", " ") for key in rows[0]))
    for row in rows:
        table.add_row(*(f"{value:.2%}" if key in PERCENT else f"{value:g}" if isinstance(value, float) else str(value)
                        for key, value in row.items()))  # fmt: skip
    Console(width=140).print(table)


PERCENT = ("greedy", "overhead")


def _row(name: str, problems: Sequence[Sequence[Item]], capacity: int | None, nodes: int) -> dict[str, Any]:
    greedy = [pack(items, most_nodes=0).overhead for items in problems]
    begun = time.process_time()
    found = [pack(items, capacity, nodes) for items in problems]
    spent = time.process_time() - begun
    for items, packing in zip(problems, found, strict=True):
        assert not check_packing(items, packing.offsets, packing.high_water_bytes)
    return {
        "what": name,
        "problems": len(problems),
        "buffers": max(map(len, problems)),
        "high_water": max(p.high_water_bytes for p in found),
        "lower_bound": max(p.lower_bound_bytes for p in found),
        "greedy": sum(greedy) / len(greedy),
        "overhead": sum(p.overhead for p in found) / len(found),
        "proved": sum(p.status in (PackingStatus.OPTIMAL, PackingStatus.INFEASIBLE) for p in found),
        "nodes": sum(p.nodes for p in found),
        "cpu_s": round(spent, 2),
    }


def _zoo() -> list[dict[str, Any]]:
    from h4hc.api import CompileOptions, compile_model
    from h4hc.memory.planner import MOST_NODES
    from h4hc.zoo.build import build_model
    from h4hc.zoo.models import MODELS

    rows = []
    for name in MODELS:
        data = build_model(name, 0, False).SerializeToString(deterministic=True)
        done = compile_model(data, CompileOptions("npu+cim"))
        assert done.memory is not None
        rows.append(_row(name, [done.memory.regions[0].items()], None, MOST_NODES))
    return rows


def _families(nodes: int) -> list[dict[str, Any]]:
    return [
        _row(name, [make(seed, random.Random(seed).randint(5, 120)) for seed in range(RUNS)], None, nodes // 10)
        for name, make in FAMILIES.items()
    ]


def _rectangles(nodes: int, seeds: int) -> list[dict[str, Any]]:
    return [
        _row(f"full, grain {grain}", [cut_rectangle(s, count, grain=grain) for s in range(seeds)], MIB, nodes)
        for grain in GRAINS
        for count in BUFFERS
    ]


if __name__ == "__main__":
    main()
