"""A device with the same rules and other costs: the vendor's, scaled ones, measured ones (see h4hc.npu_cost)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from h4hc.calibration import KindFit
from h4hc.costtypes import CLOCK, ZERO, Cost, Interval, Mode, Rule, Term
from h4hc.device_wrap import WrappedDevice
from h4hc.diagnostics import Diagnostic
from h4hc.errors import CostModelError
from h4hc.units import PS_PER_S, ceil_div
from h4hc.workload import Op, OpKind, Workload

if TYPE_CHECKING:
    from h4hc.measured import Measured

SHOWN = 5  # rows in a remark
CALIBRATED, TABLE = "calibrated", "measured table"  # what a cost says it was made with


class VendorCosts(Protocol):
    """What a family's vendor answers (see `registry.VENDOR_COSTS`)."""

    @property
    def name(self) -> str: ...  # tool and version
    def rules(self) -> tuple[Rule, ...]: ...
    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost: ...


@dataclass(frozen=True)
class VendorDevice(WrappedDevice):
    """Latency as the vendor's tool estimates it; what it leaves to the host is refused."""

    answers: VendorCosts

    def rules(self) -> tuple[Rule, ...]:
        """Those of the family, then that the vendor's tool agrees."""
        return (*self.base.rules(), *self.answers.rules())

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """The vendor's."""
        return self.answers.cost(op, mode, workload)


@dataclass(frozen=True)
class Scaling:
    """Fits by kind of operator. measured: they come from silicon; else from another estimate."""

    latency: Mapping[str, KindFit] = field(hash=False)
    energy: Mapping[str, KindFit] = field(hash=False)
    measured: bool

    @property
    def mark(self) -> str:
        """Evidence mark of what was scaled."""
        return "measured" if self.measured else "derived"

    def scaled(self, bounds: Interval, by: KindFit | None) -> Interval:
        """bounds * ratio. From silicon, the spread of the residuals around the nominal value is the interval; from
        another estimate it widens the model's own, which says how far such estimates are from silicon. One layer has
        no spread: it moves the model's own interval and says nothing about its width."""
        if by is None or bounds == ZERO:
            return bounds
        nominal = round(bounds.nominal * by.ratio)
        spread_known = self.measured and by.rows > 1
        low, high = (bounds.nominal, bounds.nominal) if spread_known else (bounds.low, bounds.high)
        least, most = round(low * by.ratio * by.low), round(high * by.ratio * by.high)
        return Interval(min(nominal, least), nominal, max(nominal, most))


@dataclass(frozen=True)
class ScaledDevice(WrappedDevice):
    """The model times the ratio of the operator's kind; kinds without a fit keep the model."""

    scaling: Scaling

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """Every term scaled: its latency by the latency's fit, its energy by the energy's; without one, the clock's
        energy goes with the latency."""
        return self.scaled(self.base.cost(op, mode, workload), op.kind)

    def scaled(self, cost: Cost, kind: OpKind) -> Cost:
        """`cost` times the fits of its kind."""
        latency, energy = self.scaling.latency.get(kind), self.scaling.energy.get(kind)
        if latency is None and energy is None:
            return cost
        by = self.scaling.scaled
        terms = tuple(replace(t, latency=by(t.latency, latency), energy=by(t.energy, energy)) for t in cost.terms)
        if energy is None:
            terms = _clocked(terms, cost.latency, by(cost.latency, latency))
        cycles = max(1, round(cost.cycles * (latency.ratio if latency else 1)))
        return _recomposed(cost, terms, cycles, f"{cost.model}, {CALIBRATED}", {*cost.marks, self.scaling.mark})

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """Scaled as the operator is."""
        hidden = self.base.hidden(before, op, workload)
        scaled = self.scaling.scaled(hidden, self.scaling.latency.get(op.kind))
        return self.at_most_the_cost(scaled, op, workload) if hidden.high else hidden

    def remarks(self, workload: Workload) -> tuple[Diagnostic, ...]:
        """Which kinds the calibration does not know."""
        known = {*self.scaling.latency, OpKind.VIEW}  # a view takes no time to be wrong about
        counts = Counter(str(op.kind) for op in self.runs(workload) if op.kind not in known)
        if not counts:
            return ()
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        what = f"{self.name}: the calibration has no layers of these kinds, which keep the model: {kinds}"
        return (Diagnostic("H4W130", "warning", what, hint="add such layers to what is fitted"),)

    def runs(self, workload: Workload) -> list[Op]:
        """Operators that the device takes."""
        from h4hc.cost import device_rejection

        return [op for op in workload.ops if device_rejection(op, self, workload) is None]


