"""Element types by the names the plan uses, and how many bytes so many elements take."""

from __future__ import annotations

import onnx_ir as ir

from h4hc.units import ceil_div

UNKNOWN = "unknown"

# Lower-case ONNX names, except where numpy's own name differs.
_RENAMED = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.DOUBLE: "float64",
    ir.DataType.UNDEFINED: UNKNOWN,
}

FLOATS = ("float16", "float32", "float64", "bfloat16")  # what an int8 plan quantises

# onnxruntime holds a string tensor as std::string objects: 32 bytes each in the 64-bit libstdc++ ABI, which
# include the text up to 15 characters; longer text comes on top, so string sizes are never exact.
STRING_BITS = 32 * 8
# The widest element type of ONNX (complex128): bound for a value whose type is not known.
WIDEST_BITS = 128


def dtype_name(dtype: ir.DataType | None) -> str:
    """Name of an element type: float32, int8, bool, float8e4m3fn, string ...; `unknown` without a type."""
    if dtype is None:
        return UNKNOWN
    return _RENAMED.get(dtype) or dtype.name.lower()


_BITS = {dtype_name(d): d.bitwidth for d in ir.DataType if d not in (ir.DataType.UNDEFINED, ir.DataType.STRING)}
_BITS |= {"string": STRING_BITS, UNKNOWN: WIDEST_BITS}


def size_bytes(elements: int, dtype: str) -> int:
    """Bytes of `elements` densely packed elements, rounded up to a whole byte: ceil(elements * bits / 8).

    >>> size_bytes(3, "int4"), size_bytes(3, "float32"), size_bytes(0, "int8")
    (2, 12, 0)
    """
    return ceil_div(elements * _BITS[dtype], 8)


def is_float(dtype: str) -> bool:
    """Whether an int8 plan would quantise this type."""
    return dtype in FLOATS


def is_sized(dtype: str) -> bool:
    """Whether the bytes of one element are known exactly."""
    return dtype not in ("string", UNKNOWN)
