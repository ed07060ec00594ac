"""Pools: the window that lowering writes down, held against what onnxruntime computes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.errors import GraphError
from h4hc.workload import OpKind, PoolParams
from tests.lowering.building import Array, node_model, only_op, session_outputs


def pooled(p: PoolParams, x: Array) -> Array:
    """The pool by its parameters alone, window by window."""
    height, width = p.out_spatial
    y = np.zeros((p.batch, p.channels, height, width), np.float64)
    for i, j in itertools.product(range(height), range(width)):
        starts = (i * p.stride[0] - p.pads[0], j * p.stride[1] - p.pads[1])
        cut = [
            slice(max(0, start), min(size, start + k))
            for start, size, k in zip(starts, p.in_spatial, p.kernel, strict=True)
        ]
        window = x[:, :, cut[0], cut[1]]
        if p.function == "max":
            y[:, :, i, j] = window.max((2, 3))
        else:
            count = p.kernel[0] * p.kernel[1] if p.count_include_pad else window.shape[2] * window.shape[3]
            y[:, :, i, j] = window.sum((2, 3)) / count
    return y


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    size = [draw(st.integers(k, k + 6)) for k in kernel]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 4)) for _ in range(2)],
        "ceil_mode": draw(st.integers(0, 1)),
    }
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    else:
        attributes |= {"auto_pad": auto, "ceil_mode": 0}
        strides = zip(attributes["strides"], kernel, strict=True)  # onnxruntime refuses SAME pads below zero
        attributes["strides"] = [min(s, k) for s, k in strides]
    op_type = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    if op_type == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    return {"op_type": op_type, "x": (1, 2, *size), "attributes": attributes}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pools())
def test_pads_give_the_number_of_windows_and_the_numbers(case: dict[str, Any]) -> None:
    """out = floor((in + begin + end - kernel) / stride) + 1, and the parameters alone compute what onnxruntime does."""
    x = np.random.default_rng(0).normal(size=case["x"]).astype(np.float32)
    model = node_model(case["op_type"], {"x": ("float", case["x"])}, opset=22, **case["attributes"])
    op = only_op(model)
    if op.kind is OpKind.GENERIC:
        assert case["attributes"]["ceil_mode"]
        assert case["attributes"]["count_include_pad"]
        return
    p = op.params
    assert isinstance(p, PoolParams)
    for axis in range(2):
        room = p.in_spatial[axis] + p.pads[axis] + p.pads[2 + axis] - p.kernel[axis]
        assert room // p.stride[axis] + 1 == p.out_spatial[axis]
    assert not p.count_include_pad or any(p.pads)
    (y,) = session_outputs(model, {"x": x})
    assert y.shape[2:] == p.out_spatial
    np.testing.assert_allclose(pooled(p, x), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "expected"),
    [
        (6, 3, 2, [0, 0, 0, 0], (0, 0, 1, 1)),  # the last window reaches one row further
        (7, 3, 2, [0, 0, 0, 0], (0, 0, 0, 0)),
        (5, 2, 3, [0, 0, 1, 1], (0, 0, 1, 1)),  # it would start behind the image: ONNX drops it
    ],
)
def test_ceil_mode_is_written_out_as_padding(
    size: int, kernel: int, stride: int, pads: list[int], expected: tuple[int, ...]
) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": 1}
    op = only_op(node_model("MaxPool", {"x": ("float", (1, 4, size, size))}, opset=22, **attributes))
    assert isinstance(op.params, PoolParams)
    assert op.params.pads == expected


@pytest.mark.parametrize(
    ("pads", "include", "expected"), [([1, 1, 1, 1], 1, True), ([1, 1, 1, 1], 0, False), ([0, 0, 0, 0], 1, False)]
)
def test_padding_counts_only_where_there_is_some(pads: list[int], include: int, expected: bool) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": pads, "count_include_pad": include}
    op = only_op(node_model("AveragePool", {"x": ("float", (1, 4, 8, 8))}, **attributes))
    assert isinstance(op.params, PoolParams)
    assert op.params.count_include_pad is expected


def test_named_padding_counted_and_appended_padding_not_is_host_work() -> None:
    attributes: dict[str, Any] = {
        "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1, "count_include_pad": 1,
    }  # fmt: skip
    assert only_op(node_model("AveragePool", {"x": ("float", (1, 4, 7, 7))}, **attributes)).kind is OpKind.GENERIC


def test_a_result_that_no_padding_gives_is_refused() -> None:
    import onnx_ir as ir
    from onnx import TensorProto, helper

    from h4hc.annotations import stamp_origins
    from h4hc.lower import lower

    model = node_model("MaxPool", {"x": ("float", (1, 4, 8, 8))}, kernel_shape=[2, 2], strides=[2, 2])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 3, 4)))
    broken = ir.from_proto(model)
    stamp_origins(broken)
    with pytest.raises(GraphError, match="cannot stop after 3 places"):
        lower(broken, "stored")
