"""The warning for a plan that does not fit the SRAM: by how much, at which operator, and what lies there."""

from __future__ import annotations

from h4hc.diagnostics import Diagnostic
from h4hc.memory.plan import SRAM, MemoryPlan
from h4hc.schedule import Schedule
from h4hc.units import format_bytes

SRAM_EXCEEDED = "H4W120"
SHOWN = 3


def sram_remark(plan: MemoryPlan, schedule: Schedule) -> tuple[Diagnostic, ...]:
    """Nothing, or one warning: the SRAM does not constrain the placement, so its plan may need more than there is."""
    region = plan.region(SRAM)
    if region.fits:
        return ()
    there, low = format_bytes(region.capacity_bytes), format_bytes(region.lower_bound_bytes)
    if region.lower_bound_bytes > region.capacity_bytes:
        why = f"{low} are needed whatever the layout, {there} are there"
    else:
        found = format_bytes(region.high_water_bytes)
        why = f"{there} are there, the lowest layout found takes {found}, and {low} is the least that is not ruled out"
    live = region.live(region.peak_step)
    sizes = ", ".join(format_bytes(b.size_bytes) for b in live[:SHOWN])
    more = f" and {len(live) - SHOWN} more" if len(live) > SHOWN else ""
    at = (schedule.steps[region.peak_step].subject,) if schedule.steps else ()
    return (
        Diagnostic(
            SRAM_EXCEEDED,
            "warning",
            f"the plan does not fit the SRAM: {why}; in use at the peak: {sizes or 'nothing'}{more}; SRAM is not a "
            "constraint of the placement yet",
            tuple(dict.fromkeys((*at, *(b.name for b in live[:SHOWN])))),
            "reduce the resolution, or raise the memory of the target (--set sram.size_bytes=N)",
        ),
    )
