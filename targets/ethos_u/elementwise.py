"""Functions of one and of several values as passes of the hardware, as Vela 5.2.0 makes them."""

from __future__ import annotations

from math import prod

from h4hc.workload import ElementwiseParams, Op, OpKind, Workload
from targets.ethos_u import functions
from targets.ethos_u.axes import Shape, memory_shape, operand_constants, order_of, working_layout
from targets.ethos_u.maps import IMAGE_RANK, folded, requantised
from targets.ethos_u.norms import scaled
from targets.ethos_u.softmax import CONSTANT, INT32
from targets.ethos_u.work import BRICK, Activation, Format, Hwc, Output, Place, Work, deepened, volume


def elementwise_passes(op: Op, p: ElementwiseParams, workload: Workload) -> tuple[Work, ...]:
    shape = folded(memory_shape(workload.tensor[op.outputs[0]], working_layout(op, workload)))
    rank = len(workload.tensor[op.outputs[0]].shape)
    function = "leaky_relu" if p.function == "prelu" and _one_slope(op, shape, workload) else p.function
    if p.broadcast in ("none", "scalar"):
        shape = deepened(shape)
    if op.kind is OpKind.ACTIVATION:
        return _activation(function, shape)
    if op.kind is OpKind.QUANTIZE:
        return (requantised(shape),)
    if p.function in functions.SINGLE:
        return _activation(function, shape)
    if p.function == "squared_difference":
        return _squared_difference(shape, rank == IMAGE_RANK)
    output: Output = "mul" if p.function in functions.PRODUCTS else "add"
    if p.function in functions.SELECTIONS:
        output = "other"
    return _pairs(output, _operands(op, p, workload))


def _one_slope(op: Op, shape: Hwc, workload: Workload) -> bool:
    """Whether a PReLU has the same slope everywhere, which makes it a table."""
    return shape[2] == 1 or {workload.tensor[name].elements for name in op.weights} == {1}


def _operands(op: Op, p: ElementwiseParams, workload: Workload) -> list[tuple[Shape, Place]]:
    """Shapes of all operands in the order of memory, with the axes of the result, and where they lie."""
    result = workload.tensor[op.outputs[0]].shape
    found: list[tuple[Shape, Place]] = [(workload.tensor[name].shape, "inner") for name in op.inputs]
    found += [(workload.tensor[name].shape, "constant") for name in operand_constants(op, workload)]
    missing = max(2, p.operands) - len(found)  # one that is read twice, or a constant that is part of the operator
    found += [((1,) if p.broadcast == "scalar" else result, "inner")] * missing
    order = order_of(len(result), working_layout(op, workload))
    full = [((1,) * (len(result) - len(shape)) + shape, place) for shape, place in found]
    return [(tuple(shape[axis] for axis in order) or (1,), place) for shape, place in full]  # a scalar has one axis


def _pairs(output: Output, operands: list[tuple[Shape, Place]]) -> tuple[Work, ...]:
    """Operands from left to right; a constant is read from where constants lie, however large, but for a scalar.

    The hardware repeats one of two operands. Where both are repeated, a sum with a constant map of zeros stretches the
    left one first.
    """
    works: list[Work] = []
    left, _ = operands[0]
    form: Format = "nhwc"
    for right, place in operands[1:]:
        whole = tuple(map(max, left, right))
        shape, small = folded(whole), folded(min(left, right, key=prod))
        batch = 1  # images that take a pass each: those of an operand that is repeated
        if len(whole) == IMAGE_RANK and min(prod(left), prod(right)) not in (1, prod(whole)):
            batch, shape, small = whole[0], folded(whole[1:]), folded(min(left, right, key=prod)[1:])
        if left != whole and right != whole:
            stretched = folded(left[1:] if batch > 1 else left)
            zeros = Work("elementwise", "add", shape, shape, ifm2=stretched, ifm_place="constant", times=batch)
            works.append(zeros._replace(ofm_format="brick"))
            form, small = "brick", folded(right[1:] if batch > 1 else right)
        if batch == 1 and (small == shape or volume(small) == 1):
            small = CONSTANT if small != shape else deepened(shape)
            shape = deepened(shape)
        work = Work("elementwise", output, shape, shape, ifm2=small, ifm_format=form, times=batch)
        if place == "constant" and prod(right) > 1:
            repeated = right != whole or left == whole  # else the constant is the map, and what came before repeated
            work = work._replace(ifm2_place=place) if repeated else work._replace(ifm_place=place, ifm2_format=form)
        works.append(work)
        left, form = whole, "brick" if shape[-1] == whole[-1] else "nhwc"
        works[-1] = works[-1]._replace(ofm_format=form)
    works[-1] = works[-1]._replace(ofm_format="nhwc")
    return tuple(works)


