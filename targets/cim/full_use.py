"""A macro's own figures with every row and column busy, as papers state them: area, cycle, energy a MAC."""

from __future__ import annotations

from targets.cim.silicon import Bounds, Figure
from targets.cim.spec import CimSpec
from targets.cim.upkeep import area_mm2

FJ_PER_PJ = 1000


def at_full_use(spec: CimSpec) -> dict[Figure, Bounds]:
    """(low, nominal, high) of area [mm2], cycle [ns] and energy [fJ/MAC at the precision of the spec].

    cycle = read_cycle + columns_per_adc * conversion. energy = read_bits * read_energy / (rows * columns * cus) +
    mac_energy + conversions a MAC * conversion_energy, conversions = input_cycles * conversions_per_output / rows.
    Start, fill, bus, post unit and leakage are the system's, and left out.
    """
    lanes = spec.rows * spec.columns * spec.cus
    cycle = [spec.read_cycle.times(1)]
    energy = [spec.read_energy.times(spec.read_bits / lanes * FJ_PER_PJ), spec.mac_energy.times(FJ_PER_PJ)]
    if spec.adc is not None:
        cycle.append(spec.adc.conversion.times(spec.adc.columns_per_adc))
        conversions = spec.input_cycles * spec.adc.conversions_per_output / spec.adc.rows
        energy.append(spec.adc.conversion_energy.times(conversions * FJ_PER_PJ))
    return {"area": area_mm2(spec), "cycle": _total(cycle), "energy": _total(energy)}


def _total(parts: list[Bounds]) -> Bounds:
    low, nominal, high = (sum(part[bound] for part in parts) for bound in range(3))
    return low, nominal, high
