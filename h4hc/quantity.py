"""Physical numbers with their unit, bounds, evidence mark and source, and the checks that hold a TOML to them.

In a target file a number is written `x = { value = 0.5, low = 0.2, high = 2.0, unit = "pJ/MAC", mark = "guess",
source = "..." }`. `low` and `high` default to the value, except for a guess, which must give both. Structural
values (counts, names) are plain, and named in the file's `[sources]` table.
Imports pydantic: only `h4hc.target_file` and the target families may import this module at their top.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from h4hc.costtypes import ZERO, Interval
from h4hc.errors import Problem, TargetError
from h4hc.units import PS_PER_S

Mark = Literal["measured", "vendor", "published", "derived", "guess", "user"]

NOISE = 5e-7  # of a ps or pJ: what a sum of floats may be off

# (least value where zero is out of range, greatest value) by unit. Wider than any hardware these models speak of, and
# narrow enough that no cost overflows, divides by nothing, or leaves the range in which the solver is exact.
RANGES: dict[str, tuple[float, float]] = {
    "1/s": (1e-9, 1e6),
    "B": (1, 65536),
    "B/cycle": (1e-3, 1e4),
    "B/element": (1e-3, 1e4),
    "B/s": (1e4, 1e13),
    "MAC/cycle": (1e-4, 1e6),
    "W": (1e-12, 100),
    "cycle": (1e-3, 1e7),
    "cycle/element": (1e-6, 1e5),
    "mm2": (1e-6, 1e4),
    "fJ": (1e-6, 1e9),
    "ns": (1e-3, 1e7),
    "ns/line": (1e-3, 1e5),
    "pJ": (1e-3, 1e10),
    "pJ/B": (1e-6, 1e5),
    "pJ/MAC": (1e-6, 1e4),
    "pJ/bit": (1e-6, 1e4),
    "pJ/cycle": (1e-6, 1e6),
    "pJ/line": (1e-6, 1e6),
    "pJ/output": (1e-6, 1e5),
    "ratio": (1e-3, 1e3),
    "um2": (1e-6, 1e9),
    "us": (1e-3, 1e6),
    "writes": (1, 1e20),
}


class Schema(BaseModel):
    """Base of everything read from a target file: frozen, strict types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Quantity(Schema):
    """A physical number. low <= value <= high, all in `unit`; `mark` says what kind of evidence `source` is."""

    value: float
    low: float
    high: float
    unit: str
    mark: Mark
    source: str

    @model_validator(mode="before")
    @classmethod
    def _fill_bounds(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("must be a table { value, unit, mark, source }, with low and high for a guess")
        if data.get("mark") == "guess":
            return data
        return {"low": data.get("value"), "high": data.get("value"), **data}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(math.isfinite(x) for x in (self.low, self.value, self.high)):
            raise ValueError("value, low and high must be finite")
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"need 0 <= low <= value <= high, got {self.low} <= {self.value} <= {self.high}")
        if not self.source.strip():
            raise ValueError("source is empty")
        return self

    def times(self, factor: float) -> tuple[float, float, float]:
        """(low, value, high), each times a factor >= 0."""
        return self.low * factor, self.value * factor, self.high * factor

    def divide(self, amount: float) -> tuple[float, float, float]:
        """(low, nominal, high) of amount / quantity: a rate's high bound gives the low result."""
        return amount / self.high, amount / self.value, amount / self.low

    def text(self) -> str:
        """`0.5 pJ/MAC [0.2 to 2] guess`, for people."""
        span = "" if self.low == self.high else f" [{self.low:g} to {self.high:g}]"
        return f"{self.value:g} {self.unit}{span} {self.mark}"


def unit(expected: str, positive: bool = False, counted: bool = False) -> AfterValidator:
    """Annotation for a field: the unit it must be given in, and with it the range (`RANGES`).

    positive: zero is out of range (rates). counted: only whole numbers.
    """
    least, most = RANGES[expected]

    def check(quantity: Quantity) -> Quantity:
        if quantity.unit != expected:
            raise ValueError(f"unit must be {expected!r}, got {quantity.unit!r}")
        if positive and quantity.low < least:
            raise ValueError(f"must be at least {least:g} {expected}, got {quantity.low:g}")
        if quantity.high > most:
            raise ValueError(f"must be at most {most:g} {expected}, got {quantity.high:g}")
        if counted and not all(x.is_integer() for x in (quantity.low, quantity.value, quantity.high)):
            raise ValueError(f"must be a whole number of {expected}, got {quantity.value:g}")
        return quantity

    return AfterValidator(check)


