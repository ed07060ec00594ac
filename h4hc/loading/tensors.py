"""Checks every tensor stored in the file: type, dims, and as much data as the dims say, to the byte."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings
from h4hc.loading.scopes import Scope
from h4hc.units import format_bytes

if TYPE_CHECKING:
    import onnx

    from h4hc.loading.external import ExternalFiles

# TensorProto.DataType (onnx.proto, IR 14): number -> (name, bits an element, field of typed data).
# Types below 8 bits are packed, element 0 in the low bits; the last byte is filled up.
STRING = 8
DTYPES: dict[int, tuple[str, int, str]] = {
    1: ("FLOAT", 32, "float_data"),
    2: ("UINT8", 8, "int32_data"),
    3: ("INT8", 8, "int32_data"),
    4: ("UINT16", 16, "int32_data"),
    5: ("INT16", 16, "int32_data"),
    6: ("INT32", 32, "int32_data"),
    7: ("INT64", 64, "int64_data"),
    STRING: ("STRING", 0, "string_data"),
    9: ("BOOL", 8, "int32_data"),
    10: ("FLOAT16", 16, "int32_data"),
    11: ("DOUBLE", 64, "double_data"),
    12: ("UINT32", 32, "uint64_data"),
    13: ("UINT64", 64, "uint64_data"),
    14: ("COMPLEX64", 64, "float_data"),
    15: ("COMPLEX128", 128, "double_data"),
    16: ("BFLOAT16", 16, "int32_data"),
    17: ("FLOAT8E4M3FN", 8, "int32_data"),
    18: ("FLOAT8E4M3FNUZ", 8, "int32_data"),
    19: ("FLOAT8E5M2", 8, "int32_data"),
    20: ("FLOAT8E5M2FNUZ", 8, "int32_data"),
    21: ("UINT4", 4, "int32_data"),
    22: ("INT4", 4, "int32_data"),
    23: ("FLOAT4E2M1", 4, "int32_data"),
    24: ("FLOAT8E8M0", 8, "int32_data"),
    25: ("UINT2", 2, "int32_data"),
    26: ("INT2", 2, "int32_data"),
}
_PROTOBUF_BYTES = 2**31 - 2**26  # protobuf's own limit, with room for the graph
_COMPLEX = (14, 15)  # two numbers an element
# Values an entry of int32_data or uint64_data may hold: packed and small floats are bit patterns of one unit.
_RANGES: dict[int, tuple[int, int]] = {
    3: (-128, 127),
    5: (-(2**15), 2**15 - 1),
    6: (-(2**31), 2**31 - 1),
    9: (0, 1),
    12: (0, 2**32 - 1),
    13: (0, 2**64 - 1),
    22: (-128, 255),  # writers differ in the sign of a packed byte
    26: (-128, 255),
}
_TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def data_bytes(data_type: int, dims: Sequence[int]) -> int:
    """Bytes of a tensor's data: ceil(prod(dims) * bits / 8); 16 an element for strings (a pointer and a length)."""
    bits = 128 if data_type == STRING else DTYPES[data_type][1]
    return -(-math.prod(dims) * bits // 8)


@dataclass
class TensorBudget:
    """What the tensors seen so far add up to, held against the limits."""

    limits: Limits
    findings: Findings
    count: int = 0
    total_bytes: int = 0

    def take(self, size: int, where: str) -> None:
        """Count one tensor of `size` bytes. Raises ModelFileError at once at a limit: going on is what it forbids."""
        self.count += 1
        self.total_bytes += size
        if self.count > self.limits.tensors:
            self.findings.add(
                "the model has too many tensors",
                (where,),
                f"more than limit tensors = {self.limits.tensors}",
                "raise it with --limit tensors=...",
            )
            self.findings.raise_if_any()
        if self.total_bytes > self.limits.initializer_bytes:
            self.findings.add(
                "the tensors stored in the model are too big",
                (where,),
                f"{format_bytes(self.total_bytes)} up to here, "
                f"limit initializer-bytes = {format_bytes(self.limits.initializer_bytes)}",
                "raise it with --limit initializer-bytes=...",
            )
            self.findings.raise_if_any()


def stored_tensors(scope: Scope) -> Iterator[tuple[str, onnx.TensorProto]]:
    """(name for messages, tensor): initialisers, tensors in attributes and both parts of sparse tensors."""
    if scope.graph is not None:
        for tensor in scope.graph.initializer:
            yield scope.place(tensor.name), tensor
        for sparse in scope.graph.sparse_initializer:
            yield scope.place(sparse.values.name), sparse.values
            yield scope.place(f"{sparse.values.name} (indices)"), sparse.indices
    attributes = [(i, a) for i, node in enumerate(scope.nodes) for a in node.attribute]
    defaults = list(scope.body.attribute_proto) if scope.body is not None else []
    for index, attribute in attributes:
        yield from _attribute_tensors(scope, f"{attribute.name} of {scope.node_name(index)}", attribute)
    for attribute in defaults:
        yield from _attribute_tensors(scope, scope.place(f"default of {attribute.name}"), attribute)


def _attribute_tensors(
    scope: Scope, where: str, attribute: onnx.AttributeProto
) -> Iterator[tuple[str, onnx.TensorProto]]:
    if attribute.HasField("t"):
        yield where, attribute.t
    for tensor in attribute.tensors:
        yield where, tensor
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for item in (*sparse, *attribute.sparse_tensors):
        yield where, item.values
        yield f"{where} (indices)", item.indices


def check_tensors(scopes: list[Scope], files: ExternalFiles, limits: Limits, findings: Findings) -> bool:
    """Check all stored tensors and read external data into them; whether any was external."""
    budget = TensorBudget(limits, findings)
    external = False
    for scope in scopes:
        for where, tensor in stored_tensors(scope):
            size = _check_dims(tensor, where, limits, findings)
            files.refuse_address_marker(tensor, where)
            if size is None:
                continue
            if tensor.data_location == 1:  # TensorProto.EXTERNAL
                external = True
                budget.take(size, where)
                files.embed(tensor, size, where)
                continue
            stored = _stored_bytes(tensor)
            budget.take(max(size, stored) if _check_data(tensor, size, where, findings) else stored, where)
        _check_attribute_bytes(scope, limits, findings)
    if external and budget.total_bytes >= _PROTOBUF_BYTES:
        findings.add(
            "the model does not fit into one file together with its external data",
            (),
            f"{format_bytes(budget.total_bytes)} of tensors; protobuf holds 2 GiB",
            "h4hc writes self-contained models: make the weights smaller, for example by int8 quantisation",
        )
    return external


def _check_dims(tensor: onnx.TensorProto, where: str, limits: Limits, findings: Findings) -> int | None:
    """Bytes that the dims ask for, or None (with a finding) when type or dims are wrong."""
    if tensor.data_type not in DTYPES:
        findings.add(
            "a tensor has an unknown element type",
            (where,),
            f"data_type = {tensor.data_type}",
            "export with element types that onnxruntime knows",
        )
        return None
    dims = list(tensor.dims)
    if len(dims) > limits.rank:
        findings.add(
            "a tensor has too many dims", (where,), f"rank {len(dims)}, limit rank = {limits.rank}", "--limit rank=..."
        )
        return None
    if any(d < 0 for d in dims):
        findings.add("a tensor has a negative dim", (where,), f"dims = {dims}", "export the model again")
        return None
    size = data_bytes(tensor.data_type, dims)
    if size >= 2**63:
        findings.add("a tensor is larger than 64 bits can count", (where,), f"dims = {dims}", "export the model again")
        return None
    return size


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    numbers = sum(len(getattr(tensor, f)) for f in _TYPED_FIELDS)
    return len(tensor.raw_data) + 8 * numbers + sum(len(text) for text in tensor.string_data)


def _check_data(tensor: onnx.TensorProto, size: int, where: str, findings: Findings) -> bool:
    """Whether the data inside the file has exactly the length that the dims ask for."""
    name, bits, field = DTYPES[tensor.data_type]
    dims, elements = list(tensor.dims), math.prod(tensor.dims)
    filled = [f for f in _TYPED_FIELDS if len(getattr(tensor, f))]
    if tensor.HasField("segment"):
        findings.add("a tensor is stored in segments", (where,), "onnxruntime does not read them", "export it whole")
        return False
    if tensor.HasField("raw_data") and (tensor.raw_data or not filled):
        if filled or tensor.data_type == STRING:
            what = f"raw_data and {', '.join(filled)}" if filled else "raw_data for strings"
            findings.add("a tensor's data is stored twice or in the wrong field", (where,), what, "keep one of them")
            return False
        found, wanted, unit = len(tensor.raw_data), size, "bytes of raw_data"
    else:
        if any(f != field for f in filled):
            findings.add(
                "a tensor's data is in the wrong field",
                (where,),
                f"{', '.join(filled)} for type {name}, which uses {field}",
                "export the model again",
            )
            return False
        found, unit = len(getattr(tensor, field)), f"values in {field}"
        per_byte = 8 // bits if 0 < bits < 8 else 1
        wanted = -(-elements // per_byte) * (2 if tensor.data_type in _COMPLEX else 1)
    if found != wanted:
        findings.add(
            "a tensor holds " + ("less" if found < wanted else "more") + " data than its dims say",
            (where,),
            f"{found} {unit}, {wanted} needed for {name}{dims}",
            "the file is damaged: export or copy it again",
        )
        return False
    return _check_range(tensor, field, where, findings)


def _check_range(tensor: onnx.TensorProto, field: str, where: str, findings: Findings) -> bool:
    values = getattr(tensor, field)
    if field not in ("int32_data", "uint64_data") or not values:
        return True
    low, high = _RANGES.get(tensor.data_type, (0, 2 ** max(8, DTYPES[tensor.data_type][1]) - 1))
    smallest, largest = min(values), max(values)
    if low <= smallest and largest <= high:
        return True
    findings.add(
        "a tensor holds a value outside its type",
        (where,),
        f"{smallest if smallest < low else largest} in {field}; {DTYPES[tensor.data_type][0]} takes {low} to {high}",
        "export the model again",
    )
    return False


def _check_attribute_bytes(scope: Scope, limits: Limits, findings: Findings) -> None:
    total = 0
    for index, node in enumerate(scope.nodes):
        for attribute in node.attribute:
            total += len(attribute.s) + 8 * (len(attribute.ints) + len(attribute.floats))
            total += sum(len(text) for text in attribute.strings)
        if total > limits.attribute_bytes:
            findings.add(
                "the node attributes are too big",
                (scope.node_name(index),),
                f"more than limit attribute-bytes = {format_bytes(limits.attribute_bytes)} in one graph",
                "raise it with --limit attribute-bytes=...",
            )
            return


def collect_constants(scopes: list[Scope]) -> None:
    """Fill `Scope.tensors`: initialisers and the results of Constant nodes that hold a tensor."""
    for scope in scopes:
        if scope.graph is not None:
            scope.tensors.update((t.name, t) for t in scope.graph.initializer)
        for node in scope.nodes:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
                for attribute in node.attribute:
                    tensor = _constant_value(attribute)
                    if tensor is not None:
                        scope.tensors[node.output[0]] = tensor


def _constant_value(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """The value of a Constant node as a tensor; None for strings, sparse values and references."""
    from onnx import TensorProto

    if attribute.ref_attr_name:
        return None
    if attribute.name == "value" and attribute.HasField("t"):
        return attribute.t
    if attribute.name == "value_int":
        return TensorProto(data_type=7, int64_data=[attribute.i])
    if attribute.name == "value_ints":
        return TensorProto(data_type=7, dims=[len(attribute.ints)], int64_data=attribute.ints)
    if attribute.name == "value_float":
        return TensorProto(data_type=1, float_data=[attribute.f])
    if attribute.name == "value_floats":
        return TensorProto(data_type=1, dims=[len(attribute.floats)], float_data=attribute.floats)
    return None
