"""What absorb-qdq asks of QuantizeLinear and DequantizeLinear nodes, and the two rewrites it makes of them."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from h4hc import annotations as notes
from passes import matching
from passes.matching import Groups, describe
from passes.values import STANDARD_DOMAINS

_ACTIVATION_TYPES = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
_WEIGHT_TYPES = (
    *_ACTIVATION_TYPES,
    ir.DataType.INT32,  # bias
    ir.DataType.INT4,
    ir.DataType.UINT4,
    ir.DataType.INT2,
    ir.DataType.UINT2,
)

# What an operator multiplies: positions of its operands, weights among them. Biases are added and not listed.
_MULTIPLIED: dict[str, tuple[int, ...]] = {
    "Attention": (0, 1),
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "DeformConv": (0, 1),
    "FusedConv": (0, 1),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "GRU": (0, 1, 2),
    "Gemm": (0, 1),
    "LSTM": (0, 1, 2),
    "MatMul": (0, 1),
    "RNN": (0, 1, 2),
}
_REARRANGING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def quantized_type(node: ir.Node) -> ir.DataType:
    """Element type on the quantised side; the standard's default, uint8, where nothing says it."""
    side = node.inputs[0] if matching.is_dequantize(node) else node.outputs[0]
    if side is not None and side.dtype is not None:
        return side.dtype
    zero = matching.input_at(node, 2)
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    return ir.DataType(node.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)


def scale_names(node: ir.Node) -> list[str]:
    """[name of the scale, name of the zero point or ""]."""
    zero = matching.input_at(node, 2)
    scale = node.inputs[1]
    assert scale is not None  # not optional
    return [str(scale.name), "" if zero is None else str(zero.name)]


def _constant_scale(node: ir.Node) -> bool:
    zero = matching.input_at(node, 2)
    return matching.is_constant(node.inputs[1]) and (zero is None or matching.is_constant(zero))


def activation_fault(node: ir.Node) -> str:
    """Why an integer operator cannot read or write an activation through this node; empty if it can."""
    if not _constant_scale(node):
        return f"the scale of {describe(node)} is computed at run time"
    scale = matching.constant(node.inputs[1])
    if scale is None or scale.size != 1:
        return f"{describe(node)} has more than one scale for an activation"
    if quantized_type(node) not in _ACTIVATION_TYPES:
        return f"{describe(node)} has the type {quantized_type(node).name.lower()}, not an 8 or 16 bit integer"
    return ""


def weight_fault(node: ir.Node) -> str:
    """Why an integer operator cannot use constants quantised like this; empty if it can."""
    if not _constant_scale(node):
        return f"the scale of {describe(node)} is computed at run time"
    block = node.attributes.get_int("block_size", 0)
    if block:
        return f"{describe(node)} quantises in blocks of {block}, not per tensor or channel"
    if quantized_type(node) not in _WEIGHT_TYPES:
        return f"{describe(node)} has the type {quantized_type(node).name.lower()}, not an integer"
    return ""


def product_faults(members: Collection[ir.Node]) -> list[str]:
    """Which constants that these nodes multiply are no quantised weights of at most 16 bits, and why.

    A float constant has no scale: an integer product cannot use it. A bias may be float: it is added, so the
    compiler of the device rounds it to the accumulator's scale (input scale x weight scale), half a unit away at most.
    """
    inside, faults = set(members), []
    for node in members:
        if node.domain not in (*STANDARD_DOMAINS, matching.MICROSOFT_DOMAIN):
            continue
        positions = range(len(node.inputs)) if node.op_type == "Einsum" else _MULTIPLIED.get(node.op_type, ())
        for value in (matching.input_at(node, i) for i in positions):
            fault = "" if value is None else _weight_type_fault(_as_stored(value, inside))
            if fault:
                faults.append(fault)
    return faults


