"""Folding before quantisation keeps the function."""

from __future__ import annotations

import numpy as np
import pytest

from h4hc.zoo.fold import fold_constants_and_norms
from h4hc.zoo.images import sample_images
from h4hc.zoo.models import MODELS
from h4hc.zoo.run import run_model
from tests.zoo.conftest import Build


@pytest.mark.parametrize("name", ["ds-cnn", "unet", pytest.param("mobilenet-v2", marks=pytest.mark.slow)])
def test_folded_model_computes_the_same(name: str, zoo: Build) -> None:
    model = zoo(name, False)
    before = model.SerializeToString()
    folded = fold_constants_and_norms(model)
    assert model.SerializeToString() == before  # the input is left alone
    assert not {n.op_type for n in folded.graph.node} & {"BatchNormalization", "Constant"}
    image = sample_images(MODELS[name].input_shape, 1, 5)
    for exact, found in zip(run_model(model, image), run_model(folded, image), strict=True):
        assert np.abs(found - exact).max() <= 1e-4 * np.abs(exact).max()
