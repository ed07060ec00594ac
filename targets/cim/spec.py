"""Numbers of a digital compute-in-memory device, and the device made of them. See README.md in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from h4hc.costtypes import Capacity, Cost, Mode, RidgePoint, Rule, Violation
from h4hc.quantity import Quantity, Sourced, quantities, unit, validated
from h4hc.system_spec import Shared
from h4hc.units import PS_PER_S
from h4hc.workload import Op, Workload
from targets.cim import cost as cost_model
from targets.cim.rules import make_rules, mode_violation

BITS_PER_BYTE = 8
KINDS = ("mram_nearmem", "sram_digital")
ANALOG_KINDS = ("sram_analog", "rram_analog")

Count = Annotated[int, Field(gt=0)]


class CimSpec(Sourced):
    """`macros` equal macros: a weight bank, one read port of `read_bits`, `cus` compute units, a post unit.

    columns: outputs that one read word serves side by side in an array macro (1: the word belongs to one output, or
    is cut into segments). input_cycles: reads a step takes (bit-serial inputs). segments: the adder tree can be cut
    so that several short filters share one word. dedup: overlapping windows cross the bus once.
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    kind: str
    macros: Count
    cus: Count
    read_bits: Count
    weight_bits: Count
    bank_bits: Count
    columns: Count
    input_cycles: Count
    segments: bool
    dedup: bool
    input_types: Annotated[tuple[str, ...], Field(strict=False)]
    post_activations: Annotated[tuple[str, ...], Field(strict=False)]
    read_cycle: Annotated[Quantity, unit("ns", positive=True)]
    fill: Annotated[Quantity, unit("ns")]
    start: Annotated[Quantity, unit("ns", positive=True)]
    view: Annotated[Quantity, unit("ns", positive=True)]
    write_bandwidth: Annotated[Quantity, unit("B/s", positive=True)]
    read_energy: Annotated[Quantity, unit("pJ/bit")]
    mac_energy: Annotated[Quantity, unit("pJ/MAC")]
    post_energy: Annotated[Quantity, unit("pJ/output")]
    start_energy: Annotated[Quantity, unit("pJ")]
    write_energy: Annotated[Quantity, unit("pJ/bit")]
    leakage_per_macro: Annotated[Quantity, unit("W")]

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind in ANALOG_KINDS:
            raise ValueError(f"kind {kind!r} is not modelled yet: ADC, output error; use one of {', '.join(KINDS)}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        return kind

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.read_bits % (self.weight_bits * self.columns) or self.read_bits % BITS_PER_BYTE:
            raise ValueError("read_bits must be a multiple of weight_bits * columns, and of 8")
        if self.bank_bits % self.read_bits:
            raise ValueError("bank_bits must be a multiple of read_bits")
        return self

    @property
    def rows(self) -> int:
        """Weights of one output that one read word holds (`lanes` where columns is 1)."""
        return self.read_bits // self.weight_bits // self.columns

    @property
    def word_bytes(self) -> int:
        """Bytes of a read word."""
        return self.read_bits // BITS_PER_BYTE

    @property
    def bank_bytes(self) -> int:
        """Weight store of one macro [B]."""
        return self.bank_bits // BITS_PER_BYTE

    @property
    def resident(self) -> bool:
        """Whether weights stay between inferences (MRAM) or are written each time (SRAM)."""
        return self.kind == "mram_nearmem"


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
