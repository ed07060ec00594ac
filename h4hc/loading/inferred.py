"""Holds what shape inference found against the size budget, and against what the file declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from h4hc.diagnostics import Diagnostic
from h4hc.errors import GraphError
from h4hc.limits import Limits
from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import subgraphs
from h4hc.loading.tensors import DTYPES, data_bytes
from h4hc.units import format_bytes

if TYPE_CHECKING:
    import onnx


def check_budget(model: onnx.ModelProto, inferred: onnx.ModelProto, limits: Limits) -> None:
    """Sum of the bytes of all values, free dims counted as 1, against `limits.static_bytes`; weights not counted.

    Raises GraphError naming the largest tensor and the node that makes it.
    """
    weights = {t.name for t in model.graph.initializer}
    total, largest, largest_name = 0, 0, ""
    for name, type_proto in _values(inferred.graph):
        if name in weights:
            continue
        size = _bytes(type_proto)
        total += size
        if size > largest:
            largest, largest_name = size, name
    if total <= limits.static_bytes:
        return
    maker = next((n.name or n.op_type for n in model.graph.node if largest_name in n.output), "")
    findings = Findings()
    findings.add(
        "the tensors of the model would take too much memory",
        (largest_name, *((maker,) if maker else ())),
        f"{format_bytes(total)} in all, limit static-bytes = {format_bytes(limits.static_bytes)}; "
        f"the largest is {shown(largest_name)!r} with {format_bytes(largest)}",
        "use smaller inputs or raise it with --limit static-bytes=...",
    )
    findings.raise_if_any(GraphError)


def _values(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TypeProto]]:
    """Values of a graph and of the bodies inside; each once a graph."""
    pending = [graph]
    while pending:
        at = pending.pop()
        found = {v.name: v.type for group in (at.input, at.value_info, at.output) for v in group}
        yield from found.items()
        pending.extend(body for node in at.node if node.attribute for _, body in subgraphs(node))


def _bytes(type_proto: onnx.TypeProto) -> int:
    if type_proto.WhichOneof("value") != "tensor_type" or type_proto.tensor_type.elem_type not in DTYPES:
        return 0
    dims = [d.dim_value if d.HasField("dim_value") else 1 for d in type_proto.tensor_type.shape.dim]
    return data_bytes(type_proto.tensor_type.elem_type, [max(0, d) for d in dims])


def settle_declared(
    model: onnx.ModelProto, inferred: onnx.ModelProto, opaque: frozenset[str]
) -> tuple[Diagnostic, ...]:
    """Take out of `model` every declared shape that inference contradicts, and every note it makes needless.

    What stays in `value_info` is what onnx cannot infer: all of `opaque`, and what has no shape after inference.
    An output whose declared shape is contradicted gets the inferred one. Raises GraphError for an output declared
    with another element type: onnxruntime refuses that.
    """
    known = {v.name: v.type for group in (inferred.graph.value_info, inferred.graph.output) for v in group}
    wrong: list[str] = []
    kept: list[onnx.ValueInfoProto] = []
    for note in model.graph.value_info:
        type_proto = known.get(note.name)
        if note.name in opaque or type_proto is None or not _has_shape(type_proto):
            kept.append(note)
        elif _contradicts(note.type, type_proto):
            wrong.append(note.name)
    model.graph.ClearField("value_info")
    model.graph.value_info.extend(kept)
    findings = Findings()
    for output in model.graph.output:
        type_proto = known.get(output.name)
        if type_proto is None:
            continue
        if _element_differs(output.type, type_proto):
            findings.add(
                "an output is declared with another element type than it has",
                (output.name,),
                f"declared {_element(output.type)}, inferred {_element(type_proto)}",
                "declare the type that the graph computes, or put a Cast before the output",
            )
        elif _has_shape(type_proto) and _contradicts(output.type, type_proto):
            wrong.append(output.name)
            output.type.CopyFrom(type_proto)
    findings.raise_if_any(GraphError)
    if not wrong:
        return ()
    return (
        Diagnostic(
            "H4W302",
            "warning",
            f"{len(wrong)} declared shapes contradict the graph and are not used",
            tuple(shown(name) for name in wrong[:20]),
            "the inferred shapes are used; export the model again to be rid of this",
        ),
    )


def _has_shape(type_proto: onnx.TypeProto) -> bool:
    return type_proto.WhichOneof("value") == "tensor_type" and bool(type_proto.tensor_type.HasField("shape"))


def _element(type_proto: onnx.TypeProto) -> str:
    return DTYPES.get(type_proto.tensor_type.elem_type, ("undefined",))[0]


def _element_differs(declared: onnx.TypeProto, inferred: onnx.TypeProto) -> bool:
    if declared.WhichOneof("value") != "tensor_type" or inferred.WhichOneof("value") != "tensor_type":
        return False
    left, right = declared.tensor_type.elem_type, inferred.tensor_type.elem_type
    return bool(left and right and left != right)


def _contradicts(declared: onnx.TypeProto, inferred: onnx.TypeProto) -> bool:
    """Whether element type, rank or a known dim differ. A declared -1 was cleared before."""
    if declared.WhichOneof("value") not in (None, "tensor_type"):
        return True
    if _element_differs(declared, inferred):
        return True
    if not declared.tensor_type.HasField("shape"):
        return False
    ours, theirs = declared.tensor_type.shape.dim, inferred.tensor_type.shape.dim
    if len(ours) != len(theirs):
        return True
    return any(
        bool(a.HasField("dim_value") and b.HasField("dim_value") and a.dim_value != b.dim_value)
        for a, b in zip(ours, theirs, strict=True)
    )
