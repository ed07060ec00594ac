"""Matrix products, Einsum, attention, recurrent nets: MACs against counting loops; which class each spelling gets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from h4hc.errors import GraphError
from h4hc.workload import FullyConnectedParams, Layout, MatmulParams, OpKind
from tests.lowering.building import MICROSOFT, graph_model, lowered, node_model, only_op, session_outputs, weights


def count_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Multiplications of numpy's matmul, one by one."""
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return sum(1 for _ in itertools.product(*(range(d) for d in (*batch, a[-2], a[-1], b[-1]))))


@st.composite
def operands(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    left = tuple(draw(st.sampled_from([d, 1])) for d in batch)
    right = tuple(draw(st.sampled_from([d, 1])) for d in batch)
    a = draw(st.sampled_from([(*left, m, k), (m, k), (k,)]))
    b = draw(st.sampled_from([(*right, k, n), (k, n), (k,)]))
    return a, b


@settings(max_examples=60, deadline=None, derandomize=True)
@given(operands(), st.sampled_from(["none", "right", "left"]))
def test_macs_of_matmul_are_counted_products(shapes: tuple[tuple[int, ...], tuple[int, ...]], constant: str) -> None:
    a, b = shapes
    model = node_model(
        "MatMul",
        {
            "a": weights(*a) if constant == "left" else ("float", a),
            "b": weights(*b) if constant == "right" else ("float", b),
        },
    )
    op = only_op(model)
    assert op.macs == count_matmul(a, b)
    assert op.output_bytes == np.matmul(np.zeros(a, np.float32), np.zeros(b, np.float32)).nbytes
    if constant == "none":
        assert op.kind is OpKind.MATMUL
    match op.params:
        case MatmulParams(_, batch, m, k, n):
            assert batch * m * k * n == op.macs
        case FullyConnectedParams(_, positions, inner, outer):
            assert positions * inner * outer == op.macs
            assert inner * outer == weights(*(a if constant == "left" else b)).size


def test_constant_right_operand_is_fully_connected() -> None:
    op = only_op(node_model("MatMul", {"x": ("float", (2, 16, 64)), "w": weights(64, 10)}))
    assert op.params == FullyConnectedParams("fully_connected", 32, 64, 10)
    assert (op.kind, op.layout, op.inputs, op.weights) == (OpKind.FULLY_CONNECTED, Layout.ROW_MAJOR, ("x",), ("w",))


def test_constant_left_operand_works_on_the_channels_of_a_three_axis_tensor() -> None:
    op = only_op(node_model("MatMul", {"w": weights(10, 64), "x": ("float", (2, 64, 16))}))
    assert op.params == FullyConnectedParams("fully_connected", 32, 64, 10)
    assert op.layout is Layout.CHANNELS_LAST


@pytest.mark.parametrize(
    ("inputs", "params"),
    [
        ({"x": ("float", (3, 5, 8)), "w": weights(3, 8, 4)}, MatmulParams("matmul", 3, 5, 8, 4)),
        ({"w": weights(3, 4, 8), "x": ("float", (3, 8, 5))}, MatmulParams("matmul", 3, 4, 8, 5)),
    ],
)
def test_a_stack_of_constant_matrices_is_a_product_and_says_so(inputs: dict[str, Any], params: MatmulParams) -> None:
    op = only_op(node_model("MatMul", inputs))
    shapes = [w[1] if isinstance(w, tuple) else w.shape for w in inputs.values()]
    assert (op.kind, op.params, op.inputs, op.weights) == (OpKind.MATMUL, params, ("x",), ("w",))
    assert (op.macs, op.weight_types) == (count_matmul(*shapes), ("float32",))


@pytest.mark.parametrize(
    ("shape", "positions", "turned"),
    [((8, 5), 5, True), ((2, 3, 8, 5), 30, True), ((8, 1), 1, False), ((2, 3, 8, 1), 6, False), ((8,), 1, False)],
)
def test_constant_left_operand_is_fully_connected_over_the_columns(
    shape: tuple[int, ...], positions: int, turned: bool
) -> None:
    """A column of x is a position; where columns lie apart in memory, a note says that nobody costs turning them."""
    workload = lowered(node_model("MatMul", {"w": weights(4, 8), "x": ("float", shape)}))
    (op,) = workload.ops
    assert op.params == FullyConnectedParams("fully_connected", positions, 8, 4)
    assert (op.layout, op.macs) == (Layout.ROW_MAJOR, count_matmul((4, 8), shape))
    assert [(d.code, d.where) for d in workload.diagnostics] == ([("H4W115", ("n",))] if turned else [])


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_with_its_weights_on_the_left(trans_b: int) -> None:
    x = (5, 8) if trans_b else (8, 5)
    op = only_op(node_model("Gemm", {"w": weights(8, 4), "x": ("float", x)}, transA=1, transB=trans_b))
    assert op.params == FullyConnectedParams("fully_connected", 5, 8, 4)


@pytest.mark.parametrize(
    ("equation", "w", "x", "params"),
    [
        ("oi,bip->bop", (4, 8), (2, 8, 5), None),  # the batch stands between rows and columns: turned inside
        ("oi,ip->op", (4, 8), (8, 5), FullyConnectedParams("fully_connected", 5, 8, 4)),
        ("oi,pi->op", (4, 8), (5, 8), FullyConnectedParams("fully_connected", 5, 8, 4)),
        ("boi,bip->bop", (3, 4, 8), (3, 8, 5), MatmulParams("matmul", 3, 4, 8, 5)),
    ],
)
def test_einsum_with_constants_on_the_left(
    equation: str, w: tuple[int, ...], x: tuple[int, ...], params: FullyConnectedParams | MatmulParams | None
) -> None:
    op = only_op(node_model("Einsum", {"w": weights(*w), "x": ("float", x)}, equation=equation))
    assert (op.kind is OpKind.GENERIC) if params is None else (op.params == params)
    assert op.weight_types == ("float32",)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (3, 5), (1, 5), ()])
