"""infer-shapes: fix the free dimensions of the inputs, then infer type and shape of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import onnx
import onnx_ir as ir

from h4hc.diagnostics import Diagnostic
from h4hc.limits import Limits
from h4hc.passbase import Pass, PassResult, Skip
from h4hc.sandbox import infer_value_types
from passes.input_dims import fix_inputs, fixed_sizes
from passes.local_shapes import adopt, infer_outputs, is_settled, known_values, type_proto
from passes.values import STANDARD_DOMAINS, is_standard, is_tensor, is_used, require_ir_4, tensor_shape

W_OUTPUT_SHAPE = "H4W102"  # an output of the model has another shape than the file says

# Tensors above this size go to inference as typed inputs without their numbers: no shape rule reads so many.
_MAX_DATA_BYTES = 32 << 10
_DONE = "h4hc.inferred"  # in graph.meta: what was still unknown after the last inference


@dataclass(frozen=True)
class InferShapes(Pass):
    """Fix free input dimensions and infer type and shape of every tensor.

    Before: x[batch, 3, h, w], y[?]     After: x[1, 3, 224, 224], y[1, 1000], and every tensor between
    input_shapes: (input name, dimensions), from --input-shape.  fix_dims: (dimension name, size), from --fix-dim.
    A free first dimension that no option fixes is taken as 1, with a warning; any other free dimension is a
    UserError that lists all of them. Shapes the file stores for inner tensors are hints and are inferred anew.
    Inference is ONNX's own, in a bounded child process; it is repeated only when something has changed since.
    Raises: UserError for the options, GraphError for shapes that contradict each other. Numerics: none touched.
    """

    name: ClassVar[str] = "infer-shapes"
    after: ClassVar[tuple[str, ...]] = ("split-functions",)
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    fix_dims: tuple[tuple[str, int], ...] = ()
    limits: Limits = field(default_factory=Limits)  # time and memory of the child process

    def run(self, model: ir.Model) -> PassResult:
        """Fix, forget stale shapes, infer, adopt."""
        lifted = require_ir_4(model)
        fixed, diagnostics = fix_inputs(model.graph, dict(self.input_shapes), dict(self.fix_dims))
        values = [v for node in model.graph for v in node.outputs if v.name]
        result = PassResult(changed=fixed + lifted, diagnostics=list(diagnostics))
        state = _state(model, values)
        if not fixed and model.graph.meta.get(_DONE) is not None and state in ((), model.graph.meta[_DONE]):
            return result
        before = {v: _spelled(v) for v in values}
        declared = _declared_outputs(model.graph) if not fixed else {}
        _forget(model, values)
        inferred = infer_value_types(_inference_proto(model), self.limits)
        for value in values:
            tensor = _large_constant(value.producer())
            if tensor is not None:
                value.type, value.shape = ir.TensorType(tensor.dtype), tensor_shape(tensor)
            elif str(value.name) in inferred:
                adopt(value, inferred[str(value.name)])
        _continue(model)
        _restore_declared(model.graph, declared, result)
        result.changed += sum(before[v] != _spelled(v) for v in values)
        result.skipped.extend(_unknown(model))
        model.graph.meta[_DONE] = _state(model, values)
        return result


def _state(model: ir.Model, values: list[ir.Value]) -> tuple[object, ...]:
    """Changes whenever another inference could learn more: nothing unknown left, or the graph is the same one."""
    unknown = tuple(str(v.name) for v in values if is_used(v) and not is_settled(v))
    return (unknown, len(model.graph)) if unknown else ()


def _spelled(value: ir.Value) -> tuple[str, str]:
    return (str(value.type), str(value.shape))


def _declared_outputs(graph: ir.Graph) -> dict[ir.Value, tuple[ir.TypeProtocol | None, ir.Shape | None]]:
    return {v: (v.type, v.shape) for v in graph.outputs if v.producer() is not None}


def _forget(model: ir.Model, values: list[ir.Value]) -> None:
    """Drop what the file says of inner tensors; keep the element type of the outputs, which ONNX demands.

    Of operators that nothing here has a rule for, the file is the only source: their outputs keep what it says,
    with the sizes of the dimensions fixed since.
    """
    sizes = fixed_sizes(model.graph)
    for value in values:
        if _is_foreign(model, value):
            if value.shape is not None:
                value.shape = ir.Shape([sizes.get(str(getattr(d, "value", None)), d) for d in value.shape])
            continue
        value.shape = None
        if not value.is_graph_output():
            value.type = None


def _is_foreign(model: ir.Model, value: ir.Value) -> bool:
    node = value.producer()
    return (
        node is not None
        and not node.domain.startswith("ai.onnx")
        and bool(node.domain)
        and (node.op_identifier() not in model.functions)
    )


def _continue(model: ir.Model) -> None:
    """Go on, a node at a time, behind the nodes that only the rules of this package know."""
    for node in model.graph:
        if not all(is_settled(v) for v in node.outputs if v.name):
            infer_outputs(node, model.graph.opset_imports, known_values(node))


def _restore_declared(
    graph: ir.Graph, declared: Mapping[ir.Value, tuple[ir.TypeProtocol | None, ir.Shape | None]], result: PassResult
) -> None:
    """Fall back on the file where inference is silent; warn where an output is declared with another shape."""
    for value, (kind, shape) in declared.items():
        if shape is None or not is_tensor(value):
            continue
        if value.shape is None:
            value.type, value.shape = value.type or kind, shape
        elif not _agrees(value.shape, shape):
            result.diagnostics.append(
                Diagnostic(
                    W_OUTPUT_SHAPE,
                    "warning",
                    f"output {value.name!r} has shape {_text(value.shape)}, not {_text(shape)} as the file says",
                    where=(str(value.name),),
                    hint="correct the output in the model; the inferred shape is used",
                )
            )


def _agrees(one: ir.Shape, other: ir.Shape) -> bool:
    if len(one) != len(other):
        return False
    return all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one, other, strict=True))


def _text(shape: ir.Shape) -> str:
    return "x".join(str(d) if isinstance(d, int) else "?" for d in shape) or "()"


def _unknown(model: ir.Model) -> list[Skip]:
    """The nodes where knowledge ends: inputs of static shape, an output without."""
    return [
        Skip(str(node.name), f"the shape of its output {value.name!r} is not known: {_why_unknown(node)}")
        for node in model.graph
        for value in node.outputs
        if value.name and is_used(value) and not is_settled(value)
        if all(v is None or is_settled(v) for v in node.inputs)
    ]


def _why_unknown(node: ir.Node) -> str:
    if node.domain in STANDARD_DOMAINS:
        return "it depends on values of the node's inputs"
    return f"there is no shape rule for operator {node.op_type} of domain {node.domain!r}"


# ---------------------------------------------------------------- the model as inference needs it


def _inference_proto(model: ir.Model) -> onnx.ModelProto:
    """The model without the numbers of large tensors and without any stored shape of inner tensors."""
    source = model.graph
    graph = onnx.GraphProto(name=source.name or "graph")
    for value in source.inputs:
        graph.input.append(ir.serde.serialize_value(value))
    for value in source.initializers.values():
        _add_constant(graph, value, value.const_value)
    for node in source:
        tensor = _large_constant(node)
        if tensor is not None:
            _add_typed_input(graph, node.outputs[0], tensor)
        else:
            graph.node.append(ir.serde.serialize_node(node))
            _forget_bodies(graph.node[-1])
        graph.value_info.extend(
            onnx.ValueInfoProto(name=str(v.name), type=type_proto(v))
            for v in node.outputs
            if v.name and v.type is not None and not v.is_graph_output() and _is_foreign(model, v)
        )
    for value in source.outputs:
        if value.producer() is not None and _large_constant(value.producer()) is None:
            graph.output.append(ir.serde.serialize_value(value))
    proto = onnx.ModelProto(ir_version=max(int(model.ir_version), 4), graph=graph)
    for domain, version in sorted(source.opset_imports.items()):
        proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    for function in model.functions.values():
        proto.functions.append(ir.serde.serialize_function(function))
    return proto


def _large_constant(node: ir.Node | None) -> ir.TensorProtocol | None:
    """The tensor of a Constant node too large to be shipped to inference."""
    if node is None or not is_standard(node, "Constant"):
        return None
    attribute = node.attributes.get("value")
    if attribute is None or attribute.is_ref():
        return None
    tensor = attribute.as_tensor()
    return tensor if tensor.nbytes > _MAX_DATA_BYTES else None


def _add_constant(graph: onnx.GraphProto, value: ir.Value, tensor: ir.TensorProtocol | None) -> None:
    if tensor is None:
        return
    if value.is_graph_input():  # can be overridden: only its type counts, and that is there already
        return
    if tensor.nbytes > _MAX_DATA_BYTES:
        _add_typed_input(graph, value, tensor)
        return
    graph.initializer.append(ir.serde.serialize_tensor(tensor))
    graph.initializer[-1].name = str(value.name)


def _add_typed_input(graph: onnx.GraphProto, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    stand_in = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor_shape(tensor))
    graph.input.append(onnx.ValueInfoProto(name=str(value.name), type=type_proto(stand_in)))


def _forget_bodies(node: onnx.NodeProto) -> None:
    """Drop the stored shapes of inner tensors in bodies of control flow: they may carry sizes fixed since."""
    work = [node]
    while work:
        for attribute in work.pop().attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                del body.value_info[:]
                work.extend(body.node)
