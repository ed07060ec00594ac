"""The placement at scale: CPU seconds, gap and peak memory, shortest paths first beside the integer program alone.

Zoo networks on a target, then synthetic graphs (made by tests/synthetic_plans.py) of --ops operators for each
seed, whose CIM holds --tight of all weights. "paths" is the search as it is; "program" is the same search without its
shortest paths. Every run has a process of its own and --time-limit seconds of wall time; CPU seconds are those of
`partition` alone, peak memory is that of the whole process with the graph, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from h4hc.api import CompileOptions, compile_model
from h4hc.assignment import Objective
from h4hc.cost import CostTable
from h4hc.partition import PartitionOptions, partition
from h4hc.planning.search import Search
from h4hc.units import MIB
from h4hc.workload import Workload
from h4hc.zoo.build import build_model
from h4hc.zoo.models import MODELS
from tests.synthetic_plans import synthetic

METHODS = ("paths", "program")
TARGET_S = {500: 0.5, 2000: 2.0, 10000: 15.0}  # CPU seconds that a graph of so many operators may take at gap 1e-4
WIDTH = 120


def problem(graph: str, seed: int, given: argparse.Namespace) -> tuple[Workload, CostTable]:
    """A synthetic graph by its number of operators, or a zoo network on the target."""
    if graph.isdecimal():
        return synthetic(int(graph), seed, given.tight)
    options = CompileOptions(given.target, sets=tuple(given.set))
    done = compile_model(build_model(graph).SerializeToString(), options, stop_after="costs")
    assert done.workload is not None
    assert done.table is not None
    return done.workload, done.table


def measure(graph: str, seed: int, method: str, given: argparse.Namespace) -> dict[str, Any]:
    """One run, in this process."""
    workload, table = problem(graph, seed, given)
    small = synthetic(5, 0, 1.0)
    partition(*small, PartitionOptions())  # imports
    if method == "program":
        Search.paths = None  # type: ignore[assignment,method-assign]
    begun = time.process_time()
    options = PartitionOptions(Objective(given.objective), gap=given.gap, time_limit_s=given.time_limit)
    found = partition(workload, table, options).assignment
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ops": len(workload.ops), "cpu_s": seconds, "gap": found.gap, "value": found.value, "peak_bytes": peak}


def in_a_process(graph: str, seed: int, method: str, arguments: list[str]) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tools.bench_partition", *arguments, "--one", graph, str(seed), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def row(graph: str, seed: int, given: argparse.Namespace, arguments: list[str]) -> list[str]:
    """The cells of one graph."""
    runs = {m: in_a_process(graph, seed, m, arguments) for m in METHODS if m == "paths" or not given.paths_only}
    paths = runs["paths"]
    cells = [graph if not graph.isdecimal() else f"synthetic, seed {seed}", f"{paths['ops']:,}"]
    for method in METHODS:
        run = runs.get(method)
        if run is None:
            cells += ["-"] * 3
        else:
            cells += [f"{run['cpu_s']:.2f}", f"{run['gap']:.1e}", f"{run['peak_bytes'] / MIB:.0f}"]
    limit = TARGET_S.get(paths["ops"], 2.0)
    cells.append("-" if given.gap > 1e-4 else f"{limit:g} {'met' if paths['cpu_s'] <= limit else 'missed'}")
    return cells


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", type=int, nargs="*", default=sorted(TARGET_S), help="sizes of the synthetic graphs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="seeds of the synthetic graphs")
    parser.add_argument("--tight", type=float, default=0.4, help="part of all weights that the CIM holds")
    parser.add_argument("--models", nargs="*", default=sorted(MODELS), help="zoo networks")
    parser.add_argument("--target", default="npu+cim", help="of the zoo networks")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, a number of the target")
    parser.add_argument("--objective", choices=[o.value for o in Objective], default="latency")
    parser.add_argument("--gap", type=float, default=1e-4, help="relative gap to stop at")
    parser.add_argument("--time-limit", type=float, default=60.0, help="wall seconds of each run")
    parser.add_argument("--paths-only", action="store_true", help="leave the integer program alone out")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        graph, seed, method = given.one
        print(json.dumps(measure(graph, int(seed), method, given)))
        return
    title = f"{given.objective}, gap {given.gap:g}, at most {given.time_limit:g} s of wall time a run"
    table = Table("graph", "operators", title=title, width=WIDTH)
    for method in METHODS:
        for column in (f"{method}: CPU s", "gap", "MiB"):
            table.add_column(column, justify="right")
    table.add_column("CPU s asked for")
    jobs = [*((m, 0) for m in given.models), *((str(n), seed) for n in given.ops for seed in given.seeds)]
    for graph, seed in jobs:
        table.add_row(*row(graph, seed, given, sys.argv[1:]))
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