def test_gemm(trans_a: int, trans_b: int, bias: tuple[int, ...] | None) -> None:
    a, b = ((4, 3) if trans_a else (3, 4)), ((5, 4) if trans_b else (4, 5))
    inputs = {"a": ("float", a), "b": weights(*b), "c": None if bias is None else weights(*bias)}
    op = only_op(node_model("Gemm", inputs, transA=trans_a, transB=trans_b), "auto-int8")
    assert op.macs == 3 * 4 * 5
    assert op.params == FullyConnectedParams("fully_connected", 3, 4, 5)
    assert op.weight_bytes == 20 + (0 if bias is None else 4 * math.prod(bias))


def test_gemm_with_a_computed_bias_is_no_fully_connected() -> None:
    op = only_op(node_model("Gemm", {"a": ("float", (3, 4)), "b": weights(4, 5), "c": ("float", (5,))}))
    assert (op.kind, op.macs) == (OpKind.GENERIC, 60)


def test_misfit_names_the_node_and_both_shapes() -> None:
    import onnx
    import onnx_ir as ir

    from h4hc.annotations import stamp_origins
    from h4hc.lower import lower

    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (3, 5))
    node = helper.make_node("MatMul", ["a", "b"], ["y"], name="bad")
    broken = ir.from_proto(graph_model([node], {"a": ("float", (3, 4)), "b": ("float", (6, 5))}, [y]))
    stamp_origins(broken)
    with pytest.raises(GraphError, match="inner sizes 4 and 6") as caught:
        lower(broken, "stored")
    assert caught.value.problems[0].where == ("bad",)


QUANTISED = {"uint8": np.uint8, "int8": np.int8}


@pytest.mark.parametrize("dtype", sorted(QUANTISED))
def test_quantised_products(dtype: str) -> None:
    scale, zero, w = weights(), weights(dtype=QUANTISED[dtype]), weights(8, 5, dtype=QUANTISED[dtype])
    x = (dtype, (3, 8))
    integer = only_op(node_model("MatMulInteger", {"a": x, "b": w}), "auto-int8")
    linear = only_op(
        node_model(
            "QLinearMatMul",
            {"a": x, "as": scale, "az": zero, "b": w, "bs": scale, "bz": zero, "ys": scale, "yz": zero},
        ),
        "auto-int8",
    )
    for op in (integer, linear):
        assert (op.kind, op.dtype, op.macs) == (OpKind.FULLY_CONNECTED, dtype, 120)
    assert (integer.output_bytes, linear.output_bytes) == (60, 15)


def test_zero_points_computed_at_run_time_are_host_work() -> None:
    inputs = {"a": ("uint8", (3, 8)), "b": weights(8, 5, dtype=np.uint8), "z": ("uint8", ())}
    op = only_op(node_model("MatMulInteger", inputs))
    assert (op.kind, op.macs) == (OpKind.GENERIC, 120)


