"""The CIM device of a system: the numbers of spec.py behind the DeviceModel protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h4hc.costtypes import Capacity, Cost, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import quantities, validated
from h4hc.units import PS_PER_S
from h4hc.workload import Op, Workload
from targets.cim import cost as cost_model
from targets.cim.rules import make_rules, mode_violation
from targets.cim.spec import CimSpec


@dataclass(frozen=True)
class Cim:
    """The CIM device: modes are the numbers of macros that share one operator."""

    name: str
    spec: CimSpec
    rule_objects: tuple[Rule, ...]
    family: str = "cim"

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
        return cost_model.op_cost(self.spec, op, mode)

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """Peak of all macros with every CU busy, over the bus (SRAM); over the banks' own ports (weights)."""
        spec = self.spec
        step_s = spec.read_cycle.value * spec.input_cycles * cost_model.PS_PER_NS / PS_PER_S
        peak = spec.macros * spec.cus * spec.rows * spec.columns / step_s
        bus = spec.shared.bus.bandwidth.value
        return (
            RidgePoint(self.name, "sram", peak, bus),
            RidgePoint(self.name, "bank", peak, spec.macros * spec.word_bytes / step_s),
        )

    def capacity(self) -> Capacity:
        """One unit a macro; None where weights do not stay."""
        return Capacity(self.name, self.spec.macros, self.spec.bank_bytes if self.spec.resident else None)

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
        for name in ("kind", "macros", "cus", "read_bits", "weight_bits", "bank_bits", "columns", "input_cycles"):
            plain.append((name, str(getattr(spec, name))))
        plain += [("segments", str(spec.segments).lower()), ("dedup", str(spec.dedup).lower())]
        plain += [("input_types", ", ".join(spec.input_types)), ("post_activations", ", ".join(spec.post_activations))]
        return tuple(plain) + tuple((p, q.text()) for p, q in quantities(spec) if not p.startswith("shared."))


def load_device(name: str, numbers: dict[str, Any], where: str) -> Cim:
    """Build the device out of a resolved preset. Raises TargetError with all faults."""
    spec = validated(CimSpec, numbers, where)
    return Cim(name, spec, make_rules(spec))
