"""`Op.rescales`: whether an operator that only hands on values has to requantise each of them on the way."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.lowering.facts import Known
from h4hc.lowering.inputs import MICROSOFT
from h4hc.lowering.site import Group, Lowered
from h4hc.workload import ElementwiseParams, OpKind, PoolParams, ResizeParams, VectorParams

# Functions whose results are values of their inputs: exact in integers when both sides have one scale and zero point.
_CHOOSING = frozenset({"clip", "max", "min", "where"})

# QLinearWhere: its data inputs, each with scale and zero point behind it; the scale of its result, likewise.
_WHERE_DATA: Sequence[int] = (1, 4)
_WHERE_RESULT = 7


def rescales(group: Group, lowered: Lowered, known: Known) -> bool:
    """Whether a movement, a view or a choice of values has another scale or zero point behind it than before.

    absorb-qdq compares them, by value, for operators between DequantizeLinear and QuantizeLinear (`same_scale`); for
    onnxruntime's own operators, which take the scales as inputs, they are compared here. Constants that are moved are
    rescaled at compile time and do not count. Arithmetic and tables take every scale in, so they never rescale.
    """
    if not _hands_on_values(lowered):
        return False
    if marks.params(group.anchor).get("same_scale") is False:
        return True
    node = group.anchor
    if node.domain != MICROSOFT or node.op_type not in ("QLinearConcat", "QLinearWhere"):
        return False
    is_where = node.op_type == "QLinearWhere"
    data, result = (_WHERE_DATA, _WHERE_RESULT) if is_where else (range(2, len(node.inputs), 3), 0)
    computed = [i for i in data if (value := _input(node, i)) is not None and not known.constant.get(value, False)]
    return not all(_same(node, i + 1, result) and _same(node, i + 2, result + 1) for i in computed)


def _hands_on_values(lowered: Lowered) -> bool:
    params = lowered.params
    match lowered.kind:
        case OpKind.MOVE | OpKind.VIEW:
            return True
        case OpKind.POOL:
            return isinstance(params, PoolParams) and params.function == "max"
        case OpKind.RESIZE:
            return isinstance(params, ResizeParams) and params.mode == "nearest"
        case OpKind.REDUCE:
            return isinstance(params, VectorParams) and params.function in _CHOOSING
        case OpKind.ELEMENTWISE | OpKind.ACTIVATION:
            return isinstance(params, ElementwiseParams) and params.function in _CHOOSING
    return False


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _same(node: ir.Node, first: int, second: int) -> bool:
    """Whether two scales, or two zero points, hold the same number; one that is not known may be any."""
    a, b = _input(node, first), _input(node, second)
    if a is b:
        return True
    numbers = [_number(v) for v in (a, b)]
    return None not in numbers and numbers[0] == numbers[1]


def _number(value: ir.Value | None) -> float | None:
    """The number in a constant; 0 for a zero point that is left out."""
    if value is None:
        return 0.0
    tensor = get_const_tensor(value)
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None
