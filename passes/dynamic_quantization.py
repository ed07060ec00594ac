"""MatMulInteger and ConvInteger with the rescaling that dynamic quantisation puts behind them, as one operator."""

from __future__ import annotations

import onnx_ir as ir

from h4hc.passbase import PassResult
from passes import matching
from passes.matching import Groups


def dynamic_product(groups: Groups, node: ir.Node, result: PassResult) -> str:
    """Group y = Cast(product) * (x_scale * w_scale) [+ bias]; says why not.

    Parameters on the anchor: `dynamic_quantized`, `bias` (name of the constant, "" if none).
    """
    cast = matching.sole_consumer(node.outputs[0])
    scaled = matching.sole_consumer(cast.outputs[0]) if cast is not None and matching.is_op(cast, "Cast") else None
    if cast is None or scaled is None or not matching.is_op(scaled, "Mul"):
        return "its 32-bit result is not rescaled by a Cast and a Mul of its own"
    nodes = [cast, scaled]
    factor = matching.other_operand(scaled, cast.outputs[0])
    scales = factor.producer() if factor is not None else None
    if scales is not None and matching.is_op(scales, "Mul") and matching.sole_consumer(scales.outputs[0]) is scaled:
        nodes.append(scales)
    bias = ""
    add = matching.sole_consumer(scaled.outputs[0])
    if add is not None and matching.is_op(add, "Add"):
        other = matching.other_operand(add, scaled.outputs[0])
        shape = matching.dims(other)
        if other is not None and matching.is_constant(other) and shape and sum(d > 1 for d in shape) == 1:
            bias = str(other.name)
            nodes.append(add)
    if not all(groups.single(n) for n in nodes):
        return "its rescaling belongs to another operator"
    obstacle = groups.obstacle([node, *nodes])
    if obstacle:
        return obstacle
    groups.merge(node, nodes, params={"dynamic_quantized": True, "bias": bias})
    result.changed += 1
    return ""
