"""Each model is built once a test session."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from h4hc.zoo.build import build_model
from h4hc.zoo.images import sample_images
from h4hc.zoo.models import MODELS
from h4hc.zoo.run import run_model

Build = Callable[[str, bool], onnx.ModelProto]
Run = Callable[[str, bool], list[np.ndarray]]

_TEST_IMAGES, _TEST_SEED = 3, 99  # other images than those of the calibration (the model's seed, 0)
_HEAVY = ("fpn-detector", "hybrid-xxs", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny")
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in _HEAVY else n for n in MODELS]


@functools.cache
def _build(name: str, int8: bool) -> onnx.ModelProto:
    return build_model(name, int8=int8)


@functools.cache
def _run(name: str, int8: bool) -> list[np.ndarray]:
    images = sample_images(MODELS[name].input_shape, _TEST_IMAGES, _TEST_SEED)
    results = [run_model(_build(name, int8), image[None]) for image in images]
    return [np.stack(outputs) for outputs in zip(*results, strict=True)]


@pytest.fixture(scope="session")
def zoo() -> Build:
    """zoo(name, int8): the model of seed 0."""
    return _build


@pytest.fixture(scope="session")
def zoo_outputs() -> Run:
    """zoo_outputs(name, int8): each output of the model for three images it was not calibrated on."""
    return _run
