"""fold-batch-norm: fold BatchNormalization into the convolution or matrix product before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from h4hc.annotations import merge_origins, origins, set_origins
from h4hc.passbase import Pass, PassResult, Skip
from passes.values import (
    STANDARD_DOMAINS,
    Names,
    add_initializer,
    bypass,
    constant,
    drop_unused_initializers,
    int_attribute,
    is_standard,
    is_used,
    node_input,
    opset,
    rank,
    refuse_bypass,
    require_ir_4,
    sole_consumer,
    static_shape,
)

if TYPE_CHECKING:
    import numpy as np

_DEFAULT_EPSILON = 1e-5  # of BatchNormalization, all versions
_FLOATS = "f"  # numpy kinds that are folded; bfloat16 is kind "V" and stays


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it.

    Before: Conv(x, W, b) -> BN     After: Conv(x, W f, (b - mean) f + beta), f = scale / sqrt(variance + epsilon)
    MatMul has no bias, so BN after MatMul(x, W) (and after a Reshape that keeps the channels) becomes an Add.
    Requires: constant weights, bias and statistics, inference form, and no other reader between the two. Weights
    that another node reads as well are copied, never changed.
    Numerics: f, W' and b' are computed in float64 and rounded once; |d| <= 1e-5 max|y| for float32 (1e-2 for
    float16) against the unfolded model. A fold that leaves the range of the type is refused.
    """

    name: ClassVar[str] = "fold-batch-norm"
    after: ClassVar[tuple[str, ...]] = ("infer-shapes", "fold-constants")

    def run(self, model: ir.Model) -> PassResult:
        """Fold where it is possible; say why not elsewhere."""
        result = PassResult()
        names: Names | None = None
        for node in model.graph:
            if not is_standard(node, "BatchNormalization"):
                continue
            fold = _plan(model, node)
            if isinstance(fold, str):
                result.skipped.append(Skip(str(node.name), fold))
                continue
            require_ir_4(model)
            names = names or Names(model)
            fold.apply(model.graph, names)
            result.changed += 1
        return result


@dataclass(frozen=True)
class _Fold:
    """A fold that is known to be legal: the nodes, and the new numbers."""

    norm: ir.Node
    target: ir.Node
    weight: np.ndarray
    bias: np.ndarray

    def apply(self, graph: ir.Graph, names: Names) -> None:
        """Give the target its new weight and bias, and take the BatchNormalization out."""
        norm, target = self.norm, self.target
        old = [*target.inputs, *norm.inputs[1:]]
        base = str(target.name)
        target.replace_input_with(1, add_initializer(graph, names.fresh(f"{base}/weight"), self.weight))
        bias = add_initializer(graph, names.fresh(f"{base}/bias"), self.bias)
        if target.op_type == "MatMul":
            _replace_by_add(graph, norm, bias)
        else:
            if len(target.inputs) < 3:
                target.resize_inputs(3)
            target.replace_input_with(2, bias)
            target.attributes.pop("beta", None)
            merge_origins(target, [norm])
            bypass(graph, norm.outputs[0], target.outputs[0])
            graph.remove(norm, safe=True)
        drop_unused_initializers(graph, old)


def _replace_by_add(graph: ir.Graph, norm: ir.Node, bias: ir.Value) -> None:
    """Add(x, bias) in the place, and under the name, of the BatchNormalization; bias runs along the last axis."""
    add = ir.node("Add", [norm.inputs[0], bias], name=norm.name)
    set_origins(add, origins(norm))
    old, new = norm.outputs[0], add.outputs[0]
    new.shape, new.type, name = old.shape, old.type, old.name
    graph.insert_before(norm, add)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    new.name = name
    graph.remove(norm, safe=True)


def _plan(model: ir.Model, norm: ir.Node) -> _Fold | str:
    """The fold of `norm` into the node before it, or why there is none."""
    factors = _factors(model, norm)
    if isinstance(factors, str):
        return factors
    scale, mean, beta = factors
    source = norm.inputs[0]
    target = source.producer() if source is not None else None
    if source is None or target is None or target.domain not in STANDARD_DOMAINS:
        return "its input is not the output of a Conv, ConvTranspose, Gemm or MatMul"
    reshape = target if target.op_type == "Reshape" and rank(source) == 2 else None
    if reshape is not None:
        inner = reshape.inputs[0]
        target = inner.producer() if inner is not None else None
    if target is None or target.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return "its input is not the output of a Conv, ConvTranspose, Gemm or MatMul"
    if reshape is not None and (target.op_type != "MatMul" or not _keeps_channels(reshape, scale.size)):
        return "a Reshape that does not keep the channels as the last axis stands before it"
    if sole_consumer(target.outputs[0]) is not (reshape or norm) or sole_consumer(source) is not norm:
        return f"another node, or an output of the model, reads the result of {target.name!r} as well"
    if target.op_type != "MatMul":
        why = refuse_bypass(model.graph, norm.outputs[0], target.outputs[0])
        if why:
            return why
    weight = constant(node_input(target, 1))
    if weight is None:
        return f"the weights of {target.name!r} are not constant"
    if weight.dtype.kind not in _FLOATS:
        return f"the weights of {target.name!r} are {weight.dtype}, not float"
    folded = _fold_numbers(target, weight, scale, mean, beta, source)
    if isinstance(folded, str):
        return folded
    return _Fold(norm, target, *folded)


