"""The same net in the spellings of opsets 9 to 26 is the same workload."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from onnx import helper, version_converter

from h4hc.workload import Workload
from tests.lowering.building import graph_model, lowered, weights


def net() -> onnx.ModelProto:
    """Operators whose attributes became inputs, or whose defaults changed, since opset 9."""
    nodes = [
        helper.make_node("Pad", ["x"], ["p"], name="pad", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        helper.make_node("Conv", ["p", "w", "b"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "b", "g"], ["n"], name="norm"),
        helper.make_node("Clip", ["n"], ["r"], name="clip", min=0.0, max=6.0),
        helper.make_node("MaxPool", ["r"], ["m"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Slice", ["m"], ["s"], name="slice", axes=[1], starts=[0], ends=[4]),
        helper.make_node("Split", ["s"], ["s1", "s2"], name="split", axis=1, split=[2, 2]),
        helper.make_node("Concat", ["s2", "s1"], ["k"], name="concat", axis=1),
        helper.make_node("ReduceMean", ["k"], ["a"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["a"], ["u"], name="unsqueeze", axes=[1]),
        helper.make_node("Squeeze", ["u"], ["q"], name="squeeze", axes=[1]),
        helper.make_node("ReduceSum", ["q"], ["t"], name="sum", axes=[1], keepdims=1),
        helper.make_node("Sub", ["q", "t"], ["d"], name="sub"),
        helper.make_node("Gemm", ["d", "f", "h"], ["e"], name="fc"),
        helper.make_node("Softmax", ["e"], ["y"], name="softmax", axis=1),
    ]
    given = {
        "x": ("float", (1, 3, 10, 10)),
        "w": weights(8, 3, 3, 3),
        "b": weights(8),
        "g": weights(8),
        "f": weights(4, 10),
        "h": weights(10),
    }
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 10))
    return graph_model(nodes, given, [y], opset=9)


@functools.cache
def workload(opset: int) -> Workload:
    model = net() if opset == 9 else version_converter.convert_version(net(), opset)
    assert next(o.version for o in model.opset_import if o.domain == "") == opset
    return lowered(model, "auto-int8")


@pytest.mark.parametrize("opset", range(9, 27))
def test_every_opset_says_the_same(opset: int) -> None:
    here, oldest = workload(opset), workload(9)
    assert len(here.ops) == 15
    for new, old in zip(here.ops, oldest.ops, strict=True):
        # names of nodes and constants are the converter's
        assert (new.kind, new.params, new.macs, new.layout) == (old.kind, old.params, old.macs, old.layout)
        assert (new.weight_bytes, new.input_bytes, new.output_bytes) == (
            old.weight_bytes,
            old.input_bytes,
            old.output_bytes,
        )
    assert sum(op.macs for op in here.ops) == 8 * 10 * 10 * 27 + 40
    assert here.tensor["y"].size_bytes == np.zeros((1, 10), np.int8).nbytes
