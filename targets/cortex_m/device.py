"""The host device of a system: the numbers of spec.py behind the DeviceModel protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h4hc.costtypes import ZERO, Capacity, Cost, Interval, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import quantities, validated
from h4hc.workload import Op, Workload
from targets.cortex_m import cost as cost_model
from targets.cortex_m.rules import RULES
from targets.cortex_m.spec import CortexMSpec


@dataclass(frozen=True)
class CortexM:
    """The host device; runs every operator kind, in one mode."""

    name: str
    title: str
    spec: CortexMSpec
    family: str = "cortex_m"

    def modes(self) -> tuple[Mode, ...]:
        """One."""
        return (Mode(self.name),)

    def rules(self) -> tuple[Rule, ...]:
        """None: the host runs everything."""
        return RULES

    def mode_rejection(self, op: Op, mode: Mode) -> Violation | None:
        """Never."""
        return None

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """See targets.cortex_m.cost."""
        return cost_model.op_cost(self.spec, op, mode, workload)

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """Nothing: the core fetches the weights of a kernel when it runs it."""
        return ZERO

    def channel_step(self) -> int:
        """Its kernels make one output channel after the other."""
        return 1

    def area_mm2(self) -> tuple[float, float, float]:
        """Core with its caches, without the shared SRAM [mm2]."""
        return self.spec.area.times(1)

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        """Nothing: its wake-up is part of the system's."""
        return ZERO, ZERO, ()

    def inexact(self) -> str | None:
        """None: its arithmetic is exact."""
        return None

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """Peak of 8-bit products over the SRAM port, and over flash for weights."""
        spec = self.spec
        peak = spec.mac_peak.value * spec.clock_hz
        return (
            RidgePoint(self.name, "sram", peak, spec.memory_rate.value * spec.clock_hz),
            RidgePoint(self.name, "flash", peak, spec.shared.flash.bandwidth.value),
        )

    def capacity(self) -> Capacity:
        """Nothing stays resident."""
        return Capacity(self.name, 1, None)

    def leakage_w(self) -> tuple[float, float, float]:
        """Leakage while the system is awake [W]."""
        return self.spec.leakage.times(1)

    def leakage_marks(self) -> tuple[str, ...]:
        """Mark of the leakage."""
        return (self.spec.leakage.mark,)

    def weights_in_sram(self) -> bool:
        """No: they are read from flash."""
        return False

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Names and values for `targets show`."""
        plain = (
            ("device", self.title),
            ("clock_hz", f"{self.spec.clock_hz} Hz"),
            ("free_activations", ", ".join(self.spec.free_activations)),
            ("simple_functions", ", ".join(self.spec.simple_functions)),
        )
        return plain + tuple((p, q.text()) for p, q in quantities(self.spec) if not p.startswith("shared."))


def load_device(name: str, numbers: dict[str, Any], where: str) -> CortexM:
    """Build the device out of a resolved preset. Raises TargetError with all faults."""
    spec = validated(CortexMSpec, numbers, where)
    return CortexM(name, spec.title, spec)
