"""Which splits of an operator are worth asking for: eighths of its output channels, in steps that the devices like."""

from __future__ import annotations

import math

from h4hc.cost import device_rejection
from h4hc.costtypes import DeviceModel
from h4hc.splits import Split, fault
from h4hc.splitting.workload import alone_in, split_workload
from h4hc.system import System
from h4hc.workload import Cut, Op, Workload

EIGHTHS = 8


def split_options(op: Op, workload: Workload, system: System) -> tuple[Split, ...]:
    """Splits of `op` by output channels into two parts that at least two devices may run; none where there are none.

    The first part has k / 8 of the channels, k = 1 to 7, rounded to a common multiple of the `channel_step` of those
    devices (of the smallest step where the multiple leaves no choice). Splits by input channels are no candidates:
    see `why_not_split`. What a part costs: `op_row` of it in `split_workload(workload, (split,))`.
    """
    return _options(op, workload, system)[0]


def why_not_split(op: Op, workload: Workload, system: System) -> str:
    """Why `split_options` has none for an operator; empty where it has some."""
    return _options(op, workload, system)[1]


def _options(op: Op, workload: Workload, system: System) -> tuple[tuple[Split, ...], str]:
    cut = op.by_output
    if isinstance(cut, str):
        return (), cut or f"{op.kind.value} is no convolution and no matrix product"
    halves = _candidates(op, cut, cut.unit, (EIGHTHS // 2,)) or _candidates(op, cut, cut.unit, range(1, EIGHTHS))
    if not halves:
        return (), f"{cut.count} channels do not make two parts of {cut.least} or more, by {cut.unit}"
    devices = _takers(halves[0], workload, system)
    if len(devices) < 2:
        names = ", ".join(d.name for d in devices) or "no device"
        return (), f"of its parts only {names} may run any, and one device gains nothing by a split"
    steps = sorted({math.lcm(device.channel_step(), cut.unit) for device in devices})
    for step in (math.lcm(*steps), *steps):
        found = _candidates(op, cut, step, range(1, EIGHTHS))
        if found:
            return found, ""
    return (), f"{cut.count} channels do not make two parts in steps of {steps[0]}, of {cut.least} or more"


def _candidates(op: Op, cut: Cut, step: int, eighths: tuple[int, ...] | range) -> tuple[Split, ...]:
    first = dict.fromkeys(round(cut.count * k / EIGHTHS / step) * step for k in eighths)
    splits = (Split(op.id, "output", (count, cut.count - count)) for count in first)
    return tuple(split for split in splits if not fault(split, cut))


def _takers(split: Split, workload: Workload, system: System) -> list[DeviceModel]:
    """Devices that may run a part: perhaps more than run the whole, whose weights may not fit."""
    parts = split_workload(alone_in(workload, workload.op[split.op]), (split,))
    found = []
    for device in system.devices:
        for index in range(len(split.counts)):
            part = parts.op[split.part(index)]
            if device_rejection(part, device, parts) is None and any(
                device.mode_rejection(part, mode) is None for mode in device.modes()
            ):
                found.append(device)
                break
    return found
