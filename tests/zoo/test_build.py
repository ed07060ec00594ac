"""Every model is valid ONNX, runs, gives outputs that mean something, and is the same each time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from h4hc.errors import UserError
from h4hc.zoo.build import build_model, round_to_step
from h4hc.zoo.models import MODELS
from tests.zoo.conftest import NAMES, Build, Run


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_valid_and_runs(name: str, int8: bool, zoo: Build, zoo_outputs: Run) -> None:
    model = zoo(name, int8)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert len({n.name for n in model.graph.node}) == len(model.graph.node)
    assert "" not in {n.name for n in model.graph.node}
    for output, values in zip(model.graph.output, zoo_outputs(name, int8), strict=True):
        assert values.shape[1:] == tuple(d.dim_value for d in output.type.tensor_type.shape.dim)
        assert np.isfinite(values).all()
        spread = values.std()
        assert spread > 0.05
        assert values.std(axis=tuple(range(1, values.ndim))).min() > 0.5 * spread  # no image gives a flat result
        assert values.std(axis=0).mean() > 0.02 * spread  # results differ from image to image


@pytest.mark.parametrize("name", NAMES)
def test_activations_neither_vanish_nor_explode(name: str, zoo: Build) -> None:
    for node in zoo(name, False).graph.node:
        if node.op_type == "BatchNormalization":
            values = {i.name: i for i in zoo(name, False).graph.initializer}
            variance = onnx.numpy_helper.to_array(values[node.input[4]])
            assert 1e-3 < np.median(variance) < 1e2, node.name


def test_float_models_keep_batch_norm_and_exporters_spellings(zoo: Build) -> None:
    ops = Counter(n.op_type for n in zoo("unet", False).graph.node)
    assert ops["BatchNormalization"] == 14
    assert ops["ConvTranspose"] == ops["Concat"] == ops["MaxPool"] == 3
    names = {n.name for n in zoo("resnet8", False).graph.node}
    assert {"/stem/conv/Conv", "/stacks/stacks.1/a/norm/BatchNormalization", "/classifier/Gemm"} < names


@pytest.mark.slow
def test_spellings_of_the_transformers(zoo: Build) -> None:
    vit = Counter(n.op_type for n in zoo("vit-tiny", False).graph.node)
    assert vit["LayerNormalization"] == 25
    assert vit["Erf"] == vit["Softmax"] == vit["Split"] == 12
    hybrid = Counter(n.op_type for n in zoo("hybrid-xxs", False).graph.node)
    assert hybrid["LayerNormalization"] == 0
    assert hybrid["Pow"] == hybrid["Sqrt"] == hybrid["Sub"] == 21
    assert hybrid["Softmax"] == 9
    v2 = {n.name for n in zoo("mobilenet-v2", False).graph.node}
    assert {"/features/features.1/conv/conv.0/conv.0.0/Conv", "/features/features.3/Add"} < v2
    v3 = Counter(n.op_type for n in zoo("mobilenet-v3-small", False).graph.node)
    assert (v3["HardSwish"], v3["HardSigmoid"], v3["BatchNormalization"]) == (19, 9, 34)


@pytest.mark.slow
def test_the_detector_shares_its_head_and_has_six_outputs(zoo: Build) -> None:
    graph = zoo("fpn-detector", False).graph
    uses = Counter(v for n in graph.node for v in n.input if v.startswith("head."))
    assert set(uses.values()) == {3}
    assert len(uses) == 12
    assert [o.name for o in graph.output] == [f"{t}_p{i}" for i in (3, 4, 5) for t in ("classes", "boxes")]


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_the_seed_changes_weights_and_nothing_else(int8: bool, zoo: Build) -> None:
    one, other = zoo("ds-cnn", int8), build_model("ds-cnn", seed=7, int8=int8)
    weight = "stem.conv.weight_quantized" if int8 else "stem.conv.weight"
    first, second = ({i.name: i for i in m.graph.initializer} for m in (one, other))
    assert first[weight].raw_data != second[weight].raw_data
    assert [(n.name, n.op_type) for n in one.graph.node] == [(n.name, n.op_type) for n in other.graph.node]


@pytest.mark.parametrize(
    ("name", "int8"), [("resnet8", False), ("ds-cnn", True), pytest.param("hybrid-xxs", True, marks=pytest.mark.slow)]
)
def test_same_bytes_in_another_process(name: str, int8: bool, zoo: Build, tmp_path: Path) -> None:
    code = (
        "import hashlib; from h4hc.zoo.build import build_model; "
        f"print(hashlib.sha256(build_model({name!r}, int8={int8}).SerializeToString()).hexdigest())"
    )
    here = hashlib.sha256(zoo(name, int8).SerializeToString()).hexdigest()
    env = {**os.environ, "PYTHONHASHSEED": "4242", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, cwd=tmp_path
    )
    assert (done.stdout.strip(), done.stderr) == (here, "")
    assert list(tmp_path.iterdir()) == []  # nothing left behind


def test_unknown_names_and_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="no zoo model 'resnet9'") as unknown:
        build_model("resnet9")
    assert all(name in str(unknown.value) for name in MODELS)
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match="out of range"):
            build_model("ds-cnn", seed=seed)


def test_round_to_step_hides_the_last_digits_only() -> None:
    values = np.array([1.2345678, -0.02, 300.0], dtype=np.float32)
    scale = np.array([1.0, 1.0, 256.0], dtype=np.float32)
    rounded = round_to_step(values, scale)
    assert np.array_equal(rounded, round_to_step(values * np.float32(1 + 1e-6), scale))
    assert (np.abs(rounded - values) <= scale / 512).all()
