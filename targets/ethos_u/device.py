"""The NPU device of a system: the numbers of spec.py behind the DeviceModel protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h4hc.costtypes import ZERO, Capacity, Cost, Interval, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import quantities, validated
from h4hc.workload import Op, Workload
from targets.ethos_u import cost as cost_model
from targets.ethos_u.rules import make_rules
from targets.ethos_u.spec import EthosUSpec


@dataclass(frozen=True)
class EthosU:
    """The NPU device: one mode."""

    name: str
    spec: EthosUSpec
    rule_objects: tuple[Rule, ...]
    family: str = "ethos_u"

    def modes(self) -> tuple[Mode, ...]:
        """One."""
        return (Mode(self.name),)

    def rules(self) -> tuple[Rule, ...]:
        """See targets.ethos_u.rules."""
        return self.rule_objects

    def mode_rejection(self, op: Op, mode: Mode) -> Violation | None:
        """Never: what the device runs, its one mode runs."""
        return None

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """See targets.ethos_u.cost."""
        return cost_model.op_cost(self.spec, op, mode, workload)

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """See targets.ethos_u.cost."""
        return cost_model.hidden(self.spec, before, op, workload)

    def channel_step(self) -> int:
        """Depth of the output micro-block, in all cores together: the array works on no fewer channels."""
        arch = self.spec.blocks_arch
        return arch.ofm_ublock[2] * arch.cores

    def area_mm2(self) -> tuple[float, float, float]:
        """All cores with their SHRAM, without the system's memories [mm2]."""
        return self.spec.variant.area.times(1)

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        """Nothing: its wake-up is part of the system's."""
        return ZERO, ZERO, ()

    def inexact(self) -> str | None:
        """None: its arithmetic is exact."""
        return None

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """MAC peak over the SRAM port, and over flash where the weights are there."""
        spec = self.spec
        peak = float(spec.macs * spec.clock_hz)
        sram = RidgePoint(self.name, "sram", peak, spec.port.bytes_per_cycle * spec.clock_hz)
        if spec.memory_mode == "Sram_Only":
            return (sram,)
        return (sram, RidgePoint(self.name, "flash", peak, spec.shared.flash.bandwidth.value))

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
        """With Sram_Only."""
        return self.spec.memory_mode == "Sram_Only"

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Names and values for `targets show`: the selected variant only."""
        spec = self.spec
        plain = (
            ("device", spec.title),
            ("product", spec.product),
            ("macs", f"{spec.macs} MAC/cycle"),
            ("clock_hz", f"{spec.clock_hz} Hz"),
            ("memory_mode", spec.memory_mode),
            ("cache_bytes", f"{spec.cache_bytes} B"),
            ("shram", f"{spec.variant.cores * spec.variant.shram_banks * spec.arch.bank_bytes} B"),
        )
        own = f"variants.{spec.variant_name}."
        shown = [
            (path, q.text())
            for path, q in quantities(spec)
            if not path.startswith("shared.") and (not path.startswith("variants.") or path.startswith(own))
        ]
        return plain + tuple(shown)


def load_device(name: str, numbers: dict[str, Any], where: str) -> EthosU:
    """Build the device out of a resolved preset. Raises TargetError with all faults."""
    spec = validated(EthosUSpec, numbers, where)
    return EthosU(name, spec, make_rules(spec.blocks_arch))
