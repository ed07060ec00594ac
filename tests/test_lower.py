"""lower as a whole: precision, types, identity of its result."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from h4hc.lower import Precision, lower
from h4hc.lowering.dtypes import dtype_name, size_bytes
from h4hc.workload import Layout, OpKind, Workload
from tests.lowering.building import graph_model, lowered, node_model, to_ir, weights


def float_model(kind: str = "float") -> Workload:
    dtype = {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"], name="fc"),
        helper.make_node("ArgMax", ["a"], ["i"], name="argmax", axis=1),
        helper.make_node("Add", ["i", "k"], ["j"], name="shift"),
    ]
    given = {
        "x": (kind, (2, 8)),
        "w": weights(8, 4, dtype=dtype),
        "b": weights(4, dtype=dtype),
        "k": np.array([5], np.int64),
    }
    return lowered(graph_model(nodes, given, ["a", "j"]), "auto-int8")


@pytest.mark.parametrize("kind", ["float", "float16", "double"])
def test_a_float_model_is_planned_as_int8(kind: str) -> None:
    workload = float_model(kind)
    fc, argmax, shift = workload.ops
    assert workload.precision == "planned int8"
    assert (fc.dtype, fc.input_bytes, fc.weight_bytes, fc.output_bytes) == ("int8", 16, 32 + 16, 8)
    assert (argmax.dtype, argmax.output_bytes) == ("int8", 16)
    assert (shift.dtype, shift.input_bytes, shift.weight_bytes) == ("int64", 16, 8)
    stored = {"float": "float32", "float16": "float16", "double": "float64"}[kind]
    assert (workload.tensor["x"].dtype, workload.tensor["x"].stored_dtype) == ("int8", stored)
    assert (workload.tensor["b"].dtype, workload.tensor["j"].dtype) == ("int32", "int64")


def test_the_plan_says_that_the_model_is_not_quantised_yet() -> None:
    (note,) = float_model().diagnostics
    assert (note.code, note.severity) == ("H4W110", "warning")
    assert note.what.startswith("float model planned as int8")
    assert "quantise before deployment" in note.hint


def test_stored_precision_keeps_float() -> None:
    workload = lowered(node_model("Relu", {"x": ("float", (2, 8))}), "stored")
    assert (workload.precision, workload.ops[0].dtype, workload.ops[0].input_bytes) == ("as stored", "float32", 64)
    assert workload.diagnostics == ()


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("QuantizeLinear", {"x": ("float", (4,)), "s": weights(), "z": weights(dtype=np.int8)}),
        ("DynamicQuantizeLinear", {"x": ("float", (4,))}),
        ("MatMulInteger", {"a": ("uint8", (2, 4)), "b": weights(4, 3, dtype=np.uint8)}),
    ],
)
def test_one_quantising_operator_makes_a_model_count_as_stored(op_type: str, inputs: dict[str, object]) -> None:
    outputs = ("y", "ys", "yz") if op_type.startswith("Dynamic") else ("y",)
    workload = lowered(node_model(op_type, inputs, outputs), "auto-int8")
    assert workload.precision == "as stored"
    assert workload.diagnostics == ()


def test_a_model_without_floats_is_as_stored() -> None:
    assert (
        lowered(node_model("Add", {"a": ("int32", (4,)), "b": ("int32", (4,))}), "auto-int8").precision == "as stored"
    )


def test_inputs_and_outputs_are_row_major_and_keep_their_names() -> None:
    model = node_model("Conv", {"image:0": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3)})
    workload = lowered(model)
    assert (workload.inputs, workload.outputs) == (("image:0",), ("y",))
    assert workload.tensor["image:0"].layout is Layout.ROW_MAJOR
    assert workload.tensor["y"].layout is Layout.CHANNELS_LAST  # as its producer leaves it; the border brings it back


def test_operators_of_unknown_domains_are_host_operators() -> None:
    model = node_model("Warp", {"x": ("float", (1, 3, 8, 8))}, domain="acme.vision")
    model.opset_import.append(helper.make_opsetid("acme.vision", 1))
    (op,) = lowered(model).ops
    assert (op.kind, op.op_types, op.output_bytes) == (OpKind.GENERIC, ("Warp",), 768)


def test_the_model_is_only_read() -> None:
    import onnx_ir as ir

    model = to_ir(node_model("Conv", {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3)}))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    lower(model, "auto-int8")
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("precision", ["auto-int8", "stored"])
def test_json_round_trip(precision: Precision) -> None:
    workload = lowered(node_model("Conv", {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3)}), precision)
    assert Workload.from_json(workload.to_json()) == workload


def test_type_names_and_sizes_agree_with_numpy() -> None:
    import onnx_ir as ir

    assert dtype_name(None) == "unknown"
    for dtype in ir.DataType:
        name = dtype_name(dtype)
        if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
            continue
        assert size_bytes(8, name) == dtype.bitwidth
        if dtype.bitwidth >= 8 and not name.startswith(("float8", "bfloat")):
            assert np.dtype(name).itemsize == size_bytes(1, name)


SCRIPT = """
import sys
from tests.lowering.building import to_ir
from h4hc.lower import lower
from h4hc.zoo.build import build_model
sys.stdout.buffer.write(lower(to_ir(build_model("resnet8", int8=True)), "auto-int8").to_json())
"""


def test_the_same_bytes_for_every_hash_seed() -> None:
    def run(seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True).stdout

    first = run("1")
    assert first == run("4242")
    assert Workload.from_json(first).ops
