"""Shapes that depend on data: bounds hold for what onnxruntime makes, and everybody is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from h4hc.errors import GraphError
from h4hc.lowering.bounds import Bound, fit
from h4hc.workload import OpKind, Workload
from tests.lowering.building import Array, graph_model, lowered, node_model, session_outputs, weights

X = np.array([[1, 0, 2], [0, 0, 3]], np.float32)
BOXES, SCORES = np.zeros((1, 6, 4), np.float32), np.ones((1, 2, 6), np.float32)


def codes(workload: Workload) -> list[str]:
    return [d.code for d in workload.diagnostics]


CASES: list[tuple[str, dict[str, Array], dict[str, Any], tuple[str, ...]]] = [
    ("NonZero", {"x": X}, {}, ("y",)),
    ("Unique", {"x": X}, {}, ("y", "first", "inverse", "counts")),
    ("Unique", {"x": X}, {"axis": 1}, ("y", "first", "inverse", "counts")),
    ("Compress", {"x": X, "c": np.array([True, False, True])}, {"axis": 1}, ("y",)),
    ("Compress", {"x": X, "c": np.array([True, False, True, True])}, {}, ("y",)),
    ("NonMaxSuppression", {"b": BOXES, "s": SCORES, "m": np.array([2], np.int64)}, {}, ("y",)),
    ("TopK", {"x": X, "k": np.array([2], np.int64)}, {}, ("y", "i")),
    ("Reshape", {"x": X, "s": np.array([3, 2], np.int64)}, {}, ("y",)),
    ("Slice", {"x": X, "a": np.array([1], np.int64), "b": np.array([3], np.int64)}, {}, ("y",)),
    ("Squeeze", {"x": X[None], "a": np.array([0], np.int64)}, {}, ("y",)),
]


@pytest.mark.parametrize(("op_type", "feeds", "attributes", "outputs"), CASES)
def test_bounds_hold(
    op_type: str, feeds: dict[str, Array], attributes: dict[str, Any], outputs: tuple[str, ...]
) -> None:
    """All inputs are activations here, so shape inference cannot know the result."""
    inputs = {
        n: (helper.tensor_dtype_to_string(helper.np_dtype_to_tensor_dtype(a.dtype)).split(".")[1], a.shape)
        for n, a in feeds.items()
    }
    model = node_model(op_type, dict(inputs), outputs, **attributes)
    workload = lowered(model)
    assert workload.ops[0].kind is OpKind.GENERIC
    for output in model.graph.output:  # onnxruntime wants a type
        output.type.tensor_type.elem_type = output.type.tensor_type.elem_type or 1
    typed = onnx.shape_inference.infer_shapes(node_model(op_type, dict(inputs), outputs, **attributes))
    for name, array in zip(outputs, session_outputs(typed, feeds), strict=True):
        tensor = workload.tensor[name]
        assert not tensor.exact
        assert array.nbytes <= tensor.size_bytes, name
    assert codes(workload) == ["H4W111"]
    assert set(workload.diagnostics[0].where) == set(outputs)


def test_estimates_are_called_estimates() -> None:
    workload = lowered(node_model("Tile", {"x": ("float", (2, 3)), "r": ("int64", (2,))}))
    assert codes(workload) == ["H4W112"]
    assert workload.tensor["y"].size_bytes == 24
    assert workload.diagnostics[0].where == ("y",)


def test_what_follows_a_shape_that_depends_on_data_runs_on_the_host_with_its_macs() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"], name="find"),
        helper.make_node("Transpose", ["i"], ["t"], name="turn"),
        helper.make_node("Cast", ["t"], ["f"], name="cast", to=1),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="fc"),
    ]
    workload = lowered(graph_model(nodes, {"x": ("float", (4, 5)), "w": weights(2, 8)}, ["y"]))
    assert {op.kind for op in workload.ops} == {OpKind.GENERIC}
    assert workload.ops[-1].macs == 20 * 2 * 8  # at most 20 elements are not zero, two indices each
    assert workload.tensor["y"].shape == (20, 8)


def test_long_dynamic_chains_do_not_explode() -> None:
    """Guesses that only know their number of elements must not be multiplied with each other."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["v0"], name="start")]
    for i in range(40):
        nodes.append(helper.make_node("Mul", [f"v{i}", f"v{i // 2}"], [f"v{i + 1}"], name=f"mul{i}"))
    given = {"x": ("float", (4, 5, 6)), "s": ("int64", (3,))}
    workload = lowered(graph_model(nodes, given, ["v40"]))
    assert workload.tensor["v40"].size_bytes == 480


def test_text_is_sized_by_elements_and_said_so() -> None:
    workload = lowered(node_model("StringNormalizer", {"x": ("string", (3,))}, case_change_action="LOWER"))
    assert codes(workload) == ["H4W113"]
    assert not workload.tensor["x"].exact


def test_a_shape_that_inference_should_know_is_an_error() -> None:
    import onnx_ir as ir

    from h4hc.annotations import stamp_origins
    from h4hc.lower import lower

    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("Conv", ["a", "w"], ["b"], name="conv"),
        helper.make_node("MaxPool", ["b"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    y = helper.make_tensor_value_info("y", 1, (1, 4, 3, 3))
    model = graph_model(nodes, {"x": ("float", (1, 3, 8, 8)), "w": weights(4, 3, 3, 3)}, [y])
    a = helper.make_tensor_value_info("a", 1, (1, 3, 8, 8))
    model.graph.value_info.append(a)
    bare = ir.from_proto(model)
    stamp_origins(bare)
    with pytest.raises(GraphError, match="no shape") as caught:
        lower(bare, "stored")
    assert [p.where for p in caught.value.problems] == [("conv",)]


def test_free_dimensions_of_an_input_are_an_error_that_names_the_option() -> None:
    with pytest.raises(GraphError, match="--input-shape x=") as caught:
        lowered(node_model("Relu", {"x": ("float", ("n", 3))}))
    assert caught.value.problems[0].where == ("x",)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=4), st.lists(st.integers(0, 6), max_size=4))
def test_fit_keeps_known_dimensions_and_loses_no_element(known: list[int | None], guess: list[int]) -> None:
    fitted = fit(known, Bound(tuple(guess), True)).shape
    assert len(fitted) == len(known)
    assert all(k is None or k == f for k, f in zip(known, fitted, strict=True))
    if None in known and 0 not in known:
        assert np.prod(fitted) >= np.prod(guess)