@pytest.mark.parametrize(
    ("equation", "shapes", "kind"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4)), OpKind.MATMUL),
        ("bhid,bhjd->bhij", ((2, 2, 3, 4), (2, 2, 5, 4)), OpKind.MATMUL),
        ("bhij,bhjd->bhid", ((2, 2, 3, 5), (2, 2, 5, 4)), OpKind.MATMUL),
        ("bihd,bjhd->bhij", ((2, 3, 2, 4), (2, 5, 2, 4)), OpKind.GENERIC),  # heads inside: transposed within
        ("ij,jk->ki", ((2, 3), (3, 4)), OpKind.GENERIC),
        ("i,i->", ((3,), (3,)), OpKind.MATMUL),
        ("ij,ij->ij", ((2, 3), (2, 3)), OpKind.GENERIC),
        ("ij,kl->ik", ((2, 3), (4, 5)), OpKind.GENERIC),
    ],
)
def test_einsum(equation: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], kind: OpKind) -> None:
    size: dict[str, int] = {}
    for term, shape in zip(equation.split("->")[0].split(","), shapes, strict=True):
        size.update(zip(term, shape, strict=True))
    op = only_op(node_model("Einsum", {"a": ("float", shapes[0]), "b": ("float", shapes[1])}, equation=equation))
    assert op.kind is kind
    assert op.macs == sum(1 for _ in itertools.product(*(range(d) for d in size.values())))


def test_einsum_with_weights_an_ellipsis_and_three_terms() -> None:
    fully = only_op(node_model("Einsum", {"x": ("float", (2, 3, 8)), "w": weights(8, 5)}, equation="...i,io->...o"))
    assert fully.params == FullyConnectedParams("fully_connected", 6, 8, 5)
    inputs = {"a": ("float", (2, 3)), "b": ("float", (3, 4)), "c": ("float", (4, 5))}
    chain = only_op(node_model("Einsum", inputs, equation="ij,jk,kl->il"))
    assert chain.macs == 2 * 3 * 4 + 2 * 4 * 5
    assert only_op(node_model("Einsum", {"a": ("float", (2, 3))}, equation="ij->ji")).macs == 0


@pytest.mark.parametrize(("op_type", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_nets(op_type: str, gates: int, direction: str) -> None:
    steps, batch, inner, hidden = 5, 2, 3, 4
    directions = 2 if direction == "bidirectional" else 1
    model = node_model(
        op_type,
        {
            "x": ("float", (steps, batch, inner)),
            "w": weights(directions, gates * hidden, inner),
            "r": weights(directions, gates * hidden, hidden),
            "b": weights(directions, 2 * gates * hidden),
        },
        hidden_size=hidden,
        direction=direction,
    )
    (out,) = session_outputs(model, {"x": np.zeros((steps, batch, inner), np.float32)})
    op = only_op(model)
    count = 0
    for _ in itertools.product(range(steps), range(batch), range(directions), range(gates), range(hidden)):
        count += inner + hidden
    assert (op.kind, op.macs, op.output_bytes) == (OpKind.GENERIC, count, out.nbytes)


def test_attention_counts_both_products() -> None:
    inputs = {"q": ("float", (2, 3, 4, 8)), "k": ("float", (2, 3, 6, 8)), "v": ("float", (2, 3, 6, 10))}
    op = only_op(node_model("Attention", inputs, opset=23))
    expected = count_matmul((2, 3, 4, 8), (2, 3, 8, 6)) + count_matmul((2, 3, 4, 6), (2, 3, 6, 10))
    assert (op.kind, op.macs) == (OpKind.GENERIC, expected)
    flat = {"q": ("float", (2, 4, 24)), "k": ("float", (2, 6, 24)), "v": ("float", (2, 6, 30))}
    assert only_op(node_model("Attention", flat, opset=23, q_num_heads=3, kv_num_heads=3)).macs == expected


def test_products_with_packed_weights_below_eight_bits() -> None:
    inputs = {
        "x": ("float", (2, 3, 64)),
        "b": weights(10, 2, 16, dtype=np.uint8),
        "s": weights(20),
    }
    model = node_model("MatMulNBits", inputs, domain=MICROSOFT, K=64, N=10, bits=4, block_size=32)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, (2, 3, 10)))
    op = only_op(model)
    assert (op.macs, op.weight_bytes) == (2 * 3 * 64 * 10, 320 + 80)


def test_four_bit_weights_take_half_a_byte() -> None:
    from onnx import TensorProto, numpy_helper

    model = node_model("DequantizeLinear", {"x": ("float", (3, 3)), "s": weights()}, opset=21)
    del model.graph.input[0]
    values = np.arange(9, dtype=np.int8).reshape(3, 3) - 4
    model.graph.initializer.append(helper.make_tensor("x", TensorProto.INT4, (3, 3), values.ravel().tolist()))
    workload = lowered(model)
    assert workload.tensor["x"].size_bytes == 5
    assert numpy_helper.to_array(model.graph.initializer[1]).size == 9
