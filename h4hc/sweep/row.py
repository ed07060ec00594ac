"""Point and Row: one question of a sweep, and its answer.

Units are in the names and in the JSON keys; times are whole picoseconds, energies whole picojoules.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from h4hc.compilation import CompileOptions
from h4hc.costtypes import Interval
from h4hc.diagnostics import Diagnostic


@dataclass(frozen=True, kw_only=True)
class Point(CompileOptions):
    """One model on one system under one set of options: `Point(model="resnet8", target="npu+cim")`.

    model: a path, or a name that `zoo_name` knows: `hybrid-xxs`, `hybrid-xxs-int8`. The rest as in `h4hc compile`.
    """

    model: str


@dataclass(frozen=True)
class PlanFigures:
    """What one plan of one inference costs.

    overhead_ps, overhead_pj: the part that switches, copies, cache maintenance and layout changes take; the rest is
    operators and the model's border. switches: stays on a device other than the host. moved_bytes: bytes copied, put
    through cache maintenance, or reordered on their way between operators. placements: operators by device, sorted.
    """

    latency_ps: Interval
    energy_pj: Interval
    overhead_ps: Interval
    overhead_pj: Interval
    switches: int
    moved_bytes: int
    placements: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class BaselineRow:
    """A simpler plan on the same table (`npu-only`, `greedy`, ...); plan None: there is none, `why` says why."""

    name: str
    plan: PlanFigures | None
    why: str = ""


@dataclass(frozen=True)
class Row:
    """The answer to a point.

    plan: None when there is no plan: then `reason` says why (else it is empty) and `code` is that of the error.
    status, gap, bound: what the solver proved; bound in ps, pJ or ps x pJ, as the objective. area_mm2: low, nominal,
    high silicon area, summed over the devices of the system. The hashes are those of the model and of the system.
    diagnostics: what `h4hc compile` remarks on the plan; none without a plan.
    """

    point: Point
    model_sha256: str
    system_sha256: str
    area_mm2: tuple[float, float, float]
    plan: PlanFigures | None
    baselines: tuple[BaselineRow, ...] = ()
    status: str = ""
    gap: float = 0.0
    bound: int = 0
    code: str = ""
    reason: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether there is a plan."""
        return self.plan is not None

    @property
    def latency_ps(self) -> Interval:
        """Latency of the plan; ValueError when there is none."""
        return self._plan().latency_ps

    @property
    def energy_pj(self) -> Interval:
        """Energy of the plan; ValueError when there is none."""
        return self._plan().energy_pj

    def _plan(self) -> PlanFigures:
        if self.plan is None:
            raise ValueError(f"there is no plan for {self.point.model} on {self.point.target}: {self.reason}")
        return self.plan

    def baseline(self, name: str) -> PlanFigures | None:
        """Figures of a baseline; None where the system has none of that name or it has no plan."""
        return next((b.plan for b in self.baselines if b.name == name), None)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Row:
        """Inverse of `to_json`. Raises ValueError for anything else."""
        result = _adapter().validate_json(data)
        assert isinstance(result, Row)
        return result


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Row)
