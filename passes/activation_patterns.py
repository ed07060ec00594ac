"""How exporters write activation functions: as one node, or as a product of x with a gate of x."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from passes import matching

GELU_TANH_CUBIC = 0.044715  # y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), ONNX Gelu, approximate="tanh"
_MAX_STEPS = 3  # scalar operations between two parts of a pattern; no exporter writes more
_TERMS = ("Add", "Sum", "Sub", "Mul", "Div", "Pow", "Neg")
_MAX_TERMS = 10  # nodes of a polynomial inside a gate; the longest spelling (tanh Gelu) has 7


@dataclass(frozen=True)
class Activation:
    """A function of one value: its name, its input, the nodes that compute it, the numbers it needs."""

    function: str
    source: ir.Value
    anchor: ir.Node
    nodes: tuple[ir.Node, ...]
    params: dict[str, object] = field(default_factory=dict)


# ---------------------------------------------------------------- one node


def single(node: ir.Node) -> Activation | str | None:
    """`node` as an activation function; why it is none although its type is one; None for another type."""
    if not node.inputs or node.inputs[0] is None:
        return None
    found = _microsoft(node) if node.domain == matching.MICROSOFT_DOMAIN else _standard(node)
    if found is None or isinstance(found, str):
        return found
    function, params = found
    return Activation(function, node.inputs[0], node, (node,), params)


_PLAIN = {
    "Relu": "relu",
    "HardSwish": "hard_swish",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Mish": "mish",
    "Softplus": "softplus",
}


def _standard(node: ir.Node) -> tuple[str, dict[str, object]] | str | None:
    if not matching.is_op(node, node.op_type):
        return None
    attribute = node.attributes.get_float
    match node.op_type:
        case "Clip":
            return _clip(node)
        case "HardSigmoid":
            return "hard_sigmoid", {"alpha": attribute("alpha", 0.2), "beta": attribute("beta", 0.5)}
        case "LeakyRelu":
            return "leaky_relu", {"alpha": attribute("alpha", 0.01)}
        case "Elu":
            return "elu", {"alpha": attribute("alpha", 1.0)}
        case "Gelu":
            return ("gelu_tanh" if node.attributes.get_string("approximate", "none") == "tanh" else "gelu"), {}
        case "Swish":
            return _swish(attribute("alpha", 1.0))
        case "PRelu":
            slope = node.inputs[1]
            if slope is None or not matching.is_constant(slope):
                return "its slope is not a constant"
            return "prelu", {"slope": slope.name}
    return (_PLAIN[node.op_type], {}) if node.op_type in _PLAIN else None


def _microsoft(node: ir.Node) -> tuple[str, dict[str, object]] | None:
    if matching.input_at(node, 1) is not None:
        return None  # FastGelu with a bias: an addition too
    match node.op_type:
        case "Gelu":
            return "gelu", {}
        case "FastGelu":
            return "gelu_tanh", {}
        case "QuickGelu":
            return _swish(node.attributes.get_float("alpha", 1.702))
    return None


def _swish(alpha: float) -> tuple[str, dict[str, object]]:
    """x sigmoid(alpha x): silu for alpha 1."""
    return ("silu", {}) if alpha == 1.0 else ("swish", {"alpha": alpha})


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """Bounds of a Clip, as attributes (opset < 11) or inputs; infinite where absent; None if computed at run time."""
    bounds = []
    for index, name, absent in ((1, "min", -math.inf), (2, "max", math.inf)):
        value = matching.input_at(node, index)
        number = node.attributes.get_float(name, absent) if value is None else matching.scalar(value)
        if number is None:
            return None
        bounds.append(absent if abs(number) >= 3.4e38 else number)  # the float32 limits mean: no bound
    return bounds[0], bounds[1]


def _clip(node: ir.Node) -> tuple[str, dict[str, object]] | str:
    bounds = clip_bounds(node)
    if bounds is None:
        return "its bounds are computed at run time"
    if bounds == (0.0, 6.0):
        return "relu6", {}
    if bounds == (0.0, math.inf):
        return "relu", {}
    low, high = (bound if math.isfinite(bound) else None for bound in bounds)
    return "clip", {"min": low, "max": high}


# ---------------------------------------------------------------- polynomials and scalar chains


@dataclass(frozen=True)
class Chain:
    """value = scale * start + shift, through the scalar operations `nodes`."""

    value: ir.Value
    scale: float = 1.0
    shift: float = 0.0
    nodes: tuple[ir.Node, ...] = ()


def _apply(chain: Chain, node: ir.Node) -> Chain | None:
    """`chain` behind one more node, if that is a scalar addition, subtraction, product or quotient of it."""
    found = matching.scalar_operand(node)
    if found is None or found[0] is not chain.value:
        return None
    _, number, position = found
    scale, shift = chain.scale, chain.shift
    if matching.is_op(node, "Add", "Sum"):
        shift += number
    elif matching.is_op(node, "Sub"):
        scale, shift = (scale, shift - number) if position == 1 else (-scale, number - shift)
    elif matching.is_op(node, "Mul"):
        scale, shift = scale * number, shift * number
    elif matching.is_op(node, "Div") and position == 1 and number != 0:
        scale, shift = scale / number, shift / number
    else:
        return None
    return Chain(node.outputs[0], scale, shift, (*chain.nodes, node))


def chains_behind(value: ir.Value) -> Iterator[Chain]:
    """`value` itself, then behind 1, 2, 3 scalar operations that alone use it."""
    chain: Chain | None = Chain(value)
    while chain is not None:
        yield chain
        node = matching.sole_consumer(chain.value) if len(chain.nodes) < _MAX_STEPS else None
        chain = None if node is None else _apply(chain, node)


def chains_before(value: ir.Value) -> Iterator[Chain]:
    """(start, scale, nodes) with value = scale * start: nearest start first, through scalar factors only."""
    scale = 1.0
    nodes: tuple[ir.Node, ...] = ()
    while True:
        yield Chain(value, scale, 0.0, nodes)
        node = value.producer()
        found = matching.scalar_operand(node) if node is not None and matching.is_op(node, "Mul", "Div") else None
        if node is None or found is None or len(nodes) == _MAX_STEPS:
            return
        following, number, position = found
        if node.op_type == "Div" and (position == 0 or number == 0):
            return
        scale *= number if node.op_type == "Mul" else 1 / number
        value, nodes = following, (*nodes, node)


Polynomial = dict[int, float]


def polynomial(value: ir.Value, x: ir.Value, nodes: dict[ir.Node, None]) -> Polynomial | None:
    """`value` as a polynomial in `x`, power -> coefficient without zeros, collecting its nodes; None if it is none."""
    if value is x:
        return {1: 1.0}
    number = matching.scalar(value)
    if number is not None:
        return {0: number}
    node = value.producer()
    if node is None or len(nodes) >= _MAX_TERMS or not matching.is_op(node, *_TERMS):
        return None
    nodes[node] = None
    if node.op_type == "Sum" and len(node.inputs) != 2:
        return None
    terms = [polynomial(v, x, nodes) if v is not None else None for v in node.inputs]
    if any(t is None for t in terms):
        return None
    return _combine(node.op_type, [t for t in terms if t is not None])


def _combine(op_type: str, terms: list[Polynomial]) -> Polynomial | None:
    first, second = terms[0], terms[-1]
    match op_type:
        case "Neg":
            return {power: -c for power, c in first.items()}
        case "Add" | "Sum" | "Sub":
            sign = -1.0 if op_type == "Sub" else 1.0
            powers = sorted({*first, *second})
            total = {p: first.get(p, 0.0) + sign * second.get(p, 0.0) for p in powers}
        case "Mul":
            total = _product(first, second)
        case "Div":
            if list(second) != [0]:
                return None
            total = {p: c / second[0] for p, c in first.items()}
        case _:  # Pow
            if second not in ({0: 2.0}, {0: 3.0}):
                return None
            total = _product(first, first)
            total = total if second[0] == 2.0 else _product(total, first)
    total = {p: c for p, c in total.items() if c != 0.0}
    return total if max(total, default=0) <= 3 else None


def _product(first: Polynomial, second: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for p, c in first.items():
        for q, d in second.items():
            total[p + q] = total.get(p + q, 0.0) + c * d
    return total


# ---------------------------------------------------------------- spellings


def spelled(core: ir.Node) -> Activation | str | None:
    """The activation of several nodes whose one nonlinear node is `core`.

    A text says why it is none although it looks like one; None: nothing like one.
    """
    if not matching.is_op(core, "Sigmoid", "HardSigmoid", "Clip", "Erf", "Tanh") or core.inputs[0] is None:
        return None
    gated = _gated(core)
    if isinstance(gated, Activation):
        return gated
    alone = _hard_sigmoid(core) if core.op_type == "Clip" else None
    if alone is not None:
        return alone
    if gated is None and core.op_type == "Erf":
        return "its erf is not part of x * 0.5 * (1 + erf(x / sqrt(2)))"
    return gated


def _gated(core: ir.Node) -> Activation | str | None:
    """x * (scale * core(polynomial of x) + shift), in any order of the factors."""
    inner, softplus = core.inputs[0], None
    assert inner is not None
    if core.op_type == "Tanh" and matching.is_op(inner.producer(), "Softplus"):
        softplus = inner.producer()
        assert softplus is not None
        assert softplus.inputs[0] is not None
        inner = softplus.inputs[0]
    near: str | None = None
    for gate, product, factor in _products(core):
        terms: dict[ir.Node, None] = {}
        argument = polynomial(inner, factor.value, terms)
        if argument is None or not set(argument) - {0}:
            continue
        for after in chains_behind(product.outputs[0]):
            if after.shift:
                break
            scale = factor.scale * after.scale
            named = _name(core, softplus, argument, gate.scale * scale, gate.shift * scale)
            if isinstance(named, tuple):
                core_nodes = (core,) if softplus is None else (core, softplus)
                nodes = (*core_nodes, *terms, *gate.nodes, *factor.nodes, product, *after.nodes)
                return Activation(named[0], factor.value, core, tuple(dict.fromkeys(nodes)), named[1])
            near = named or near
    return near


def _products(core: ir.Node) -> Iterator[tuple[Chain, ir.Node, Chain]]:
    """Each product behind `core`: (core to the product, the product, x to its other operand)."""
    for gate in chains_behind(core.outputs[0]):
        for product in gate.value.consumers():
            other = matching.other_operand(product, gate.value) if matching.is_op(product, "Mul") else None
            if other is not None and matching.scalar(other) is None and product.graph is core.graph:
                for factor in chains_before(other):
                    yield gate, product, factor


def _hard_sigmoid(core: ir.Node) -> Activation | None:
    """clip(alpha x + beta, 0, 1), or the same times some factor that is divided out again."""
    bounds, inner = clip_bounds(core), core.inputs[0]
    assert inner is not None
    if bounds is None or not math.isfinite(bounds[1]):
        return None
    source = inner
    steps: list[ir.Node] = []
    node = source.producer()
    while node is not None and matching.is_op(node, "Add", "Mul", "Div") and len(steps) < 2:
        found = matching.scalar_operand(node)
        if found is None or matching.sole_consumer(node.outputs[0]) is None:
            break
        if node.op_type == "Div" and found[2] == 0:
            break
        source = found[0]
        steps.append(node)
        node = source.producer()
    terms: dict[ir.Node, None] = {}
    line = polynomial(inner, source, terms)
    relative = matching.tolerance(inner)
    if line is None or set(line) != {0, 1}:
        return None
    for gate in chains_behind(core.outputs[0]):
        if matching.close(bounds[0] * gate.scale + gate.shift, 0.0, relative) and matching.close(
            bounds[1] * gate.scale + gate.shift, 1.0, relative
        ):
            params: dict[str, object] = {
                "alpha": gate.scale * line[1],
                "beta": gate.scale * line[0] + gate.shift,
            }
            return Activation("hard_sigmoid", source, core, (core, *terms, *gate.nodes), params)
    return None


def _name(
    core: ir.Node, softplus: ir.Node | None, argument: Polynomial, scale: float, shift: float
) -> tuple[str, dict[str, object]] | str | None:
    """Which function x * (scale * core(argument) + shift) is; why none; None if it looks like none."""
    relative = matching.tolerance(core.inputs[0])
    if core.op_type == "Sigmoid" and set(argument) == {1}:
        wanted = _differs({"factor of the product": (scale, 1.0), "sum behind the sigmoid": (shift, 0.0)}, relative)
        alpha = 1.0 if matching.close(argument[1], 1.0, relative) else argument[1]
        return wanted or _swish(alpha)
    if core.op_type == "Erf" and set(argument) == {1}:
        inner = {"factor inside erf": (argument[1], math.sqrt(0.5))}
        return _differs(inner | _half(scale, shift), relative) or ("gelu", {})
    if softplus is not None:
        parts = {"factor of x": (argument.get(1, 0.0), 1.0), "factor": (scale, 1.0), "sum": (shift, 0.0)}
        return ("mish", {}) if set(argument) == {1} and not _differs(parts, relative) else None
    if core.op_type == "Tanh" and set(argument) == {1, 3}:
        factor = math.sqrt(2 / math.pi)
        inner = {"factor inside tanh": (argument[1], factor), "cubic factor": (argument[3], factor * GELU_TANH_CUBIC)}
        return _differs(inner | _half(scale, shift), relative) or ("gelu_tanh", {})
    if core.op_type in ("Clip", "HardSigmoid") and set(argument) <= {0, 1}:
        return _hard_swish(core, argument, scale, shift, relative)
    return None


def _half(scale: float, shift: float) -> dict[str, tuple[float, float]]:
    return {"factor of the product": (scale, 0.5), "sum behind the function": (shift, 0.5)}


def _hard_swish(
    core: ir.Node, argument: Polynomial, scale: float, shift: float, relative: float
) -> tuple[str, dict[str, object]] | str | None:
    """x * max(0, min(1, x / 6 + 1 / 2)), with the factor 6 anywhere."""
    slope, offset = argument.get(1, 0.0), argument.get(0, 0.0)
    if core.op_type == "HardSigmoid":
        alpha, beta = core.attributes.get_float("alpha", 0.2), core.attributes.get_float("beta", 0.5)
        slope, offset, low, high = alpha * slope, alpha * offset + beta, 0.0, 1.0
    else:
        bounds = clip_bounds(core)
        if bounds is None or not all(map(math.isfinite, bounds)) or offset == 0.0:
            return None
        low, high = bounds
    parts = {
        "slope": (scale * slope, 1 / 6),
        "offset": (scale * offset, 1 / 2),
        "lower bound": (scale * low, 0.0),
        "upper bound": (scale * high, 1.0),
        "sum behind the clip": (shift, 0.0),
    }
    return _differs(parts, relative) or ("hard_swish", {})


def _differs(parts: dict[str, tuple[float, float]], relative: float) -> str:
    """Which numbers are not those of the formula; empty if all are."""
    wrong = [
        f"{name} is {seen:.7g}, not {wanted:.7g}"
        for name, (seen, wanted) in parts.items()
        if not matching.close(seen, wanted, relative)
    ]
    return ", ".join(wrong)
