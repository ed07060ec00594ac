"""Functions of one or several values an element as TFLite operators: elementwise, activations, requantising."""

from __future__ import annotations

import numpy as np

from h4hc.workload import ElementwiseParams, Op, OpKind
from targets.ethos_u.axes import memory_shape, operand_constants, order_of
from targets.ethos_u.vendor.network import Network, cannot, few_axes
from targets.ethos_u.vendor.numbers import SCALE
from targets.ethos_u.vendor.tflite import Option, Quant, Ref, Shape

NONE = 0
FUSED = {"relu": 1, "relu_n1_to_1": 2, "relu6": 3}  # ActivationFunctionType
FUSING = frozenset({OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED, OpKind.POOL})
CLAMPS = {"relu": "RELU", "relu6": "RELU6", "relu_n1_to_1": "RELU_N1_TO_1"}
BOUNDS = {(0, 6): "relu6", (-1, 1): "relu_n1_to_1"}  # of a clip, in whole numbers
UNARY = {
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "elu": "ELU",
    "hard_swish": "HARD_SWISH",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "leaky_relu": "LEAKY_RELU",
    "exp": "EXP",
    "log": "LOG",
    "rsqrt": "RSQRT",
    "abs": "ABS",
    "neg": "NEG",
}
LOGISTIC = Quant.whole(1 / 256, -128)  # the only scale TFLite allows
TANH = Quant.whole(1 / 128, 0)
LEAK = 0.01
QUICK_GELU = 1.702
BINARY = {
    "add": "ADD",
    "sum": "ADD",
    "sub": "SUB",
    "mul": "MUL",
    "min": "MINIMUM",
    "minimum": "MINIMUM",
    "max": "MAXIMUM",
    "maximum": "MAXIMUM",
    "squared_difference": "SQUARED_DIFFERENCE",
}
KEEPS_SCALE = frozenset({"MINIMUM", "MAXIMUM"})
FUSES = frozenset({"ADD", "SUB", "MUL"})


def fusable(net: Network, op: Op) -> int:
    """The operator's activation as TFLite's own field, where TFLite has one for it."""
    return FUSED.get(_clamp(net, op, op.activation), NONE)


def _clamp(net: Network, op: Op, function: str) -> str:
    """A clip by its bounds, where they are known to be those of a named clamp; unknown bounds count as 0 to 6."""
    if function != "clip":
        return function
    bounds = net.numbers.attribute(op, "bounds") or (0, 6)
    return BOUNDS.get((bounds[0], bounds[1]), "clip")


def activated(net: Network, op: Op, ref: Ref, function: str) -> Ref:
    """`ref` behind a fused activation: nothing where TFLite's field says it already, else operators of their own."""
    if not function or (op.kind in FUSING and _clamp(net, op, function) in FUSED):
        return ref
    return apply(net, op, ref, function)


def apply(net: Network, op: Op, ref: Ref, function: str) -> Ref:
    """A function of one value."""
    function = _clamp(net, op, function)
    quant = net.result_quant(op)
    if function in CLAMPS:
        return net.step(op, CLAMPS[function], [ref], ref.shape)
    if function in UNARY:
        return _unary(net, op, ref, function, quant)
    if function in ("silu", "swish"):
        return binary(net, op, "MUL", ref, net.step(op, "LOGISTIC", [ref], ref.shape, LOGISTIC), quant)
    if function == "quick_gelu":
        scaled = binary(net, op, "MUL", ref, scalar(net, op, ref, QUICK_GELU), quant)
        return binary(net, op, "MUL", ref, net.step(op, "LOGISTIC", [scaled], ref.shape, LOGISTIC), quant)
    if function == "hard_sigmoid":
        slope = binary(net, op, "MUL", ref, scalar(net, op, ref, 1 / 6), quant)
        return binary(net, op, "ADD", slope, scalar(net, op, ref, 0.5), quant, FUSED["relu"])
    if function == "clip":
        return _clip(net, op, ref)
    if function == "prelu":
        values, scale = net.numbers.constant(op, next(iter(op.weights), ""), (1, 1, ref.shape[-1]))
        return net.step(op, "PRELU", [ref, net.constant(op, values, scale)], ref.shape, quant)
    raise cannot(op, f"no operator for {function}")


def _unary(net: Network, op: Op, ref: Ref, function: str, quant: Quant) -> Ref:
    options: dict[str, Option] = {}
    if function in ("gelu", "gelu_tanh"):
        options["Approximate"] = function == "gelu_tanh"
    if function == "leaky_relu":
        options["Alpha"] = LEAK
    fixed = {"sigmoid": LOGISTIC, "tanh": TANH}.get(function, quant)
    return net.step(op, UNARY[function], [ref], ref.shape, fixed, options)


