"""A device behind another: everything is asked of `base`, until a subclass answers some of it itself."""

from __future__ import annotations

from dataclasses import dataclass

from h4hc.costtypes import Capacity, Cost, DeviceModel, Interval, Mode, RidgePoint, Rule, Violation
from h4hc.workload import Op, Workload


@dataclass(frozen=True)
class WrappedDevice:
    """Answers as `base` does."""

    base: DeviceModel

    @property
    def name(self) -> str:
        """Of `base`."""
        return self.base.name

    @property
    def family(self) -> str:
        """Of `base`."""
        return self.base.family

    def modes(self) -> tuple[Mode, ...]:
        """Of `base`."""
        return self.base.modes()

    def rules(self) -> tuple[Rule, ...]:
        """Of `base`."""
        return self.base.rules()

    def mode_rejection(self, op: Op, mode: Mode) -> Violation | None:
        """Of `base`."""
        return self.base.mode_rejection(op, mode)

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """Of `base`."""
        return self.base.cost(op, mode, workload)

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """What `base` hides, at most all that the operator costs here."""
        hidden = self.base.hidden(before, op, workload)
        return self.at_most_the_cost(hidden, op, workload) if hidden.high else hidden

    def at_most_the_cost(self, hidden: Interval, op: Op, workload: Workload) -> Interval:
        """`hidden` bound by bound, or the cost where that is less."""
        costs = [self.cost(op, mode, workload).latency for mode in self.modes()]
        low, nominal, high = (min(getattr(c, b) for c in costs) for b in ("low", "nominal", "high"))
        return Interval(min(hidden.low, low), min(hidden.nominal, nominal), min(hidden.high, high))

    def channel_step(self) -> int:
        """Of `base`."""
        return self.base.channel_step()

    def area_mm2(self) -> tuple[float, float, float]:
        """Of `base`."""
        return self.base.area_mm2()

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        """Of `base`."""
        return self.base.wake_up()

    def inexact(self) -> str | None:
        """Of `base`."""
        return self.base.inexact()

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """Of `base`."""
        return self.base.ridge_points()

    def capacity(self) -> Capacity:
        """Of `base`."""
        return self.base.capacity()

    def leakage_w(self) -> tuple[float, float, float]:
        """Of `base`."""
        return self.base.leakage_w()

    def leakage_marks(self) -> tuple[str, ...]:
        """Of `base`."""
        return self.base.leakage_marks()

    def weights_in_sram(self) -> bool:
        """Of `base`."""
        return self.base.weights_in_sram()

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Of `base`."""
        return self.base.summary()
