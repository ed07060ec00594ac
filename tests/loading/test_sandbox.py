"""The child process: what it infers, and that its limits stop it."""

from __future__ import annotations

import signal
import struct
import subprocess
from typing import Any

import onnx
import pytest
from onnx import helper

from h4hc import sandbox
from h4hc.errors import GraphError, InternalError, ModelFileError
from h4hc.limits import Limits, parse
from h4hc.sandbox import infer_value_types
from tests.loading import build


def _dims(kind: onnx.TypeProto) -> list[int | str | None]:
    dims = kind.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims]


def _reshape_by_arithmetic(width: int = 1000) -> onnx.ModelProto:
    """x [N, 4] -> MatMul -> Shape, Gather, Concat -> Reshape [N, 10, width / 10]: needs data propagation."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="mm"),
        helper.make_node("Shape", ["m"], ["s"], end=1),
        helper.make_node("Concat", ["s", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["m", "to"], ["y"]),
    ]
    weights = [build.tensor("w", [[1.0] * width] * 4), build.tensor("rest", [10, width // 10], "int64")]
    return build.model(nodes, [build.value("x", ("N", 4))], initializers=weights)


def test_equals_onnx_on_the_whole_model() -> None:
    made = _reshape_by_arithmetic()
    found = infer_value_types(made, Limits())
    assert {name: _dims(found[name]) for name in ("x", "w", "m", "y")} == {
        "x": ["N", 4],
        "w": [4, 1000],
        "m": ["N", 1000],
        "y": ["N", 10, 100],
    }
    whole = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
    for value in (*whole.value_info, *whole.output):
        assert _dims(found[value.name]) == _dims(value.type)
        assert found[value.name].tensor_type.elem_type == value.type.tensor_type.elem_type


def test_dims_that_onnx_invents_are_unknown() -> None:
    made = build.model([helper.make_node("NonZero", ["x"], ["y"])], outputs=[build.value("y", None, build.INT64)])
    assert "unk__0" in str(onnx.shape_inference.infer_shapes(made))
    assert _dims(infer_value_types(made, Limits())["y"]) == [2, None]


def test_declared_shapes_are_believed_only_for_operators_onnx_does_not_know() -> None:
    nodes = [
        helper.make_node("Foo", ["x"], ["f"], domain="com.microsoft"),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Concat", ["r", "a"], ["y"], axis=0),
    ]
    notes = [build.value("f", (5, 3)), build.value("r", (9, 9)), build.value("a", (9, 9))]
    found = infer_value_types(build.model(nodes, domains=[("com.microsoft", 1)], value_info=notes), Limits())
    assert {n: _dims(found[n]) for n in "fray"} == {"f": [5, 3], "r": [5, 3], "a": [2, 3], "y": [7, 3]}


def test_weights_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    call = sandbox._call

    def spy(path: str, request: bytes, limits: Limits) -> bytes:
        sent.append(len(request))
        return call(path, request, limits)

    monkeypatch.setattr(sandbox, "_call", spy)
    made = _reshape_by_arithmetic(100_000)
    infer_value_types(made, Limits())
    assert made.ByteSize() > 1_600_000
    assert sent[0] < 2000


def test_contradictions_name_all_nodes() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"], name="first (1)"),
        helper.make_node("Conv", ["x", "x"], ["b"], name="second"),
        helper.make_node("MatMul", ["x", "x"], ["y"]),
    ]
    with pytest.raises(GraphError) as caught:
        infer_value_types(build.model(nodes), Limits())
    assert [p.where for p in caught.value.problems] == [("first (1)",), ("second",), ("MatMul_2",)]


def test_a_doubt_inside_a_function_is_no_refusal() -> None:
    """The function body of MeanVarianceNormalization trips over itself in onnx; onnxruntime runs the operator."""
    made = build.model([helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0, 1])], opset=13)
    assert _dims(infer_value_types(made, Limits())["x"]) == [2, 3]


@pytest.mark.parametrize("levels", [0, 8])
def test_memory_limit(levels: int) -> None:
    """10 MiB are less than Python and onnx take alone."""
    with pytest.raises(ModelFileError, match="shape-memory-bytes"):
        infer_value_types(build.function_chain(levels), parse(("shape-memory-bytes=10M",)))


def test_cpu_limit() -> None:
    """2^21 calls take onnx far longer than the one second that it gets; the arithmetic check is left out here."""
    with pytest.raises(ModelFileError, match="limit shape-seconds = 1"):
        infer_value_types(build.function_chain(21), parse(("shape-seconds=1",)))


@pytest.mark.parametrize(
    ("outcome", "error", "says"),
    [
        (subprocess.CompletedProcess([], -signal.SIGSEGV, b"", b""), ModelFileError, "SIGSEGV"),
        (subprocess.CompletedProcess([], -signal.SIGKILL, b"", b""), ModelFileError, "shape-seconds"),
        (subprocess.CompletedProcess([], 1, b"", b"ImportError: no such file"), InternalError, "no such file"),
        (subprocess.CompletedProcess([], 0, b"", b""), InternalError, "exit 0"),
        (subprocess.TimeoutExpired([], 1), ModelFileError, "shape-seconds"),
    ],
)
def test_how_the_child_can_end(
    outcome: Any, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(error, match=says):
        infer_value_types(build.add_weight(), Limits())


def test_a_contradiction_without_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    message = b"[ShapeInferenceError] something about the whole graph"
    answer = b"i" + struct.pack("<Q", len(message)) + message
    monkeypatch.setattr(sandbox, "_call", lambda *_: answer)
    with pytest.raises(GraphError, match="contradict") as caught:
        infer_value_types(build.add_weight(), Limits())
    assert "something about the whole graph" in caught.value.problems[0].why
