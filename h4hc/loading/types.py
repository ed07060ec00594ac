"""Checks the types that the file declares for values, and takes out what onnx_ir cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.errors import UnsupportedOpError
from h4hc.limits import Limits
from h4hc.loading.clean import tensor_types
from h4hc.loading.findings import Findings
from h4hc.loading.scopes import Scope
from h4hc.loading.tensors import DTYPES

if TYPE_CHECKING:
    import onnx


def check_types(scopes: list[Scope], limits: Limits, findings: Findings) -> None:
    """Every input of the main graph has a type; element types are known; rank and dims are within limits.

    A dim of -1 is taken as free, any other negative dim of an input or output is an error.
    """
    for scope in scopes:
        if scope.graph is None:
            continue
        for value in scope.graph.input:
            if scope.outer is None and value.type.WhichOneof("value") is None:
                findings.add("a graph input has no type", (value.name,), "onnxruntime needs one", "declare it")
        for value in (*scope.graph.input, *scope.graph.output):
            _check_value(scope.place(value.name), value.type, limits, findings)
        for value in scope.graph.value_info:
            _check_value(scope.place(value.name), value.type, limits, findings)


def _check_value(where: str, type_proto: onnx.TypeProto, limits: Limits, findings: Findings) -> None:
    for tensor_type in tensor_types(type_proto):
        if tensor_type.elem_type and tensor_type.elem_type not in DTYPES:
            findings.add("a value has an unknown element type", (where,), f"elem_type = {tensor_type.elem_type}")
        dims = tensor_type.shape.dim
        if len(dims) > limits.rank:
            findings.add(
                "a value has too many dims",
                (where,),
                f"rank {len(dims)}, limit rank = {limits.rank}",
                "raise it with --limit rank=...",
            )
        for dim in dims:
            if dim.dim_value < -1:
                findings.add("a value has a negative dim", (where,), f"dim {dim.dim_value}", "a free dim is a name")
            if len(dim.dim_param) > limits.name_length:
                findings.add(
                    "a dim name is too long",
                    (where,),
                    f"{len(dim.dim_param)} characters, limit name-length = {limits.name_length}",
                )


def _has(type_proto: onnx.TypeProto, kinds: tuple[str, ...]) -> bool:
    at = type_proto
    while True:
        kind = at.WhichOneof("value")
        if kind in kinds:
            return True
        if kind == "sequence_type":
            at = at.sequence_type.elem_type
        elif kind == "optional_type":
            at = at.optional_type.elem_type
        else:
            return False


def drop_map_types(model: onnx.ModelProto, scopes: list[Scope]) -> None:
    """Leave map and opaque types out of outputs and notes: onnx_ir has none, and onnxruntime infers them again.

    Raises UnsupportedOpError when an input is a map (DictVectorizer and the like): such a type cannot be inferred.
    """
    kinds = ("map_type", "opaque_type")
    maps = tuple(v.name for v in model.graph.input if _has(v.type, kinds))
    if maps:
        raise UnsupportedOpError(
            "the model takes a map or an opaque value as input",
            where=maps,
            why="h4hc works on tensors, sequences and optionals",
            hint="cut the part that reads the map off and give the tensor behind it",
        )
    for scope in scopes:
        if scope.graph is None:
            continue
        for value in (*scope.graph.input, *scope.graph.output, *scope.graph.value_info):
            if _has(value.type, kinds):
                value.ClearField("type")
