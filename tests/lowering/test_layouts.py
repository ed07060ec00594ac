"""Physical orders: whether bytes move is checked on real bytes, and where order changes fall on whole nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from h4hc.lowering.layouts import axes_of, is_free, same_bytes
from h4hc.workload import Layout, Op, OpKind, Workload
from tests.lowering.building import Array, graph_model, lowered, session_outputs, weights

ROW, LAST = Layout.ROW_MAJOR, Layout.CHANNELS_LAST
SHAPES = st.lists(st.integers(1, 3), min_size=2, max_size=5).map(tuple)


def in_memory(array: Array, layout: Layout) -> list[Any]:
    """The elements in the order in which they lie."""
    moved = np.moveaxis(array, 1, -1) if layout is LAST and array.ndim > 2 else array
    return list(np.ascontiguousarray(moved).ravel())


def wanted(op: Op, workload: Workload) -> Layout:
    """The order an operator wants its inputs in, as the cost stage reads it."""
    return op.layout or workload.tensor[op.inputs[0]].layout


def changes(workload: Workload) -> list[tuple[str, str]]:
    """(tensor, operator) where the tensor lies in another order than the operator wants, and that matters."""
    found = []
    for op in workload.ops:
        for name in op.inputs:
            tensor = workload.tensor[name]
            if tensor.layout != wanted(op, workload) and not is_free(tensor.shape):
                found.append((name, op.id))
    for name in workload.outputs:
        tensor = workload.tensor[name]
        if tensor.layout is not ROW and not is_free(tensor.shape):
            found.append((name, ""))
    return found


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SHAPES)
def test_a_tensor_is_free_exactly_when_both_orders_are_the_same_bytes(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    assert is_free(shape) == (in_memory(array, ROW) == in_memory(array, LAST))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))), *[st.sampled_from([ROW, LAST])] * 2
)
def test_same_bytes_is_what_numpy_finds(shape_perm: Any, have: Layout, want: Layout) -> None:
    shape, perm = shape_perm
    array = np.arange(np.prod(shape)).reshape(shape)
    assert same_bytes(shape, have, perm, want) == (in_memory(array, have) == in_memory(array.transpose(perm), want))


def test_axes_of() -> None:
    assert axes_of(LAST, 4) == (0, 2, 3, 1)
    assert axes_of(LAST, 2) == axes_of(ROW, 2) == (0, 1)


# ---------------------------------------------------------------- chains between two convolutions


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Steps of shape arithmetic on a (1..2, 4, 2, 3) image: transposes, reshapes, pools over axes, sums."""
    shape: tuple[int, ...] = (draw(st.integers(1, 2)), 4, 2, 3)
    steps: list[tuple[str, Any]] = [("start", shape)]
    for _ in range(draw(st.integers(1, 4))):
        if len(shape) < 2:
            break
        kind = draw(st.sampled_from(["Transpose", "Transpose", "Reshape", "Relu", "ReduceSum"]))
        if kind == "Transpose":
            perm = draw(st.permutations(range(len(shape))))
            steps.append((kind, list(perm)))
            shape = tuple(shape[p] for p in perm)
        elif kind == "Reshape":
            size = int(np.prod(shape))
            options = [(shape[0], shape[1], -1), (shape[0], -1), (size,), (*shape[:2], 1, *shape[2:]), (1, *shape)]
            target = draw(st.sampled_from([o for o in options if len(o) <= 5]))
            steps.append((kind, target))
            shape = np.zeros(shape).reshape(target).shape
        elif kind == "ReduceSum":
            axis, keep = draw(st.integers(0, len(shape) - 1)), draw(st.integers(0, 1))
            steps.append((kind, (axis, keep)))
            shape = np.zeros(shape).sum(axis=axis, keepdims=bool(keep)).shape
        else:
            steps.append(("Relu", None))
    if len(shape) > 2 and draw(st.booleans()):
        steps.append(("GlobalAveragePool", None))  # wants channels-last
    return steps


