"""Recognise activation functions in their exported spellings and fuse them into the operator before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from h4hc import annotations as notes
from h4hc.passbase import Pass, PassResult, Skip
from passes import matching
from passes.activation_patterns import Activation, single, spelled

KIND = "activation"

# Operators whose result may pass through an activation function before it is stored.
COMPUTING = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div",
    "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
)  # fmt: skip
COMPUTING_KINDS = ("fully_connected", "layer_norm", "rms_norm")


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Recognise activation functions in their exported spellings and fuse them into the operator before them.

    Functions: relu, relu6, clip, leaky_relu, prelu, elu, sigmoid, tanh, softplus, mish, hard_sigmoid, hard_swish,
    silu, swish (alpha other than 1), gelu, gelu_tanh. First, each spelling of several nodes becomes one operator of
    kind `activation` with `h4hc.activation` = the function and the parameter `input` = the name of x. Then the first
    activation behind a computing operator joins its group, if nothing else uses the value between them. Numbers a
    function needs (alpha, beta, min, max, slope = name of the constant) are in the parameter `activation`.
    """

    name: ClassVar[str] = "fuse-activation"
    after: ClassVar[tuple[str, ...]] = (
        "drop-no-ops",
        "fold-constants",
        "fold-batch-norm",
        "fuse-layer-norm",
        "fuse-conv-bias",
        "fuse-fully-connected",
    )

    def run(self, model: ir.Model) -> PassResult:
        """Group the spellings, then fuse into producers."""
        result = PassResult()
        groups = matching.Groups(model)
        nodes = list(model.graph)
        for node in nodes:
            if groups.single(node):
                _group_spelling(groups, node, result)
        for node in nodes:
            if notes.is_anchor(node):
                _fuse(groups, node, result)
        groups.check()
        return result


def _group_spelling(groups: matching.Groups, node: ir.Node, result: PassResult) -> None:
    found = spelled(node)
    if found is None:
        return
    if isinstance(found, str):
        result.skipped.append(Skip(str(node.name), found))
        return
    why = groups.obstacle(found.nodes)
    if not why and not all(groups.single(n) for n in found.nodes):
        why = "some of its nodes belong to another operator already"
    if why:
        result.skipped.append(Skip(str(node.name), f"{found.function}: {why}"))
        return
    groups.merge(
        found.anchor,
        found.nodes,
        kind=KIND,
        activation=found.function,
        params={"input": found.source.name, "activation": found.params},
    )
    result.changed += 1


def _fuse(groups: matching.Groups, node: ir.Node, result: PassResult) -> None:
    """Join the activation anchored at `node` to the operator that makes its input."""
    found = _activation_at(groups, node)
    if found is None:
        return
    if isinstance(found, str):
        result.skipped.append(Skip(str(node.name), found))
        return
    producer = found.source.producer()
    if producer is None or producer in found.nodes or not groups.members(producer):
        return
    anchor = groups.anchor(producer)
    if anchor is groups.anchor(node) or not _computes(anchor):
        return
    before = notes.activation(anchor)
    why = f"{matching.describe(anchor)} already has the activation {before}" if before else ""
    why = why or groups.obstacle([anchor, *found.nodes])
    if why:
        result.skipped.append(Skip(str(node.name), f"not fused into {matching.describe(anchor)}: {why}"))
        return
    groups.merge(anchor, found.nodes, activation=found.function, params={"activation": found.params})
    result.changed += 1


def _computes(anchor: ir.Node) -> bool:
    kind = notes.kind(anchor)
    return kind in COMPUTING_KINDS if kind else matching.is_op(anchor, *COMPUTING)


def _activation_at(groups: matching.Groups, node: ir.Node) -> Activation | str | None:
    """The activation operator that `node` anchors: a group of this pass, or a single node."""
    if notes.kind(node) != KIND:
        return single(node) if groups.single(node) else None
    nodes = tuple(groups.members(node))
    params = notes.params(node)
    made = {value for member in nodes for value in member.outputs}
    source = next(
        (v for n in nodes for v in n.inputs if v is not None and v not in made and v.name == params["input"]), None
    )
    if source is None:
        return None  # its input has been renamed or quantised since: leave the operator as it is
    own = params["activation"]
    return Activation(notes.activation(node), source, node, nodes, dict(own) if isinstance(own, dict) else {})
