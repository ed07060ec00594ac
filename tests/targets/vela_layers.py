"""Layers in the format of tests/data/ethos_u55_layers.csv as workloads of one operator, and the NPUs they name."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from h4hc.costtypes import DeviceModel
from h4hc.layer_kinds import KINDS, LayerShape, conv_workload, fc_workload, one_op
from h4hc.vendor_names import Config, configured
from h4hc.workload import Workload

__all__ = ["conv_workload", "fc_workload", "one_op"]

DATA = Path(__file__).parents[1] / "data"
CSV = DATA / "ethos_u55_layers.csv"
HELD_OUT = DATA / "ethos_u_heldout_layers.csv"
NETWORKS = DATA / "ethos_u_networks.csv"
WEIGHT_RATIO = 0.8925  # of the Gaussian weights of sigma 32 the tables were made with
Row = dict[str, str]


def rows(path: Path = CSV) -> Iterator[Row]:
    """Rows of a table, behind its comment lines."""
    with path.open(newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def workload_of(row: Row) -> Workload:
    """The layer of a row."""
    sizes = {name: int(row.get(name) or 1) for name in ("h", "w", "cin", "cout", "kh", "kw", "stride", "dil", "groups")}
    over = "c" if row["layer"].startswith("mean_c_") else "hw"
    return KINDS[row["kind"]](LayerShape(**sizes, same=row["pad"] != "VALID", mean_over=over))


def inside(workload: Workload) -> Workload:
    """The same operators between others: none of their tensors is the model's own."""
    return replace(workload, inputs=(), outputs=())


@functools.cache
def npu(accel: str, sysconf: str, memmode: str) -> DeviceModel:
    """The NPU that the vendor's names stand for, with weights as compressible as those of the tables."""
    system = configured(Config(accel, sysconf, memmode), "npu", (f"npu.weight_ratio={WEIGHT_RATIO}",))
    return system.device("npu")


def npu_of(row: Row) -> DeviceModel:
    """The NPU of a row."""
    return npu(row["accel"], row["sysconf"], row["memmode"])
