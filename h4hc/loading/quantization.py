"""Checks the constant scales and zero points of quantised operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import Scope

if TYPE_CHECKING:
    import numpy as np
    import onnx

_SMALLEST_NORMAL = 2.0**-126  # of float32, in which every runtime divides by the scale
_FLOAT8E8M0 = 24  # its 2^-127 is exact and meant
_SCALE_TYPES = (1, 10, 11, 16, _FLOAT8E8M0)  # float32, float16, double, bfloat16, float8e8m0
_INT32 = 6

# Operator -> (index of the scale, index of its zero point) among the inputs; ONNX and onnxruntime's com.microsoft.
_QDQ = ((1, 2),)
_ONE_IN_ONE_OUT = ((1, 2), (3, 4))
_TWO_IN = ((1, 2), (4, 5), (6, 7))
QUANTIZED_INPUTS: dict[str, tuple[tuple[int, int], ...]] = {
    "QuantizeLinear": _QDQ,
    "DequantizeLinear": _QDQ,
    "QLinearConv": ((1, 2), (4, 5), (6, 7)),
    "QLinearMatMul": ((1, 2), (4, 5), (6, 7)),
    "QLinearAdd": _TWO_IN,
    "QLinearMul": _TWO_IN,
    "QGemm": ((1, 2), (4, 5), (7, 8)),
    "QLinearAveragePool": _ONE_IN_ONE_OUT,
    "QLinearGlobalAveragePool": _ONE_IN_ONE_OUT,
    "QLinearLeakyRelu": _ONE_IN_ONE_OUT,
    "QLinearReduceMean": _ONE_IN_ONE_OUT,
    "QLinearSigmoid": _ONE_IN_ONE_OUT,
    "QLinearSoftmax": _ONE_IN_ONE_OUT,
}


def _pairs(node: onnx.NodeProto) -> tuple[tuple[int, int], ...]:
    if node.op_type == "QLinearConcat":  # Y_scale, Y_zero_point, then tensor, scale, zero point of each input
        return ((0, 1), *((i, i + 1) for i in range(3, len(node.input) - 1, 3)))
    return QUANTIZED_INPUTS.get(node.op_type, ())


def check_quantization(scopes: list[Scope], findings: Findings) -> None:
    """Scales that stand in the file must be finite, above 0 and normal; zero points must fit them and their type."""
    for scope in scopes:
        for index, node in enumerate(scope.nodes):
            for scale_at, zero_at in _pairs(node):
                _check_pair(scope, index, scale_at, zero_at, findings)


def _input(scope: Scope, node: onnx.NodeProto, at: int) -> tuple[str, onnx.TensorProto | None]:
    name = node.input[at] if 0 <= at < len(node.input) else ""
    return name, scope.constant(name) if name else None


def _check_pair(scope: Scope, index: int, scale_at: int, zero_at: int, findings: Findings) -> None:
    node = scope.nodes[index]
    where = scope.node_name(index)
    scale_name, scale = _input(scope, node, scale_at)
    zero_name, zero = _input(scope, node, zero_at)
    if scale is not None:
        _check_scale(scale, scale_name, where, findings)
    if scale is not None and zero is not None and math.prod(scale.dims) != math.prod(zero.dims):
        findings.add(
            f"the scale {shown(scale_name)!r} and its zero point {shown(zero_name)!r} differ in size",
            (where,),
            f"dims {list(scale.dims)} and {list(zero.dims)}",
            "both need one value a tensor, a channel or a block",
        )
    if zero is not None and zero.data_type == _INT32 and _values(zero).any():
        findings.add(
            f"the zero point {shown(zero_name)!r} is not 0",
            (where,),
            "ONNX: the zero point of an int32 tensor is 0",
            "quantise the model again",
        )


def _values(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def _check_scale(scale: onnx.TensorProto, name: str, where: str, findings: Findings) -> None:
    import numpy as np

    if scale.data_type not in _SCALE_TYPES:
        return  # the type rule of the operator says so better
    values = _values(scale).astype(np.float64).reshape(-1)
    floor = 0.0 if scale.data_type == _FLOAT8E8M0 else _SMALLEST_NORMAL
    bad = ~(np.isfinite(values) & (values > 0.0) & (values >= floor))
    if not bad.any():
        return
    at = int(bad.argmax())
    value = float(values[at])
    kind = (
        "not finite"
        if not math.isfinite(value)
        else "not above 0"
        if value <= 0
        else "subnormal, so not exact in float32"
    )
    findings.add(
        f"the scale {shown(name)!r} has a value that is {kind}",
        (where,),
        f"{value} at index {at}; {int(bad.sum())} of {values.size} values are bad",
        "quantise the model again; a scale must be finite, above 0 and at least 2^-126",
    )
