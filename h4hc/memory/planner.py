"""plan_memory: (Workload, Schedule, System) -> MemoryPlan."""

from __future__ import annotations

from dataclasses import replace

from h4hc.memory.allocate import pack
from h4hc.memory.buffers import lifetimes
from h4hc.memory.plan import SRAM, Buffer, MemoryPlan, Region, unique_names
from h4hc.memory.problem import Item, PackingStatus
from h4hc.schedule import Schedule
from h4hc.system import System
from h4hc.workload import Workload

MOST_NODES = 2_000  # of the exact search: a second or two at most; networks need some hundred


def plan_memory(workload: Workload, schedule: Schedule, system: System, most_nodes: int = MOST_NODES) -> MemoryPlan:
    """Give each tensor its place in the SRAM, as low as can be found with `most_nodes` nodes of search.

    All devices reach one SRAM and a system names no other memory that tensors lie in, so there is one region. A plan
    that does not fit is made all the same: it says how much is missing (`Region.fits`, `h4hc.memory.remark`).
    """
    resident = {device.name for device in system.devices if device.weights_in_sram()}
    needs = lifetimes(workload, schedule, resident)
    names = unique_names(need.name for need in needs)
    items = [
        Item(name, need.start, need.end, need.size_bytes, system.line_bytes)
        for name, need in zip(names, needs, strict=True)
    ]
    packing = pack(items, most_nodes=most_nodes)
    if packing.high_water_bytes > system.sram_bytes >= packing.lower_bound_bytes:  # look for this height by itself
        fitting = pack(items, system.sram_bytes, most_nodes)
        low = max(packing.lower_bound_bytes, fitting.lower_bound_bytes)
        lower = min(packing, fitting, key=lambda p: p.high_water_bytes)
        proved = PackingStatus.OPTIMAL if lower.high_water_bytes == low else PackingStatus.LIMIT
        packing = replace(lower, lower_bound_bytes=low, status=proved)
    buffers = tuple(
        Buffer(name, need.kind, tuple(need.tensors), need.reader, need.start, need.end, offset, need.size_bytes)
        for name, need, offset in zip(names, needs, packing.offsets, strict=True)
    )
    region = Region(
        SRAM,
        system.sram_bytes,
        system.line_bytes,
        packing.high_water_bytes,
        packing.lower_bound_bytes,
        packing.status,
        buffers,
    )
    return MemoryPlan(len(schedule.steps), (region,))
