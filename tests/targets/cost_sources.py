"""Tables and calibrations as files, and an NPU whose costs come from them."""

from __future__ import annotations

from pathlib import Path

from h4hc.calibration import FORMAT, METHOD, Calibration, KindFit, Source
from h4hc.costtypes import CLOCK, ZERO, Cost, DeviceModel, Interval
from h4hc.model_error import Errors
from h4hc.npu_cost import facts
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import Workload
from targets.ethos_u.device import EthosU
from tests.targets.vela_layers import conv_workload

CLOCK_HZ = 500_000_000
CONV = conv_workload(16, 32, (14, 14), (3, 3))
HEAD = "layer,kind,h,w,cin,cout,kh,kw,stride,pad"
LAYER = "a,conv,14,14,16,32,3,3,1,SAME"
OTHER = "b,conv,28,28,16,32,3,3,1,SAME"


def npu(choice: str, *sets: str) -> DeviceModel:
    """The NPU of target `npu` with the cost source `choice`."""
    return load_system("npu", sets, choice).device("npu")


def cost_of(device: DeviceModel, workload: Workload) -> Cost:
    """Of the one operator, in the device's first mode."""
    return device.cost(workload.ops[0], device.modes()[0], workload)


def write_table(folder: Path, *lines: str, name: str = "table.csv") -> str:
    """A table of layers as a file; its path."""
    file = folder / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def kind_fit(kind: str, ratio: float, low: float, high: float) -> KindFit:
    """A fit of three layers."""
    return KindFit(kind, 3, ratio, low, high, Errors(0.5, 0.5), Errors(0, 0), None)


def write_calibration(folder: Path, fit: KindFit, source: Source = "vendor") -> str:
    """A calibration of the NPU of target `npu`, of one fit, as a file; its path."""
    made = Calibration(FORMAT, "0", source, "r", METHOD, "npu", "0", "npu", facts(npu("model")), 0, 1, (fit,), (), ())
    file = folder / "calibration.json"
    file.write_bytes(made.to_json())
    return str(file)


def work(cost: Cost) -> dict[str, Interval]:
    """Energy of the terms that do not depend on time, by resource."""
    return {t.resource: t.energy for t in cost.terms if t.resource != CLOCK and t.energy != ZERO}


def ticks(cost: Cost) -> tuple[float, float, float]:
    """Energy of the clock over what a cycle of the preset costs: the cycles charged, at each bound."""
    (clock,) = (t.energy for t in cost.terms if t.resource == CLOCK)
    base = npu("model")
    assert isinstance(base, EthosU)
    each = base.spec.cycle_energy
    return clock.low / each.low, clock.nominal / each.value, clock.high / each.high


def cycles(latency: Interval) -> tuple[float, float, float]:
    """A latency [ps] in cycles, at each bound."""
    hz = CLOCK_HZ / PS_PER_S
    return latency.low * hz, latency.nominal * hz, latency.high * hz
