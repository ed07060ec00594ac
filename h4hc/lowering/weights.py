"""`Op.weight_types`: in which element type a plan holds each constant that a convolution or product multiplies."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc.lowering import conv, matmul
from h4hc.lowering.facts import Known
from h4hc.lowering.inputs import MICROSOFT, is_standard
from h4hc.lowering.plan import Plan
from h4hc.lowering.site import Group

ASYMMETRIC = "asymmetric"  # said behind a type whose zero point is not 0 everywhere

# Zero point of each operand, where the operator itself takes it: operand -> input.
_ZERO_POINTS: dict[str, dict[int, int]] = {
    "ConvInteger": {0: 2, 1: 3},
    "DynamicQuantizeMatMul": {1: 3},
    "MatMulInteger": {0: 2, 1: 3},
    "MatMulIntegerToFloat": {0: 4, 1: 5},
    "QGemm": {0: 2, 3: 5},
    "QLinearConv": {0: 2, 3: 5},
    "QLinearMatMul": {0: 2, 3: 5},
}
# Nodes of a group that hand on the elements of their first input.
_REARRANGING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def weight_types(group: Group, known: Known, plan: Plan) -> tuple[str, ...]:
    """Type of each constant operand of the anchor, in the order of its inputs; () for what is no product.

    A constant behind DequantizeLinear has the type it is stored in, any other the type the plan gives it.
    """
    node = group.anchor
    zero_points = _ZERO_POINTS.get(node.op_type, {})
    found = []
    for index in _operands(node):
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            continue
        value, zero = _stored(value, group)
        if known.constant.get(value, False):
            own = zero_points.get(index, len(node.inputs))
            zero = node.inputs[own] if own < len(node.inputs) else zero
            dtype = plan.dtype(known.facts[value].dtype)
            found.append(dtype if _is_zero(zero) else f"{dtype} {ASYMMETRIC}")
    return tuple(found)


def _operands(node: ir.Node) -> tuple[int, ...]:
    if not is_standard(node) and node.domain != MICROSOFT:
        return ()
    if node.op_type == "Einsum":
        return tuple(range(len(node.inputs)))
    if node.op_type in conv.SLOTS:
        filters = conv.SLOTS[node.op_type]
        return (filters.data, filters.weights)
    if node.op_type in matmul.SLOTS:
        matrices = matmul.SLOTS[node.op_type]
        return (matrices.left, matrices.right)
    return ()


def _stored(value: ir.Value, group: Group) -> tuple[ir.Value, ir.Value | None]:
    """(the value in front of the group's own DequantizeLinear and Transpose, zero point of that DequantizeLinear)."""
    zero: ir.Value | None = None
    producer = value.producer()
    while producer is not None and producer in group.members and producer.inputs[0] is not None:
        if producer.op_type == "DequantizeLinear":
            zero = producer.inputs[2] if len(producer.inputs) > 2 else None
        elif producer.op_type not in _REARRANGING:
            break
        value = producer.inputs[0]
        producer = value.producer()
    return value, zero


def _is_zero(zero: ir.Value | None) -> bool:
    """Whether a zero point is 0 everywhere; one that is not there is, one that nobody has computed may not be."""
    if zero is None:
        return True
    tensor = get_const_tensor(zero)
    return tensor is not None and not tensor.numpy().astype("float64").any()
