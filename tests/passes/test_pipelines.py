"""The named pass lists: lawful order, and the rewriting part of the default list on random graphs and real models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from h4hc.annotations import stamp_origins
from h4hc.passbase import Pass
from h4hc.pipeline import parse_pipeline, run_pipeline
from passes.fold_batch_norm import FoldBatchNorm
from passes.pipelines import PIPELINES
from tests.passes.rewriting_support import assert_same

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
REWRITING = ("split-functions", "infer-shapes", "fold-constants", "drop-no-ops", "replace-layout", "fold-batch-norm")
TOLERANCE = 1e-5


def _rewriting() -> tuple[Pass, ...]:
    return tuple(item for item in parse_pipeline("default") if item.name in REWRITING)


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_lists_parse(name: str) -> None:
    assert ",".join(item.name for item in parse_pipeline(name)) == PIPELINES[name]


def test_options_reach_a_pass() -> None:
    (item,) = parse_pipeline("fold-constants{max-growth-bytes=7 max-total-growth-bytes=9}")
    assert (item.max_growth_bytes, item.max_total_growth_bytes) == (7, 9)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- random graphs


class _Builder:
    """A random graph of operators on tensors of rank 4, with shapes tracked by hand."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.live: list[tuple[str, tuple[int, ...]]] = [("x", (2, 3, 4, 5))]

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], **attributes))
        self.live.append((name, shape))

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def step(self) -> None:
        """One more operator on a recent value."""
        recent = self.live[-4:]
        value, shape = recent[int(self.rng.integers(len(recent)))]
        same = [v for v, s in self.live if s == shape]
        other = same[int(self.rng.integers(len(same)))]
        axis = int(self.rng.integers(4))
        match int(self.rng.integers(11)):
            case 0:
                self.add(str(self.rng.choice(["Relu", "Sigmoid", "Identity", "Neg", "Dropout"])), [value], shape)
            case 1:
                self.add(str(self.rng.choice(["Add", "Mul", "Max"])), [value, other], shape)
            case 2 | 3 | 4:
                perm = [[0, 2, 3, 1], [0, 3, 1, 2], [int(a) for a in self.rng.permutation(4)]][
                    int(self.rng.integers(3))
                ]
                self.add("Transpose", [value], tuple(shape[a] for a in perm), perm=perm)
            case 5:
                bias = self.rng.standard_normal(shape[-1]).astype(np.float32)
                self.add("Add", [value, self.constant(bias)], shape)
            case 6:
                joined = tuple(2 * s if i == axis else s for i, s in enumerate(shape))
                self.add("Concat", [value, other], joined, axis=axis)
            case 7:
                reduced = tuple(1 if i == axis else s for i, s in enumerate(shape))
                self.add("ReduceMean", [value], reduced, axes=[axis])
            case 8:
                self.add("Softmax", [value], shape, axis=axis)
            case 9:
                index = self.constant(np.asarray([int(a) for a in self.rng.permutation(4)], np.int64))
                self.nodes.append(onnx.helper.make_node("Shape", [value], [f"s{index}"]))
                self.nodes.append(onnx.helper.make_node("Gather", [f"s{index}", index], [f"t{index}"]))
                order = onnx.numpy_helper.to_array(self.constants[-1])
                self.add("Reshape", [value, f"t{index}"], tuple(shape[int(a)] for a in order))
            case _:
                whole = [self.constant(np.asarray([v], np.int64)) for v in (0, 1 << 30, axis)]
                self.add("Slice", [value, *whole], shape)

    def model(self) -> ir.Model:
        """Every value that nothing reads, and one that is read, is an output."""
        read = {name for node in self.nodes for name in node.input}
        ends = [(v, s) for v, s in self.live[1:] if v not in read or v == self.live[len(self.live) // 2][0]]
        outputs = [onnx.helper.make_tensor_value_info(v, onnx.TensorProto.FLOAT, s) for v, s in ends]
        source = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.live[0][1])
        graph = onnx.helper.make_graph(self.nodes, "random", [source], outputs, self.constants)
        imports = [onnx.helper.make_opsetid("", 17)]
        model = ir.from_proto(onnx.helper.make_model(graph, ir_version=10, opset_imports=imports))
        stamp_origins(model)
        return model


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_compute_the_same_and_settle(seed: int) -> None:
    builder = _Builder(seed)
    for _ in range(25):
        if np.prod(builder.live[-1][1]) < 20_000:
            builder.step()
    model = builder.model()
    run = run_pipeline(model, _rewriting())
    onnx.checker.check_model(ir.to_proto(run.model), full_check=True)
    assert_same(model, run.model, {"x": (2, 3, 4, 5)}, TOLERANCE)
    before = sum(node.op_type == "Transpose" for node in model.graph)
    assert sum(node.op_type == "Transpose" for node in run.model.graph) <= before


# ---------------------------------------------------------------- real models


@pytest.mark.parametrize(
    ("name", "norms_left", "nodes_at_most"),
    [
        ("light_resnet50", 0, 123),
        ("light_squeezenet", 0, 66),
        ("light_shufflenet", 0, 155),
        ("light_inception_v2", 0, 302),
    ],
)
def test_real_models_with_random_weights(name: str, norms_left: int, nodes_at_most: int) -> None:
    """The files hold one number a tensor; with random ones instead, a wrong channel order would show."""
    model = ir.load(os.fspath(LIGHT / f"{name}.onnx"))
    stamp_origins(model)
    legal = run_pipeline(
        model, tuple(p for p in _rewriting() if p.name not in ("fold-batch-norm", "drop-no-ops"))
    ).model
    rng = np.random.default_rng(0)
    for value in legal.graph.initializers.values():
        assert value.const_value is not None
        array = value.const_value.numpy()
        if array.dtype == np.float32:
            spread = np.sqrt(2 / max(array[0].size, 1)) if array.ndim > 1 else 0.1
            drawn = rng.standard_normal(array.shape) * spread
            drawn = drawn if array.ndim > 1 else np.abs(drawn) + 0.5  # a variance is positive
            value.const_value = ir.tensor(drawn.astype(np.float32))
    run = run_pipeline(legal, (*(p for p in _rewriting() if p.name == "drop-no-ops"), FoldBatchNorm()))
    types = [node.op_type for node in run.model.graph]
    assert types.count("BatchNormalization") == norms_left
    assert len(types) <= nodes_at_most
    shapes = {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in run.model.graph.inputs}
    assert_same(legal, run.model, shapes, TOLERANCE * 10)  # 50 layers deep