def _squared_difference(shape: Hwc, is_image: bool) -> tuple[Work, ...]:
    """In int32: each operand widened and scaled; difference, square, and the scale of the result.

    The scale's constant has four axes: a square of fewer is first added to a constant map of zeros.
    """
    form: Format = "brick"
    copy = Work("pool", "other", shape, shape, ofm_bits=INT32, ofm_format=form)
    wide = Work("elementwise", "mul", shape, shape, ifm_bits=INT32, ofm_bits=INT32, ifm_format=form, ofm_format=form)
    scaled = wide._replace(ifm2=CONSTANT, ifm2_place="constant")
    both = wide._replace(ifm2=shape, ifm2_format=form)
    zeros = both._replace(output="add", ifm_place="constant", ifm_format="nhwc")
    stretched = () if is_image else (zeros,)
    return copy, scaled, copy, scaled, both, both, *stretched, scaled._replace(ofm_bits=8)


def _activation(function: str, shape: Hwc, form: Format = "nhwc") -> tuple[Work, ...]:
    """A function of one value as an operator of its own; form: of what it reads. Maps between its passes are bricks."""
    relu = Work("pool", "other", shape, shape, activation="relu", ifm_format=form)
    table = relu._replace(activation="lut")
    step = Work("elementwise", "add", shape, shape, ifm2=CONSTANT, ifm_format=form)
    first = step._replace(output="mul", ofm_format="brick")
    sides = step._replace(output="mul", ifm2=shape, ifm2_format="brick")
    if function in functions.CLAMPS:
        return (relu,)
    if function in functions.TABLES:
        return (table,)
    match function:
        case "abs":
            return (Work("elementwise", "other", shape, shape, ifm_format=form),)
        case "neg":
            return (step,)
        case "hard_sigmoid":
            return first, step._replace(ifm_format="brick")
        case "prelu":  # max(x, 0) + slope * min(x, 0), a slope a channel
            (slope,) = scaled(shape, ("mul",), "brick")
            both = step._replace(ifm2=shape, ifm_format="brick", ifm2_format="brick")
            positive, negative = relu._replace(ofm_format="brick"), first._replace(output="other")
            return positive, negative, slope._replace(ofm_format="brick"), both
        case "quick_gelu":
            return first._replace(activation="lut"), sides
        case _:
            return table._replace(ofm_format="brick"), sides


def with_activation(works: tuple[Work, ...], function: str, whole: Hwc) -> tuple[Work, ...]:
    """A fused activation: in the output stage of the last pass, or passes of its own over the whole result.

    A clamp or table is part of a pass that makes the whole result as the compiler lays it out for a function of one
    value. Products of activations, groups, positions, and images of few channels are none.
    """
    if not function or not works:
        return works
    last = works[-1]
    vectors = last.unit == "vector"
    if vectors:  # worked on as a square; a function of one value sees a row
        whole = (1, last.ofm[0] * last.ofm[1], last.ofm[2])
    laid = deepened(whole)
    as_laid = vectors or last.ofm == laid
    alone = last.unit != "matmul" and last.times == 1 and last.shared == "no"
    if as_laid and alone and (function in functions.CLAMPS or function in functions.TABLES):
        kind: Activation = "relu" if function in functions.CLAMPS else "lut"
        return (*works[:-1], last._replace(activation=kind))
    sliced = last.times > 1 and last.ofm[2] % BRICK > 0  # groups that fill no bricks of the result
    form: Format = "brick" if laid == (last.ofm if vectors else whole) and not sliced else "nhwc"
    made = (work._replace(ofm_format=form) if work.shared != "no" or work is last else work for work in works)
    return (*made, *_activation(function, laid, form))
