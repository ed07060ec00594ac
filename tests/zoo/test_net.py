"""Names as PyTorch's exporter gives them; weights that do not depend on the order of asking; images."""

from __future__ import annotations

import numpy as np
import pytest

from h4hc.zoo.images import sample_images
from h4hc.zoo.mobilenet import make_divisible
from h4hc.zoo.net import Net, Weights, scopes


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("", ""),
        ("features.1.conv.0.0", "/features/features.1/conv/conv.0/conv.0.0"),
        ("blocks.11.attn.qkv", "/blocks/blocks.11/attn/qkv"),
    ],
)
def test_scopes(path: str, prefix: str) -> None:
    assert scopes(path) == prefix


def test_repeated_operators_are_numbered() -> None:
    net = Net(Weights(0), 1, {})
    x = net.input("x", (4,))
    names = [net.op("Relu", [x], "a.0"), net.op("Relu", [x], "a.0"), net.op("Relu", [x], "a.1")]
    assert names == ["/a/a.0/Relu_output_0", "/a/a.0/Relu_1_output_0", "/a/a.1/Relu_output_0"]


def test_weights_depend_on_name_and_seed_only() -> None:
    first, second, other = Weights(1), Weights(1), Weights(2)
    a = first.normal("a", (50,), 1.0)
    second.normal("b", (9,), 1.0)
    assert np.array_equal(a, second.normal("a", (50,), 1.0))
    assert not np.array_equal(a, other.normal("a", (50,), 1.0))
    assert not np.array_equal(a, first.normal("b", (50,), 1.0))


def test_weights_have_the_spread_asked_for() -> None:
    values = Weights(0).normal("w", (20_000,), 0.25, 1.0)
    assert values.dtype == np.float32
    assert abs(values.mean() - 1.0) < 0.01
    assert abs(values.std() - 0.25) < 0.01


def test_images_are_seeded_and_look_like_camera_input() -> None:
    images = sample_images((1, 3, 64, 48), 3, seed=5)
    assert images.shape == (3, 3, 64, 48)
    assert np.array_equal(images, sample_images((1, 3, 64, 48), 3, seed=5))
    assert not np.array_equal(images, sample_images((1, 3, 64, 48), 3, seed=6))
    levels = images * 64
    assert np.array_equal(levels, np.rint(levels))
    assert images.min() >= -2.0
    assert images.max() < 2.0
    assert 0.6 < images.std() < 0.9
    neighbours = np.corrcoef(images[..., 1:].ravel(), images[..., :-1].ravel())[0, 1]
    assert neighbours > 0.9  # smooth, unlike white noise


@pytest.mark.parametrize(("value", "rounded"), [(18, 24), (4, 8), (60, 64), (24, 24), (10, 16)])
def test_make_divisible_never_loses_more_than_a_tenth(value: int, rounded: int) -> None:
    assert make_divisible(value) == rounded
