"""Read a layer norm or RMS norm that an exporter has taken apart as one operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from h4hc.passbase import Pass, PassResult, Skip
from passes import matching

LAYER_NORM = "layer_norm"
RMS_NORM = "rms_norm"


@dataclass
class Norm:
    """A match under construction: the nodes, what is normalised over which axes, and where the result is."""

    anchor: ir.Node
    source: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    kind: str
    output: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)
    scale: str = ""
    bias: str = ""


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """Read a layer norm or RMS norm that an exporter has taken apart as one operator.

    layer_norm: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * scale + bias;
    rms_norm: y = x / sqrt(mean(x^2) + eps) * scale + bias; means over `axes`.
    The anchor is the first node that reads x. Its parameters: `input` (name of x), `axes` (not negative where
    the rank is known), `epsilon`, `scale` and `bias` (names of constants, "" if absent). Recognised are Pow and
    Mul squares, Sqrt and Pow 0.5, Div and Reciprocal, one or two Sub and mean nodes, mean(x^2) - mean(x)^2,
    Cast at entry and exit, and TensorFlow's x k + (bias - mean k) with k = scale / sqrt(var + eps). A constant
    scale or bias next to a LayerNormalization or RMSNormalization that lacks it is taken into its group.
    """

    name: ClassVar[str] = "fuse-layer-norm"
    after: ClassVar[tuple[str, ...]] = ("drop-no-ops", "fold-constants", "infer-shapes")

    def run(self, model: ir.Model) -> PassResult:
        """Group every spelling of the two norms; leave with a reason what only looks like one."""
        result = PassResult()
        groups = matching.Groups(model)
        for node in list(model.graph):
            if not groups.single(node):
                continue
            found = _match(node)
            if found is None:
                continue
            why = found if isinstance(found, str) else _mark(groups, found)
            if why:
                result.skipped.append(Skip(str(node.name), why))
            else:
                result.changed += 1
        groups.check()
        return result


def _mark(groups: matching.Groups, norm: Norm) -> str:
    """Take the Cast at the entry and group; says why not."""
    if not all(groups.single(n) for n in norm.nodes):
        return "some of its nodes belong to another operator already"
    cast = norm.source.producer()
    cast_in = matching.is_op(cast, "Cast") and cast is not None and groups.single(cast)
    if cast_in and cast is not None and not groups.obstacle([*norm.nodes, cast]):
        norm.nodes.append(cast)
        assert cast.inputs[0] is not None
        norm.source = cast.inputs[0]
        following = matching.sole_consumer(norm.output)
        if matching.is_op(following, "Cast") and following is not None and groups.single(following):
            norm.nodes.append(following)
    obstacle = groups.obstacle(norm.nodes)
    if obstacle:
        return obstacle
    params: dict[str, object] = {
        "input": norm.source.name,
        "axes": list(norm.axes),
        "epsilon": norm.epsilon,
        "scale": norm.scale,
        "bias": norm.bias,
    }
    groups.merge(norm.anchor, norm.nodes, kind=norm.kind, params=params)
    return ""


def _match(node: ir.Node) -> Norm | str | None:
    """The norm whose mean of squares (or fused operator) is `node`; why it is none; None if nothing like it."""
    if matching.is_op(node, "LayerNormalization", "RMSNormalization"):
        return _match_fused(node)
    if not matching.is_op(node, "ReduceMean"):
        return None
    squared = _square(node.inputs[0])
    if squared is None:
        return None
    square_node, base = squared
    difference = _minus_squared_mean(node, base)
    root = _root(difference[-1] if difference else node)
    if root is None:
        return None
    if node.attributes.get_int("keepdims", 1) != 1:
        return "the mean of squares drops its axes (keepdims=0)"
    axes = _axes(node)
    if axes is None:
        return "the axes of the mean are not known at compile time"
    squares = [square_node, node, *difference]
    if difference:
        return _divided(squares, base, root, axes, shifted=True)
    return _tensorflow(squares, base, root, axes) or _divided(squares, base, root, axes)


# ---------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Root:
    """sqrt(mean + epsilon) or its inverse, and the nodes from behind the mean up to it."""

    value: ir.Value
    epsilon: float
    inverse: bool
    nodes: tuple[ir.Node, ...]


def _square(value: ir.Value | None) -> tuple[ir.Node, ir.Value] | None:
    """(node, d) if `value` is d^2, as Pow or as Mul."""
    node = value.producer() if value is not None else None
    if node is None or not node.inputs or node.inputs[0] is None:
        return None
    if matching.is_op(node, "Pow") and matching.scalar(node.inputs[1]) == 2.0:
        return node, node.inputs[0]
    if matching.is_op(node, "Mul") and node.inputs[0] is node.inputs[1]:
        return node, node.inputs[0]
    return None


def _minus_squared_mean(mean: ir.Node, base: ir.Value) -> list[ir.Node]:
    """Nodes behind mean(x^2) that take mean(x)^2 off it, the difference last; empty if there is nothing like it."""
    axes, difference = _axes(mean), matching.sole_consumer(mean.outputs[0])
    if axes is None or difference is None or not matching.is_op(difference, "Sub"):
        return []
    squared = _square(difference.inputs[1])
    first = squared[1].producer() if squared is not None else None
    if squared is None or first is None or not _is_mean_of(first, base, axes):
        return []
    return [first, squared[0], difference]


def _root(mean: ir.Node) -> Root | None:
    """Follow a variance or mean of squares through + epsilon and the square root, inverted at once or after."""
    value, epsilon, nodes = mean.outputs[0], 0.0, []
    node = matching.sole_consumer(value)
    if node is not None and matching.is_op(node, "Add"):
        found = matching.scalar_operand(node)
        if found is None:
            return None
        epsilon, value = found[1], node.outputs[0]
        nodes.append(node)
        node = matching.sole_consumer(value)
    power = matching.scalar(node.inputs[1]) if node is not None and matching.is_op(node, "Pow") else None
    if node is None or not (matching.is_op(node, "Sqrt") or power in (0.5, -0.5)) or node.inputs[0] is not value:
        return None
    nodes.append(node)
    value = node.outputs[0]
    if power == -0.5:
        return Root(value, epsilon, True, tuple(nodes))
    node = matching.sole_consumer(value)
    one_over = (
        node is not None
        and matching.is_op(node, "Div")
        and node.inputs[1] is value
        and matching.scalar(node.inputs[0]) == 1.0
    )
    if node is not None and (matching.is_op(node, "Reciprocal") or one_over):
        return Root(node.outputs[0], epsilon, True, (*nodes, node))
    return Root(value, epsilon, False, tuple(nodes))


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    """Axes a ReduceMean runs over, not negative where the rank is known; None if not known."""
    given = matching.input_at(node, 1)
    axes = matching.integers(given) if given is not None else tuple(node.attributes.get_ints("axes", ()) or ())
    count = matching.rank(node.inputs[0])
    if axes is None:
        return None
    if not axes:
        return None if count is None or node.attributes.get_int("noop_with_empty_axes", 0) == 1 else tuple(range(count))
    return tuple(sorted(a + count if a < 0 and count is not None else a for a in axes))


def _uncast(value: ir.Value | None) -> ir.Value | None:
    """`value` in front of a Cast."""
    producer = value.producer() if value is not None else None
    return producer.inputs[0] if producer is not None and matching.is_op(producer, "Cast") else value


def _centred(value: ir.Value, axes: tuple[int, ...]) -> tuple[ir.Value, list[ir.Node]] | None:
    """(x, nodes) if `value` is x - mean(x) over these axes; nodes: the mean first."""
    sub = value.producer()
    if sub is None or not matching.is_op(sub, "Sub") or sub.inputs[0] is None:
        return None
    mean = sub.inputs[1].producer() if sub.inputs[1] is not None else None
    if mean is None or not _is_mean_of(mean, sub.inputs[0], axes):
        return None
    return sub.inputs[0], [mean, sub]


def _is_mean_of(node: ir.Node, value: ir.Value, axes: tuple[int, ...]) -> bool:
    return (
        matching.is_op(node, "ReduceMean")
        and node.inputs[0] is value
        and node.attributes.get_int("keepdims", 1) == 1
        and _axes(node) == axes
    )


# ---------------------------------------------------------------- the spellings


def _divided(
    squares: list[ir.Node], base: ir.Value, root: Root, axes: tuple[int, ...], shifted: bool = False
) -> Norm | str | None:
    """d / root or d * (1 / root), where d is x - mean(x) (layer norm) or x itself (RMS norm).

    squares: the nodes from the square of `base` to the variance; shifted: that one is mean(x^2) - mean(x)^2.
    """
    last = matching.sole_consumer(root.value)
    if last is None or not matching.is_op(last, "Mul" if root.inverse else "Div"):
        return None if root.inverse else "the result of its square root divides nothing, or several things"
    top = matching.other_operand(last, root.value)
    if top is None or (not root.inverse and last.inputs[0] is not top):
        return "its square root is the numerator, not the denominator"
    below, above = _centred(base, axes), _centred(top, axes)
    nodes = [*squares, *root.nodes, last]
    if shifted:
        if above is None or above[0] is not base:
            return f"what is divided, {top.name!r}, is not {base.name!r} minus its mean"
        nodes = [*above[1], *nodes]
        norm = Norm(above[1][0], base, axes, root.epsilon, LAYER_NORM, last.outputs[0], _once(nodes))
    elif below is not None and above is not None and below[0] is above[0]:
        nodes = [*below[1], *above[1], *nodes]
        norm = Norm(below[1][0], below[0], axes, root.epsilon, LAYER_NORM, last.outputs[0], _once(nodes))
    elif _uncast(top) is _uncast(base):
        casts = [v.producer() for v in (top, base) if top is not base and v is not _uncast(v)]
        nodes = [*(c for c in casts if c is not None), *nodes]
        source = base if top is base else _uncast(base)
        assert source is not None
        norm = Norm(squares[0], source, axes, root.epsilon, RMS_NORM, last.outputs[0], _once(nodes))
    else:
        return f"what is divided, {top.name!r}, is not what was squared, {base.name!r}"
    _take_affine(norm)
    return norm


def _once(nodes: list[ir.Node]) -> list[ir.Node]:
    return list(dict.fromkeys(nodes))


def _tensorflow(squares: list[ir.Node], base: ir.Value, root: Root, axes: tuple[int, ...]) -> Norm | None:
    """x k + (bias - mean(x) k) with k = scale / sqrt(var + eps), as TensorFlow writes it."""
    centred = _centred(base, axes)
    if centred is None or not root.inverse:
        return None
    source, nodes = centred[0], [*centred[1], *squares, *root.nodes]
    factor, scale = root.value, ""
    node = matching.sole_consumer(factor)
    if node is not None and matching.is_op(node, "Mul"):
        other = matching.other_operand(node, factor)
        if other is None or not _spans(other, axes, source):
            return None
        factor, scale = node.outputs[0], str(other.name)
        nodes.append(node)
    products = {id(matching.other_operand(n, factor)): n for n in factor.consumers() if matching.is_op(n, "Mul")}
    first, second = products.get(id(source)), products.get(id(centred[1][0].outputs[0]))
    shift = matching.sole_consumer(second.outputs[0]) if second is not None else None
    if first is None or second is None or shift is None or not matching.is_op(shift, "Sub"):
        return None
    bias, last = shift.inputs[0], matching.sole_consumer(shift.outputs[0])
    if bias is None or shift.inputs[1] is not second.outputs[0] or not _spans(bias, axes, source):
        return None
    if last is None or not matching.is_op(last, "Add") or first.outputs[0] not in last.inputs:
        return None
    nodes += [first, second, shift, last]
    return Norm(nodes[0], source, axes, root.epsilon, LAYER_NORM, last.outputs[0], nodes, scale, str(bias.name))


def _match_fused(node: ir.Node) -> Norm | None:
    """LayerNormalization or RMSNormalization followed by the scale or bias that it lacks itself."""
    source, own_scale, own_bias = node.inputs[0], matching.input_at(node, 1), matching.input_at(node, 2)
    assert source is not None
    count = matching.rank(source)
    axis = node.attributes.get_int("axis", -1)
    if count is None or own_bias is not None:
        return None
    axes = tuple(range(axis + count if axis < 0 else axis, count))
    kind = LAYER_NORM if node.op_type == "LayerNormalization" else RMS_NORM
    norm = Norm(node, source, axes, node.attributes.get_float("epsilon", 1e-5), kind, node.outputs[0], [node])
    if len(matching.used_outputs(node)) > 1:
        return None  # mean or inverse deviation are used too: an operator of its own
    _take_affine(norm, scale_too=_all_ones(own_scale))
    if len(norm.nodes) == 1:
        return None
    norm.scale = norm.scale or (str(own_scale.name) if own_scale is not None else "")
    return norm


# ---------------------------------------------------------------- scale and bias


def _take_affine(norm: Norm, scale_too: bool = True) -> None:
    """Extend the match by the constant scale and bias behind it; a Cast may lie in front of them."""
    for op_type in ("Mul", "Add"):
        if op_type == "Mul" and not scale_too:
            continue
        for path in _paths(norm.output):
            node = matching.sole_consumer(path[-1].outputs[0] if path else norm.output)
            if node is None or not matching.is_op(node, op_type):
                continue
            other = matching.other_operand(node, path[-1].outputs[0] if path else norm.output)
            if other is None or not _spans(other, norm.axes, norm.source):
                continue
            norm.nodes += [*path, node]
            norm.output = node.outputs[0]
            if op_type == "Mul":
                norm.scale = str(other.name)
            else:
                norm.bias = str(other.name)
            break


def _paths(value: ir.Value) -> Iterator[list[ir.Node]]:
    """Ways to the next operator: direct, and through one Cast."""
    yield []
    cast = matching.sole_consumer(value)
    if cast is not None and matching.is_op(cast, "Cast"):
        yield [cast]


def _spans(value: ir.Value, axes: tuple[int, ...], source: ir.Value) -> bool:
    """Whether a constant has one value for each place along the normalised axes, and no other axis."""
    shape, count, whole = matching.dims(value), matching.rank(source), matching.dims(source)
    if shape is None or not matching.is_constant(value):
        return False
    if count is None:  # axes are still negative, counted from the end
        inside = all(d == 1 or i - len(shape) in axes for i, d in enumerate(shape))
        return inside and any(d > 1 for d in shape)
    if len(shape) > count:
        return False
    padded = (1,) * (count - len(shape)) + shape
    if any(d != 1 for i, d in enumerate(padded) if i not in axes):
        return False
    if whole is None:
        return any(d > 1 for d in padded)
    return all(padded[a] == whole[a] for a in axes)


def _all_ones(value: ir.Value | None) -> bool:
    """Whether an optional scale does nothing."""
    if value is None:
        return True
    tensor = matching.constant(value)
    return tensor is not None and bool((tensor.numpy() == 1).all())
