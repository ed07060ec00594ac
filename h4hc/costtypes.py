"""What a device answers when asked for an operator: a Cost with its terms, or a Rejection with its rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from h4hc.workload import Op, OpKind, Workload


@dataclass(frozen=True)
class Interval:
    """A quantity with the bounds its sources leave open, in whole picoseconds or picojoules.

    low <= nominal <= high. Equal bounds mean that the model has no free parameter here, not that it is exact.
    """

    low: int
    nominal: int
    high: int

    def __post_init__(self) -> None:
        assert 0 <= self.low <= self.nominal <= self.high, self

    def __add__(self, other: Interval) -> Interval:
        if other is ZERO:
            return self
        return Interval(self.low + other.low, self.nominal + other.nominal, self.high + other.high)

    @staticmethod
    def sum(*parts: Interval) -> Interval:
        """All of them together: quicker than one by one."""
        low = nominal = high = 0
        for part in parts:
            low += part.low
            nominal += part.nominal
            high += part.high
        return Interval(low, nominal, high)

    @staticmethod
    def exact(value: int) -> Interval:
        """An interval of width zero."""
        return Interval(value, value, value)


ZERO = Interval(0, 0, 0)
CLOCK = "clock"  # resource of a term whose energy is a power times the operator's latency


class Bound(StrEnum):
    """What limits an operator on a device."""

    COMPUTE = "compute"
    MEMORY = "memory"
    OVERHEAD = "overhead"


@dataclass(frozen=True)
class Mode:
    """One way to run one operator: a device, and how many of its units (CIM macros) share the work."""

    device: str
    units: int = 1

    @property
    def name(self) -> str:
        """`npu`, `host`, or `cim*4` for four macros."""
        return self.device if self.units == 1 else f"{self.device}*{self.units}"


@dataclass(frozen=True)
class Term:
    """One part of a cost.

    Latency of an operator = max over its parallel terms + sum of its serial terms; energy = sum over all terms.
    name: compute, input, weights, output, start, ...; resource: what it occupies, e.g. `mac_array`, `flash`, `bus`.
    """

    name: str
    role: Literal["parallel", "serial"]
    latency: Interval
    energy: Interval
    resource: str


@dataclass(frozen=True)
class Cost:
    """Latency and energy of one operator in one mode, with the terms that made them.

    bytes_moved: bytes by memory level. unit_weight_bytes: bytes that stay resident in each unit used (0 where
    weights do not stay). model: which formula; marks: the evidence marks of the numbers it used, sorted
    (measured, published, derived, guess, vendor, user). clock_hz: the device's clock, in which its users count
    cycles; 0 where the device has none.
    """

    mode: Mode
    latency: Interval
    energy: Interval
    cycles: int
    bound: Bound
    terms: tuple[Term, ...]
    bytes_moved: tuple[tuple[str, int], ...]
    unit_weight_bytes: int
    model: str
    marks: tuple[str, ...]
    clock_hz: int = 0

    @staticmethod
    def from_terms(
        mode: Mode,
        terms: tuple[Term, ...],
        *,
        cycles: int,
        bound: Bound,
        bytes_moved: tuple[tuple[str, int], ...],
        model: str,
        marks: tuple[str, ...],
        unit_weight_bytes: int = 0,
        clock_hz: int = 0,
    ) -> Cost:
        """Compose a cost out of its terms; latency = max(parallel) + sum(serial), each bound by itself."""
        low = nominal = high = 0  # of the parallel terms
        waits, energy = [], []
        for term in terms:
            energy.append(term.energy)
            busy = term.latency
            if term.role == "serial":
                waits.append(busy)
                continue
            low = busy.low if busy.low > low else low
            nominal = busy.nominal if busy.nominal > nominal else nominal
            high = busy.high if busy.high > high else high
        latency = Interval.sum(Interval(low, nominal, high), *waits)
        total = Interval.sum(*energy)
        return Cost(mode, latency, total, cycles, bound, terms, bytes_moved, unit_weight_bytes, model, marks, clock_hz)


@dataclass(frozen=True)
class Violation:
    """What a rule saw and what it allows, as text with units."""

    value: str
    limit: str
    fix: str = ""


@dataclass(frozen=True)
class Rule:
    """A condition an operator must meet on a device.

    The one-sentence text is the error message and the row in the generated support table. `kinds` None = all.
    check returns None when the operator passes. always: it refuses every operator of its kinds (the device does
    not run them at all), which the support table shows as `no`.
    """

    code: str  # device family, dot, what: "cim.stationary_weights"
    sentence: str
    check: Callable[[Op, Workload], Violation | None]
    kinds: frozenset[OpKind] | None = None
    always: bool = False


@dataclass(frozen=True)
class Rejection:
    """Why an operator may not run in a mode: rule, value seen, limit, the user's nodes."""

    mode: Mode
    code: str
    rule: str
    value: str
    limit: str
    origin: tuple[str, ...]
    fix: str = ""


@dataclass(frozen=True)
class RidgePoint:
    """Arithmetic intensity at which a device turns from memory- to compute-bound.

    macs_per_byte = peak_macs_per_s / bytes_per_s of the memory named.
    """

    device: str
    memory: str
    peak_macs_per_s: float
    bytes_per_s: float

    @property
    def macs_per_byte(self) -> float:
        """Ridge point [MAC/byte]."""
        return self.peak_macs_per_s / self.bytes_per_s


@dataclass(frozen=True)
class Capacity:
    """Weight store that residents share: `units` units of `unit_bytes` each. unit_bytes None = nothing stays."""

    device: str
    units: int
    unit_bytes: int | None


class DeviceModel(Protocol):
    """A device of a system, made by its family from validated numbers. Pure: same question, same answer."""

    @property
    def name(self) -> str: ...  # in the system: host, npu, cim
    @property
    def family(self) -> str: ...  # ethos_u, cim, cortex_m
    def modes(self) -> tuple[Mode, ...]: ...
    def rules(self) -> tuple[Rule, ...]: ...
    def mode_rejection(
        self, op: Op, mode: Mode
    ) -> Violation | None: ...  # limits of one mode, e.g. more macros than channels
    def cost(
        self, op: Op, mode: Mode, workload: Workload
    ) -> Cost: ...  # for operators that pass the rules; CostModelError else
    def hidden(
        self, before: Op, op: Op, workload: Workload
    ) -> Interval: ...  # latency of `op` that hides behind `before` when both run here back to back [ps]
    def channel_step(self) -> int: ...  # output channels it works on together: a part of a multiple wastes none
    def area_mm2(self) -> tuple[float, float, float]: ...  # low, nominal, high
    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]: ...  # an inference's share: ps, pJ, marks
    def inexact(self) -> str | None: ...  # why outputs are not bit-exact (analog); None where they are
    def ridge_points(self) -> tuple[RidgePoint, ...]: ...
    def capacity(self) -> Capacity: ...
    def leakage_w(self) -> tuple[float, float, float]: ...  # low, nominal, high, while the system is awake
    def leakage_marks(self) -> tuple[str, ...]: ...  # evidence marks of leakage_w, sorted
    def weights_in_sram(self) -> bool: ...  # whether the weights of its operators lie in the shared SRAM
    def summary(self) -> tuple[tuple[str, str], ...]: ...  # (name, value with unit and mark) for `targets show`
