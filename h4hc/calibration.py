"""How far a cost model is from a reference, kind by kind, and a file that keeps it.

For each kind of operator: ratio = the median of reference / model (in the logarithm, so that twice and half weigh the
same), and the spread that is left, the 5 % and 95 % quantiles of reference / (model * ratio) by nearest rank.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from h4hc.errors import Problem, UserError
from h4hc.files import MOST_BYTES
from h4hc.model_error import Errors, nearest_rank
from h4hc.workload import OpKind

FORMAT: Literal["h4hc-calibration-1"] = "h4hc-calibration-1"
METHOD = "ratio = exp(median(log(reference / model))); spread = 5 % and 95 % quantiles of what is left"
SPREAD_PERCENT = (5, 95)
MOST_RATIO = 1e6
Source = Literal["vendor", "measured"]


@dataclass(frozen=True)
class Pair:
    """One operator: what the model says and what the reference says, in one unit."""

    kind: str
    model: float
    reference: float


@dataclass(frozen=True)
class KindFit:
    """model * ratio is the estimate, times low to high its interval; low <= 1 <= high.

    before, after: errors without and with the ratio; left_out: each row judged by a ratio fitted without it (None
    for a single row).
    """

    kind: str
    rows: int
    ratio: float
    low: float
    high: float
    before: Errors
    after: Errors
    left_out: Errors | None


@dataclass(frozen=True)
class CalibrationRow:
    """A layer that was fitted. cells: its columns; energies None where nobody knows the reference."""

    cells: tuple[tuple[str, str], ...]
    kind: str
    model_ps: int
    reference_ps: int
    model_pj: int
    reference_pj: int | None


@dataclass(frozen=True)
class Calibration:
    """A fitted model. reference: tool and version, or name and sha256 of the table; target, target_sha256, device: of
    the system it was fitted on; facts: of the device, it fits no device of others; seed, samples: of the layers that
    were made up (None where they were given)."""

    format: Literal["h4hc-calibration-1"]
    h4hc: str
    source: Source
    reference: str
    method: str
    target: str
    target_sha256: str
    device: str
    facts: tuple[tuple[str, str], ...]
    seed: int | None
    samples: int | None
    latency: tuple[KindFit, ...]
    energy: tuple[KindFit, ...]
    rows: tuple[CalibrationRow, ...]

    @functools.cached_property
    def latency_of(self) -> dict[str, KindFit]:
        """Latency fits by kind."""
        return {fit.kind: fit for fit in self.latency}

    @functools.cached_property
    def energy_of(self) -> dict[str, KindFit]:
        """Energy fits by kind."""
        return {fit.kind: fit for fit in self.energy}

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1)) + b"\n"


def fit(pairs: Iterable[Pair]) -> tuple[KindFit, ...]:
    """Fit every kind by itself, in order of names. All figures must be positive."""
    by_kind: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind, []).append(pair)
    return tuple(_fit_kind(kind, by_kind[kind]) for kind in sorted(by_kind))


def _fit_kind(kind: str, pairs: Sequence[Pair]) -> KindFit:
    logs = [math.log(p.reference / p.model) for p in pairs]
    middle = median(logs)
    left = sorted(math.exp(x - middle) for x in logs)
    low, high = (nearest_rank(left, percent) for percent in SPREAD_PERCENT)
    return KindFit(
        kind,
        len(pairs),
        math.exp(middle),
        min(1.0, low),
        max(1.0, high),
        Errors.of(math.exp(-x) - 1 for x in logs),
        Errors.of(math.exp(middle - x) - 1 for x in logs),
        _left_out(logs),
    )


def _left_out(logs: list[float]) -> Errors | None:
    if len(logs) < 2:
        return None
    return Errors.of(math.exp(median(logs[:i] + logs[i + 1 :]) - x) - 1 for i, x in enumerate(logs))


# --- file --------------------------------------------------------------------------------------------------


def parse_calibration(data: bytes, name: str) -> Calibration:
    """Inverse of `to_json`. Raises UserError with every fault of the file."""
    from pydantic import ValidationError

    if len(data) > MOST_BYTES:
        raise UserError("the calibration file is too large", (name,), f"at most {MOST_BYTES} bytes")
    try:
        found: Calibration = _adapter().validate_json(data)
    except ValidationError as error:
        raise UserError.of(
            tuple(
                Problem("the calibration file is not valid", (name, _path(e["loc"])), str(e["msg"]), _AGAIN)
                for e in error.errors(include_url=False)
            )
        ) from None
    problems = [p for which in ("latency", "energy") for p in fit_problems(getattr(found, which), which, name)]
    if problems:
        raise UserError.of(tuple(problems))
    return found


_AGAIN = "make it again with `h4hc targets calibrate`"


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "(whole file)"


def fit_problems(fits: tuple[KindFit, ...], which: str, name: str, hint: str = _AGAIN) -> list[Problem]:
    """Fits that no calibration may hold: unknown kinds, kinds twice, ratios out of range."""
    kinds = {str(kind) for kind in OpKind}
    problems = []
    for i, one in enumerate(fits):
        where = (name, f"{which}.{i}")
        if one.kind not in kinds:
            problems.append(Problem(f"there is no kind {one.kind!r}", where, f"known: {', '.join(sorted(kinds))}"))
        if [f.kind for f in fits].count(one.kind) > 1:
            problems.append(Problem(f"kind {one.kind!r} is fitted twice", where, hint=hint))
        in_order = 1 / MOST_RATIO <= one.low <= 1 <= one.high <= MOST_RATIO
        if not in_order or not 1 / MOST_RATIO <= one.ratio <= MOST_RATIO:
            seen = f"ratio {one.ratio:g}, low {one.low:g}, high {one.high:g}"
            need = f"need low <= 1 <= high, all from {1 / MOST_RATIO:g} to {MOST_RATIO:g}"
            problems.append(Problem(f"the fit of {one.kind} is out of range", where, f"{seen}; {need}", hint))
    return problems


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter  # 60 ms: only where JSON is needed

    return TypeAdapter(Calibration)
