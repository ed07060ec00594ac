"""Whole networks: MACs and parameters as published, layout changes where a designer would expect them."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from h4hc.annotations import all_origins, stamp_origins
from h4hc.lower import lower
from h4hc.pipeline import parse_pipeline, run_pipeline
from h4hc.workload import OpKind, Workload
from h4hc.zoo.build import build_model
from h4hc.zoo.models import MODELS
from tests.lowering.building import lowered
from tests.lowering.test_layouts import changes

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@functools.cache
def light(name: str) -> onnx.ModelProto:
    return onnx.load(LIGHT / f"light_{name}.onnx")


@functools.cache
def legal(name: str, int8: bool) -> ir.Model:
    """A zoo model after the default passes."""
    model = ir.from_proto(build_model(name, int8=int8))
    stamp_origins(model)
    return run_pipeline(model, parse_pipeline("default")).model


# GMACs and parameters as torchvision documents them for these nets (its models' weights pages); parameters there do
# not count the running statistics of batch norm, which an ONNX file stores: (mean, variance) a channel. The DenseNet
# came through Caffe, which writes scale and shift of batch norm once more, as Mul and Add.
PUBLISHED = [
    ("resnet50", 4.09, 25_557_032, 53_120),
    ("vgg19", 19.63, 143_667_240, 0),
    ("squeezenet", 0.35, 1_235_496, 0),  # SqueezeNet 1.1
    ("densenet121", 2.83, 7_978_856, 2 * 83_648),
]


@pytest.mark.parametrize(("name", "gmacs", "parameters", "extra"), PUBLISHED)
def test_published_macs_and_parameters(name: str, gmacs: float, parameters: int, extra: int) -> None:
    workload = lowered(light(name))
    assert sum(op.macs for op in workload.ops) / 1e9 == pytest.approx(gmacs, abs=0.005)
    assert sum(op.weight_bytes for op in workload.ops) == 4 * (parameters + extra)


@pytest.mark.parametrize(("name", "gmacs"), [("inception_v1", 1.5), ("inception_v2", 2.0)])
def test_macs_published_in_round_numbers(name: str, gmacs: float) -> None:
    """GoogLeNet: 1.5 billion multiply-adds (arXiv:1409.4842); with batch norm: about 2 billion (arXiv:1502.03167)."""
    assert sum(op.macs for op in lowered(light(name)).ops) / 1e9 == pytest.approx(gmacs, rel=0.05)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_zoo_models_keep_their_macs_through_the_passes(name: str) -> None:
    workload = lower(legal(name, False), "auto-int8")
    assert sum(op.macs for op in workload.ops) == MODELS[name].macs
    assert workload.precision == "planned int8"
    assert {op.dtype for op in workload.ops} == {"int8"}


@pytest.mark.parametrize("name", ["ds-cnn", "resnet8", "unet", "mobilenet-v2", "vit-tiny"])
def test_int8_zoo_models_are_the_same_work(name: str) -> None:
    workload = lower(legal(name, True), "auto-int8")
    assert sum(op.macs for op in workload.ops) == MODELS[name].macs
    assert workload.precision == "as stored"
    floats = {op.kind for op in workload.ops if op.dtype == "float32"}
    assert floats == {OpKind.QUANTIZE}  # the border only
    planned = lower(legal(name, False), "auto-int8")
    assert {t.shape for t in workload.tensors if t.name in workload.inputs} == {
        t.shape for t in planned.tensors if t.name in planned.inputs
    }


@pytest.mark.parametrize("name", ["mobilenet-v2", "mobilenet-v3-small", "resnet8", "unet", "fpn-detector", "vit-tiny"])
def test_one_layout_change_at_the_input_and_none_inside(name: str) -> None:
    workload = lower(legal(name, False), "auto-int8")
    inside = [c for c in changes(workload) if c[1]]
    assert [tensor for tensor, _ in inside] == list(workload.inputs)
    assert len(changes(workload)) - len(inside) == sum(len(workload.tensor[o].shape) == 4 for o in workload.outputs)


def test_one_channel_inputs_need_no_layout_change() -> None:
    assert changes(lower(legal("ds-cnn", False), "auto-int8")) == []


def test_a_hybrid_changes_order_once_into_and_once_out_of_each_transformer() -> None:
    """MobileViT cuts feature maps into patches: a reshape across channels-last, and back."""
    workload = lower(legal("hybrid-xxs", False), "auto-int8")
    kinds = {op.id: op.kind for op in workload.ops}
    assert [kinds[op] for _, op in changes(workload)] == [OpKind.CONV] + [OpKind.VIEW, OpKind.CONV] * 3


@pytest.mark.parametrize(("name", "int8"), [("hybrid-xxs", False), ("mobilenet-v2", True)])
def test_nothing_is_lost(name: str, int8: bool) -> None:
    model = legal(name, int8)
    workload = lower(model, "auto-int8")
    assert frozenset(o for op in workload.ops for o in op.origin) == all_origins(model)
    made = {n for op in workload.ops for n in op.outputs}
    assert made | set(workload.inputs) >= {n for op in workload.ops for n in op.inputs} | set(workload.outputs)
    _check_sums(workload)


def _check_sums(workload: Workload) -> None:
    """Every operator comes behind those it needs, and its bytes are those of its tensors."""
    ready = set(workload.inputs)
    for op in workload.ops:
        assert ready >= set(op.inputs)
        ready.update(op.outputs)
        for names, total in (
            (op.inputs, op.input_bytes),
            (op.outputs, op.output_bytes),
            (op.weights, op.weight_bytes),
        ):
            assert len(set(names)) == len(names)
            assert total == sum(workload.tensor[n].size_bytes for n in names)
