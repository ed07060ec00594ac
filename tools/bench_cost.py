"""The NPU's cost model against the estimates of its vendor's compiler: tables, no verdict.

1. Errors of total cycles by kind and memory mode, on the layers the model was made with and on others kept aside.
2. Whole networks: sums of the operators, less what hides behind the operator before.
3. Published figures of MobileNetV2 1.0 224.
4. Speed: one operator in all modes of the NPU, asked for the first time and again; a whole cost table.

The vendor's figures are files of tests/data. -o writes every layer with its residual as CSV.
"""

from __future__ import annotations

import argparse
import csv
import functools
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from h4hc.api import CompileOptions, compile_model
from h4hc.cost import cost_table
from h4hc.costtypes import DeviceModel
from h4hc.estimate import cost_layers
from h4hc.layer_table import LayerRow, read_layers
from h4hc.model_error import Errors
from h4hc.target_file import load_system
from h4hc.text import csv_text
from h4hc.units import PS_PER_S
from h4hc.workload import Workload
from h4hc.zoo.build import build_model

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
LAYERS = (DATA / "ethos_u55_layers.csv", DATA / "ethos_u_heldout_layers.csv")
NETWORKS = DATA / "ethos_u_networks.csv"
RATIO = "npu.weight_ratio=0.8925"  # of the weights that the tables were made with
PUBLISHED = (  # system, what, milliseconds: MobileNetV2 1.0 224 int8
    ("npu128", "Corstone-300 FVP, 7,345,741 cycles at 500 MHz (ml-embedded-evaluation-kit)", 7_345_741 / 500e6 * 1e3),
    ("npu-alif-hp", "Alif E8 HP silicon, end to end (executorch PR 19131)", 19.0),
)
WIDTH = 110  # of the tables, wherever they go
RUNS = 5  # of the speeds


@dataclass(frozen=True)
class Residual:
    """One layer: cycles of the vendor's compiler and of the model."""

    file: str
    row: LayerRow
    vendor_cycles: float
    model_cycles: float

    @property
    def error(self) -> float:
        """model / vendor - 1."""
        return self.model_cycles / self.vendor_cycles - 1


def residuals(path: Path) -> list[Residual]:
    """Every layer of a table on the NPU it names."""
    found = []
    for cost in cost_layers(read_layers(path).rows, "npu", (RATIO,), None):
        reference, total = cost.row.reference("total"), cost.total_cycles
        assert reference is not None
        assert total is not None
        found.append(Residual(path.name, cost.row, reference, total))
    return found


def error_table(title: str, found: Iterable[Residual]) -> Table:
    """Median, 95th percentile (nearest rank) and worst error by kind and memory mode."""
    groups: dict[tuple[str, str], list[Residual]] = {}
    for r in found:
        groups.setdefault((r.row.kind, r.row.memmode), []).append(r)
    table = Table("kind", "memory mode", "layers", "median", "p95", "worst", "worst layer", title=title, width=WIDTH)
    for (kind, mode), members in sorted(groups.items()):
        members.sort(key=lambda r: abs(r.error))
        errors, worst = Errors.of(r.error for r in members), members[-1]
        cells = [f"{100 * e:.2f} %" for e in (errors.median, errors.p95, abs(worst.error))]
        table.add_row(kind, mode, str(len(members)), *cells, worst.row.layer)
    return table


def write_residuals(path: Path, found: Iterable[Residual]) -> None:
    """The layers as CSV."""
    head = ("table", "layer", "kind", "accel", "sysconf", "memmode", "vendor_cycles", "model_cycles", "error_ratio")
    rows = []
    for r in found:
        names = (r.file, r.row.layer, r.row.kind, r.row.accel, r.row.sysconf, r.row.memmode)
        rows.append([*names, round(r.vendor_cycles), round(r.model_cycles), f"{r.error:.6f}"])
    path.write_text(csv_text(head, rows), encoding="utf-8", newline="")


