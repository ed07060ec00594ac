"""Compares two values that onnxruntime gave, bit by bit or within a stated tolerance.

Values are arrays, strings, lists (sequences), maps, or None (an empty optional).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Largest deviation allowed, as a part of the largest magnitude in the reference tensor. float32: the project's
# stated bound for fused arithmetic. The others keep about the same number of last bits free, as far as they have them.
RELATIVE = {
    "float64": 1e-10,
    "float32": 1e-4,
    "float16": 1e-2,
    "bfloat16": 8e-2,
    "complex64": 1e-4,
    "complex128": 1e-10,
}
# One step of the format at the largest magnitude: 3 or 2 bits of mantissa.
RELATIVE_FLOAT8 = {
    "float8_e4m3fn": 2.0**-3,
    "float8_e4m3fnuz": 2.0**-3,
    "float8_e5m2": 2.0**-2,
    "float8_e5m2fnuz": 2.0**-2,
}
ONE_LSB = frozenset({"int8", "uint8", "int4", "uint4", "int2", "uint2"})
ROUNDING = 2.0**-21  # of the largest magnitude: what float32 loses on scale x integer, on top of one step of it


@dataclass(frozen=True)
class Tolerance:
    """How far two values may differ.

    bits: not at all, every bit counts except that any NaN equals any NaN. relative: `value` x largest finite
    magnitude of the reference. absolute: `value`, in units of the tensor. why: where the bound comes from.
    """

    kind: Literal["bits", "relative", "absolute"]
    value: float
    why: str


BITS = Tolerance("bits", 0.0, "every bit counts; NaN equals NaN")


@dataclass(frozen=True)
class Difference:
    """The result of a comparison: how far apart, where the worst place is, and whether that is too far."""

    within: bool
    max_abs: float
    largest: float
    index: tuple[int, ...] = ()
    reference: str = ""
    candidate: str = ""
    why: str = ""

    def sentence(self) -> str:
        """For a message: what differs, where."""
        if self.why:
            return self.why
        place = f" at {list(self.index)}" if self.index else ""
        return f"max abs difference {self.max_abs:.6g}{place} ({self.reference} became {self.candidate})"


def tolerance_for(dtype: str, scale: float | None = None) -> Tolerance:
    """Tolerance between the original and the legalised model for a tensor of numpy type `dtype`.

    scale: the quantisation step of a float tensor that comes out of a DequantizeLinear, if it does.
    """
    if scale is not None and dtype in RELATIVE:
        return Tolerance("absolute", scale, f"1 LSB of the output's quantisation scale {scale:g}")
    if dtype in RELATIVE:
        return Tolerance("relative", RELATIVE[dtype], f"of the largest magnitude, for {dtype}")
    if dtype in RELATIVE_FLOAT8:
        return Tolerance("relative", RELATIVE_FLOAT8[dtype], f"one step of {dtype} at the largest magnitude")
    if dtype in ONE_LSB:
        return Tolerance("absolute", 1.0, f"1 LSB of {dtype}")
    return Tolerance("bits", 0.0, f"{dtype} values are exact")


def type_name(value: Any) -> str:
    """numpy type of an array, or `list`, `dict`, `none`."""
    if value is None:
        return "none"
    if isinstance(value, (list, dict)):
        return type(value).__name__
    return str(value.dtype)


def compare(reference: Any, candidate: Any, tolerance: Tolerance | None, scale: float | None = None) -> Difference:
    """Compare two values; tolerance None means: the one `tolerance_for` gives for the type at hand."""
    if type_name(reference) != type_name(candidate):
        return _mismatch(f"the type is {type_name(candidate)} and not {type_name(reference)}")
    if reference is None:
        return Difference(True, 0.0, 0.0)
    if isinstance(reference, dict):
        if list(reference) != list(candidate):
            return _mismatch("the keys of the map differ")
        return _worst(
            [compare(_array(reference[k]), _array(candidate[k]), tolerance, scale) for k in reference],
        )
    if isinstance(reference, list):
        if len(reference) != len(candidate):
            return _mismatch(f"the sequence has {len(candidate)} items and not {len(reference)}")
        pairs = zip(reference, candidate, strict=True)
        return _worst([compare(_array(a), _array(b), tolerance, scale) for a, b in pairs])
    if reference.shape != candidate.shape:
        return _mismatch(f"the shape is {list(candidate.shape)} and not {list(reference.shape)}")
    bound = tolerance or tolerance_for(str(reference.dtype), scale)
    if bound.kind == "bits":
        return _compare_bits(reference, candidate)
    return _compare_numbers(reference, candidate, bound)


def _array(value: Any) -> Any:
    import numpy as np

    return value if value is None or isinstance(value, (list, dict, np.ndarray)) else np.asarray(value)


def _mismatch(why: str) -> Difference:
    return Difference(False, float("inf"), 0.0, why=why)


def _worst(found: list[Difference]) -> Difference:
    """The first that is too far, else the farthest; of nothing: equal."""
    bad = [d for d in found if not d.within]
    return bad[0] if bad else max(found, key=lambda d: d.max_abs, default=Difference(True, 0.0, 0.0))


def _compare_bits(reference: NDArray[Any], candidate: NDArray[Any]) -> Difference:
    import numpy as np

    if reference.dtype.kind in "OUS":
        differs = np.asarray(reference != candidate, bool)
    else:
        differs = _bits(reference) != _bits(candidate)
        if differs.ndim > reference.ndim:
            differs = differs.any(axis=-1)
        differs &= ~(_is_nan(reference) & _is_nan(candidate))
    if not differs.any():
        return Difference(True, 0.0, _largest(reference))
    if reference.dtype.kind in "OUS":
        return _at(reference, candidate, int(np.argmax(differs)), float("inf"), False)
    gap = np.where(differs, np.nan_to_num(_gap(reference, candidate), nan=np.inf, posinf=np.inf), -1.0)
    place = int(np.argmax(gap))
    return _at(reference, candidate, place, float(gap.reshape(-1)[place]), False)


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """The bytes of each element along a new last axis."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat.reshape(*array.shape, array.dtype.itemsize)


