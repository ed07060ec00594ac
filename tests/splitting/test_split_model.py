"""Split models against onnxruntime, and against the split workload: random products, and models of the zoo."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.annotations import all_origins
from h4hc.lower import lower
from h4hc.splits import Split
from h4hc.splitting.graph import split_model
from h4hc.splitting.workload import split_workload
from h4hc.workload import Cut
from h4hc.zoo.build import build_model
from h4hc.zoo.models import MODELS
from tests.lowering.building import session_outputs
from tests.splitting.models import KINDS, feeds, legal, random_model, random_split

FLOAT_ERROR = 1e-5  # of the largest magnitude
HEAVY = ("fpn-detector", "hybrid-xxs", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny")


def check(model: ir.Model, splits: tuple[Split, ...], quantised: bool, seed: int) -> ir.Model:
    """Valid, origins kept, same numbers, and on level 2 what was planned; gives the split model."""
    split = split_model(model, splits)
    before, after = ir.to_proto(model), ir.to_proto(split)
    onnx.checker.check_model(after, full_check=True)
    assert all_origins(split) == all_origins(model)
    given_inputs = feeds(model, seed)
    for old, new in zip(session_outputs(before, given_inputs), session_outputs(after, given_inputs), strict=True):
        assert old.dtype == new.dtype
        if quantised:
            assert old.tobytes() == new.tobytes(), splits
        else:
            assert np.abs(old.astype(np.float64) - new).max() <= FLOAT_ERROR * np.abs(old).max(), splits
    for precision in ("stored", "auto-int8"):
        assert lower(split, precision) == split_workload(lower(model, precision), splits)
    return split


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_products(kind: str, quantised: bool, seed: int) -> None:
    model = random_model(seed, kind, quantised)
    op = lower(model, "stored").op["n"]
    rng = np.random.default_rng(seed)
    assert isinstance(op.by_output, Cut), op.by_output
    for axis in ("output", "input"):
        split = random_split(rng, op, axis)
        if split is not None:
            check(model, (split,), quantised, seed)


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_most_random_products_can_be_split(kind: str, quantised: bool) -> None:
    """So that the test above is not about nothing."""
    found = {"output": 0, "input": 0}
    for seed in range(10):
        op = lower(random_model(seed, kind, quantised), "stored").op["n"]
        for axis in found:
            found[axis] += random_split(np.random.default_rng(seed), op, axis) is not None
    assert found["output"] >= 5
    assert (found["input"] >= 5) == (not quantised and kind not in ("grouped", "depthwise"))


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in MODELS])
def test_every_product_of_a_zoo_model_at_once(name: str, int8: bool) -> None:
    model = legal(build_model(name, int8=int8))
    ops = lower(model, "stored").ops
    rng = np.random.default_rng(7)
    products = [op for op in ops if isinstance(op.by_output, Cut)]
    for axis in ("output",) if int8 else ("output", "input"):
        splits = tuple(s for op in products if (s := random_split(rng, op, axis)) is not None)
        assert len(splits) >= len(products) // 3
        check(model, splits, int8, 3)


def conv(rng: np.random.Generator, name: str, x: str, y: str, outer: int, inner: int, **more: Any) -> Any:
    weights = rng.standard_normal((outer, inner, 1, 1), dtype=np.float32)
    return onnx.helper.make_node("Conv", [x, f"{name}_w"], [y], name=name, **more), {f"{name}_w": weights}


def chain(*, output: bool = False) -> ir.Model:
    """A convolution and a depthwise one behind it; `output`: what lies between is a model output too."""
    rng = np.random.default_rng(0)
    first, a = conv(rng, "a", "x", "m", 8, 4)
    second, b = conv(rng, "b", "m", "y", 8, 1, group=8)
    inputs = {"x": ("float", (1, 4, 5, 5)), **a, **b}
    names = ["y", "m"] if output else ["y"]
    results = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 8, 5, 5]) for n in names]
    from tests.lowering.building import graph_model

    return legal(graph_model([first, second], inputs, results))


ALIKE = (Split("a", "output", (2, 6)), Split("b", "output", (2, 6)))


def test_parts_read_parts_where_two_splits_meet() -> None:
    types = [n.op_type for n in check(chain(), ALIKE, False, 0).graph]
    assert types == ["Conv", "Conv", "Conv", "Conv", "Concat"]


def test_a_join_that_something_else_reads_stays() -> None:
    types = [n.op_type for n in check(chain(output=True), ALIKE, False, 0).graph]
    assert types == ["Conv", "Conv", "Concat", "Conv", "Conv", "Concat"]


def test_splits_at_other_channels_need_slices() -> None:
    splits = (ALIKE[0], Split("b", "output", (4, 4)))
    types = [n.op_type for n in check(chain(), splits, False, 0).graph]
    assert types == ["Conv", "Conv", "Concat", "Slice", "Conv", "Slice", "Conv", "Concat"]


def test_names_and_what_a_part_says() -> None:
    split = check(chain(), (Split("a", "input", (2, 2)), ALIKE[1]), False, 0)
    assert [n.name for n in split.graph] == [
        *("a/slice0", "a/part0", "a/slice1", "a/part1", "a/join"),
        *("b/slice0", "b/part0", "b/slice1", "b/part1", "b/join"),
    ]
    groups = [n.attributes.get_int("group", 1) for n in split.graph if n.name.startswith("b/part")]  # type: ignore[union-attr]
    assert groups == [2, 6]
    again = lower(split, "stored").op["a/part0"]
    assert again.by_output == again.by_input == "it is a part of a split already"
    assert "a_w" not in split.graph.initializers


def test_the_callers_model_is_left_alone() -> None:
    model = chain()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    split_model(model, ALIKE)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(("opset", "version"), [(7, 3), (9, 4), (13, 8)])
def test_old_operator_sets(opset: int, version: int) -> None:
    """Slice with attributes, and initialisers that have to be inputs."""
    proto = ir.to_proto(chain())
    proto.opset_import[0].version = opset
    proto.ir_version = version
    if version < 4:
        for tensor in proto.graph.initializer:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model = ir.from_proto(proto)
    split = split_model(model, (Split("b", "output", (2, 6)),))
    assert [v.name for v in split.graph.inputs] == ["x"]
    x = {"x": np.random.default_rng(1).standard_normal((1, 4, 5, 5), dtype=np.float32)}
    assert np.allclose(
        session_outputs(ir.to_proto(chain()), x)[0], session_outputs(ir.to_proto(split), x)[0], atol=1e-6
    )
