"""A quantised operator costs the NPU what the same operator of a float model does: scales are no operands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from h4hc.api import CompileOptions, compile_model

SHAPE = (1, 16, 24, 24)
CASES: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "Add": (("x", "y"), {}),
    "Mul": (("x", "y"), {}),
    "Mul of one": (("x", "x"), {}),
    "Add of a constant": (("x", "k"), {}),
    "Concat": (("x", "y"), {"axis": 1}),
    "Concat of a constant": (("x", "k"), {"axis": 1}),
}


def _model(case: str, quantised: bool) -> bytes:
    operands, attributes = CASES[case]
    kernel = np.ones((1, 16, 24, 24) if "Concat" in case else (1, 16, 1, 1), np.float32)
    weights = [
        numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
        numpy_helper.from_array((kernel * 20).astype(np.int8) if quantised else kernel, "k"),
    ]
    kind = TensorProto.INT8 if quantised else TensorProto.FLOAT
    out = (1, 32, 24, 24) if "Concat" in case else SHAPE
    names = list(operands)
    nodes = []
    if quantised:
        names = [f"{name}{i}_float" for i, name in enumerate(operands)]
        nodes = [
            helper.make_node("DequantizeLinear", [n, "scale", "zero"], [f])
            for n, f in zip(operands, names, strict=True)
        ]
    nodes.append(helper.make_node(case.partition(" ")[0], names, ["sum" if quantised else "z"], "work", **attributes))
    if quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["z"]))
    value = helper.make_tensor_value_info
    inputs = [value(n, kind, SHAPE) for n in dict.fromkeys(operands) if n != "k"]
    graph = helper.make_graph(nodes, "net", inputs, [value("z", kind, out)], weights)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return bytes(model.SerializeToString())


def _cycles(case: str, quantised: bool, npu_cost: str) -> int | None:
    options = CompileOptions(target="npu", npu_cost=npu_cost)
    done = compile_model(_model(case, quantised), options, stop_after="costs")
    assert done.workload is not None
    assert done.table is not None
    (op,) = (op for op in done.workload.ops if op.id == "work")
    (cost,) = (cost for cost in done.table.row[op.id].costs if cost.mode.device == "npu")
    return cost.cycles


@pytest.mark.parametrize("source", ["model", "vela"])
@pytest.mark.parametrize("case", CASES)
def test_scales_and_zero_points_are_no_operands(case: str, source: str) -> None:
    assert _cycles(case, True, source) == _cycles(case, False, source)
