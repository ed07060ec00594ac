"""Every single-node model of the ONNX backend suite that onnxruntime runs lowers, with the bytes of the real run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from h4hc.errors import H4hcError
from h4hc.lowering.dtypes import size_bytes
from h4hc.workload import OpKind, Workload
from tests.lowering.building import Array, lowered

BELOW_A_BYTE = ("int4", "uint4", "int2", "uint2", "float4e2m1")
ORT_IR_VERSION = 10


def as_array(data: Any) -> Any:
    if isinstance(data, onnx.TensorProto):
        return onnx.numpy_helper.to_array(data)
    return np.asarray(data) if isinstance(data, np.generic) else data


def run(model: onnx.ModelProto, inputs: list[Any]) -> dict[str, Any] | None:
    """Named inputs and outputs of a run; None where onnxruntime refuses the model or cannot take such data."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, ORT_IR_VERSION)
    try:
        session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {i.name: as_array(x) for i, x in zip(session.get_inputs(), inputs, strict=False)}
        results = session.run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions have no common base but Exception
        if type(error).__module__.startswith("onnxruntime") or isinstance(error, RuntimeError | TypeError | ValueError):
            return None
        raise
    return {**feeds, **{o.name: r for o, r in zip(session.get_outputs(), results, strict=True)}}


def fix_inputs(model: onnx.ModelProto, values: dict[str, Any]) -> onnx.ModelProto:
    """The shapes of this run in place of free dimensions, as `--input-shape` does."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        array = values.get(value.name)
        if isinstance(array, np.ndarray) and value.type.HasField("tensor_type"):
            shape = value.type.tensor_type.shape
            for dim, size in zip(shape.dim, array.shape, strict=True):
                dim.dim_value = size
    return fixed


def sizes(workload: Workload, values: dict[str, Any]) -> Iterator[tuple[str, int, int, bool]]:
    """(tensor, bytes of the plan, bytes of the run, exact)."""
    for name, array in values.items():
        if isinstance(array, np.ndarray) and array.dtype.kind not in "OUS":
            tensor = workload.tensor[name]
            packed = tensor.dtype in BELOW_A_BYTE
            real = size_bytes(array.size, tensor.dtype) if packed else _nbytes(array)
            yield name, tensor.size_bytes, real, tensor.exact


def _nbytes(array: Array) -> int:
    return array.nbytes


@dataclass(frozen=True)
class Run:
    """A case of the suite that onnxruntime runs: its model with the input shapes of the run, and all values."""

    name: str
    model: onnx.ModelProto
    values: dict[str, Any]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        cases = list(collect_testcases(None))
    found = []
    for case in cases:
        assert case.model is not None
        assert case.data_sets is not None
        values = run(case.model, list(case.data_sets[0][0]))
        if values is not None:
            found.append(Run(case.name, fix_inputs(case.model, values), values))
    return found


@pytest.mark.slow
def test_every_node_that_onnxruntime_runs_lowers(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    faults: list[str] = []
    kinds: Counter[OpKind] = Counter()
    lower_count = 0
    for case in runs:
        try:
            workload = lowered(case.model)
        except H4hcError as error:
            faults.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        lower_count += 1
        kinds.update(op.kind for op in workload.ops)
        faults += [f"{case.name}: {what}" for what in _faults(workload, case)]
    with capsys.disabled():
        shown = ", ".join(f"{kind.value} {count}" for kind, count in sorted(kinds.items()))
        print(f"\n{lower_count} of {len(runs)} single-node models that run on onnxruntime lower: {shown}")
    assert faults == []
    assert len(runs) > 1300  # of 1884 in onnx 1.23; the rest is newer than onnxruntime


def _faults(workload: Workload, case: Run) -> Iterator[str]:
    covered = {origin for op in workload.ops for origin in op.origin}
    if len(covered) != len(case.model.graph.node):
        yield f"operators of {len(covered)} of {len(case.model.graph.node)} nodes"
    for name, planned, real, exact in sizes(workload, case.values):
        if planned != real if exact else planned < real:
            yield f"{name} has {real} bytes, the workload says {planned}"
    if Workload.from_json(workload.to_json()) != workload:
        yield "JSON round trip"


@pytest.mark.slow
def test_bounds_hold_when_declared_result_shapes_are_taken_away(runs: list[Run]) -> None:
    """Without the declared shape of the results, what depends on data has to be bounded."""
    faults, bounded = [], 0
    for case in runs:
        if case.name.endswith("_expanded"):
            continue  # the same operators, written as functions
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for output in model.graph.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
        workload = lowered(model)
        estimated = {n for d in workload.diagnostics if d.code in ("H4W112", "H4W113") for n in d.where}
        for name, planned, real, exact in sizes(workload, case.values):
            bounded += not exact and name not in estimated
            if planned < real and name not in estimated:
                faults.append(f"{case.name}: {name} has {real} bytes, over {planned}")
    assert faults == []
    assert bounded > 100
