"""What is refused and why, candidates, what a split costs, and a split model through plan and emission."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from h4hc.cost import cost_table
from h4hc.errors import UserError
from h4hc.lower import lower
from h4hc.lowering.same_bits import ROW_STEP, block, least_columns
from h4hc.ortrun import Level, Runner
from h4hc.partition import PartitionOptions, partition
from h4hc.partitioned import model_bytes, partitioned_model
from h4hc.schedule import schedule
from h4hc.splits import Split, fault, from_json, to_json
from h4hc.splitting.costs import split_cost
from h4hc.splitting.graph import split_model
from h4hc.splitting.options import split_options, why_not_split
from h4hc.splitting.workload import split_workload
from h4hc.system import System
from h4hc.target_file import load_system
from h4hc.workload import Cut, Op, Workload
from h4hc.zoo.build import build_model
from tests.lowering.building import graph_model, lowered, only_op, session_outputs, to_ir, weights
from tests.splitting.models import feeds, legal

IMAGE = ("float", (1, 8, 5, 5))


@functools.cache
def system() -> System:
    return load_system("npu+cim")


@functools.cache
def zoo(name: str, int8: bool) -> tuple[ir.Model, Workload]:
    model = legal(build_model(name, int8=int8))
    return model, lower(model, "auto-int8")


def op(op_type: str, inputs: dict[str, Any], **attributes: Any) -> Op:
    node = helper.make_node(op_type, list(inputs), ["y"], name="n", **attributes)
    return only_op(graph_model([node], inputs, ["y"]))


def why(found: Op, axis: Any, *counts: int) -> str:
    return fault(Split("n", axis, counts), found.by_output if axis == "output" else found.by_input)


def test_json_there_and_back() -> None:
    splits = (Split("a", "output", (8, 24)), Split("b", "input", (2, 2)))
    assert from_json(to_json(splits)) == splits
    _, workload = zoo("resnet8", True)
    assert Workload.from_json(workload.to_json()) == workload


def test_faults_of_a_split() -> None:
    grouped = op("Conv", {"x": IMAGE, "w": weights(12, 2, 1, 1)}, group=4)
    assert why(grouped, "output", 3, 9) == ""
    assert "a part of 4: channels go together by 3" in why(grouped, "output", 4, 8)
    assert "10 channels together, the operator has 12" in why(grouped, "output", 3, 7)
    assert "1 parts" in why(grouped, "output", 12)
    assert "not summed" in why(grouped, "input", 4, 4)
    depthwise = op("Conv", {"x": IMAGE, "w": weights(16, 1, 1, 1)}, group=8)
    assert "the least is 4" in why(depthwise, "output", 2, 14)
    assert why(depthwise, "output", 4, 12) == ""
    plain = op("Conv", {"x": IMAGE, "w": weights(4, 8, 1, 1)})
    assert "the least is 2" in why(plain, "output", 1, 3)
    assert "an Add sums two" in why(plain, "input", 2, 2, 4)


def test_operators_that_are_not_split_say_why() -> None:
    assert why(op("Relu", {"x": IMAGE}), "output", 4, 4) == "it is no convolution and no matrix product"
    square = {"x": ("float", (8, 8))}
    twice = only_op(graph_model([helper.make_node("MatMul", ["x", "x"], ["y"], name="n")], square, ["y"]))
    assert "reads 'x' both whole and in shares" in why(twice, "output", 4, 4)
    vector = op("MatMul", {"x": ("float", (3, 8)), "w": weights(8)})
    assert "one output channel" in why(vector, "output", 4, 4)
    einsum = op("Einsum", {"x": ("float", (3, 8)), "w": weights(8, 4)}, equation="ij,jk->ik")
    assert "it is Einsum" in why(einsum, "output", 2, 2)
    transposed = op("ConvTranspose", {"x": IMAGE, "w": weights(8, 2, 1, 1)}, group=2)
    assert "transposed convolution in groups" in why(transposed, "output", 2, 2)
    lone = {"x": ("float", (3, 8)), "w": weights(8, 4), "c": weights(1, 4)}
    model = graph_model([helper.make_node("Gemm", list(lone), ["y"], name="n")], lone, ["y"], opset=9)
    assert "has no form without an added matrix" in why(only_op(model), "input", 4, 4)


def test_a_quantised_sum_is_refused() -> None:
    _, workload = zoo("resnet8", True)
    reasons = {o.by_input for o in workload.ops if isinstance(o.by_output, Cut)}
    assert len(reasons) == 1
    assert "rounds in another order" in str(*reasons)


def test_all_faults_come_at_once_on_both_levels() -> None:
    model, workload = zoo("resnet8", False)
    first, second = [o.id for o in workload.ops if isinstance(o.by_output, Cut)][:2]
    wrong = (
        Split("nobody", "output", (2, 2)),
        Split(first, "output", (8, 7)),
        Split(second, "output", (8, 8)),
        Split(second, "input", (8, 8)),
    )
    for attempt in (lambda: split_model(model, wrong), lambda: split_workload(workload, wrong)):
        with pytest.raises(UserError) as caught:
            attempt()
        assert [p.where for p in caught.value.problems] == [("nobody",), (first,), (second,)]
        assert "15 channels together, the operator has 16" in str(caught.value)
        assert "split twice" in str(caught.value)


def test_a_name_that_is_taken_is_refused() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["m"], name="n"),
        helper.make_node("Softmax", ["m"], ["y"], name="n/join"),
    ]
    proto = graph_model(nodes, {"x": IMAGE, "w": weights(4, 8, 1, 1)}, ["y"])
    split = (Split("n", "output", (2, 2)),)
    for attempt in (lambda: split_model(to_ir(proto), split), lambda: split_workload(lowered(proto), split)):
        with pytest.raises(UserError, match="'n/join' is taken"):
            attempt()


@pytest.mark.parametrize("products", [100, 192, 300, 600])
@pytest.mark.parametrize("columns", [48, 192])
@pytest.mark.parametrize("rows", [1, 7])
def test_parts_of_least_columns_have_the_bits_of_the_whole(rows: int, columns: int, products: int) -> None:
    """What `same_bits` claims, against onnxruntime with weights that are no constants (as behind DequantizeLinear)."""
    rng = np.random.default_rng(products)
    x, w = rng.standard_normal((rows, products), np.float32), rng.standard_normal((products, columns), np.float32)
    least = max(2, least_columns(columns, products))
    for transposed in (False, True):
        step = ROW_STEP if transposed else 1
        whole = product(x, w, transposed)
        for count in {-(-least // step) * step, columns // 2 // 4 * 4, columns - least // step * step} - {0, columns}:
            if min(count, columns - count) < least or count % step:
                continue
            halves = product(x, w[:, :count], transposed), product(x, w[:, count:], transposed)
            assert np.concatenate(halves, 1).tobytes() == whole.tobytes(), (count, transposed)


def test_blocks_shrink_as_columns_grow() -> None:
    for columns in range(1, 300):
        assert block(columns + 1) <= block(columns)
        for products in (64, 200, 400, 5000):
            least = least_columns(columns, products)
            assert least <= columns
            same = [n for n in range(1, columns) if min(block(n), products) == min(block(columns), products)]
            assert same == list(range(least, columns))


def product(x: Any, w: Any, transposed: bool) -> Any:
    stored = np.ascontiguousarray(w.T if transposed else w)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=int(transposed))
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = graph_model([node], {"x": ("float", x.shape), "w": ("float", stored.shape)}, [result])
    return session_outputs(model, {"x": x, "w": stored})[0]


@pytest.mark.parametrize(
    "name",
    [
        "ds-cnn",
        pytest.param("hybrid-xxs", marks=pytest.mark.slow),
        pytest.param("fpn-detector", marks=pytest.mark.slow),
    ],
)
def test_candidates_lie_in_the_devices_steps_and_cost_what_the_table_says(name: str) -> None:
    _, workload = zoo(name, True)
    step = system().device("npu").channel_step()
    chosen: list[Split] = []
    for found in workload.ops:
        options = split_options(found, workload, system())
        assert bool(options) != bool(why_not_split(found, workload, system()))
        assert len(options) <= 7
        for split in options:
            assert fault(split, found.by_output) == ""
            assert split.counts[0] % step == 0 or sum(split.counts) <= step  # too few channels for a step of the NPU
        chosen += options[len(options) // 2 :][:1]
    assert len(chosen) >= sum(isinstance(o.by_output, Cut) for o in workload.ops) // 2
    together = cost_table(split_workload(workload, tuple(chosen)), system())
    assert len(together.rows) > len(workload.ops) + len(chosen)  # fewer than three for one where parts read parts
    for split in (chosen[0], chosen[len(chosen) // 2], chosen[-1]):
        alone = split_cost(split, workload, system())
        table = cost_table(split_workload(workload, (split,)), system())
        assert [o.id for o in alone.ops][-1] == split.join
        assert len(alone.ops) >= 3
        assert [table.row[o.id] for o in alone.ops] == list(alone.rows)
        assert len(alone.ports) >= 2
        assert set(alone.ports) <= set(table.ports)


def test_an_operator_too_large_for_the_macros_can_be_split_onto_them() -> None:
    """Its parts fit, though the whole does not."""
    size = {"x": ("float", (1, 3000)), "w": np.zeros((3000, 2000), np.float32)}
    workload = lowered(graph_model([helper.make_node("MatMul", ["x", "w"], ["y"], name="n")], size, ["y"]), "auto-int8")
    found = workload.op["n"]
    whole = cost_table(workload, system()).row["n"]
    assert {cost.mode.device for cost in whole.costs} == {"host", "npu"}
    options = split_options(found, workload, system())
    assert options
    parts = split_cost(options[len(options) // 2], workload, system())
    assert "cim" in {cost.mode.device for cost in parts.rows[0].costs}


def test_reasons_for_no_candidate() -> None:
    small = lowered(
        graph_model(
            [helper.make_node("Conv", ["x", "w"], ["y"], name="n")], {"x": IMAGE, "w": weights(3, 8, 1, 1)}, ["y"]
        ),
        "auto-int8",
    )
    assert "3 channels do not make two parts" in why_not_split(small.op["n"], small, system())
    stored = lowered(
        graph_model(
            [helper.make_node("Conv", ["x", "w"], ["y"], name="n")], {"x": IMAGE, "w": weights(32, 8, 1, 1)}, ["y"]
        )
    )
    assert "only host may run any" in why_not_split(stored.op["n"], stored, system())


def test_a_split_model_is_planned_and_emitted_like_any_other() -> None:
    model, workload = zoo("ds-cnn", True)
    splits = tuple(s for o in workload.ops for s in split_options(o, workload, system())[3:4])
    assert len(splits) > 5
    split = split_model(model, splits)
    after = lower(split, "auto-int8")
    table = cost_table(after, system())
    plan = schedule(after, partition(after, table, PartitionOptions()).assignment, table)
    whole = partitioned_model(split, plan)
    given = feeds(model, 0)
    before = Runner(model_bytes(ir.to_proto(model)), Level.DISABLE_ALL).run(given)
    for name, value in Runner(model_bytes(whole), Level.DISABLE_ALL).run(given).items():
        assert value.tobytes() == before[name].tobytes()
