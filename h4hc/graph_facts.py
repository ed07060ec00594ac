"""Facts about an ONNX graph that verification needs: what is random, what is quantised, who makes a value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from h4hc.annotations import ORIGIN

if TYPE_CHECKING:
    import onnx

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
DROPOUT = frozenset({"Dropout", "BiasDropout", "BitmaskDropout", "BitmaskBiasDropout"})
# Operators whose result deviates no more than their first input does: they move, select or clamp values.
NO_GAIN = frozenset(
    {
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split"),
        *("Expand", "Tile", "Relu", "Clip", "MaxPool", "DepthToSpace", "SpaceToDepth"),
    }
)


def origin_of(node: onnx.NodeProto, index: int) -> tuple[str, ...]:
    """The user's nodes this node stands for; not annotated: the name it gets at load (`index`: its place)."""
    for prop in node.metadata_props:
        if prop.key == ORIGIN:
            return tuple(json.loads(prop.value))
    return (node.name or f"{node.op_type}_{index}",)


def with_own_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or without node names when some are used twice: onnxruntime would not load it."""
    import onnx

    names = [node.name for node in model.graph.node if node.name]
    if len(set(names)) == len(names):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.ClearField("name")
    return copy


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the main graph's node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether any operator works on quantised values."""
    return any("Quantize" in node.op_type or "QLinear" in node.op_type for node in model.graph.node)


def output_scale(model: onnx.ModelProto, name: str) -> float | None:
    """Quantisation step of a float output: the scale of the DequantizeLinear it comes out of, if it does.

    Looked for through operators that only move, select or clamp values. Per-channel: the largest. None when the
    output is not dequantised or its scale is not a constant.
    """
    maker = producers(model.graph)
    seen: set[str] = set()
    while name in maker and name not in seen:
        seen.add(name)
        node = maker[name]
        if node.op_type == "DequantizeLinear":
            return _largest_constant(model, maker, node.input[1])
        if node.op_type not in NO_GAIN:
            return None
        name = node.input[0]
    return None


def _largest_constant(model: onnx.ModelProto, maker: dict[str, onnx.NodeProto], name: str) -> float | None:
    import numpy as np
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name:
            return float(np.abs(numpy_helper.to_array(tensor).astype(np.float64)).max(initial=0.0))
    node = maker.get(name)
    if node is not None and node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name == "value":
                return float(np.abs(numpy_helper.to_array(attribute.t).astype(np.float64)).max(initial=0.0))
            if attribute.name == "value_float":
                return float(abs(attribute.f))
    return None


def random_nodes(model: onnx.ModelProto) -> list[int]:
    """Indices of the main graph's nodes that draw, themselves or in a body or function, from an unseeded generator."""
    random_functions: set[tuple[str, str]] = set()
    grew = True
    while grew:  # functions may call each other in any order, never in a circle
        grew = False
        for function in model.functions:
            key = (function.domain, function.name)
            if key not in random_functions and any(_draws(n, model, random_functions) for n in function.node):
                random_functions.add(key)
                grew = True
    return [i for i, node in enumerate(model.graph.node) if _draws(node, model, random_functions)]


def _draws(node: onnx.NodeProto, model: onnx.ModelProto, functions: set[tuple[str, str]]) -> bool:
    if (node.domain, node.op_type) in functions:
        return True
    seeded = any(attribute.name == "seed" for attribute in node.attribute)
    if node.op_type in RANDOM and not seeded:
        return True
    if node.op_type in DROPOUT and not seeded and _may_train(node, model):
        return True
    bodies = (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs))
    return any(_draws(inner, model, functions) for graph in bodies for inner in graph.node)


def _may_train(dropout: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a Dropout has a training_mode input (its last but for the seed) that is not the constant false."""
    position = 2 if dropout.op_type in ("Dropout", "BitmaskDropout") else 4
    if len(dropout.input) <= position or not dropout.input[position]:
        return False
    return _largest_constant(model, producers(model.graph), dropout.input[position]) != 0.0


def random_values(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Values of the main graph that depend on random numbers -> the user's names of the nodes that draw them."""
    from h4hc.partition_cut import uses

    start = set(random_nodes(model))
    sources: dict[str, tuple[str, ...]] = {}
    for index, node in enumerate(model.graph.node):
        own = origin_of(node, index) if index in start else ()
        names = dict.fromkeys((*own, *(s for name in uses(node) for s in sources.get(name, ()))))
        if names:
            sources.update({name: tuple(names) for name in node.output if name})
    return sources