def _as_stored(value: ir.Value, inside: Collection[ir.Node]) -> ir.Value:
    """The value in front of the nodes of the same operator that only rearrange it."""
    producer = value.producer()
    while producer is not None and producer in inside and matching.is_op(producer, *_REARRANGING):
        source = producer.inputs[0]
        assert source is not None  # not optional
        value, producer = source, source.producer()
    return value


def _weight_type_fault(value: ir.Value) -> str:
    producer = value.producer()
    if producer is not None and matching.is_dequantize(producer):
        source = producer.inputs[0]
        if source is None or not matching.is_constant(source) or quantized_type(producer) != ir.DataType.INT32:
            return ""
        return f"its weights {source.name!r} are int32, not an integer of 16 bits or less"
    if not matching.is_constant(value):
        return ""
    tensor = matching.constant(value)
    dtype = value.dtype if tensor is None else tensor.dtype
    seen = "constants without a scale" if dtype is None else f"stored as {dtype.name.lower()}"
    return f"its weights {value.name!r} are {seen}, not quantised"


def same_scale(first: ir.Node, second: ir.Node) -> bool:
    """Whether two nodes have the same scale, zero point and type, by value."""
    if quantized_type(first) != quantized_type(second):
        return False
    for index in (1, 2):
        a, b = matching.input_at(first, index), matching.input_at(second, index)
        if a is b:
            continue
        x = 0.0 if a is None and index == 2 else matching.scalar(a)
        y = 0.0 if b is None and index == 2 else matching.scalar(b)
        if x is None or x != y:
            return False
    return True


def merge_twins(nodes: list[ir.Node], *, dry: bool = False) -> ir.Node | None:
    """Make one QuantizeLinear of several that compute the same; None (and no change) if they do not.

    `dry` only asks. The survivor is the first in graph order; a model output keeps its own name and node.
    """
    first = nodes[0]
    if len(nodes) == 1:
        return first
    outputs = [n for n in nodes if n.outputs[0].is_graph_output()]
    alike = all(n.op_type == first.op_type and n.domain == first.domain and same_scale(first, n) for n in nodes[1:])
    plain = all(sorted(n.attributes) == sorted(first.attributes) for n in nodes[1:]) and not any(
        n.attributes.get_int("precision", 0) for n in nodes
    )
    if not alike or not plain or outputs:
        return None
    if dry:
        return first
    graph = first.graph
    assert isinstance(graph, ir.Graph)
    pending = set(nodes)
    kept = next(n for n in graph if n in pending)
    for node in nodes:
        if node is not kept:
            node.outputs[0].replace_all_uses_with(kept.outputs[0])
            notes.merge_origins(kept, [node])
            graph.remove(node, safe=True)
    return kept


def split_shared(groups: Groups, node: ir.Node, users: Collection[ir.Node], names: set[str | None]) -> ir.Node:
    """A DequantizeLinear used by `users` alone: `node` itself, or a copy if others use it too.

    The copy stands right behind the original, has the same origins and takes over the uses in `users`.
    """
    value = node.outputs[0]
    mine = set(users)
    if not value.is_graph_output() and all(c in mine for c in value.consumers()):
        return node
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    metadata = {k: v for k, v in node.metadata_props.items() if not k.startswith("h4hc.") or k == notes.ORIGIN}
    copy = ir.Node(
        node.domain,
        node.op_type,
        node.inputs,
        list(node.attributes.values()),
        num_outputs=1,
        version=node.version,
        name=groups.fresh_name(str(node.name)),
        metadata_props=metadata,
    )
    output = copy.outputs[0]
    output.name, output.shape, output.type = fresh_value_name(str(value.name), names), value.shape, value.type
    graph.insert_after(node, copy)
    for use in value.uses():
        if use.node in mine:
            use.node.replace_input_with(use.idx, output)
    groups.add(copy)
    return copy


def fresh_value_name(base: str, names: set[str | None]) -> str:
    """A value name that is not taken: `base#2` ..."""
    count = 2
    while f"{base}#{count}" in names:
        count += 1
    name = f"{base}#{count}"
    names.add(name)
    return name
