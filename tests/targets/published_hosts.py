"""Published figures of Cortex-M cores (tests/data/cmsis_nn_*.csv) beside what the host model says of the same work.

Networks: whole inferences of MLPerf Tiny's closed division, in inferences a second and, where submitted, uJ of the
whole chip. Kernels: cycles of single operators of MobileNetV2 on a Cortex-M55. `fitted` says whether the preset's rates
rest on the row.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from h4hc.api import CompileOptions, compile_model
from h4hc.costtypes import Cost, Interval
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import Op, Workload
from targets.cortex_m.device import CortexM
from tests.targets.tiny_networks import network

DATA = Path(__file__).parents[1] / "data"
TARGETS = {"m4": "host-m4", "m7": "host-m7", "m33": "host-m33", "m55": "host", "m85": "host-m85"}
PJ_PER_UJ = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """One published figure and the model's: cycles of a kernel or an inference, or pJ of an inference."""

    core: str
    part: str
    what: str
    engine: str
    kernels: str
    unit: str  # cycles or pJ
    published: float
    model: Interval
    fitted: bool
    source: str

    @property
    def error(self) -> float:
        """model / published - 1, nominal."""
        return self.model.nominal / self.published - 1


@functools.cache
def networks() -> tuple[Comparison, ...]:
    """Every row of cmsis_nn_networks.csv, the core at the clock of the row's part; energies follow the cycles."""
    return tuple(c for row in _rows("cmsis_nn_networks.csv") for c in _network(row))


@functools.cache
def kernels() -> tuple[Comparison, ...]:
    """Every row of cmsis_nn_kernels.csv with products, on the operator of the zoo's mobilenet-v2 it was measured on."""
    workload = workload_of("mobilenet-v2")
    rows = [row for row in _rows("cmsis_nn_kernels.csv") if int(row["macs"])]
    return tuple(_kernel(row, op, workload) for row, op in zip(rows, workload.ops, strict=False))


def inference(name: str, target: str, sets: tuple[str, ...] = ()) -> tuple[Interval, Interval]:
    """Latency [ps] and energy [pJ] of all operators of a network on the host, one after the other, with leakage."""
    costs = _costs(workload_of(name), target, sets)
    nothing = Interval.exact(0)
    latency, energy = sum((c.latency for c in costs), nothing), sum((c.energy for c in costs), nothing)
    return latency, energy + load_system(target, sets).leakage_energy(latency)


@dataclass(frozen=True)
class Draw:
    """A published energy over the published cycles of one inference, taken apart with our numbers [pJ a cycle].

    chip: the whole; leakage, memories: what our leakage and our memories charge for it; stalled: share of the cycles in
    which the core waits for weights by our bandwidth. What is left, chip - leakage - memories, is the core's.
    """

    core: str
    network: str
    chip: float
    leakage: float
    memories: float
    stalled: float

    @property
    def average(self) -> float:
        """Of the core, busy and waiting cycles together."""
        return self.chip - self.leakage - self.memories


def draws() -> tuple[Draw, ...]:
    """Every row of cmsis_nn_networks.csv with an energy."""
    return tuple(_draw(row) for row in _rows("cmsis_nn_networks.csv") if row["energy_uj"])


def _draw(row: dict[str, str]) -> Draw:
    host = load_system(TARGETS[row["core"]]).device("host")
    assert isinstance(host, CortexM)
    spec, shared, ops = host.spec, host.spec.shared, workload_of(row["network"]).ops
    time_s = 1 / float(row["inferences_per_s"])
    cycles = time_s * int(row["clock_hz"])
    weights = sum(op.weight_bytes for op in ops)
    memories = sum(op.input_bytes for op in ops) * shared.sram.read_energy.value
    memories += sum(op.output_bytes for op in ops) * shared.sram.write_energy.value
    memories += weights * shared.flash.read_energy.value
    fetch_s = weights / (shared.flash.bandwidth.value * spec.fetch_share.value)
    return Draw(
        row["core"],
        row["network"],
        float(row["energy_uj"]) * PJ_PER_UJ / cycles,
        spec.leakage.value * time_s * PS_PER_S / cycles,
        memories / cycles,
        fetch_s / time_s,
    )


def _network(row: dict[str, str]) -> Iterator[Comparison]:
    clock_hz = int(row["clock_hz"])
    latency, energy = inference(row["network"], TARGETS[row["core"]], (f"host.clock_hz={clock_hz}",))
    figures = [("cycles", clock_hz / float(row["inferences_per_s"]), in_cycles(latency, clock_hz))]
    if row["energy_uj"]:
        figures.append(("pJ", float(row["energy_uj"]) * PJ_PER_UJ, energy))
    for unit, published, model in figures:
        who = (row["core"], row["part"], row["network"], row["engine"], row["kernels"])
        yield Comparison(*who, unit, published, model, row["fitted"] == "yes", row["source"])


def _kernel(row: dict[str, str], op: Op, workload: Workload) -> Comparison:
    found = (op.kind.value, op.macs, workload.tensor[op.outputs[0]].elements)
    if found != (row["kind"], int(row["macs"]), int(row["results"])):
        raise ValueError(f"row {row['operator']} of cmsis_nn_kernels.csv is not operator {op.id}: {found}")
    host = load_system(TARGETS[row["core"]]).device("host")
    model = in_cycles(_compute(host.cost(op, host.modes()[0], workload)), _clock(TARGETS[row["core"]]))
    who = (row["core"], row["part"], row["what"], row["engine"], row["kernels"])
    return Comparison(*who, "cycles", float(row["cycles"]), model, row["fitted"] == "yes", row["source"])


def _compute(cost: Cost) -> Interval:
    """Without the weights' way from flash: a kernel's cycles are counted in the core, whatever memory they lie in."""
    return next(t.latency for t in cost.terms if t.name == "compute")


def in_cycles(latency: Interval, clock_hz: int) -> Interval:
    """Latency [ps] as cycles at `clock_hz`."""
    return Interval(*(t * clock_hz // PS_PER_S for t in (latency.low, latency.nominal, latency.high)))


def _clock(target: str) -> int:
    summary = dict(load_system(target).device("host").summary())
    return int(summary["clock_hz"].split()[0])


@functools.cache
def workload_of(name: str) -> Workload:
    """The operators of a network, planned in int8."""
    workload = compile_model(network(name), CompileOptions(target="host"), stop_after="workload").workload
    assert workload is not None
    return workload


def _costs(workload: Workload, target: str, sets: tuple[str, ...]) -> tuple[Cost, ...]:
    host = load_system(target, sets).device("host")
    return tuple(host.cost(op, host.modes()[0], workload) for op in workload.ops)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
