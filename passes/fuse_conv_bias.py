"""Read the addition of one constant a channel behind a convolution as the convolution's bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from h4hc.passbase import Pass, PassResult
from passes import matching


@dataclass(frozen=True)
class FuseConvBias(Pass):
    """Read the addition of one constant a channel behind a convolution as the convolution's bias.

    Conv or ConvTranspose without a bias, then Add of a constant of shape (C, 1, .., 1) or (1, C, 1, .., 1), or of one
    number; Paddle exports write every bias so. The group is both nodes, the anchor is the convolution, its
    parameter `bias` names the constant. Nothing else may use the value between them.
    """

    name: ClassVar[str] = "fuse-conv-bias"
    after: ClassVar[tuple[str, ...]] = ("drop-no-ops", "fold-constants", "fold-batch-norm", "infer-shapes")

    def run(self, model: ir.Model) -> PassResult:
        """Group every such pair that is not grouped yet."""
        return matching.group_each(model, _take_bias)


def _take_bias(groups: matching.Groups, node: ir.Node) -> str | None:
    """Group `node` with its bias; None if done, "" if there is none, else why not."""
    if not matching.is_op(node, "Conv", "ConvTranspose") or not groups.single(node):
        return ""
    if matching.input_at(node, 2) is not None:
        return ""
    for add in node.outputs[0].consumers():
        bias = matching.other_operand(add, node.outputs[0]) if matching.is_op(add, "Add") else None
        if bias is None or not _is_bias(bias, node):
            continue
        if not groups.single(add):
            return "its bias belongs to another operator already"
        obstacle = groups.obstacle([node, add])
        if obstacle:
            return f"its bias {bias.name!r} stays apart: {obstacle}"
        groups.merge(node, [add], params={"bias": str(bias.name)})
        return None
    return ""


def _is_bias(value: ir.Value, convolution: ir.Node) -> bool:
    """Whether `value` is a constant with one number for each output channel, or one for all."""
    shape, axes = matching.dims(value), matching.rank(convolution.inputs[1])
    weights = matching.dims(convolution.inputs[1])
    if shape is None or axes is None or len(shape) > axes or not matching.is_constant(value):
        return False
    if all(d == 1 for d in shape):
        return True
    padded = (1,) * (axes - len(shape)) + shape
    channels = None
    if weights is not None:
        group = convolution.attributes.get_int("group", 1)
        channels = weights[0] if convolution.op_type == "Conv" else weights[1] * group
    return all(d == 1 for i, d in enumerate(padded) if i != 1) and channels in (None, padded[1])