def _factors(model: ir.Model, norm: ir.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """(f, mean, beta) of the inference form, in float64, or why the node is not in that form."""
    import numpy as np

    version = opset(model)
    if int_attribute(norm, "training_mode", 0) or any(is_used(v) for v in norm.outputs[1:]):
        return "it is in training mode"
    if version < 7 and not int_attribute(norm, "is_test", 0):
        return "it is in training mode (before opset 7 inference has to say is_test=1)"
    if not int_attribute(norm, "spatial", 1):
        return "it has statistics for each position (spatial=0), not for each channel"
    arrays = [constant(node_input(norm, index)) for index in range(1, 5)]
    known = [a for a in arrays if a is not None]
    if len(known) < 4:
        return "its scale, bias, mean or variance is not constant"
    if any(a.dtype.kind not in _FLOATS or a.ndim != 1 for a in known):
        return "its scale, bias, mean and variance are not float vectors"
    scale, beta, mean, variance = (a.astype(np.float64) for a in known)
    attribute = norm.attributes.get("epsilon")
    epsilon = _DEFAULT_EPSILON if attribute is None else float(attribute.as_float())
    if bool((variance + epsilon <= 0).any()) or not all(bool(np.isfinite(a).all()) for a in (scale, beta, mean)):
        return "its variance + epsilon is not positive, or a statistic is not finite"
    return scale / np.sqrt(variance + epsilon), mean, beta


def _keeps_channels(reshape: ir.Node, channels: int) -> bool:
    """Whether both sides of the Reshape have `channels` as last axis."""
    one, other = static_shape(reshape.inputs[0]), static_shape(reshape.outputs[0])
    return bool(one and other) and one is not None and other is not None and one[-1] == other[-1] == channels


def _fold_numbers(
    target: ir.Node, weight: np.ndarray, factor: np.ndarray, mean: np.ndarray, beta: np.ndarray, source: ir.Value
) -> tuple[np.ndarray, np.ndarray] | str:
    """New weight and bias in the weight's type, or why they cannot be had."""
    import numpy as np

    along = _along_channels(target, weight, factor, source)
    if isinstance(along, str):
        return along
    old_bias = _bias(target, factor.size)
    if isinstance(old_bias, str):
        return old_bias
    new_weight = weight.astype(np.float64) * along
    new_bias = (old_bias - mean) * factor + beta
    with np.errstate(over="ignore"):
        rounded = new_weight.astype(weight.dtype), new_bias.astype(weight.dtype)
    if not all(bool(np.isfinite(a).all()) for a in rounded):
        return f"the folded weights leave the range of {weight.dtype}"
    return rounded


def _along_channels(target: ir.Node, weight: np.ndarray, factor: np.ndarray, source: ir.Value) -> np.ndarray | str:
    """The factors, shaped so that they multiply the output channels of `weight`."""
    import numpy as np

    mismatch = f"{factor.size} channels are normalised, which are not the output channels of {target.name!r}"
    if target.op_type == "Conv":
        if weight.shape[0] != factor.size:
            return mismatch
        return factor.reshape(-1, *[1] * (weight.ndim - 1))
    if target.op_type == "ConvTranspose":  # W (C, M / groups, kernel..): output channel = group * M / groups + m
        groups = int_attribute(target, "group", 1)
        if weight.shape[1] * groups != factor.size:
            return mismatch
        inputs = weight.shape[0] // groups
        by_group = np.repeat(factor.reshape(groups, weight.shape[1]), inputs, axis=0)
        return by_group.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.ndim - 2))
    if weight.ndim != 2 or rank(source) != 2:
        return f"the channel axis of the normalisation is not the last axis of {target.name!r}"
    columns = 0 if target.op_type == "Gemm" and int_attribute(target, "transB", 0) else 1
    if weight.shape[columns] != factor.size:
        return mismatch
    return factor.reshape(-1, 1) if columns == 0 else factor.reshape(1, -1)


def _bias(target: ir.Node, channels: int) -> np.ndarray | str:
    """What the target adds to each output channel, in float64, or why it is not one number a channel."""
    import numpy as np

    value = node_input(target, 2) if target.op_type != "MatMul" else None
    if value is None:
        return np.zeros(channels)
    array = constant(value)
    if array is None:
        return f"the bias of {target.name!r} is not constant"
    beta = target.attributes.get("beta")
    factor = 1.0 if beta is None or target.op_type != "Gemm" else float(beta.as_float())
    if math.prod(array.shape[:-1]) != 1 or (array.ndim and array.shape[-1] not in (1, channels)):
        return f"the bias of {target.name!r} is not one number a channel"
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,)) * factor