def chain_model(steps: Sequence[tuple[str, Any]]) -> onnx.ModelProto:
    """A 1x1 convolution (so that the chain starts channels-last), the steps, every value a model output."""
    inputs: dict[str, Any] = {"x": ("float", steps[0][1]), "w": weights(4, 4, 1, 1)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["v0"], name="conv")]
    for index, (kind, how) in enumerate(steps[1:], start=1):
        source, result = f"v{index - 1}", f"v{index}"
        extra: list[str] = []
        attributes: dict[str, Any] = {}
        if kind == "Transpose":
            attributes["perm"] = how
        elif kind == "Reshape":
            extra = [f"s{index}"]
            inputs[extra[0]] = np.array(how, np.int64)
        elif kind == "ReduceSum":
            extra = [f"s{index}"]
            inputs[extra[0]] = np.array([how[0]], np.int64)
            attributes["keepdims"] = how[1]
        nodes.append(helper.make_node(kind, [source, *extra], [result], name=f"n{index}", **attributes))
    return graph_model(nodes, inputs, [f"v{i}" for i in range(len(steps))])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(chains())
def test_views_leave_every_byte_in_place_and_labels_tell_the_truth(steps: list[tuple[str, Any]]) -> None:
    """A view must give its result, in the order its label says, out of the very bytes it was given."""
    model = chain_model(steps)
    shape = steps[0][1]
    values = session_outputs(model, {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1})
    workload = lowered(model)
    value = dict(zip(workload.outputs, values, strict=True))
    for op in workload.ops[1:]:
        (source,), (result,) = op.inputs, op.outputs
        if op.kind is OpKind.VIEW:
            before = in_memory(value[source], wanted(op, workload))
            assert before == in_memory(value[result], workload.tensor[result].layout), op
        if is_free(workload.tensor[result].shape):
            assert workload.tensor[result].layout is ROW
        if op.op_types == ("ReduceSum",):
            axis, keep = next(how for i, (_, how) in enumerate(steps) if op.id == f"n{i}")
            array, order = value[source], axes_of(wanted(op, workload), value[source].ndim)
            summed = array.transpose(order).sum(axis=order.index(axis), keepdims=bool(keep))
            assert list(summed.ravel()) == in_memory(value[result], workload.tensor[result].layout), op
        if op.op_types == ("Relu",):
            assert op.layout is None
            assert workload.tensor[result].layout is workload.tensor[source].layout


# ---------------------------------------------------------------- single rules


def image_chain(*nodes: onnx.NodeProto, **inputs: Any) -> Workload:
    """A convolution 3 -> 8 channels on 1x3x6x6, then `nodes` from value `a` to value `y`."""
    first = helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1])
    given = {"x": ("float", (1, 3, 6, 6)), "w": weights(8, 3, 3, 3), **inputs}
    return lowered(graph_model([first, *nodes], given, ["y"]))


def op_named(workload: Workload, name: str) -> Op:
    return next(op for op in workload.ops if op.id == name)


