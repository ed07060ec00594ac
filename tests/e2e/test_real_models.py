"""Real nets end to end: the nine of the onnx package and the three trained ones of rapidocr."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from h4hc.api import CompileOptions, compile_model, write_folder
from h4hc.manifest import check_folder
from h4hc.partitioned import legalised_model, model_bytes, partition_models, partitioned_model
from h4hc.verification import Status, Verdict, Verification
from h4hc.verify import verify_folder
from h4hc.verify_models import verify_models

pytestmark = pytest.mark.slow

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETS = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"),
    *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
)
SHAPES = {
    "PP-OCRv6_det_small": "x=1,3,320,320",
    "PP-OCRv6_rec_small": "x=1,3,48,320",
    "ch_ppocr_mobile_v2.0_cls_mobile": "x=1,3,48,192",
}
TARGET = "npu+cim"


def check(folder: Path) -> Verification:
    """Verify a written folder; what h4hc made of the model must be bit-equal wherever no optimiser steps in."""
    whole = onnx.load(folder / "host.functions.onnx")
    onnx.checker.check_model(whole, full_check=True)
    result = verify_folder(folder)
    assert result.status == Status.VERIFIED
    own = [c for c in result.comparisons if c.reference == "legalised" and c.level == "ORT_DISABLE_ALL"]
    assert own
    assert {c.verdict for c in own} == {Verdict.BIT_EQUAL}
    return result


@pytest.mark.parametrize("net", NETS)
def test_light_models(net: str, tmp_path: Path) -> None:
    done = compile_model(LIGHT / f"light_{net}.onnx", CompileOptions(target=TARGET))
    write_folder(done, tmp_path / "out")
    check(tmp_path / "out")


def test_all_light_models_are_tested() -> None:
    assert sorted(p.name for p in LIGHT.glob("light_*.onnx")) == [f"light_{net}.onnx" for net in NETS]


@pytest.mark.parametrize("net", ["densenet121", "shufflenet", "squeezenet"])
def test_light_models_with_weights_that_can_show_an_error(net: str) -> None:
    """The weights in the files are one number each, so that all channels are alike; here they are drawn at random."""
    model = with_random_weights(onnx.load(LIGHT / f"light_{net}.onnx"))
    done = compile_model(model.SerializeToString(), CompileOptions(target=TARGET))
    assert done.run is not None
    assert done.schedule is not None
    legal, plan = done.run.model, done.schedule
    result = verify_models(
        model, legalised_model(legal), partitioned_model(legal, plan), partitions=partition_models(legal, plan)
    )
    assert result.status == Status.VERIFIED
    assert not result.diagnostics
    if net != "squeezenet":  # it has no batch norm to fold
        assert result.comparisons[0].max_abs > 0


def with_random_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each ConstantOfShape becomes a weight: He-scaled for kernels, in [0.5, 1.5) for vectors. No softmax at the end:
    it would be one at one class and zero elsewhere, whatever goes wrong before."""
    rng = np.random.default_rng(5)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        fan = max(1, int(np.prod(shape[1:])))
        array = rng.standard_normal(shape) * (2 / fan) ** 0.5 if len(shape) > 1 else rng.random(shape) + 0.5
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
    if kept[-1].op_type == "Softmax":
        model.graph.output[0].name = kept.pop().input[0]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.ir_version = max(model.ir_version, 4)
    return model


@pytest.mark.parametrize("net", sorted(SHAPES))
def test_rapidocr_models(net: str, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("rapidocr")
    assert spec is not None, "the trained models are missing: pip install --no-deps rapidocr==3.10.0"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "models" / f"{net}.onnx"
    done = compile_model(path, CompileOptions(target=TARGET, input_shapes=(SHAPES[net],)))
    write_folder(done, tmp_path / "out")
    result = check(tmp_path / "out")
    assert result.comparisons[0].largest > 0
    assert check_folder(tmp_path / "out").facts["model_sha256"] == done.loaded.sha256
    assert (tmp_path / "out" / "original.onnx").read_bytes() == path.read_bytes()
    assert done.run is not None
    assert (tmp_path / "out" / "legalised.onnx").read_bytes() == model_bytes(legalised_model(done.run.model))
