"""Read DequantizeLinear -> operator -> QuantizeLinear as one integer operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from h4hc import annotations as notes
from h4hc.passbase import Pass, PassResult, Skip
from passes import matching
from passes.dynamic_quantization import dynamic_product
from passes.matching import Groups, describe, is_dequantize, is_quantize
from passes.quantization import (
    activation_fault,
    merge_twins,
    product_faults,
    same_scale,
    scale_names,
    split_shared,
    weight_fault,
)
from passes.quantized_moves import keep_moves_quantized

REQUANTIZE = "requantize"

# Not the arithmetic of a tensor: these make values of their own, or change the type for good.
_NOT_INTEGER = (
    "Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "Bernoulli", "Multinomial", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "DynamicQuantizeLinear", "DequantizeLinear",
)  # fmt: skip
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass
class Border:
    """What surrounds one operator: the DequantizeLinear and QuantizeLinear next to it, and what forbids to absorb."""

    activations: dict[ir.Node, None] = field(default_factory=dict)
    weights: dict[ir.Node, None] = field(default_factory=dict)
    quantizers: list[ir.Node] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AbsorbQdq(Pass):
    """Read DequantizeLinear -> operator -> QuantizeLinear as one integer operator.

    An operator (one node, or a group of the fusing passes) becomes an integer one if each float input comes from a
    DequantizeLinear or is a constant, and each float output goes only to one QuantizeLinear; scales are constants,
    activations have one scale a tensor and 8 or 16 bits; constants that it multiplies (weights of a convolution or
    product) are quantised, a float bias is not in the way (see `product_faults`). Its group takes in those nodes. A
    DequantizeLinear with several users is first split into one for each, and data movement between an integer
    operator and a float value is quantised on the other side too (see quantized_moves.py): same numbers, bit for bit.
    An operator with several outputs (Split) keeps them: its group has one leaving value an output.
    DequantizeLinear -> QuantizeLinear becomes kind `requantize`.
    Everything else stays as it is, in float, with the reason; DequantizeLinear of constants in front of such an
    operator joins it (`weight_only`). MatMulInteger and ConvInteger take in their Cast and rescaling Mul
    (`dynamic_quantized`).

    Parameters on the anchor: `qdq` = {`inputs`: [scale, zero point] names for each input of the anchor, null where
    it is not dequantised; `outputs`: the same for each leaving quantised value; `tensors`: quantised tensor name ->
    [scale, zero point] for all that are dequantised in the group}; a missing zero point is "". `same_scale`, where
    the operator writes a quantised value: all activations in and out share one type, scale and zero point, so that
    moving data needs no arithmetic (constants are rescaled at compile time); lowering makes `Op.rescales` of it.
    """

    name: ClassVar[str] = "absorb-qdq"
    after: ClassVar[tuple[str, ...]] = (
        "drop-no-ops",
        "fold-constants",
        "infer-shapes",
        "fuse-layer-norm",
        "fuse-conv-bias",
        "fuse-fully-connected",
        "fuse-activation",
    )

    def run(self, model: ir.Model) -> PassResult:
        """Absorb wherever it is possible, in graph order."""
        result = PassResult()
        if not any(is_dequantize(n) or is_quantize(n) or _is_dynamic(n) for n in model.graph):
            return result
        groups = Groups(model)
        names = {v.name for n in model.graph.all_nodes() for v in n.outputs}
        names.update(v.name for v in (*model.graph.inputs, *model.graph.initializers.values()))
        result.changed += keep_moves_quantized(groups, model.graph, names)
        for anchor in groups.anchors():
            if "qdq" not in notes.params(anchor):
                _absorb(groups, anchor, names, result)
        groups.check()
        return result


def _is_dynamic(node: ir.Node) -> bool:
    return matching.is_op(node, "MatMulInteger", "ConvInteger")


def _absorb(groups: Groups, anchor: ir.Node, names: set[str | None], result: PassResult) -> None:
    """Absorb what surrounds one operator, or note why not."""
    if matching.is_op(anchor, *_NOT_INTEGER) or notes.kind(anchor) == REQUANTIZE or is_dequantize(anchor):
        return
    if _is_dynamic(anchor):
        why = "" if not groups.single(anchor) else dynamic_product(groups, anchor, result)
        if why:
            result.skipped.append(Skip(str(anchor.name), why))
        return
    border = _border(groups.members(anchor))
    if is_quantize(anchor) and (not border.activations or border.faults):
        return  # the border of a float part: an operator of its own
    if border.activations and not border.faults:
        _take(groups, anchor, border, names, result)
        return
    if border.activations or border.quantizers:
        why = "; ".join(border.faults) or "none of its inputs is a quantised activation"
        result.skipped.append(Skip(str(anchor.name), f"stays float: {why}"))
    if border.weights and not is_quantize(anchor):
        _take_weights(groups, anchor, border, names, result)


def _border(members: list[ir.Node]) -> Border:
    """Look at every value that enters or leaves the operator."""
    border, inside = Border(), set(members)
    for node in members:
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if value is None or producer in inside or matching.is_constant(value):
                continue
            if producer is not None and is_dequantize(producer) and producer.graph is node.graph:
                _see_dequantize(producer, border)
            elif value.dtype is None or value.dtype in _FLOATS:
                border.faults.append(f"its input {value.name!r} is not quantised")
    border.faults += product_faults(members)
    for leaving in dict.fromkeys(e.value for e in matching.leaving(members)):
        _see_result(leaving, border)
    return border


def _see_dequantize(node: ir.Node, border: Border) -> None:
    if matching.is_constant(node.inputs[0]):
        fault = weight_fault(node)
        border.weights[node] = None
    else:
        fault = activation_fault(node)
        border.activations[node] = None
    if fault:
        border.faults.append(fault)


def _see_result(value: ir.Value, border: Border) -> None:
    """A float result must go to QuantizeLinear only; an integer or boolean one may go anywhere."""
    if value.dtype is not None and value.dtype not in _FLOATS:
        return
    quantizers = [u.node for u in value.uses() if is_quantize(u.node) and u.idx == 0]
    others = [u.node for u in value.uses() if not (is_quantize(u.node) and u.idx == 0)]
    border.quantizers += quantizers
    if value.is_graph_output():
        border.faults.append(f"its output {value.name!r} is a model output")
    if others:
        also = "also used in float" if quantizers else "used in float"
        border.faults.append(f"its output {value.name!r} is {also} by {', '.join(map(describe, others[:3]))}")
    if any(q.graph is not value.graph for q in quantizers):
        border.faults.append(f"its output {value.name!r} is quantised inside a subgraph")
    elif len(quantizers) > 1 and merge_twins(quantizers, dry=True) is None:
        which = ", ".join(map(describe, quantizers))
        border.faults.append(f"its output {value.name!r} is quantised in different ways ({which})")
    border.faults += [fault for fault in map(activation_fault, quantizers) if fault]


def _take(groups: Groups, anchor: ir.Node, border: Border, names: set[str | None], result: PassResult) -> None:
    """Make the integer operator."""
    members = groups.members(anchor)
    several = len(matching.used_outputs(anchor)) > 1
    trial = [*members, *border.quantizers]
    by_value: dict[ir.Value | None, list[ir.Node]] = {}
    for node in border.quantizers:
        by_value.setdefault(node.inputs[0], []).append(node)
    blocked = [n for n in border.quantizers if not groups.single(n)]
    many_twins = any(len(nodes) > 1 for nodes in by_value.values())
    why = f"{describe(blocked[0])} belongs to another operator" if blocked else ""
    why = why or groups.obstacle(trial, several=several or many_twins)
    if why:
        result.skipped.append(Skip(str(anchor.name), f"stays float: {why}"))
        return
    quantizers = []
    for nodes in by_value.values():
        kept = merge_twins(nodes)
        assert kept is not None  # asked in _see_result
        for node in nodes:
            if node is not kept:
                groups.drop(node)
        quantizers.append(kept)
    dequantizers = _own_dequantizers(groups, anchor, [*border.activations, *border.weights], names)
    params = _qdq_params(anchor, dequantizers, quantizers)
    groups.merge(
        anchor,
        [*dequantizers, *quantizers],
        kind=REQUANTIZE if is_quantize(anchor) else "",
        params=params,
    )
    result.changed += 1


def _take_weights(groups: Groups, anchor: ir.Node, border: Border, names: set[str | None], result: PassResult) -> None:
    """Let a float operator read its quantised constants itself."""
    several = len(matching.used_outputs(anchor)) > 1
    why = groups.obstacle([anchor], several=several)
    if why:
        result.skipped.append(Skip(str(anchor.name), why))
        return
    dequantizers = _own_dequantizers(groups, anchor, list(border.weights), names)
    params = _qdq_params(anchor, dequantizers, []) | {"weight_only": True}
    groups.merge(anchor, dequantizers, params=params)
    result.changed += 1


def _own_dequantizers(groups: Groups, anchor: ir.Node, wanted: list[ir.Node], names: set[str | None]) -> list[ir.Node]:
    """The DequantizeLinear of this operator alone: split off where others use it too."""
    own = []
    for node in wanted:
        old = str(node.outputs[0].name)
        mine = split_shared(groups, node, groups.members(anchor), names)
        if mine is not node and notes.params(anchor).get("input") == old:
            renamed = {**notes.params(anchor), "input": mine.outputs[0].name}
            notes.join_group(anchor, (), params=renamed)
        own.append(mine)
    return own


def _qdq_params(anchor: ir.Node, dequantizers: list[ir.Node], quantizers: list[ir.Node]) -> dict[str, object]:
    by_output = {node.outputs[0]: node for node in dequantizers}
    inputs = [scale_names(by_output[v]) if v is not None and v in by_output else None for v in anchor.inputs]
    tensors = {str(n.inputs[0].name): scale_names(n) for n in dequantizers if n.inputs[0] is not None}
    outputs = [scale_names(anchor)] if is_quantize(anchor) else [scale_names(n) for n in quantizers]
    activations = [n for n in dequantizers if not matching.is_constant(n.inputs[0])]
    params: dict[str, object] = {"qdq": {"inputs": inputs, "outputs": outputs, "tensors": tensors}}
    written = [anchor] if is_quantize(anchor) else quantizers
    if activations and written:
        params["same_scale"] = all(same_scale(activations[0], end) for end in (*activations[1:], *written))
    return params
