"""The warning for a plan that does not fit the SRAM: by how much, at which operator, and what lies there."""

from __future__ import annotations

from h4hc.diagnostics import Diagnostic
from h4hc.memory.plan import SRAM, MemoryPlan
from h4hc.schedule import Schedule
from h4hc.units import format_bytes

SRAM_EXCEEDED = "H4W120"
SHOWN = 3


def sram_remark(plan: MemoryPlan, schedule: Schedule) -> tuple[Diagnostic, ...]:
    """Nothing, or one warning: the placement is not constrained by the SRAM, so its plan may need more than there is."""
    region = plan.region(SRAM)
    if region.fits:
        return ()
    there = format_bytes(region.capacity_bytes)
    if region.lower_bound_bytes > region.capacity_bytes:
        why = f"{format_bytes(region.lower_bound_bytes)} are needed whatever the layout, {there} are there"
    else:
        why = f"the lowest layout found takes {format_bytes(region.high_water_bytes)}, {there} are there; " + (
            f"no layout with less than {format_bytes(region.lower_bound_bytes)} exists, between them the search gave up"
        )
    live = region.live(region.peak_step)
    largest = ", ".join(f"{b.name!r} {format_bytes(b.size_bytes)}" for b in live[:SHOWN])
    more = f" and {len(live) - SHOWN} more" if len(live) > SHOWN else ""
    step = schedule.steps[region.peak_step] if schedule.steps else None
    return (
        Diagnostic(
            SRAM_EXCEEDED,
            "warning",
            f"the plan does not fit the SRAM: {why}; at the peak {largest}{more}; SRAM is not a constraint of the "
            "placement yet",
            (step.subject,) if step is not None else (),
            "reduce the resolution, or raise the memory of the target (--set sram.size_bytes=N)",
        ),
    )
