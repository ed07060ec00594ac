"""The catalogue: figures against the literature and against the models themselves."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from h4hc.registry import resolve
from h4hc.zoo.models import MODELS, ZooModel
from tests.zoo.conftest import NAMES, Build
from tests.zoo.counting import count_macs, count_parameters

# As printed by others; written here a second time, so that models.py alone cannot make the test pass.
_LITERATURE_PARAMETERS = {
    "ds-cnn": 23_756,  # Keras summary of MLPerf Tiny keyword_spotting: total 24,908, trainable 23,756
    "hybrid-xxs": 1_272_024,  # paper and timm: 1.3 M
    "mobilenet-v2": 3_504_872,  # torchvision num_params
    "mobilenet-v3-small": 2_542_856,  # torchvision num_params
    "resnet8": 78_186,  # Keras summary of MLPerf Tiny image_classification: total 78,666
    "vit-tiny": 5_717_416,  # timm deit_tiny_patch16_224: 5.7 M
}
_KERAS_TOTAL = {"ds-cnn": 24_908, "resnet8": 78_666}  # with the running statistics of batch norm


def test_the_catalogue_is_sorted_and_complete() -> None:
    assert list(MODELS) == sorted(MODELS)
    assert {"ds-cnn", "resnet8", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny", "hybrid-xxs", "unet"} < set(MODELS)
    assert all(name == entry.name for name, entry in MODELS.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODELS["unet"].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("entry", MODELS.values(), ids=list(MODELS))
def test_the_builder_exists(entry: ZooModel) -> None:
    assert callable(resolve(entry.build))


def test_importing_the_catalogue_loads_nothing_heavy() -> None:
    code = "import sys, h4hc.zoo.models; print([m for m in ('numpy', 'onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_macs_and_parameters_are_those_of_the_model(name: str, zoo: Build) -> None:
    entry, model = MODELS[name], zoo(name, False)
    assert count_macs(model) == entry.macs
    assert count_parameters(model) == entry.parameters
    assert tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim) == entry.input_shape


@pytest.mark.parametrize("name", sorted(_LITERATURE_PARAMETERS))
def test_parameters_equal_the_published_figure(name: str) -> None:
    assert MODELS[name].parameters == MODELS[name].published_parameters == _LITERATURE_PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(_KERAS_TOTAL))
def test_parameters_with_running_statistics_equal_keras_total(name: str, zoo: Build) -> None:
    assert count_parameters(zoo(name, False), running_statistics=True) == _KERAS_TOTAL[name]


@pytest.mark.parametrize(
    ("name", "published", "last_digit"),
    [
        ("ds-cnn", 2_656_768, 1),
        ("hybrid-xxs", 0.4e9, 0.1e9),
        ("mobilenet-v2", 300.8e6, 0.1e6),
        ("mobilenet-v3-small", 57e6, 1e6),
        ("resnet8", 12_501_632, 1),
        ("vit-tiny", 1.3e9, 0.1e9),
    ],
)
def test_macs_equal_the_published_figure_to_its_last_digit(name: str, published: float, last_digit: float) -> None:
    entry = MODELS[name]
    assert (entry.published_macs, entry.published_macs_digit) == (published, last_digit)
    assert abs(entry.macs - published) <= last_digit / 2


def test_own_nets_claim_no_published_figure() -> None:
    own = [e for e in MODELS.values() if e.source.startswith("our own")]
    assert [e.name for e in own] == ["fpn-detector", "unet"]
    assert all(e.published_macs is None and e.published_parameters is None for e in own)


@pytest.mark.parametrize("name", NAMES)
def test_quantisation_keeps_the_macs(name: str, zoo: Build) -> None:
    assert count_macs(zoo(name, True)) == MODELS[name].macs