@functools.cache
def workload_of(network: str) -> Workload:
    """A zoo network, lowered."""
    model = build_model(network).SerializeToString()
    workload = compile_model(model, CompileOptions("host"), stop_after="workload").workload
    assert workload is not None
    return workload


def total_ps(device: DeviceModel, workload: Workload) -> int:
    """Everything on one device, as its vendor's compiler sums it."""
    mode = device.modes()[0]
    alone = sum(device.cost(op, mode, workload).latency.nominal for op in workload.ops)
    return alone - sum(device.hidden(a, b, workload).nominal for a, b in pairwise(workload.ops))


def network_table() -> Table:
    """Totals of whole networks."""
    table = Table(
        "network", "system", "MACs", "memory mode", "vendor", "model", "error", title="Networks, cycles", width=WIDTH
    )
    with NETWORKS.open(newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            sets = (f"npu.macs={row['macs']}", f"npu.memory_mode={row['memory_mode']}", RATIO)
            device = load_system(row["system"], sets).device("npu")
            workload = workload_of(row["network"])
            clock_hz = device.cost(workload.ops[0], device.modes()[0], workload).clock_hz
            ours = total_ps(device, workload) * clock_hz / PS_PER_S
            vendor = int(row["total_cycles"]) - int(row["border_cycles"])
            cells = (f"{vendor:,}", f"{ours:,.0f}", f"{100 * (ours / vendor - 1):+.2f} %")
            table.add_row(row["network"], row["system"], row["macs"], row["memory_mode"], *cells)
    return table


def published_table(workload: Workload) -> Table:
    """MobileNetV2 against what was published."""
    table = Table("system", "published figure", "ms", "model [ms]", "ratio", title="MobileNetV2 1.0 224", width=WIDTH)
    for system, what, reference in PUBLISHED:
        ours = total_ps(load_system(system).device("npu"), workload) / PS_PER_S * 1e3
        table.add_row(system, what, f"{reference:.2f}", f"{ours:.2f}", f"{reference / ours:.2f}")
    return table


def speed_table(workload: Workload) -> Table:
    """CPU time of the scalar model on the operators of a network: the least of some runs, as others use the machine."""
    runs = [_speeds_s(workload) for _ in range(RUNS)]
    first, again, whole = (min(run[i] for run in runs) for i in range(3))
    table = Table("what", "CPU time", title=f"Speed, {workload.name}: {len(workload.ops)} operators")
    table.add_row("one operator in all modes, first time, median", f"{first * 1e6:.0f} us")
    table.add_row("one operator in all modes, again, median", f"{again * 1e6:.0f} us")
    table.add_row("whole cost table of npu and host", f"{whole * 1e3:.0f} ms")
    return table


def _speeds_s(workload: Workload) -> tuple[float, float, float]:
    """Nothing is known at the start: an operator for the first time, again; a table, nothing known again."""
    from targets.ethos_u.blocks import forget

    forget()
    device = load_system("npu").device("npu")
    first, again = asked_s(device, workload), asked_s(device, workload)
    forget()
    system = load_system("npu")
    begun = time.process_time()
    cost_table(workload, system)
    return first, again, time.process_time() - begun


def asked_s(device: DeviceModel, workload: Workload) -> float:
    """Median CPU seconds to cost an operator in all modes of a device."""
    times = []
    for op in workload.ops:
        begun = time.process_time()
        for mode in device.modes():
            device.cost(op, mode, workload)
        times.append(time.process_time() - begun)
    return statistics.median(times)


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the residual of every layer as CSV")
    given = parser.parse_args()
    console = Console(width=WIDTH)
    found = {path: residuals(path) for path in LAYERS}
    for path, members in found.items():
        console.print(error_table(f"{path.name}: {len(members)} layers, |model / vendor - 1|", members))
    if given.output is not None:
        write_residuals(given.output, (r for members in found.values() for r in members))
    console.print(network_table())
    console.print(published_table(workload_of("mobilenet-v2")))
    console.print(speed_table(workload_of("mobilenet-v2")))


if __name__ == "__main__":
    main()
