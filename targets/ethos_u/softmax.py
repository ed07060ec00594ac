"""A softmax as the NPU runs it: 28 passes, most of them in int32 on one value a row.

  1      maximum of each row                    5      sum of each row
  2      x - maximum, through a table of exp    6-26   its reciprocal: Newton-Raphson on one value a row
  3      aligned for the sum                    27-29  times the reciprocal, rounded, shifted to int8
(the table of step 2 is part of its pass). Source: the passes that Vela 5.2.0 makes of a SOFTMAX.
"""

from __future__ import annotations

from targets.ethos_u.work import Format, Hwc, Work, deepened

INT32 = 32
# operands of the reciprocal's passes: two maps, a constant in front (2 - y), a constant behind (2^n * y)
STEP = ("front", "maps", "behind", "maps")
RECIPROCAL = ("front", "behind", "maps", "behind", "behind", "maps", *STEP, "maps", *STEP, "maps", *STEP)
CONSTANT: Hwc = (1, 1, 1)


def softmax_passes(shape: Hwc) -> tuple[Work, ...]:
    """Passes of a softmax over the channels of a map of int8; the first two read the map itself."""
    h, w, length = shape
    row, column, flat = (h, w, 1), (h * w, 1, 1), deepened(shape)
    form: Format = "brick" if flat == shape else "nhwc"  # a map that is laid out anew lies plainly
    wide = Work(
        "elementwise", "add", shape, shape, ifm_bits=INT32, ofm_bits=INT32, ifm_format=form, ifm2=row, ofm_format=form
    )
    maximum = Work("pool", "maxpool", (h * w, length, 1), column, (1, length))
    less = wide._replace(ifm_bits=8, ifm_format="nhwc", activation="lut")
    aligned = wide._replace(ifm=flat, ofm=flat, ifm2=CONSTANT, ifm2_place="constant", ofm_format="nhwc")
    total = Work("reduce_sum", "other", shape, row, ifm_bits=INT32, ofm_bits=INT32)
    rounded = wide._replace(ifm=flat, ofm=flat, ifm_place="constant", ifm_format="nhwc", ifm2=flat, ifm2_format=form)
    shifted = wide._replace(ofm_bits=8)
    return (maximum, less, aligned, total, *_reciprocal(h * w), wide, rounded, shifted)


def _reciprocal(rows: int) -> tuple[Work, ...]:
    """Count of leading zeros, then Newton-Raphson steps, on one int32 a row."""
    shape = deepened((1, rows, 1))
    unary = Work(
        "elementwise",
        "add",
        shape,
        shape,
        ifm_bits=INT32,
        ofm_bits=INT32,
        ifm_format="brick",
        ofm_format="brick",
    )
    kinds = {
        "maps": unary._replace(ifm2=shape, ifm2_format="brick"),
        "behind": unary._replace(ifm2=CONSTANT, ifm2_place="constant"),
        "front": unary._replace(ifm=CONSTANT, ifm_place="constant", ifm_format="nhwc", ifm2=shape, ifm2_format="brick"),
    }
    return (unary, *(kinds[kind] for kind in RECIPROCAL))
