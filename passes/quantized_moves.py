"""Keep data movement next to an integer operator in integers: quantise before it, not after, and the reverse.

Moving a value and quantising it with one scale a tensor can be swapped. Quantizers leave a Reshape or Transpose in
float where its neighbour is: norm -> Reshape -> Transpose -> QuantizeLinear. A pair of QuantizeLinear and
DequantizeLinear with the same scale in front of the Reshape changes no bit, since quantising twice is quantising
once ((q s) / s rounds to q for float32 s and 16 bits or less), and lets both neighbours be integer operators.
"""

from __future__ import annotations

import onnx_ir as ir

from h4hc import annotations as notes
from passes import matching
from passes.matching import Groups, is_dequantize, is_quantize
from passes.quantization import activation_fault, fresh_value_name

# Operators that only move the elements of their first input; all other inputs are integers.
_MOVES = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Expand", "Tile", "Gather",
    "DepthToSpace", "SpaceToDepth",
)  # fmt: skip


def keep_moves_quantized(groups: Groups, graph: ir.Graph, names: set[str | None]) -> int:
    """Insert the pairs and say how many."""
    moves = [n for n in graph if matching.is_op(n, *_MOVES) and groups.single(n)]
    count = 0
    for node in reversed(moves):
        pattern = _quantizer_behind(node)
        if pattern is not None and _may_quantize_input(node):
            value = node.inputs[0]
            assert value is not None
            quantize, dequantize = _pair(groups, pattern, value, names)
            graph.insert_before(node, [quantize, dequantize])
            node.replace_input_with(0, dequantize.outputs[0])
            count += 1
    for node in moves:
        pattern = _dequantizer_before(node)
        if pattern is not None and _may_dequantize_output(node):
            value = node.outputs[0]
            uses = value.uses()
            quantize, dequantize = _pair(groups, pattern, value, names)
            graph.insert_after(node, [quantize, dequantize])
            for use in uses:
                use.node.replace_input_with(use.idx, dequantize.outputs[0])
            count += 1
    return count


def _quantizer_behind(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone uses the moved value."""
    consumer = matching.sole_consumer(node.outputs[0])
    fits = consumer is not None and is_quantize(consumer) and consumer.graph is node.graph
    return consumer if fits and consumer is not None and _is_plain(consumer) else None


def _dequantizer_before(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear that makes the value to be moved."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    fits = producer is not None and is_dequantize(producer) and not matching.is_constant(producer.inputs[0])
    return producer if fits and producer is not None and _is_plain(producer) else None


def _is_plain(node: ir.Node) -> bool:
    """One constant float32 scale, a zero point that says the type, and no attribute that changes the arithmetic."""
    zero, scale = matching.input_at(node, 2), matching.constant(node.inputs[1])
    return (
        not activation_fault(node)
        and zero is not None
        and scale is not None
        and scale.dtype == ir.DataType.FLOAT
        and set(node.attributes) <= {"axis", "saturate"}
    )


def _may_quantize_input(node: ir.Node) -> bool:
    value = node.inputs[0]
    if value is None or matching.is_constant(value) or value.graph is not node.graph:
        return False
    producer = value.producer()
    return matching.sole_consumer(value) is node and len(value.uses()) == 1 and not is_dequantize(producer)


def _may_dequantize_output(node: ir.Node) -> bool:
    value = node.outputs[0]
    users = value.consumers()
    if value.is_graph_output() or not users:
        return False
    return all(u.graph is node.graph and not is_quantize(u) for u in users)


def _pair(groups: Groups, pattern: ir.Node, value: ir.Value, names: set[str | None]) -> tuple[ir.Node, ir.Node]:
    """QuantizeLinear -> DequantizeLinear of `value`, scaled like `pattern` and standing for the same user node."""
    made: list[ir.Node] = []
    source = value
    for op_type in ("QuantizeLinear", "DequantizeLinear"):
        node = ir.Node(
            pattern.domain,
            op_type,
            [source, *pattern.inputs[1:]],
            num_outputs=1,
            version=pattern.version,
            name=groups.fresh_name(str(pattern.name)),
        )
        notes.set_origins(node, notes.origins(pattern))
        output = node.outputs[0]
        output.name, output.shape = fresh_value_name(str(value.name), names), value.shape
        zero = pattern.inputs[2]
        assert zero is not None  # _is_plain
        quantized = zero.dtype or (zero.const_value.dtype if zero.const_value is not None else None)
        if op_type == "QuantizeLinear" and quantized is not None:
            output.type = ir.TensorType(quantized)
        elif op_type == "DequantizeLinear":
            output.type = ir.TensorType(ir.DataType.FLOAT)
        groups.add(node)
        made.append(node)
        source = output
    return made[0], made[1]
