"""What a CIM device costs beside its operators: area, wake-up, wear of its cells, honesty about its outputs."""

from __future__ import annotations

from h4hc.costtypes import ZERO, Interval
from h4hc.quantity import whole
from h4hc.units import ceil_div
from targets.cim.spec import CimSpec

PS_PER_US = 10**6
UM2_PER_MM2 = 10**6
S_PER_YEAR = 365.25 * 24 * 3600

Bounds = tuple[float, float, float]


def area_mm2(spec: CimSpec) -> Bounds:
    """Silicon area of all macros [mm2], (low, nominal, high).

    macros * (bank_bits * bit_area + cus * rows * columns * lane_area + converters * adc.area). bit_area: a cell with
    its share of decoders, drivers and sense amplifiers; lane_area: one multiplier with its share of adder tree,
    accumulator and registers; converters = physical columns / columns_per_adc.
    """
    parts = [spec.bit_area.times(spec.bank_bits), spec.lane_area.times(spec.cus * spec.rows * spec.columns)]
    if spec.adc is not None:
        physical = spec.columns * spec.adc.conversions_per_output
        parts.append(spec.adc.area.times(ceil_div(physical, spec.adc.columns_per_adc)))
    low, nominal, high = (sum(part[bound] for part in parts) * spec.macros / UM2_PER_MM2 for bound in range(3))
    return low, nominal, high


def wake_up_share(spec: CimSpec) -> tuple[Interval, Interval]:
    """One inference's share of waking the macros up: (latency [ps], energy [pJ]).

    ZERO where weights are rewritten per inference or never: such macros are taken to stay on between inferences.
    """
    if spec.residency != "per_wake_up":
        return ZERO, ZERO
    share = 1 / spec.inferences_per_wake_up
    return whole(spec.wake_up.times(PS_PER_US * share)), whole(spec.wake_up_energy.times(spec.macros * share))


def life_years(spec: CimSpec) -> Bounds | None:
    """Years until the cells are worn out: endurance / rewrites a second, (low, nominal, high); None without wear.

    A cell is taken to be written once a wake-up or once an inference: operators that follow one another in the same
    cells wear it faster.
    """
    ends, wakes = spec.endurance, spec.wake_ups_per_s
    if ends is None or wakes is None or spec.residency == "resident":
        return None
    slow, nominal, fast = wakes.times(1 if spec.residency == "per_wake_up" else spec.inferences_per_wake_up)
    return (
        ends.low / fast / S_PER_YEAR,
        ends.value / nominal / S_PER_YEAR,
        ends.high / slow / S_PER_YEAR,
    )


def inexact(spec: CimSpec) -> str | None:
    """Why outputs differ from integer arithmetic, in words; None for digital kinds, which are bit-exact."""
    adc = spec.adc
    if adc is None:
        return None
    error = adc.output_error
    return (
        f"sums of {adc.rows} rows pass a {adc.bits}-bit converter: outputs are not bit-exact, rms error "
        f"{error.value:.2%} of full scale a conversion [{error.low:.2%} to {error.high:.2%}] {error.mark}"
    )


def without_effect(spec: CimSpec) -> tuple[str, ...]:
    """Numbers that change nothing while weights are kept as `residency` says: macros that are not rewritten have no
    writing, and only those that are rewritten at wake-up are taken to be off before it."""
    writing = ("write_bandwidth", "write_energy", "wake_ups_per_s", "endurance")
    waking = ("wake_up", "wake_up_energy")
    names = {"resident": (*writing, *waking), "per_wake_up": (), "per_inference": waking}[spec.residency]
    return tuple(name for name in names if getattr(spec, name) is not None)


def rows_of_text(spec: CimSpec) -> tuple[tuple[str, str], ...]:
    """Names and values of all that for `targets show`."""
    low, nominal, high = area_mm2(spec)
    out = [("area", f"{nominal:.3g} mm2 [{low:.3g} to {high:.3g}]")]
    life = life_years(spec)
    if life is not None:
        out.append(("life", f"{life[1]:.3g} years of rewriting [{life[0]:.3g} to {life[2]:.3g}]"))
    elif spec.endurance is not None:
        out.append(("life", "not worn: weights are never rewritten"))
    latency, energy = wake_up_share(spec)
    if latency.high or energy.high:
        share = f"{_text(latency)} ps, {_text(energy)} pJ"
        out.append(("wake-up, share of one inference", share))
    if idle := without_effect(spec):
        out.append((f"without effect while {spec.residency}", ", ".join(idle)))
    note = inexact(spec)
    out.append(("outputs", note or "bit-exact"))
    return tuple(out)


def _text(interval: Interval) -> str:
    return f"{interval.nominal} [{interval.low} to {interval.high}]"
