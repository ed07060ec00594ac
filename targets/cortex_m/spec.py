"""Numbers of a Cortex-M host, and the device made of them. See README.md in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from h4hc.costtypes import Capacity, Cost, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import Quantity, Schema, Sourced, quantities, unit, validated
from h4hc.system_spec import Shared
from h4hc.workload import Op, Workload
from targets.cortex_m import cost as cost_model
from targets.cortex_m.rules import RULES

MacRate = Annotated[Quantity, unit("MAC/cycle", positive=True)]
ElementCycles = Annotated[Quantity, unit("cycle/element")]


class MacRates(Schema):
    """MACs per cycle of the kernels of one element type."""

    conv: MacRate
    depthwise: MacRate
    grouped_conv: MacRate
    conv_transpose: MacRate
    fully_connected: MacRate
    matmul: MacRate


class ElementCosts(Schema):
    """Cycles per element of the kernels of one element type.

    pool, reduce: per input value read; norm, softmax: per element; resize: per output element; elementwise: per
    result of the simple functions, elementwise_slow of all others; activation: per value.
    """

    softmax: ElementCycles
    norm: ElementCycles
    elementwise: ElementCycles
    elementwise_slow: ElementCycles
    activation: ElementCycles
    pool: ElementCycles
    reduce: ElementCycles
    resize_nearest: ElementCycles
    resize_linear: ElementCycles
    resize_cubic: ElementCycles
    quantize: ElementCycles
    generic: ElementCycles
    control_flow: ElementCycles


class TypeRates(Schema):
    """One element type: its MAC kernels and its element kernels."""

    macs: MacRates
    elements: ElementCosts


class Rates(Schema):
    """By element type; int8 covers uint8 and bool; other covers 16 to 64 bit integers, double, bfloat16, strings."""

    int8: TypeRates
    float16: TypeRates
    float32: TypeRates
    other: TypeRates


class CortexMSpec(Sourced):
    """A Cortex-M core as the host of a system."""

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    clock_hz: Annotated[int, Field(gt=0)]
    simple_functions: Annotated[tuple[str, ...], Field(strict=False)]
    free_activations: Annotated[tuple[str, ...], Field(strict=False)]
    memory_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    move_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    transpose_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    op_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    view_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    energy_per_cycle: Annotated[Quantity, unit("pJ/cycle")]
    leakage: Annotated[Quantity, unit("W")]
    rates: Rates


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
        return cost_model.op_cost(self.spec, op, mode)

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        """int8 convolution rate over the SRAM port, and over flash for weights."""
        spec = self.spec
        peak = spec.rates.int8.macs.conv.value * spec.clock_hz
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
