"""One result per element: activations (a function of one value), arithmetic of several tensors, casts."""

from __future__ import annotations

import math
from typing import Literal

from h4hc.lowering.generic import generic
from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import ElementwiseParams, MoveParams, OpKind

Broadcast = Literal["none", "scalar", "channel", "general"]

# Functions of one value.
ACTIVATIONS: dict[str, str] = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Ceil": "ceil",
    "Celu": "celu",
    "Cos": "cos",
    "Cosh": "cosh",
    "Elu": "elu",
    "Erf": "erf",
    "Exp": "exp",
    "FastGelu": "gelu",
    "Floor": "floor",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "LeakyRelu": "leaky_relu",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "QLinearLeakyRelu": "leaky_relu",
    "QLinearSigmoid": "sigmoid",
    "QuickGelu": "quick_gelu",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "ScaledSiLU": "silu",
    "Selu": "selu",
    "Shrink": "shrink",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Swish": "silu",
    "Tan": "tan",
    "Tanh": "tanh",
    "ThresholdedRelu": "thresholded_relu",
}

# Functions of one or several tensors, all inputs being data.
ARITHMETIC: dict[str, str] = {
    "Add": "add",
    "And": "and",
    "BiasGelu": "bias_gelu",
    "BitCast": "bit_cast",
    "BitShift": "bit_shift",
    "BitwiseAnd": "bitwise_and",
    "BitwiseNot": "bitwise_not",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Cast": "cast",
    "Div": "div",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_or_equal",
    "IsInf": "is_inf",
    "IsNaN": "is_nan",
    "Less": "less",
    "LessOrEqual": "less_or_equal",
    "Max": "max",
    "Mean": "mean",
    "Min": "min",
    "Mod": "mod",
    "Mul": "mul",
    "Not": "not",
    "Or": "or",
    "PRelu": "prelu",
    "Pow": "pow",
    "Sub": "sub",
    "Sum": "add",
    "SwiGLU": "swiglu",
    "Where": "where",
    "Xor": "xor",
}

# Quantised forms: which inputs are data; the others are scales and zero points.
QUANTISED: dict[str, tuple[str, tuple[int, ...]]] = {
    "QLinearAdd": ("add", (0, 3)),
    "QLinearMul": ("mul", (0, 3)),
    "QLinearWhere": ("where", (0, 1, 4)),
}


def activation(site: Site) -> Lowered:
    """A function of one value."""
    params = ElementwiseParams("elementwise", ACTIVATIONS[site.node.op_type], math.prod(site.out()), 1)
    return Lowered(OpKind.ACTIVATION, params, 0, Order.EITHER)


def clip(site: Site) -> Lowered:
    """Clip and its special cases: relu6 is [0, 6], relu is [0, inf), relu_n1_to_1 is [-1, 1]."""
    low, high = _bound(site, "min", 1), _bound(site, "max", 2)
    names = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu", (-1.0, 1.0): "relu_n1_to_1"}
    function = "clip" if low is None or high is None else names.get((low, high), "clip")
    params = ElementwiseParams("elementwise", function, math.prod(site.out()), 1)
    fixed = all(site.value(i) is None or site.is_constant(i) for i in (1, 2))
    return Lowered(OpKind.ACTIVATION if fixed else OpKind.ELEMENTWISE, params, 0, Order.EITHER)


def arithmetic(site: Site) -> Lowered:
    """Arithmetic, comparison, selection, cast; `operands` counts constant ones too."""
    data = tuple(i for i, v in enumerate(site.node.inputs) if v is not None)
    return _elementwise(site, ARITHMETIC[site.node.op_type], data)


def quantised(site: Site) -> Lowered:
    """QLinearAdd, QLinearMul, QLinearWhere."""
    return _elementwise(site, *QUANTISED[site.node.op_type])


def cast_like(site: Site) -> Lowered:
    """CastLike: its second input only names a type."""
    return _elementwise(site, "cast", (0,))


def dropout(site: Site) -> Lowered:
    """Dropout passes its input on, unless it is in training mode or its mask is used."""
    training = site.has(2) and site.numbers(2) not in ((False,), (0,))
    mask = len(site.node.outputs) > 1 and bool(site.node.outputs[1].uses() or site.node.outputs[1].is_graph_output())
    if training or mask:
        return generic(site)
    params = MoveParams("move", "identity", math.prod(site.out()))
    return Lowered(OpKind.VIEW, params, 0, Order.EITHER)


def broadcast_of(operands: list[tuple[int, ...]], out: tuple[int, ...]) -> Broadcast:
    """How the operands are spread over the result; the worst of them counts.

    none: every operand has the result's shape. scalar: some have one element. channel: some have one element a
    channel, on axis 1 of an image (rank 3 or more) or on the last axis.
    """
    worst = 0
    for shape in operands:
        padded = (1,) * (len(out) - len(shape)) + shape
        wide = [axis for axis, dim in enumerate(padded) if dim != 1]
        if padded == out:
            rank = 0
        elif not wide:
            rank = 1
        elif wide == [len(out) - 1] or (wide == [1] and len(out) > 2):
            rank = 2
        else:
            rank = 3
        worst = max(worst, rank)
    names: tuple[Broadcast, ...] = ("none", "scalar", "channel", "general")
    return names[worst]


def _elementwise(site: Site, function: str, data: tuple[int, ...]) -> Lowered:
    out = site.out()
    broadcast = broadcast_of([site.shape(i) for i in data], out)
    params = ElementwiseParams("elementwise", function, math.prod(out), len(data), broadcast)
    return Lowered(OpKind.ELEMENTWISE, params, 0, Order.EITHER)


def _bound(site: Site, name: str, index: int) -> float | None:
    """A clip bound: attribute before opset 11, input since; infinite when absent, None when not known."""
    unbounded = -math.inf if name == "min" else math.inf
    attribute = site.node.attributes.get(name)
    if attribute is not None:
        value = float(attribute.as_float())
        return value if abs(value) < 3.4e38 else unbounded  # the old default is the largest float32
    if not site.has(index):
        return unbounded
    numbers = site.numbers(index)
    return float(numbers[0]) if numbers else None
