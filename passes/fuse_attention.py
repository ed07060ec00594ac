"""Recognise scaled dot-product attention as a named region whose operators stay separately mappable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from h4hc import annotations as notes
from h4hc.passbase import Pass, PassResult, Skip
from passes import matching
from passes.matching import Groups
from passes.values import STANDARD_DOMAINS, opset

PREFIX = "attention_"

# Attention as one operator; the names of onnxruntime's own include quantised and packed forms.
_PREVIEW_DOMAIN = "ai.onnx.preview"
_WHOLE = ("Attention", "FlexAttention")
_WHOLE_MICROSOFT = (
    "Attention", "MultiHeadAttention", "QAttention", "QOrderedAttention", "GroupQueryAttention", "PackedAttention",
    "PackedMultiHeadAttention", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "SparseAttention",
)  # fmt: skip

_PASSING = ("Cast", "Identity", "Dropout")
_SHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose")
_MAX_STEPS = 12  # nodes between a product and the softmax, Q and DQ included; the longest export seen has 7


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Recognise scaled dot-product attention as a named region whose operators stay separately mappable.

    softmax(scale * q k^T [+ mask]) v: two MatMul of activations, the Softmax, and what lies between them: scale (Mul,
    Div), mask (Add, Where), Cast, Dropout, Reshape, QuantizeLinear and DequantizeLinear; also a scale on q or k and
    the Transpose that makes k^T, if nothing else uses them. All nodes of these operators get `h4hc.region` =
    `attention_<n>`, n counted in graph order of the softmax; no operators are merged. The fused operators Attention
    (opset 23) and MultiHeadAttention and the like (com.microsoft) are a region of one node.
    """

    name: ClassVar[str] = "fuse-attention"
    after: ClassVar[tuple[str, ...]] = (
        "drop-no-ops",
        "fold-constants",
        "fuse-layer-norm",
        "fuse-fully-connected",
        "fuse-activation",
        "absorb-qdq",
    )

    def run(self, model: ir.Model) -> PassResult:
        """Name the region around each softmax that lies between two products of activations."""
        result = PassResult()
        groups, version = Groups(model), opset(model)
        number = sum(1 for _ in {notes.region(n): None for n in model.graph if notes.region(n)})
        for node in model.graph:
            if notes.region(node):
                continue
            found = _region(node, version)
            if isinstance(found, str):
                result.skipped.append(Skip(str(node.name), found))
            elif found:
                marked = groups.union(found)
                if any(notes.region(n) for n in marked):
                    result.skipped.append(Skip(str(node.name), "its products belong to another attention block"))
                    continue
                for member in marked:
                    member.metadata_props[notes.REGION] = f"{PREFIX}{number}"
                number += 1
                result.changed += 1
        return result


def _region(node: ir.Node, version: int) -> list[ir.Node] | str | None:
    """Nodes of the attention block of `node`; why it has none; None if it is nothing like one."""
    whole = _WHOLE_MICROSOFT if node.domain == matching.MICROSOFT_DOMAIN else _WHOLE
    if node.op_type in whole and node.domain in (*STANDARD_DOMAINS, _PREVIEW_DOMAIN, matching.MICROSOFT_DOMAIN):
        return [node]
    if not matching.is_op(node, "Softmax"):
        return None
    before, behind = _scores(node), _mixing(node)
    if before is None and behind is None:
        return None
    if before is None:
        return "its result is multiplied by an activation, but its input is no product of two activations"
    if behind is None:
        return "its input is a product of two activations, but its result is not multiplied by another"
    why = _axis_fault(node, behind, version)
    if why:
        return why
    nodes = dict.fromkeys([*before, node, *behind])
    for value in before[0].inputs:
        nodes.update(dict.fromkeys(_operand(value)))
    return list(nodes)


def _is_product(node: ir.Node) -> bool:
    """MatMul of two activations."""
    if not matching.is_op(node, "MatMul", "MatMulInteger", "QLinearMatMul") or notes.kind(node):
        return False
    operands = [node.inputs[0], node.inputs[3 if node.op_type == "QLinearMatMul" else 1]]
    return not any(_fixed(v) for v in operands)


def _fixed(value: ir.Value | None) -> bool:
    """Whether `value` is constant, as stored or quantised."""
    producer = value.producer() if value is not None else None
    if producer is not None and matching.is_dequantize(producer):
        value = producer.inputs[0]
    return matching.is_constant(value)


def _passes(node: ir.Node) -> bool:
    return matching.is_op(node, *_PASSING) or matching.is_quantize(node) or matching.is_dequantize(node)