@dataclass(frozen=True)
class TableDevice(ScaledDevice):
    """Measured figures for the operators of a table, the scaled model for the others."""

    table: Mapping[tuple[object, ...], Measured] = field(hash=False)
    refused: tuple[str, ...]  # rows of the table that the device does not run: where, and why

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        """The table's, if the operator is in it."""
        scaled = super().cost(op, mode, workload)
        row = self.find(op, workload)
        return scaled if row is None else _as_measured(scaled, row, op.kind not in self.scaling.energy)

    def find(self, op: Op, workload: Workload) -> Measured | None:
        """The row that measured this layer."""
        from h4hc.measured import layer_key

        return self.table.get(layer_key(op, workload))

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """Nothing of a measured layer: nobody knows what of its time was waiting."""
        return ZERO if self.find(op, workload) is not None else super().hidden(before, op, workload)

    def remarks(self, workload: Workload) -> tuple[Diagnostic, ...]:
        """How many operators were found in the table, and how many take the scaled model."""
        ours = self.runs(workload)
        others = tuple(op for op in ours if self.find(op, workload) is None)
        what = (
            f"{self.name}: {len(ours) - len(others)} of {len(ours)} operators are in the table of measurements, "
            f"{len(others)} are not and take the scaled model"
        )
        found = Diagnostic("H4W131", "warning" if others else "note", what)
        return (found, *self._lost(), *super().remarks(replace(workload, ops=others)))

    def _lost(self) -> tuple[Diagnostic, ...]:
        if not self.refused:
            return ()
        more = len(self.refused) - SHOWN
        seen = "; ".join(self.refused[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        what = f"{self.name}: {len(self.refused)} rows of the table are layers that it does not run: {seen}"
        return (Diagnostic("H4W132", "warning", what, hint="no operator takes their figures: take the rows out"),)


def clock(cost: Cost) -> int:
    """Clock in which the users of a device count cycles [Hz]. Raises CostModelError where it has none."""
    if not cost.clock_hz:
        raise CostModelError(f"{cost.mode.device} has no clock in which cycles could be counted")
    return cost.clock_hz


def _as_measured(base: Cost, row: Measured, clocked: bool) -> Cost:
    """A measured time has no parts; the energy is measured too, or that of the scaled model `base`, part by part.

    clocked: the energy was not scaled to measured ones, so that of the clock goes with the measured time.
    """
    latency = Interval.exact(max(1, round(row.latency_ps(clock(base)))))
    energy = ZERO if row.energy_pj is None else Interval.exact(round(row.energy_pj))
    kept = () if row.energy_pj is not None else tuple(replace(t, latency=ZERO) for t in base.terms if t.energy != ZERO)
    if clocked:
        kept = _clocked(kept, base.latency, latency)
    terms = (Term("measured", "parallel", latency, energy, "mac_array"), *kept)
    marks = {"measured"} if row.energy_pj is not None else {"measured", *base.marks}
    return _recomposed(base, terms, max(1, round(latency.nominal * clock(base) / PS_PER_S)), TABLE, marks)


def _clocked(terms: tuple[Term, ...], before: Interval, after: Interval) -> tuple[Term, ...]:
    """`terms` of an operator that takes `after` instead of `before`: the energy of its clock goes with its time."""
    return tuple(
        replace(t, energy=_in_proportion(t.energy, before, after)) if t.resource == CLOCK else t for t in terms
    )


def _in_proportion(energy: Interval, before: Interval, after: Interval) -> Interval:
    """energy * after / before, bound by bound, rounded up."""
    low = ceil_div(energy.low * after.low, max(1, before.low))
    nominal = ceil_div(energy.nominal * after.nominal, max(1, before.nominal))
    high = ceil_div(energy.high * after.high, max(1, before.high))
    return Interval(min(low, nominal), nominal, max(nominal, high))


def _recomposed(base: Cost, terms: tuple[Term, ...], cycles: int, model: str, marks: set[str]) -> Cost:
    return Cost.from_terms(
        base.mode,
        terms,
        cycles=cycles,
        bound=base.bound,
        bytes_moved=base.bytes_moved,
        model=model,
        marks=tuple(sorted(marks)),
        unit_weight_bytes=base.unit_weight_bytes,
        clock_hz=base.clock_hz,
    )
