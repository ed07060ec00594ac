"""Functions of one and of several values as passes of the hardware, as Vela 5.2.0 makes them."""

from __future__ import annotations

from math import prod

from h4hc.workload import ElementwiseParams, Op, OpKind, Workload
from targets.ethos_u import functions
from targets.ethos_u.axes import Shape, operand_constants, order_of, working_layout
from targets.ethos_u.maps import folded, physical, requantised
from targets.ethos_u.norms import scaled
from targets.ethos_u.softmax import CONSTANT, INT32
from targets.ethos_u.work import Activation, Format, Hwc, Output, Place, Work, deepened, volume


def elementwise_passes(op: Op, p: ElementwiseParams, workload: Workload) -> tuple[Work, ...]:
    shape = physical(workload.tensor[op.outputs[0]])
    if p.broadcast in ("none", "scalar"):
        shape = deepened(shape)
    if op.kind is OpKind.ACTIVATION:
        return _activation(p.function, shape)
    if op.kind is OpKind.QUANTIZE:
        return (requantised(shape),)
    if p.function in functions.SINGLE:
        return _activation(p.function, shape)
    if p.function == "squared_difference":
        return _squared_difference(shape)
    output: Output = "mul" if p.function in functions.PRODUCTS else "add"
    if p.function in functions.SELECTIONS:
        output = "other"
    return _pairs(output, _operands(op, p, workload), len(op.inputs))


def _operands(op: Op, p: ElementwiseParams, workload: Workload) -> list[Shape]:
    """Shapes of all operands in the order of memory, with the axes of the result."""
    result = workload.tensor[op.outputs[0]].shape
    shapes = [workload.tensor[name].shape for name in (*op.inputs, *operand_constants(op, workload))]
    missing = max(2, p.operands) - len(shapes)  # one that is read twice, or a constant that is part of the operator
    shapes += [(1,) if p.broadcast == "scalar" else result] * missing
    order = order_of(len(result), working_layout(op, workload))
    full = [(1,) * (len(result) - len(shape)) + shape for shape in shapes]
    return [tuple(shape[axis] for axis in order) for shape in full]


def _pairs(output: Output, shapes: list[Shape], inputs: int) -> tuple[Work, ...]:
    """Operands from left to right; those behind the first `inputs` are constants.

    The hardware repeats one of two operands. Where both are repeated, a sum with a constant map of zeros stretches the
    left one first.
    """
    works: list[Work] = []
    left = shapes[0]
    form: Format = "nhwc"
    for at, right in enumerate(shapes[1:], 1):
        whole = tuple(map(max, left, right))
        shape, small = folded(whole), folded(min(left, right, key=prod))
        if left != whole and right != whole:
            zeros = Work("elementwise", "add", shape, shape, ifm2=folded(left), ifm_place="constant")
            works.append(zeros._replace(ofm_format="brick"))
            form, small = "brick", folded(right)
        if small == shape or volume(small) == 1:
            small = CONSTANT if small != shape else deepened(shape)
            shape = deepened(shape)
        place: Place = "constant" if at >= inputs and volume(small) > 1 and small != shape else "inner"
        works.append(Work("elementwise", output, shape, shape, ifm2=small, ifm2_place=place, ifm_format=form))
        left, form = whole, "brick" if shape == folded(whole) else "nhwc"
        works[-1] = works[-1]._replace(ofm_format=form)
    works[-1] = works[-1]._replace(ofm_format="nhwc")
    return tuple(works)


def _squared_difference(shape: Hwc) -> tuple[Work, ...]:
    """In int32: each operand widened and scaled; difference, square, and the scale of the result."""
    form: Format = "brick"
    copy = Work("pool", "other", shape, shape, ofm_bits=INT32, ofm_format=form)
    wide = Work("elementwise", "mul", shape, shape, ifm_bits=INT32, ofm_bits=INT32, ifm_format=form, ofm_format=form)
    scaled = wide._replace(ifm2=CONSTANT, ifm2_place="constant")
    both = wide._replace(ifm2=shape, ifm2_format=form)
    return copy, scaled, copy, scaled, both, both, scaled._replace(ofm_bits=8)


def _activation(function: str, shape: Hwc) -> tuple[Work, ...]:
    """A function of one value as an operator of its own."""
    if function in functions.CLAMPS:
        return (Work("pool", "other", shape, shape, activation="relu"),)
    if function in functions.TABLES:
        return (Work("pool", "other", shape, shape, activation="lut"),)
    sides = Work("elementwise", "mul", shape, shape, ifm2=shape)
    table = Work("pool", "other", shape, shape, activation="lut")
    step = Work("elementwise", "add", shape, shape, ifm2=CONSTANT)
    match function:
        case "abs":
            return (Work("elementwise", "other", shape, shape),)
        case "neg":
            return (step,)
        case "hard_sigmoid":
            return step._replace(output="mul"), step
        case "prelu":  # max(x, 0) + slope * min(x, 0), a slope a channel
            positive = Work("pool", "other", shape, shape, activation="relu")
            return positive, step._replace(output="other"), *scaled(shape, ("mul",)), step._replace(ifm2=shape)
        case "quick_gelu":
            return step._replace(output="mul", activation="lut"), sides
        case _:
            return table, sides


def with_activation(works: tuple[Work, ...], function: str) -> tuple[Work, ...]:
    """A fused activation: clamp or table in the last pass, further passes for the others."""
    if not function or not works:
        return works
    last = works[-1]
    if function in functions.CLAMPS or function in functions.TABLES:
        kind: Activation = "relu" if function in functions.CLAMPS else "lut"
        return (*works[:-1], last._replace(activation=kind))
    extra = tuple(w._replace(times=last.times) for w in _activation(function, last.ofm))
    return (*works, *extra)
