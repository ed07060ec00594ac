"""The memory plan in the report: one row a region, and its sentence in the views."""

from __future__ import annotations

from typing import Any

from h4hc.memory.plan import MemoryPlan, Region
from h4hc.schedule import Schedule
from h4hc.units import format_bytes

Json = dict[str, Any]
AT_PEAK = 8  # buffers named; memory.json has them all


def memory_rows(plan: MemoryPlan, schedule: Schedule) -> list[Json]:
    """Capacity, need, bound and what is in use at the peak, of each region."""
    return [_row(region, schedule) for region in plan.regions]


def _row(region: Region, schedule: Schedule) -> Json:
    live = region.live(region.peak_step)
    return {
        "region": region.name,
        "capacity_bytes": region.capacity_bytes,
        "align_bytes": region.align_bytes,
        "high_water_bytes": region.high_water_bytes,
        "lower_bound_bytes": region.lower_bound_bytes,
        "overhead": region.overhead,
        "status": str(region.status),
        "buffers": len(region.buffers),
        "peak_step": region.peak_step,
        "peak_subject": schedule.steps[region.peak_step].subject if schedule.steps else "",
        "peak_buffers": len(live),
        "largest_at_peak": [
            {"name": b.name, "kind": b.kind, "offset_bytes": b.offset_bytes, "size_bytes": b.size_bytes}
            for b in live[:AT_PEAK]
        ],
    }


def memory_text(row: Json) -> str:
    """What a region takes, of what there is, and how far from the least: one sentence for all views."""
    need, there = row["high_water_bytes"], row["capacity_bytes"]
    used = f"{format_bytes(need)} of {format_bytes(there)} ({100 * need / there:.1f} %), {row['buffers']} buffers"
    if row["high_water_bytes"] == row["lower_bound_bytes"]:
        return f"{used}, the least possible"
    return f"{used}, {100 * row['overhead']:.2g} % above the bound {format_bytes(row['lower_bound_bytes'])}"