def _clip(net: Network, op: Op, ref: Ref) -> Ref:
    """A clip by bounds that no TFLite clamp has: a minimum, then a maximum, with constants of the tensor's scale."""
    bounds = net.numbers.attribute(op, "bounds")
    assert bounds is not None, op.id
    assert ref.quant is not None, op.id
    for kind, bound in (("MINIMUM", bounds[1]), ("MAXIMUM", bounds[0])):
        stored = np.clip(round(bound / ref.quant.scales[0]) + ref.quant.zero_points[0], -128, 127)
        limit = net.constant(op, np.full((1,) * len(ref.shape), stored, np.int8), ref.quant)
        ref = net.step(op, kind, [ref, limit], ref.shape)
    return ref


def scalar(net: Network, op: Op, ref: Ref, value: float) -> Ref:
    """A constant of one element, stored as 100 steps."""
    return net.constant(op, np.full((1,) * len(ref.shape), 100, np.int8), Quant.whole(value / 100))


def binary(net: Network, op: Op, kind: str, a: Ref, b: Ref, quant: Quant | None, fused: int = NONE) -> Ref:
    """An operator of two values, the shorter one repeated."""
    options: dict[str, Option] = {"FusedActivationFunction": fused} if kind in FUSES else {}
    shape = tuple(np.broadcast_shapes(a.shape, b.shape))
    if kind in KEEPS_SCALE:
        quant = a.quant
    return net.step(op, kind, [a, b], shape, quant, options)


def emit_elementwise(net: Network, op: Op, p: ElementwiseParams) -> None:
    """Functions of several values from left to right; those of one value; QUANTIZE."""
    out = few_axes(memory_shape(net.workload.tensor[op.outputs[0]]))
    if op.kind is OpKind.QUANTIZE:
        ref = net.read(op, op.inputs[0], out)
        target = net.numbers.quant(op.outputs[0]) or Quant.whole(SCALE * 1.25)
        net.finish(op, net.step(op, "QUANTIZE", [ref], out, target))
        return
    if op.kind is OpKind.ACTIVATION or p.function not in BINARY:
        made = apply(net, op, net.read(op, op.inputs[0], out), p.function)
        net.finish(op, activated(net, op, made, op.activation))
        return
    operands = _operands(net, op, out)
    kind, made = BINARY[p.function], operands[0]
    if len(operands) == 1:
        operands.append(operands[0])  # x + x
    for i, operand in enumerate(operands[1:], 2):
        last = i == len(operands)
        fused = FUSED.get(_clamp(net, op, op.activation), NONE) if last and kind in FUSES else NONE
        made = binary(net, op, kind, made, operand, net.result_quant(op), fused)
    if op.activation and not (kind in FUSES and _clamp(net, op, op.activation) in FUSED):
        made = apply(net, op, made, op.activation)
    net.finish(op, net.reshaped(op, made, out))


def _operands(net: Network, op: Op, out: Shape) -> list[Ref]:
    """All operands, each with as many axes as the result; the order of operands where numbers know it."""
    rank = len(net.workload.tensor[op.outputs[0]].shape)
    found = []
    for name in op.inputs:
        found.append(net.read(op, name, _aligned(net.workload.tensor[name].shape, rank, net, op, out)))
    for name in operand_constants(op, net.workload):
        shape = _aligned(net.workload.tensor[name].shape, rank, net, op, out)
        values, quant = net.numbers.constant(op, name, shape)
        found.append(net.constant(op, values, quant))
    order = net.numbers.attribute(op, "order")
    return [found[i] for i in order] if order else found


def _aligned(shape: Shape, rank: int, net: Network, op: Op, out: Shape) -> Shape:
    """An operand's shape in memory order with the result's axes: ones in front, then as `few_axes` folds them."""
    full = (1,) * (rank - len(shape)) + shape
    turned = tuple(full[a] for a in order_of(rank, net.order(op)))
    whole = tuple(net.workload.tensor[op.outputs[0]].shape[a] for a in order_of(rank, net.order(op)))
    if turned == whole:
        return out
    kept = [turned[i] for i in _kept(whole)]
    if len(kept) > len(out):
        lead = len(kept) - len(out) + 1
        head = kept[:lead]
        if any(d == 1 for d in head) and any(d != 1 for d in head):
            raise cannot(op, f"{shape} is repeated along some of {lead} folded axes")
        kept = [int(np.prod(head)), *kept[lead:]]
    return tuple(kept)


def _kept(whole: Shape) -> list[int]:
    """Axes that `few_axes` leaves."""
    axes = list(range(len(whole)))
    while len(axes) > 4 and any(whole[a] == 1 for a in axes):
        axes.remove(next(a for a in axes if whole[a] == 1))
    return axes