def test_tokens_of_a_vision_transformer_are_views() -> None:
    """(N, C, H, W) -> (N, C, HW) -> (N, HW, C): channels-last bytes are tokens already."""
    workload = image_chain(
        helper.make_node("Reshape", ["a", "s"], ["b"], name="flat"),
        helper.make_node("Transpose", ["b"], ["c"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["c", "m"], ["d"], name="fc"),
        helper.make_node("Transpose", ["d"], ["e"], name="back", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["e", "t"], ["f"], name="image"),
        helper.make_node("Conv", ["f", "v"], ["y"], name="last"),
        s=np.array([1, 8, 36], np.int64),
        t=np.array([1, 8, 6, 6], np.int64),
        m=weights(8, 8),
        v=weights(2, 8, 6, 6),
    )
    assert [op.kind for op in workload.ops] == [
        OpKind.CONV, OpKind.VIEW, OpKind.VIEW, OpKind.FULLY_CONNECTED, OpKind.VIEW, OpKind.VIEW, OpKind.CONV,
    ]  # fmt: skip
    assert changes(workload) == [("x", "conv")]


def test_flatten_of_one_position_is_a_view_without_any_change() -> None:
    workload = image_chain(
        helper.make_node("GlobalAveragePool", ["a"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["q"], name="flatten"),
        helper.make_node("Gemm", ["q", "m"], ["y"], name="fc"),
        m=weights(8, 10),
    )
    assert changes(workload) == [("x", "conv")]


def test_flatten_of_an_image_wants_row_major() -> None:
    workload = image_chain(helper.make_node("Flatten", ["a"], ["y"], name="flatten"))
    assert op_named(workload, "flatten").kind is OpKind.VIEW
    assert changes(workload) == [("x", "conv"), ("a", "flatten")]


def test_a_gate_of_one_position_does_not_pull_an_image_into_another_order() -> None:
    """Squeeze-excite with the gate as first operand: the image decides, not the first input."""
    workload = image_chain(
        helper.make_node("GlobalAveragePool", ["a"], ["p"], name="pool"),
        helper.make_node("Sigmoid", ["p"], ["g"], name="gate"),
        helper.make_node("Mul", ["g", "a"], ["m"], name="mul"),
        helper.make_node("Conv", ["m", "v"], ["y"], name="last"),
        v=weights(2, 8, 6, 6),
    )
    assert op_named(workload, "mul").layout is LAST
    assert changes(workload) == [("x", "conv")]


def test_operands_of_other_rank_that_would_not_line_up_want_row_major() -> None:
    workload = image_chain(helper.make_node("Add", ["a", "z"], ["y"], name="add"), z=("float", (8, 6, 6)))
    assert op_named(workload, "add").layout is ROW


@pytest.mark.parametrize(("axis", "layout"), [(1, LAST), (-1, ROW), (2, ROW)])
def test_softmax_reads_along_its_axis(axis: int, layout: Layout) -> None:
    workload = image_chain(helper.make_node("Softmax", ["a"], ["y"], name="softmax", axis=axis))
    assert op_named(workload, "softmax").layout is layout


def test_classes_of_a_segmentation_head_leave_row_major() -> None:
    """ArgMax over channels without keeping the axis: what is left of N H W C is N H W."""
    workload = image_chain(helper.make_node("ArgMax", ["a"], ["y"], name="argmax", axis=1, keepdims=0))
    assert changes(workload) == [("x", "conv")]


def test_transposed_keys_are_moved() -> None:
    """K^T between two products, both row-major: bytes must move."""
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["y"], name="scores"),
    ]
    workload = lowered(graph_model(nodes, {"q": ("float", (2, 5, 4)), "k": ("float", (2, 5, 4))}, ["y"]))
    assert op_named(workload, "turn").kind is OpKind.MOVE
    assert changes(workload) == []


def test_a_constant_first_operand_is_laid_out_at_compile_time() -> None:
    """The class token in front of the patches."""
    workload = image_chain(helper.make_node("Concat", ["k", "a"], ["y"], name="concat", axis=2), k=weights(1, 8, 1, 6))
    concat = op_named(workload, "concat")
    assert (concat.kind, concat.layout, concat.inputs, concat.weights) == (OpKind.MOVE, None, ("a",), ("k",))


def test_concat_of_images_keeps_their_order() -> None:
    workload = image_chain(
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Concat", ["a", "r"], ["c"], name="concat", axis=1),
        helper.make_node("Split", ["c"], ["p", "q"], name="split", axis=1, num_outputs=2),
        helper.make_node("Add", ["p", "q"], ["s"], name="add"),
        helper.make_node("Conv", ["s", "v"], ["y"], name="last"),
        v=weights(2, 8, 6, 6),
    )
    assert changes(workload) == [("x", "conv")]
    assert all(op_named(workload, n).layout is None for n in ("relu", "concat", "split", "add"))
