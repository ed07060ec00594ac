"""`h4hc memory pack|check|export`: static memory plans, and allocation problems in MiniMalloc's CSV format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h4hc.commands.flags import file_problems, global_flags, pass_console, raise_all, write_new
from h4hc.console import Console
from h4hc.errors import InfeasibleError, IntegrityError, LimitError, Problem, UserError
from h4hc.units import format_bytes

if TYPE_CHECKING:
    from h4hc.memory.minimalloc import Table
    from h4hc.memory.problem import Packing

MOST_NODES = 100_000
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)")


@click.group("memory", help="Pack buffers into memory, check a packing, or take the problem out of a memory plan.")
@global_flags
def command() -> None: ...


def _capacity(text: str | None) -> int | None:
    """`1M` -> 1048576. Raises UserError."""
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UserError(f"--capacity {text!r} is no size", hint="bytes, or with K, M, G: --capacity 1M")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def _read(path: Path) -> Table:
    raise_all(file_problems("such CSV file", path))
    from h4hc.files import read_file
    from h4hc.memory.minimalloc import read_csv

    return read_csv(read_file(path, "CSV file"), str(path))


@command.command("pack", help="Find an offset for each buffer of PROBLEM.csv (columns id,lower,upper,size,...).")
@click.argument("problem", type=click.Path(path_type=Path), metavar="PROBLEM.csv")
@click.option(
    "--capacity", metavar="BYTES", help="Stop at the first packing that fits: 1048576 or 1M. Without: the lowest found."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the solution: + offset.")
@click.option(
    "--nodes", type=click.IntRange(0), default=MOST_NODES, show_default=True, help="Effort of the exact search."
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@global_flags
@pass_console
def pack_command(
    console: Console, problem: Path, capacity: str | None, output: Path | None, nodes: int, force: bool
) -> None:
    limit = _capacity(capacity)
    if output is not None and output.exists() and not force:
        raise UserError("the file exists", (str(output),), hint="--force replaces it")
    table = _read(problem)
    from h4hc.memory.allocate import pack
    from h4hc.memory.minimalloc import write_csv

    found = pack(table.items, limit, nodes)
    if limit is not None and found.high_water_bytes > limit:
        raise _misfit(found, limit, str(problem), nodes)
    if output is not None:
        write_new(output, write_csv(table.items, found.offsets), force)
        console.say(f"wrote {output}")
    value = {
        "buffers": len(table.items),
        "high_water_bytes": found.high_water_bytes,
        "lower_bound_bytes": found.lower_bound_bytes,
        "overhead": found.overhead,
        "status": str(found.status),
        "nodes": found.nodes,
        "offsets": [{"id": item.name, "offset_bytes": at} for item, at in zip(table.items, found.offsets, strict=True)],
    }
    console.result(value, lambda: _text(found, len(table.items)))


def _text(found: Packing, buffers: int) -> str:
    return (
        f"{buffers} buffers: high-water mark {found.high_water_bytes} bytes, lower bound {found.lower_bound_bytes} "
        f"(overhead {100 * found.overhead:.3g} %), {found.status}, {found.nodes} nodes\n"
    )


def _misfit(found: Packing, limit: int, where: str, nodes: int) -> InfeasibleError | LimitError:
    from h4hc.memory.problem import PackingStatus

    low, high = found.lower_bound_bytes, found.high_water_bytes
    if found.status is PackingStatus.INFEASIBLE:
        why = f"lower bound {low} bytes, capacity {limit}: {low - limit} are missing"
        hint = f"--capacity {low} or more"
        return InfeasibleError("the buffers do not fit, whatever the packing", (where,), why, hint)
    why = f"lower bound {low} bytes, capacity {limit}, lowest packing found {high}; {found.nodes} nodes searched"
    hint = f"--nodes {max(10 * nodes, 1000)}, or --capacity {high}, which is known to do"
    return LimitError("no packing was found that fits, and none was ruled out", (where,), why, hint)


@command.command("check", help="Check the offsets of SOLUTION.csv: overlaps, alignment, capacity. Names every fault.")
@click.argument("solution", type=click.Path(path_type=Path), metavar="SOLUTION.csv")
@click.option("--capacity", metavar="BYTES", help="Size of the memory: 1048576 or 1M.")
@global_flags
@pass_console
def check_command(console: Console, solution: Path, capacity: str | None) -> None:
    limit = _capacity(capacity)
    table = _read(solution)
    if table.offsets is None:
        raise UserError("the file has no column 'offset'", (str(solution),), hint="h4hc memory pack writes one")
    from h4hc.memory.greedy import high_water
    from h4hc.memory.minimalloc import check_packing

    problems = check_packing(table.items, table.offsets, limit)
    if problems:
        raise IntegrityError.of(tuple(problems))
    high = high_water(table.items, table.offsets)
    value = {"buffers": len(table.items), "high_water_bytes": high, "faults": 0}
    console.result(value, lambda: f"{len(table.items)} buffers, no fault; high-water mark {high} bytes\n")


@command.command("export", help="Write the allocation problem of the folder OUT, or of a memory.json, as CSV.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="CSV file to write. Required.")
@click.option("--solution", is_flag=True, help="With the plan's offsets.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@global_flags
@pass_console
def export_command(console: Console, out: Path, output: Path | None, solution: bool, force: bool) -> None:
    problems = file_problems("such folder", out)
    if output is None:
        problems.append(Problem("-o FILE is missing", hint=f"h4hc memory export {out} -o problem.csv"))
    raise_all(problems)
    assert output is not None
    from h4hc.memory.minimalloc import write_csv
    from h4hc.memory.saved import load_plan

    plan = load_plan(out)
    region = plan.regions[0]
    offsets = [b.offset_bytes for b in region.buffers]
    write_new(output, write_csv(region.items(), offsets if solution else None), force)
    console.say(f"wrote {output}")
    capacity = {"region": region.name, "capacity_bytes": region.capacity_bytes, "buffers": len(region.buffers)}
    console.result(
        {**capacity, "high_water_bytes": region.high_water_bytes},
        lambda: (
            f"{len(region.buffers)} buffers of {region.name}, {format_bytes(region.high_water_bytes)} of "
            f"--capacity {region.capacity_bytes}\n"
        ),
    )