def _is_nan(array: NDArray[Any]) -> NDArray[np.bool_]:
    import numpy as np

    return np.asarray(array != array, bool)  # also right for the types that numpy does not know itself


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    """As float64 or complex128; 64-bit integers lose bits there, so they are compared by bits only."""
    import numpy as np

    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _gap(reference: NDArray[Any], candidate: NDArray[Any]) -> NDArray[np.float64]:
    """|reference - candidate|; 0 where both are the same infinity or both NaN, infinite where only one is."""
    import numpy as np

    a, b = _wide(reference), _wide(candidate)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a - b)
        same = (a == b) | (_is_nan(a) & _is_nan(b))
    gap = np.where(same, 0.0, gap)
    return np.asarray(np.where(np.isnan(gap), np.inf, gap))


def _largest(array: NDArray[Any]) -> float:
    """Largest finite magnitude; 0 for an empty or non-numeric array."""
    import numpy as np

    if array.dtype.kind in "OUSb" or array.size == 0:
        return 0.0
    magnitude = np.abs(_wide(array))
    finite = magnitude[np.isfinite(magnitude)]
    return float(finite.max()) if finite.size else 0.0


def _compare_numbers(reference: NDArray[Any], candidate: NDArray[Any], bound: Tolerance) -> Difference:
    import numpy as np

    if reference.size == 0:
        return Difference(True, 0.0, 0.0)
    largest = _largest(reference)
    if bound.kind == "relative":
        limit = bound.value * largest
    else:
        limit = bound.value + (ROUNDING * largest if reference.dtype.kind not in "iu" else 0.0)
    gap = _gap(reference, candidate)
    place = int(np.argmax(gap))
    worst = float(gap.reshape(-1)[place])
    return _at(reference, candidate, place, worst, worst <= limit)


def _at(reference: NDArray[Any], candidate: NDArray[Any], place: int, gap: float, within: bool) -> Difference:
    import numpy as np

    index = tuple(int(i) for i in np.unravel_index(place, reference.shape))
    a, b = reference.reshape(-1)[place], candidate.reshape(-1)[place]
    return Difference(within, gap, _largest(reference), index, str(a), str(b))
