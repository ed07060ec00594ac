"""Refuses tensors that a few bytes of file blow up: operators whose output size stands in the file as a constant.

A 76-byte ConstantOfShape can ask for 2 TiB, and both onnx and onnxruntime take it. The bounds here are lower bounds,
so no legal model is refused; what only shape inference can see is counted after it (`inferred.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import Scope
from h4hc.loading.tensors import DTYPES
from h4hc.units import format_bytes

if TYPE_CHECKING:
    import onnx

_FLOAT = 1
_INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)
_NUMBERS = (1, 10, 11, 16, *_INTEGERS)


class _Wrong(Exception):
    """Constant operands that are no legal size; private to this file."""


def check_static_sizes(scopes: list[Scope], limits: Limits, findings: Findings) -> None:
    """Hold each output whose size follows from constants of the file against `limits.static_bytes`."""
    for scope in scopes:
        for index, node in enumerate(scope.nodes):
            rule = _RULES.get(node.op_type)
            if rule is None or node.domain not in ("", "ai.onnx"):
                continue
            output = node.output[0] if node.output else ""
            try:
                size = rule(scope, node)
            except _Wrong as error:
                findings.add(
                    f"{node.op_type} asks for an impossible size", (scope.node_name(index),), str(error), "export again"
                )
                continue
            if size > limits.static_bytes:
                findings.add(
                    f"the tensor {shown(output)!r} would be too big",
                    (scope.node_name(index), output),
                    f"{node.op_type} makes {format_bytes(size)} or more, "
                    f"limit static-bytes = {format_bytes(limits.static_bytes)}",
                    "raise it with --limit static-bytes=...",
                )


def _numbers(scope: Scope, node: onnx.NodeProto, at: int, limit: int = 64) -> list[float] | None:
    """Values of the constant at input `at`, None when it is no constant number or longer than `limit`."""
    name = node.input[at] if at < len(node.input) else ""
    tensor = scope.constant(name) if name else None
    if tensor is None or tensor.data_type not in _NUMBERS or math.prod(tensor.dims) > limit:
        return None
    from onnx import numpy_helper

    kind = int if tensor.data_type in _INTEGERS else float
    return [kind(v) for v in numpy_helper.to_array(tensor).reshape(-1)]


def _shape(scope: Scope, node: onnx.NodeProto, at: int) -> list[int] | None:
    values = _numbers(scope, node, at)
    if values is None or not all(isinstance(v, int) for v in values):
        return None  # a shape of another type is the checker's business
    shape = [int(v) for v in values]
    if any(d < 0 for d in shape):
        raise _Wrong(f"the shape {shown(node.input[at])!r} = {shape} has a negative dim")
    return shape


def _item_bytes(data_type: int) -> int:
    return max(1, DTYPES[data_type][1] // 8) if data_type in DTYPES else 1


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((a for a in node.attribute if a.name == name), None)


def _constant_of_shape(scope: Scope, node: onnx.NodeProto) -> int:
    shape = _shape(scope, node, 0)
    value = _attribute(node, "value")
    return 0 if shape is None else int(math.prod(shape)) * _item_bytes(value.t.data_type if value else _FLOAT)


def _expand(scope: Scope, node: onnx.NodeProto) -> int:
    shape = _shape(scope, node, 1)
    return 0 if shape is None else math.prod(shape)  # at least one byte an element


def _tile(scope: Scope, node: onnx.NodeProto) -> int:
    repeats = _shape(scope, node, 1)
    tensor = scope.constant(node.input[0]) if node.input else None
    if repeats is None or tensor is None:
        return 0
    return math.prod(repeats) * int(math.prod(tensor.dims)) * _item_bytes(tensor.data_type)


def _range(scope: Scope, node: onnx.NodeProto) -> int:
    operands = [_numbers(scope, node, at, limit=1) for at in range(3)]
    step = operands[2]
    if step and (step[0] == 0 or not math.isfinite(step[0])):
        raise _Wrong(f"the step is {step[0]}")
    if not all(operands):
        return 0
    start, stop, delta = (values[0] for values in operands if values)
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise _Wrong(f"the range goes from {start} to {stop}")
    exact = isinstance(start, int) and isinstance(stop, int) and isinstance(delta, int)
    if exact:
        return max(0, -int((start - stop) // delta))
    return math.ceil(max(0.0, min((stop - start) / delta, 2.0**63)))


def _random(scope: Scope, node: onnx.NodeProto) -> int:
    shape, kind = _attribute(node, "shape"), _attribute(node, "dtype")
    if shape is None:
        return 0
    if any(d < 0 for d in shape.ints):
        raise _Wrong(f"the shape {list(shape.ints)[:16]} has a negative dim")
    return int(math.prod(shape.ints)) * _item_bytes(kind.i if kind else _FLOAT)


def _sizes(at: int) -> Callable[[Scope, onnx.NodeProto], int]:
    def rule(scope: Scope, node: onnx.NodeProto) -> int:
        shape = _shape(scope, node, at)
        return 0 if shape is None else math.prod(shape)

    return rule


def _mel(scope: Scope, node: onnx.NodeProto) -> int:
    bins, length = _numbers(scope, node, 0, limit=1), _numbers(scope, node, 1, limit=1)
    if not bins or not length or not isinstance(bins[0], int) or not isinstance(length[0], int):
        return 0
    return bins[0] * (length[0] // 2 + 1)


_RULES: dict[str, Callable[[Scope, onnx.NodeProto], int]] = {
    "BlackmanWindow": _sizes(0),
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "HammingWindow": _sizes(0),
    "HannWindow": _sizes(0),
    "MelWeightMatrix": _mel,
    "RandomNormal": _random,
    "RandomUniform": _random,
    "Range": _range,
    "Tile": _tile,
}
