"""Shapes that depend on data: an upper bound where one is known, else an estimate from the inputs.

Both are marked (`Fact.exact`, `Fact.sound`) and named in a diagnostic by `lower`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from h4hc.lowering import conv, matmul
from h4hc.lowering.inputs import STANDARD_DOMAINS
from h4hc.lowering.site import Fact, Refused, Site, canonical
from h4hc.units import ceil_div

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Bound:
    """Shape of an output; sound: the run-time shape never holds more elements (given sound inputs); see `Fact`."""

    shape: Shape
    sound: bool
    dimwise: bool = True


def bound(site: Site, output: int) -> Bound:
    """Bound of an output of the anchor whose shape is not known, or an estimate: the largest input's elements."""
    facts = [site.facts[v] for v in site.node.inputs if v is not None]
    sound_inputs = all(f.sound for f in facts)
    op_type, standard = site.node.op_type, site.node.domain in STANDARD_DOMAINS
    if standard and facts:
        rule = _RULES.get(op_type)
        shape = rule(site, output) if rule is not None and all(f.dimwise for f in facts) else None
        if shape is not None:
            return Bound(shape, sound_inputs)
        if op_type in NO_LARGER and not (op_type.startswith("Reduce") and facts[0].elements == 0):
            return Bound((facts[0].elements,), sound_inputs, dimwise=False)
        if op_type in ELEMENTWISE:
            return _broadcast(facts, sound_inputs)
        if op_type in GATHERED:
            return Bound((sum(f.elements for f in facts),), sound_inputs, dimwise=False)
    return Bound((max((f.elements for f in facts), default=1),), False, dimwise=False)


def fit(known: Sequence[int | None] | None, guess: Bound) -> Bound:
    """`guess` brought into a shape of which some dimensions are known.

    The first unknown dimension takes up all the elements of the guess (rounded up), the others are 1.
    """
    if known is None:
        return guess
    same_rank = len(known) == len(guess.shape)
    if guess.dimwise and same_rank and all(k in (None, g) for k, g in zip(known, guess.shape, strict=True)):
        return guess
    rest = math.prod(k for k in known if k is not None)
    left = ceil_div(math.prod(guess.shape), rest) if rest else 0
    sizes = []
    for dim in known:
        if dim is not None:
            sizes.append(dim)
        else:
            sizes.append(left)
            left = 1
    return Bound(tuple(sizes), guess.sound, dimwise=sum(k is None for k in known) < 2)


# Results never hold more elements than the first input (but for reductions of nothing).
NO_LARGER = frozenset(
    {
        "ArgMax", "ArgMin", "Cast", "CastLike", "Flatten", "Identity", "OptionalGetElement", "Reshape", "ReduceL1",
        "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare", "SequenceAt", "SequenceErase", "Slice", "Split", "SplitToSequence",
        "Squeeze", "StringNormalizer", "Transpose", "Unsqueeze", "Optional", "ConcatFromSequence",
    }
)  # fmt: skip

# Results have the broadcast shape of the inputs.
ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "And", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Celu", "Clip", "CumSum",
        "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
        "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Max", "Mean", "Min", "Mish", "Mod",
        "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "DequantizeLinear", "Reciprocal", "Relu", "Round",
        "Sigmoid", "Sign", "Sin", "Softmax", "Softplus", "Sqrt", "StringConcat", "Sub", "Sum", "Swish", "Tanh",
        "Where", "Xor",
    }
)  # fmt: skip

# Results hold the elements of all inputs together.
GATHERED = frozenset({"Concat", "SequenceConstruct", "SequenceInsert"})


def _broadcast(facts: Sequence[Fact], sound: bool) -> Bound:
    """The broadcast shape; where ranks are open and more than one operand is wide, the elements of the largest."""
    if not all(f.dimwise for f in facts):
        wide = [f for f in facts if f.elements != 1]
        largest = max(facts, key=lambda f: f.elements)
        return Bound((largest.elements,), sound and len(wide) < 2, dimwise=False)
    rank = max(len(f.shape) for f in facts)
    padded = [(1,) * (rank - len(f.shape)) + f.shape for f in facts]
    return Bound(tuple(0 if 0 in column else max(column) for column in zip(*padded, strict=True)), sound)


def _same(site: Site, output: int) -> Shape:
    return site.shape(0)


def _non_zero(site: Site, output: int) -> Shape:
    """(rank, number of non-zero elements)."""
    return (max(1, len(site.shape(0))), site.fact(0).elements)


def _unique(site: Site, output: int) -> Shape:
    shape, elements = site.shape(0), site.fact(0).elements
    axis = site.node.attributes.get("axis")
    if axis is None:
        return (elements,)
    return shape if output == 0 else (shape[canonical(int(axis.as_int()), len(shape))],)


def _compress(site: Site, output: int) -> Shape:
    return site.shape(0) if "axis" in site.node.attributes else (site.fact(0).elements,)


def _non_max_suppression(site: Site, output: int) -> Shape:
    """(selected, 3): at most batch x classes x min(boxes, max_output_boxes_per_class)."""
    batch, classes, boxes = site.shape(1)
    limit = site.integers(2) if site.has(2) else (0,)
    return (batch * classes * (min(boxes, max(0, limit[0])) if limit else boxes), 3)


def _conv(site: Site, output: int) -> Shape | None:
    x, w = site.shape(0), site.shape(1)
    if len(x) != len(w) or len(x) < 3:
        return None
    return (x[0], w[0], *conv.out_spatial(site, w[2:], x[2:]))


def _pool(site: Site, output: int) -> Shape | None:
    x, kernel = site.shape(0), site.ints("kernel_shape") or ()
    return (*x[:2], *conv.out_spatial(site, kernel, x[2:])) if len(x) == len(kernel) + 2 else None


def _product(site: Site, output: int) -> Shape | None:
    try:
        sizes = matmul.product(site)
    except Refused:
        return None  # bounds of two inputs need not fit each other
    return (sizes.batch, sizes.m, sizes.n)


def _shape_of(site: Site, output: int) -> Shape:
    return (len(site.shape(0)),)


_RULES: dict[str, Callable[[Site, int], Shape | None]] = {
    "AveragePool": _pool,
    "Compress": _compress,
    "Conv": _conv,
    "MatMul": _product,
    "MaxPool": _pool,
    "NonMaxSuppression": _non_max_suppression,
    "NonZero": _non_zero,
    "Shape": _shape_of,
    "TopK": _same,
    "Unique": _unique,
}
