"""The warning for a plan that does not fit the SRAM: by how much, at which operator, and what lies there."""

from __future__ import annotations

from h4hc.diagnostics import Diagnostic
from h4hc.memory.plan import SRAM, MemoryPlan
from h4hc.schedule import Schedule
from h4hc.units import format_bytes

SRAM_EXCEEDED, BUDGET_EXCEEDED = "H4W120", "H4W122"
SHOWN = 3


def sram_remark(plan: MemoryPlan, schedule: Schedule) -> tuple[Diagnostic, ...]:
    """Nothing, or one warning: where no placement fits the SRAM, or none was found in time, the best one is made."""
    region = plan.region(SRAM)
    if region.fits:
        return ()
    there, low = format_bytes(region.capacity_bytes), format_bytes(region.lower_bound_bytes)
    if region.lower_bound_bytes > region.capacity_bytes:
        why, placed = f"{low} are needed whatever the layout, {there} are there", "; no placement that fits was found"
    else:
        found = format_bytes(region.high_water_bytes)
        placed = "; its live bytes fit, the layout found does not"
        why = f"{there} are there, the lowest layout found takes {found}, and {low} is the least that is not ruled out"
    live = region.live(region.peak_step)
    sizes = ", ".join(format_bytes(b.size_bytes) for b in live[:SHOWN])
    more = f" and {len(live) - SHOWN} more" if len(live) > SHOWN else ""
    at = (schedule.steps[region.peak_step].subject,) if schedule.steps else ()
    return (
        Diagnostic(
            SRAM_EXCEEDED,
            "warning",
            f"the plan does not fit the SRAM: {why}; in use at the peak: {sizes or 'nothing'}{more}{placed}",
            tuple(dict.fromkeys((*at, *(b.name for b in live[:SHOWN])))),
            "reduce the resolution, or raise the memory of the target (--set sram.size_bytes=N)",
        ),
    )


def budget_remark(plan: MemoryPlan, limit: int | None) -> tuple[Diagnostic, ...]:
    """Nothing, or one warning: the bytes alive at once keep `--budget sram`, and the layout found for them does not."""
    region = plan.region(SRAM)
    if limit is None or region.high_water_bytes <= limit:
        return ()
    found, low = format_bytes(region.high_water_bytes), format_bytes(region.lower_bound_bytes)
    what = (
        f"the lowest layout found takes {found} of SRAM, --budget sram allows {format_bytes(limit)}: the bytes "
        f"alive at once fit, {low} is the least height that is not ruled out"
    )
    return (Diagnostic(BUDGET_EXCEEDED, "warning", what, (), "allow a little more, or ask for a little less"),)
