"""The CIM device of a system: the numbers of spec.py behind the DeviceModel protocol."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from h4hc.costtypes import ZERO, Capacity, Cost, Interval, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import quantities, validated
from h4hc.units import PS_PER_S, ceil_div
from h4hc.workload import Op, Workload
from targets.cim import cost as cost_model
from targets.cim import upkeep
from targets.cim.geometry import Layer
from targets.cim.rules import make_rules, mode_violation
from targets.cim.spec import CimSpec

COUNTS = (
    "kind", "macros", "cus", "read_bits", "weight_bits", "bank_bits", "columns", "input_bits", "bits_per_cycle",
    "residency", "inferences_per_wake_up",
)  # fmt: skip
REMEMBERED = 4096  # layers whose mode-independent costs are kept: the modes of one ask for them in turn
ADC_COUNTS = ("bits", "rows", "conversions_per_output", "columns_per_adc")


@dataclass(frozen=True)
class Cim:
    """The CIM device: modes are the numbers of macros that share one operator."""

    name: str
    spec: CimSpec
    rule_objects: tuple[Rule, ...]
    family: str = "cim"

    @functools.cached_property
    def _fixed(self) -> Callable[[Layer, int], cost_model.Fixed]:
        return functools.lru_cache(maxsize=REMEMBERED)(functools.partial(cost_model.fixed_costs, self.spec))

    def modes(self) -> tuple[Mode, ...]:
        """1 to `macros` macros."""
        return tuple(Mode(self.name, m) for m in range(1, self.spec.macros + 1))

    def rules(self) -> tuple[Rule, ...]:
        """See targets.cim.rules."""
        return self.rule_objects

    def mode_rejection(self, op: Op, mode: Mode) -> Violation | None:
        """More macros than output channels, or too few to hold the operator."""
        return mode_violation(self.spec, op, mode)

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """See targets.cim.cost."""
        return cost_model.op_cost(self.spec, op, mode, self._fixed)

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """ZERO: a macro computes where its weights lie, so rewriting them overlaps no operator that uses the array."""
        return ZERO

    def channel_step(self) -> int:
        """Outputs that one read word serves side by side."""
        return self.spec.columns

    def area_mm2(self) -> tuple[float, float, float]:
        """See targets.cim.upkeep."""
        return upkeep.area_mm2(self.spec)

    def inexact(self) -> str | None:
        """Why the outputs are not bit-exact (analog kinds), or None."""
        return upkeep.inexact(self.spec)

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        """One inference's share of the wake-up: latency [ps], energy [pJ], marks. Part of no operator's cost."""
        marks = tuple(sorted({self.spec.wake_up.mark, self.spec.wake_up_energy.mark}))
        return (*upkeep.wake_up_share(self.spec), marks)

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """Peak of all macros with every CU busy, over the bus (SRAM); over the banks' own ports (weights)."""
        spec = self.spec
        step_ns = spec.read_cycle.value
        if spec.adc is not None:
            step_ns += spec.adc.conversion.value * spec.adc.columns_per_adc
        steps = spec.input_cycles * ceil_div(spec.rows, spec.rows_at_once)
        step_s = steps * step_ns * cost_model.PS_PER_NS / PS_PER_S
        peak = spec.macros * spec.cus * spec.rows * spec.columns / step_s
        bus = spec.shared.bus.bandwidth.value
        return (
            RidgePoint(self.name, "sram", peak, bus),
            RidgePoint(self.name, "bank", peak, spec.macros * spec.word_bytes / step_s),
        )

    def capacity(self) -> Capacity:
        """One unit a macro; None where weights do not stay from one inference to the next."""
        return Capacity(self.name, self.spec.macros, self.spec.bank_bytes if self.spec.stays else None)

    def leakage_w(self) -> tuple[float, float, float]:
        """Leakage of all macros [W]."""
        return self.spec.leakage_per_macro.times(self.spec.macros)

    def leakage_marks(self) -> tuple[str, ...]:
        """Mark of the leakage."""
        return (self.spec.leakage_per_macro.mark,)

    def weights_in_sram(self) -> bool:
        """No: they lie in the macros, or come from flash."""
        return False

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Names and values for `targets show`."""
        spec = self.spec
        plain = [("device", spec.title)]
        plain += [(name, str(getattr(spec, name))) for name in COUNTS]
        if spec.adc is not None:
            plain += [(f"adc.{name}", str(getattr(spec.adc, name))) for name in ADC_COUNTS]
        plain += [(name, str(getattr(spec, name)).lower()) for name in ("segments", "diagonal", "dedup")]
        plain += [("input_types", ", ".join(spec.input_types)), ("post_activations", ", ".join(spec.post_activations))]
        numbers = tuple((p, q.text()) for p, q in quantities(spec) if not p.startswith("shared."))
        return tuple(plain) + numbers + upkeep.rows_of_text(spec)


def load_device(name: str, numbers: dict[str, Any], where: str) -> Cim:
    """Build the device out of a resolved preset. Raises TargetError with all faults."""
    spec = validated(CimSpec, numbers, where)
    return Cim(name, spec, make_rules(spec))