def _ways_back(node: ir.Node) -> Iterable[ir.Value | None]:
    """Inputs through which the scores can have come."""
    if _passes(node) or matching.is_op(node, *_SHAPING):
        return node.inputs[:1]
    if matching.is_op(node, "Add", "Mul", "Div"):
        return [v for v in node.inputs if not _fixed(v)]
    if matching.is_op(node, "Where"):
        return [v for v in node.inputs[1:] if not _fixed(v)]
    if matching.is_op(node, "Tanh"):
        return node.inputs  # soft cap: c tanh(scores / c)
    return ()


def _scores(softmax: ir.Node) -> list[ir.Node] | None:
    """The product in front of the softmax, first, and the nodes between; the shortest way counts."""
    start = softmax.inputs[0].producer() if softmax.inputs[0] is not None else None
    return _search(start, lambda node: [v.producer() for v in _ways_back(node) if v is not None])


def _mixing(softmax: ir.Node) -> list[ir.Node] | None:
    """The product behind the softmax, first, and the nodes between."""
    best: list[ir.Node] | None = None
    for start in _consumers(softmax):
        found = _search(start, _ways_on)
        if found is not None and (best is None or len(found) < len(best)):
            best = found
    if best is None:
        return None
    # A guard against rows that are masked altogether: Where(IsNaN(p), 0, p).
    guards = [c for c in _consumers(softmax) if matching.is_op(c, "IsNaN")]
    return [*best, *(g for g in guards if any(matching.is_op(n, "Where") for n in best))]


def _consumers(node: ir.Node) -> list[ir.Node]:
    return [c for c in node.outputs[0].consumers() if c.graph is node.graph]


def _ways_on(node: ir.Node) -> list[ir.Node | None]:
    scaled = matching.is_op(node, "Mul", "Div") and any(_fixed(v) for v in node.inputs)
    if scaled or _passes(node) or matching.is_op(node, *_SHAPING, "Where"):
        return list(_consumers(node))
    return []


def _search(start: ir.Node | None, following: Callable[[ir.Node], Iterable[ir.Node | None]]) -> list[ir.Node] | None:
    """Breadth first from `start` to a product of activations: [product, nodes back to the start]."""
    pending: deque[tuple[ir.Node, tuple[ir.Node, ...]]] = deque([(start, ())] if start is not None else [])
    seen: set[ir.Node] = set()
    while pending:
        node, path = pending.popleft()
        if _is_product(node):
            return [node, *reversed(path)]
        if node in seen or len(path) == _MAX_STEPS:
            continue
        seen.add(node)
        pending.extend((n, (*path, node)) for n in following(node) if n is not None)
    return None


def _axis_fault(softmax: ir.Node, behind: list[ir.Node], version: int) -> str:
    """The softmax must run over the axis that the second product sums over."""
    axes = matching.rank(softmax.inputs[0])
    axis = softmax.attributes.get_int("axis", -1 if version >= 13 else 1)
    if axes is None or any(matching.is_op(n, *_SHAPING) for n in behind[1:]):
        return ""  # cannot be told, or the axes move in between
    product = behind[0]
    direct = behind[1] if len(behind) > 1 else softmax  # the node in front of the product
    wanted = axes - 1 if product.inputs[0] is direct.outputs[0] else axes - 2
    if (axis + axes if axis < 0 else axis) != wanted:
        return f"it runs over axis {axis}, but the product behind it sums over axis {wanted}"
    return ""


def _operand(value: ir.Value | None) -> list[ir.Node]:
    """Scale and k^T Transpose in front of one operand of the first product, while nothing else uses them."""
    taken: list[ir.Node] = []
    way: list[ir.Node] = []
    while value is not None and matching.sole_consumer(value) is not None and len(way) < _MAX_STEPS:
        node = value.producer()
        if node is None:
            break
        way.append(node)
        if matching.is_quantize(node) or matching.is_dequantize(node) or matching.is_op(node, *_PASSING):
            value = node.inputs[0]
            continue
        varying = [v for v in node.inputs if not _fixed(v)]
        scale = matching.is_op(node, "Mul", "Div") and len(varying) == 1 and _is_one_number(node, varying[0])
        if not scale and not _turns_last(node):
            break
        taken = list(way)
        value = varying[0]
    return taken


def _is_one_number(node: ir.Node, varying: ir.Value | None) -> bool:
    """Whether the operand of a Mul or Div next to `varying` is a constant of one element."""
    other = next((v for v in node.inputs if v is not varying), None)
    producer = other.producer() if other is not None else None
    if producer is not None and matching.is_dequantize(producer):
        other = producer.inputs[0]
    return matching.scalar(other) is not None


def _turns_last(node: ir.Node) -> bool:
    """Whether `node` is a Transpose that makes another axis the last one."""
    if not matching.is_op(node, "Transpose"):
        return False
    perm = node.attributes.get_ints("perm", ())
    return not perm or perm[-1] != len(perm) - 1
