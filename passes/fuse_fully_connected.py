"""Read MatMul and Gemm with constant weights, and their bias, as fully connected operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from h4hc import annotations as notes
from h4hc.passbase import Pass, PassResult
from passes import matching

KIND = "fully_connected"


@dataclass(frozen=True)
class Weight:
    """Constant operand of a product.

    value: the stored constant, quantised if it is read through DequantizeLinear; rows, columns: its matrix as
    the MatMul or Gemm sees it; flipped: stored the other way round, a Transpose (in `nodes`) lies between.
    """

    value: ir.Value
    rows: int
    columns: int
    flipped: bool
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class FuseFullyConnected(Pass):
    """Read MatMul and Gemm with constant weights, and their bias, as fully connected operators.

    y[p, o] = sum_i x[p, i] w[i, o] + b[o]. The group is the MatMul or Gemm, the Transpose of a stored weight and
    the Add of a bias (one value an output feature). On the anchor: kind `fully_connected` and the parameters
    `weight`, `bias` (names of the constants, as stored: quantised ones too; "" for no bias), `in_features`,
    `out_features`, `weight_transposed` (the stored matrix is (out, in), not (in, out)), `weight_side` ("left"
    where the weights are the left operand and the positions are the columns of the right one),
    `input_transposed`, and `alpha`, `beta` of a Gemm, which belong into the weights and the bias.
    """

    name: ClassVar[str] = "fuse-fully-connected"
    after: ClassVar[tuple[str, ...]] = ("drop-no-ops", "fold-constants", "fold-batch-norm", "infer-shapes")

    def run(self, model: ir.Model) -> PassResult:
        """Mark every product with constant weights that is not marked yet."""
        return matching.group_each(model, _mark)


def _mark(groups: matching.Groups, node: ir.Node) -> str | None:
    """Mark `node`; None if done, "" if it is no product with weights at all, else why it was left."""
    if not matching.is_op(node, "MatMul", "Gemm") or not notes.is_anchor(node) or notes.kind(node) == KIND:
        return ""
    constants = [matching.is_constant(_stored(v)) for v in node.inputs[:2]]
    if all(constants) or not any(constants):
        return ""
    side = "right" if constants[1] else "left"
    weight = weight_of(node.inputs[1 if constants[1] else 0], side)
    if isinstance(weight, str):
        return weight
    # y = x w: w is (in, out). y = w x: w is (out, in). A Gemm may say that it reads either transposed.
    turned = [
        bool(node.attributes.get_int(name, 0)) if node.op_type == "Gemm" else False for name in ("transA", "transB")
    ]
    in_out = (side == "right") != turned[1 if side == "right" else 0]  # the operand as given is (in, out)
    params: dict[str, object] = {
        "weight": weight.value.name,
        "bias": "",
        "weight_side": side,
        "weight_transposed": in_out == weight.flipped,
        "input_transposed": turned[0 if side == "right" else 1],
        "in_features": weight.rows if in_out else weight.columns,
        "out_features": weight.columns if in_out else weight.rows,
    }
    nodes = [*weight.nodes]
    if node.op_type == "Gemm":
        params["alpha"] = node.attributes.get_float("alpha", 1.0)
        params["beta"] = node.attributes.get_float("beta", 1.0)
    obstacle = groups.obstacle([node, *nodes])
    if obstacle:
        return obstacle
    why = _take_bias(groups, node, nodes, params)
    if why:
        return why
    groups.merge(node, nodes, kind=KIND, params=params)
    return None


def _take_bias(groups: matching.Groups, node: ir.Node, nodes: list[ir.Node], params: dict[str, object]) -> str:
    """Put the bias into `params` and its Add into `nodes`; says why a Gemm with its third input is none."""
    left, features = params["weight_side"] == "left", params["out_features"]
    third = matching.input_at(node, 2)
    if third is not None:
        if not _is_bias(third, features, left):
            return f"the third input {third.name!r} is not a constant with one value an output feature"
        params["bias"] = _stored(third).name
        return ""
    add = matching.sole_consumer(node.outputs[0])
    if not matching.is_op(add, "Add") or add is None or not groups.single(add) or notes.activation(node):
        return ""
    bias = matching.other_operand(add, node.outputs[0])
    axes, product_axes = matching.rank(bias), matching.rank(node.outputs[0])
    if bias is None or not _is_bias(bias, features, left):
        return ""
    if axes is not None and axes > 1 and (product_axes is None or axes > product_axes):
        return ""  # the Add would change the number of axes
    if not groups.obstacle([node, *nodes, add]):
        params["bias"] = _stored(bias).name
        nodes.append(add)
    return ""


def _is_bias(value: ir.Value, features: object, columns: bool) -> bool:
    """Constant with one value an output feature (or one for all): (N,), (1, .., N); (N, 1) if features are rows."""
    stored = _stored(value)
    shape = matching.dims(stored)
    if shape is None or not matching.is_constant(stored):
        return False
    size = 1
    for dim in shape:
        size *= dim
    if size == 1:
        return True
    if columns:
        return size == features and len(shape) >= 2 and shape[-2] == features
    return size == features and shape[-1] == features


def _stored(value: ir.Value | None) -> ir.Value:
    """The constant behind DequantizeLinear and the Transpose of a matrix; `value` itself if there is none."""
    assert value is not None  # the operands of MatMul and Gemm are not optional
    seen = value
    while True:
        producer = seen.producer()
        if producer is None or not (matching.is_dequantize(producer) or matching.is_op(producer, "Transpose")):
            break
        following = producer.inputs[0]
        if following is None or matching.is_constant(seen):
            break
        seen = following
    return seen if matching.is_constant(seen) else value


def weight_of(value: ir.Value | None, side: str) -> Weight | str:
    """The weight matrix behind an operand, or why it is none."""
    assert value is not None
    stored = _stored(value)
    flipped, nodes = False, []
    step = value
    while step is not stored:
        producer = step.producer()
        assert producer is not None
        if matching.is_op(producer, "Transpose"):
            perm = producer.attributes.get_ints("perm", ()) or (1, 0)
            if tuple(perm) != (1, 0):
                return f"the weights {stored.name!r} are transposed by {tuple(perm)}, which is no matrix transpose"
            flipped = not flipped
            nodes.append(producer)
        following = producer.inputs[0]
        assert following is not None
        step = following
    shape = matching.dims(stored)
    if shape is None:
        return f"the shape of the weights {stored.name!r} is not known"
    if len(shape) == 1:
        shape = (*shape, 1) if side == "right" else (1, *shape)  # a vector: one output feature
    if not shape or any(d != 1 for d in shape[:-2]):
        return f"the weights {stored.name!r} are a stack of matrices, shape {list(shape)}"
    rows, columns = (shape[-1], shape[-2]) if flipped else (shape[-2], shape[-1])
    return Weight(stored, rows, columns, flipped, tuple(nodes))
