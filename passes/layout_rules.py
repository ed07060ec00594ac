"""Which operators work alike in any order of axes, and how each is told the new order.

`perm` p brings a moved tensor back: v = Transpose(v', p). So axis a of v is axis p[a] of v'.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from passes.values import STANDARD_DOMAINS, axes_of, constant, int_attribute, ints_attribute, node_input, rank

Perm = tuple[int, ...]
Store = Callable[[np.ndarray, str], ir.Value]  # makes an initialiser of an array; the text is for its name

_UNARY = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip"),
        *("Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
        *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"),
        "ThresholdedRelu",
    }
)
_BROADCAST = frozenset(
    {
        *("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less"),
        *("LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor"),
    }
)
_SOFTMAX = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
_REDUCE = frozenset(
    {
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    }
)
_QUANTIZE = frozenset({"DequantizeLinear", "QuantizeLinear"})


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(i) for i in range(len(perm)))


def compose(first: Perm, then: Perm) -> Perm:
    """The one permutation equal to Transpose by `first`, then by `then`."""
    return tuple(first[i] for i in then)


def transpose_perm(node: ir.Node | None) -> Perm | None:
    """The permutation of a Transpose, or None when the node is none or its rank is not known."""
    if node is None or node.domain not in STANDARD_DOMAINS or node.op_type != "Transpose":
        return None
    given = ints_attribute(node, "perm")
    if given is not None:
        return given
    dims = rank(node.inputs[0])
    return None if dims is None else tuple(reversed(range(dims)))


def data_inputs(node: ir.Node, version: int, dims: int) -> tuple[int, ...] | None:
    """Numbers of the inputs whose axes move along; None when the operator cannot be moved.

    version: of the standard operator set. dims: rank of the tensors that move.
    """
    op = node.op_type
    if node.domain not in STANDARD_DOMAINS:
        return None
    if op in _UNARY:
        return (0,)
    if op in _BROADCAST or op == "Concat":
        return tuple(i for i, v in enumerate(node.inputs) if v is not None)
    if op in _SOFTMAX:
        return (0,) if version >= 13 else None  # before, the axes from `axis` on were taken together
    if op == "Split":
        return (0,)
    if op == "Pad":
        movable = version >= 11 and node_input(node, 3) is None and constant(node_input(node, 1)) is not None
        return (0,) if movable else None
    if op == "Slice":
        known = version >= 10 and axes_of(node, 3) is not None and constant(node_input(node, 1)) is not None
        return (0,) if known else None
    if op in _REDUCE:
        return (0,) if int_attribute(node, "keepdims", 1) and axes_of(node) is not None else None
    if op in _QUANTIZE:
        return (0,) if not int_attribute(node, "block_size", 0) and (rank(node.inputs[1]) or 0) < dims else None
    return None


def is_indifferent_reader(node: ir.Node, perm: Perm) -> bool:
    """Whether `node` reduces axes away so that the rest keeps its order: it can read the moved tensor for free."""
    if node.domain not in STANDARD_DOMAINS or node.op_type not in _REDUCE or int_attribute(node, "keepdims", 1):
        return False
    axes = axes_of(node)
    if axes is None or (not axes and int_attribute(node, "noop_with_empty_axes", 0)):
        return False
    gone = {a % len(perm) for a in axes} if axes else set(range(len(perm)))
    kept = [perm[a] for a in range(len(perm)) if a not in gone]
    return kept == sorted(kept)


def move(node: ir.Node, perm: Perm, store: Store) -> None:
    """Rewrite axis attributes and axis-like constants of `node` for moved tensors; see `data_inputs`."""
    op = node.op_type
    if op in _SOFTMAX:
        _move_axis(node, perm, -1)
    elif op == "Concat" or op == "Split":
        _move_axis(node, perm, 0)
    elif op in _QUANTIZE:
        if rank(node.inputs[1]):
            _move_axis(node, perm, 1)
    elif op == "Pad":
        pads = _ints(node, 1)
        order = inverse(perm)
        half = len(perm)
        moved = [pads[a] for a in order] + [pads[half + a] for a in order]
        node.replace_input_with(1, store(np.asarray(moved, np.int64), "pads"))
    elif op == "Slice":
        axes = axes_of(node, 3) or tuple(range(len(_ints(node, 1))))
        node.resize_inputs(max(4, len(node.inputs)))
        node.replace_input_with(3, store(_moved_axes(axes, perm), "axes"))
    elif op in _REDUCE:
        _move_reduce(node, perm, store)


def _move_reduce(node: ir.Node, perm: Perm, store: Store) -> None:
    axes = axes_of(node)
    if not axes:
        return  # all axes, or none: in any order
    moved = np.sort(_moved_axes(axes, perm))
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(a) for a in moved])
    else:
        node.replace_input_with(1, store(moved, "axes"))


def _move_axis(node: ir.Node, perm: Perm, default: int) -> None:
    axis = int_attribute(node, "axis", default) % len(perm)
    node.attributes["axis"] = ir.AttrInt64("axis", perm[axis])


def _moved_axes(axes: tuple[int, ...], perm: Perm) -> np.ndarray:
    return np.asarray([perm[a % len(perm)] for a in axes], np.int64)


def _ints(node: ir.Node, index: int) -> list[int]:
    array = constant(node_input(node, index))
    assert array is not None  # data_inputs has looked
    return [int(v) for v in array.ravel()]
