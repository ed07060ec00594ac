"""Verification: what `verify` compared, how closely, and what it could not compare. Frozen, with JSON in and out."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from h4hc.compare import Tolerance
from h4hc.diagnostics import Diagnostic

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """Result for one output in one comparison. A value that is too far off is never here: that is a NumericsError."""

    BIT_EQUAL = "bit-equal"
    WITHIN = "within tolerance"
    NOT_COMPARABLE = "not comparable"  # depends on an operator that draws random numbers


class Status(StrEnum):
    """Result of the whole.

    PARTLY: some outputs, or one optimisation level, could not be compared; NOT_COMPARABLE: no output could. Both come
    with a warning, and exit 0: nothing is known to be wrong.
    """

    VERIFIED = "verified"
    PARTLY = "verified in part"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class InputNote:
    """What one model input was fed with; filled: how the values were made."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    filled: str


@dataclass(frozen=True)
class Comparison:
    """One output of two models, over all samples.

    reference, candidate: original, legalised, partitioned or partitions (the stand-alone files, one after
    another). level: onnxruntime's optimisation level. max_abs: largest absolute difference (0 when bit-equal);
    largest: largest magnitude in the reference.
    """

    reference: str
    candidate: str
    level: str
    output: str
    dtype: str
    tolerance: Tolerance
    verdict: Verdict
    max_abs: float
    largest: float


@dataclass(frozen=True)
class Verification:
    """Everything `verify` did and found. runtime: name and version of what ran the models."""

    schema_version: int
    status: Status
    runtime: str
    seed: int
    samples: int
    inputs: tuple[InputNote, ...]
    comparisons: tuple[Comparison, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    def to_json(self) -> bytes:
        """Canonical JSON, the same bytes for the same verification."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> Verification:
        """Inverse of `to_json`; raises pydantic.ValidationError on anything else."""
        result = _adapter().validate_json(data)
        assert isinstance(result, Verification)
        return result


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Verification)
