"""classify: (Workload, CostTable, System) -> what bounds each operator on each device, and who may run it at all.

Needs no placement. Two views stand side by side. The *roofline* compares the operator's arithmetic intensity
with the ridge point of the device's memories: it knows peaks only. The *verdict* is the cost model's own: the
longest of compute, memory and overhead time, with the real utilisation of the device in it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from h4hc.cost import CostTable, OpRow
from h4hc.costtypes import Bound, Cost, DeviceModel, Rejection
from h4hc.system import System
from h4hc.workload import Op, Workload

Side = Literal["compute", "memory"]


@dataclass(frozen=True)
class Roofline:
    """An operator against one memory of a device.

    moved_bytes: bytes that the cost model moves through this memory, above 0 (a memory that the operator does not
    touch has no entry). macs_per_byte = macs / moved_bytes; side is "compute" from the ridge point upwards.
    """

    memory: str
    moved_bytes: int
    macs_per_byte: float
    ridge_macs_per_byte: float
    side: Side


@dataclass(frozen=True)
class Part:
    """Nominal time of one term of the cost: the longest parallel part counts, and every serial one."""

    name: str
    role: Literal["parallel", "serial"]
    resource: str
    latency_ps: int


@dataclass(frozen=True)
class DeviceClass:
    """An operator on a device that may run it: its fastest mode, the cost model's verdict, and the numbers behind it.

    parts: the terms that take time.
    """

    device: str
    mode: str
    bound: Bound
    latency_ps: int
    energy_pj: int
    parts: tuple[Part, ...]
    rooflines: tuple[Roofline, ...]


@dataclass(frozen=True)
class Refusal:
    """Why a device, or some of its modes, may not run an operator: reason code, rule, value seen, limit."""

    device: str
    modes: tuple[str, ...]
    code: str
    rule: str
    value: str
    limit: str
    fix: str


@dataclass(frozen=True)
class OpClass:
    """One operator's class. moved_bytes = inputs + weights + outputs; macs_per_byte = macs / moved_bytes."""

    op: str
    kind: str
    origin: tuple[str, ...]
    macs: int
    moved_bytes: int
    macs_per_byte: float
    devices: tuple[DeviceClass, ...]
    refusals: tuple[Refusal, ...]

    def device(self, name: str) -> DeviceClass | None:
        """The class on one device; None where that device may not run it."""
        return next((d for d in self.devices if d.device == name), None)


def classify(workload: Workload, table: CostTable, system: System) -> tuple[OpClass, ...]:
    """Class of every operator, in execution order."""
    return tuple(_classify_op(op, table.row[op.id], system) for op in workload.ops)


def _classify_op(op: Op, row: OpRow, system: System) -> OpClass:
    moved = op.input_bytes + op.weight_bytes + op.output_bytes
    devices = []
    for device in system.devices:
        costs = [c for c in row.costs if c.mode.device == device.name]
        if costs:
            best = min(costs, key=lambda c: (c.latency.nominal, c.mode.units))
            devices.append(_device_class(op, best, device))
    return OpClass(
        op.id, str(op.kind), op.origin, op.macs, moved, _intensity(op.macs, moved), tuple(devices), refusals(row)
    )


def _device_class(op: Op, cost: Cost, device: DeviceModel) -> DeviceClass:
    levels = dict(cost.bytes_moved)
    rooflines = []
    for ridge in device.ridge_points():
        count = levels.get(ridge.memory, 0)
        if count == 0:
            continue
        side: Side = "compute" if op.macs >= ridge.macs_per_byte * count else "memory"
        value = _intensity(op.macs, count)
        rooflines.append(Roofline(ridge.memory, count, value, _round(ridge.macs_per_byte), side))
    return DeviceClass(
        device.name,
        cost.mode.name,
        cost.bound,
        cost.latency.nominal,
        cost.energy.nominal,
        tuple(Part(t.name, t.role, t.resource, t.latency.nominal) for t in cost.terms if t.latency.nominal),
        tuple(rooflines),
    )


def refusals(row: OpRow) -> tuple[Refusal, ...]:
    """Rejections of an operator, those that differ in the mode only put together, in the table's order."""
    modes: dict[Rejection, list[str]] = {}
    for rejection in row.rejections:
        key = next((k for k in modes if _same(k, rejection)), rejection)
        modes.setdefault(key, []).append(rejection.mode.name)
    return tuple(
        Refusal(r.mode.device, tuple(names), r.code, r.rule, r.value, r.limit, r.fix) for r, names in modes.items()
    )


def _same(a: Rejection, b: Rejection) -> bool:
    return (a.mode.device, a.code, a.value, a.limit, a.rule) == (b.mode.device, b.code, b.value, b.limit, b.rule)


def _intensity(macs: int, moved_bytes: int) -> float:
    """MAC per byte; 0 for an operator that moves nothing."""
    return _round(macs / moved_bytes) if moved_bytes else 0.0


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def to_json(classes: tuple[OpClass, ...]) -> list[dict[str, Any]]:
    """The classes as JSON values."""
    result: list[dict[str, Any]] = _adapter().dump_python(classes, mode="json")
    return result


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[OpClass, ...])
