"""Puts a checked model into the form that the compiler works on, without a change of its arithmetic.

Unknown dims written as -1 or '?' become unknown dims; sparse tensors become dense; training parts and the type notes
inside bodies go. The user's file itself is kept beside it as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from h4hc.diagnostics import Diagnostic
from h4hc.limits import Limits
from h4hc.loading.findings import Findings
from h4hc.loading.scopes import Scope
from h4hc.loading.tensors import STRING, data_bytes
from h4hc.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx

_INT64 = 7
# Exporters write these for "not known"; two of them in one shape are not the same dim.
UNKNOWN_DIMS = frozenset({"", "*", "-1", "?", "None", "none", "unknown"})


def clean_model(
    model: onnx.ModelProto, scopes: list[Scope], limits: Limits, findings: Findings
) -> tuple[Diagnostic, ...]:
    """Rewrite `model` in place; what the user should know comes back."""
    notes: list[Diagnostic] = []
    if model.training_info:
        model.ClearField("training_info")
        notes.append(Diagnostic("H4W301", "note", "the training part of the model is left out"))
    for scope in scopes:
        _densify(scope, limits, findings)
        if scope.graph is not None:
            _free_dims(scope.graph)
            if scope.outer is not None:
                scope.graph.ClearField("value_info")  # inferred again, call by call
        elif scope.body is not None:
            scope.body.ClearField("value_info")
    return tuple(notes)


def _free_dims(graph: onnx.GraphProto) -> None:
    for group in (graph.input, graph.output, graph.value_info):
        for value in group:
            for tensor_type in tensor_types(value.type):
                for dim in tensor_type.shape.dim:
                    if dim.WhichOneof("value") == "dim_value":
                        if dim.dim_value < 0:
                            dim.ClearField("dim_value")
                    elif dim.dim_param in UNKNOWN_DIMS:
                        dim.ClearField("dim_param")


def tensor_types(type_proto: onnx.TypeProto) -> Iterator[onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor]:
    """The tensor types inside a type; sequences, optionals and maps may be nested."""
    at = type_proto
    while True:
        kind = at.WhichOneof("value")
        if kind == "tensor_type":
            yield at.tensor_type
            return
        if kind == "sparse_tensor_type":
            yield at.sparse_tensor_type
            return
        if kind == "sequence_type":
            at = at.sequence_type.elem_type
        elif kind == "optional_type":
            at = at.optional_type.elem_type
        elif kind == "map_type":
            at = at.map_type.value_type
        else:
            return


class _Wrong(Exception):
    """Why a sparse tensor is refused; private to this file."""


def _densify(scope: Scope, limits: Limits, findings: Findings) -> None:
    """Sparse initialisers and sparse values of Constant nodes as dense tensors, as onnxruntime does on CPU."""

    def dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto | None:
        try:
            return _dense(sparse, limits)
        except _Wrong as error:
            findings.add("a sparse tensor is malformed", (scope.place(name),), str(error), "store it dense")
            return None

    for index, node in enumerate(scope.nodes):
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                tensor = dense(attribute.sparse_tensor, node.name or f"{node.op_type}_{index}")
                if tensor is not None:
                    attribute.Clear()
                    attribute.name, attribute.type = "value", 4  # AttributeProto.TENSOR
                    attribute.t.CopyFrom(tensor)
    if scope.graph is None or not scope.graph.sparse_initializer:
        return
    for sparse in scope.graph.sparse_initializer:
        tensor = dense(sparse, sparse.values.name)
        if tensor is not None:
            scope.graph.initializer.append(tensor)
    scope.graph.ClearField("sparse_initializer")


def _dense(sparse: onnx.SparseTensorProto, limits: Limits) -> onnx.TensorProto:
    """Dense form of a sparse tensor: values at linear indices [n], or at coordinates [n, rank]."""
    import numpy as np
    from onnx import numpy_helper

    dims, values = list(sparse.dims), sparse.values
    if any(d < 0 for d in dims) or len(dims) > limits.rank or not dims:
        raise _Wrong(f"dims = {dims[:16]}, limit rank = {limits.rank}")
    if values.data_type == STRING or len(values.dims) != 1 or sparse.indices.data_type != _INT64:
        raise _Wrong("values must be numbers of rank 1, indices INT64")
    size = data_bytes(values.data_type, dims)
    if size > limits.initializer_bytes:
        limit = format_bytes(limits.initializer_bytes)
        raise _Wrong(f"{format_bytes(size)} when dense, limit initializer-bytes = {limit}")
    data = numpy_helper.to_array(values)
    dense = np.zeros(math.prod(dims), data.dtype)
    dense[_linear(numpy_helper.to_array(sparse.indices), dims, values.dims[0])] = data
    return numpy_helper.from_array(dense.reshape(dims), values.name)


def _linear(indices: np.ndarray[Any, Any], dims: list[int], count: int) -> np.ndarray[Any, Any]:
    """Row-major positions of the `count` values, checked against the dims."""
    import numpy as np

    if list(indices.shape) == [count, len(dims)]:
        if bool(((indices < 0) | (indices >= np.array(dims))).any()):
            raise _Wrong(f"an index is outside the dims {dims}")
        return np.ravel_multi_index(tuple(indices.T), tuple(dims)) if count else np.zeros(0, np.int64)
    if list(indices.shape) != [count]:
        raise _Wrong(f"{count} values, indices of shape {list(indices.shape)}")
    if count and not 0 <= int(indices.min()) <= int(indices.max()) < math.prod(dims):
        raise _Wrong(f"an index is outside the dims {dims}")
    return indices
