"""What overlap is worth: each zoo network placed one operator at a time, and in parallel.

Both on the same cost table; CPU seconds are those of `partition` alone (for the parallel schema with the sequential
search that it starts from), in this process.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from h4hc.api import CompileOptions, compile_model
from h4hc.assignment import Assignment, Objective, Schema
from h4hc.cost import CostTable
from h4hc.partition import PartitionOptions, partition
from h4hc.reporting.trust_text import value_text
from h4hc.workload import Workload
from h4hc.zoo.build import build_model
from h4hc.zoo.models import MODELS
from tests.synthetic_plans import synthetic

WIDTH = 120


def problem(graph: str, given: argparse.Namespace) -> tuple[Workload, CostTable]:
    """A synthetic graph by its number of operators, or a zoo network on the target."""
    if graph.isdecimal():
        return synthetic(int(graph), given.seed, given.tight)
    name, _, form = graph.partition(":")
    options = CompileOptions(given.target, sets=tuple(given.set))
    done = compile_model(build_model(name, int8=form == "int8").SerializeToString(), options, stop_after="costs")
    assert done.workload is not None
    assert done.table is not None
    return done.workload, done.table


def timed(workload: Workload, table: CostTable, options: PartitionOptions) -> tuple[Assignment, float]:
    """A plan and its CPU seconds."""
    begun = time.process_time()
    found = partition(workload, table, options).assignment
    return found, time.process_time() - begun


def row(graph: str, given: argparse.Namespace) -> list[str]:
    """The cells of one network."""
    workload, table = problem(graph, given)
    objective = Objective(given.objective)
    alone, alone_s = timed(workload, table, PartitionOptions(objective, gap=1e-4, time_limit_s=given.time_limit))
    wish = PartitionOptions(objective, gap=given.gap, time_limit_s=given.time_limit, schema=Schema.PARALLEL)
    beside, beside_s = timed(workload, table, wish)
    texts = [value_text(plan.value, str(objective)) for plan in (alone, beside)]
    saved = 1 - beside.value / alone.value if alone.value else 0.0
    cells = [graph, f"{len(workload.ops):,}", texts[0], f"{alone_s:.2f}", texts[1], f"{saved:.2%}"]
    return [*cells, f"{beside.gap:.2%}", f"{beside_s:.2f}"]


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    both = [f"{name}{form}" for name in sorted(MODELS) for form in ("", ":int8")]
    parser.add_argument("--graphs", nargs="+", default=both, help="zoo networks (NAME or NAME:int8), or numbers")
    parser.add_argument("--seed", type=int, default=1, help="of synthetic graphs")
    parser.add_argument("--tight", type=float, default=0.4, help="part of all weights that the CIM holds, synthetic")
    parser.add_argument("--target", default="npu+cim", help="of the zoo networks")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, a number of the target")
    parser.add_argument("--objective", choices=[o.value for o in Objective], default="latency")
    parser.add_argument("--gap", type=float, default=0.01, help="relative gap of the parallel plan to stop at")
    parser.add_argument("--time-limit", type=float, default=60.0, help="wall seconds of each search")
    given = parser.parse_args()
    table = Table(
        "network", title=f"{given.objective} on {given.target}, parallel to a gap of {given.gap:g}", width=WIDTH
    )
    for column in ("operators", "one at a time", "CPU s", "parallel", "saved", "gap", "CPU s"):
        table.add_column(column, justify="right")
    for graph in given.graphs:
        table.add_row(*row(graph, given))
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