def whole(*parts: tuple[float, float, float]) -> Interval:
    """Sum of bounds in ps or pJ as an Interval of integers, each bound of each part rounded up (noise is dropped)."""
    low = nominal = high = 0
    for part in parts:
        if part[2]:
            low += _rounded_up(part[0])
            nominal += _rounded_up(part[1])
            high += _rounded_up(part[2])
    return Interval(low, nominal, high) if high else ZERO


def _rounded_up(value: float) -> int:
    number = int(value)
    return number + 1 if value - number > NOISE else number


def at_clock(cycles: tuple[float, float, float], clock_hz: int) -> Interval:
    """Bounds in cycles as an Interval of picoseconds: t = cycles * 1e12 / clock_hz."""
    low, nominal, high = cycles
    if not high:
        return ZERO
    return Interval(
        _rounded_up(low * PS_PER_S / clock_hz),
        _rounded_up(nominal * PS_PER_S / clock_hz),
        _rounded_up(high * PS_PER_S / clock_hz),
    )


class Sourced(Schema):
    """A schema whose plain values must be named in its `sources` table.

    An entry `a.b = "..."` of sources (its key quoted, `"a.b"`) covers `a.b` and all below it. Names of no value are
    refused, so that the table cannot go stale.
    """

    injected: ClassVar[frozenset[str]] = frozenset()  # fields that come from another file, sourced there

    title: str
    sources: dict[str, str]

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        leaves = plain_paths(self.model_dump(exclude={"title", "sources", *self.injected}))
        missing = [p for p in leaves if not any(_covers(s, p) for s in self.sources)]
        stale = [s for s in self.sources if not any(_covers(s, p) for p in leaves)]
        if missing:
            raise ValueError(f"no source for {', '.join(missing)}: add to [sources]")
        if stale:
            raise ValueError(f"[sources] names what does not exist: {', '.join(stale)}")
        return self


def _covers(source: str, path: str) -> bool:
    return path == source or path.startswith(source + ".")


def is_quantity(node: Any) -> bool:
    """Whether a TOML node is written as a Quantity."""
    return isinstance(node, dict) and "value" in node and not isinstance(node["value"], dict)


def plain_paths(node: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted paths of the values in a nested table that are not Quantities, in order."""
    out: list[str] = []
    for key, value in node.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            if not is_quantity(value):
                out += plain_paths(value, path + ".")
        elif value is not None:
            out.append(path)
    return out


def quantities(spec: BaseModel, prefix: str = "") -> list[tuple[str, Quantity]]:
    """All quantities of a spec with their dotted paths, in the order of its fields."""
    out: list[tuple[str, Quantity]] = []
    for name in type(spec).model_fields:
        out += _walk(getattr(spec, name), f"{prefix}{name}")
    return out


def _walk(value: Any, path: str) -> list[tuple[str, Quantity]]:
    if isinstance(value, Quantity):
        return [(path, value)]
    if isinstance(value, BaseModel):
        return quantities(value, path + ".")
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _walk(inner, f"{path}.{key}")]
    return []


SpecT = TypeVar("SpecT", bound=BaseModel)


def validated(schema: type[SpecT], numbers: dict[str, Any], where: str) -> SpecT:
    """Check a table against its schema. Raises TargetError with one Problem for each fault, by TOML path."""
    try:
        return schema.model_validate(numbers)
    except ValidationError as error:
        problems = tuple(_problem(dict(item), where) for item in error.errors(include_url=False))
        raise TargetError.of(problems) from None


def _problem(item: dict[str, Any], where: str) -> Problem:
    path = ".".join(str(part) for part in item["loc"])
    what = f"target value {path!r} is not valid" if path else "target values do not go together"
    hints = {
        "extra_forbidden": "remove the key, or see `h4hc targets show` for the known ones",
        "missing": "add the key; a target file has no silent defaults",
    }
    why = str(item["msg"]).removeprefix("Value error, ")
    if why.startswith("Input should be") and isinstance(item["input"], str | int | float):
        why += f", got {str(item['input'])[:40]!r}"
    return Problem(what, (where,), why, hints.get(item["type"], ""))
