"""The four networks of MLPerf Tiny, whose latency on Cortex-M cores is published.

Sizes after Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597, and github.com/mlcommons/tiny. The zoo has two of
them; the others are written down here, with batch norm folded, as they are deployed. Weights are random: no cost
depends on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from h4hc.zoo.build import build_model
from h4hc.zoo.net import Net, Weights

# channels and stride of each depthwise-separable block of MobileNetV1 0.25
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))
_LAYERS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


def mobilenet_v1(net: Net) -> None:
    """Visual wake words: MobileNetV1 0.25 on 96 x 96 RGB, 2 classes; 7,489,664 MACs."""
    x = _conv(net, "stem", net.input("input", (3, 96, 96)), (3, 8), 3, 2)
    channels = 8
    for i, (width, stride) in enumerate(_BLOCKS):
        x = _conv(net, f"blocks.{i}.depthwise", x, (channels, channels), 3, stride, groups=channels)
        x = _conv(net, f"blocks.{i}.pointwise", x, (channels, width), 1, 1)
        channels = width
    x = net.op("AveragePool", [x], "pool", kernel_shape=[3, 3], strides=[3, 3])
    x = net.linear("classifier", net.op("Flatten", [x], "", axis=1), (256, 2))
    net.output(net.op("Softmax", [x], "", axis=-1), "probabilities", (2,))


def autoencoder(net: Net) -> None:
    """Anomaly detection: ten fully connected layers, 640-128-128-128-128-8 and back; 264,192 MACs."""
    x = net.input("input", (640,))
    for i, (before, after) in enumerate(itertools.pairwise(_LAYERS)):
        x = net.linear(f"layers.{i}", x, (before, after))
        x = net.op("Relu", [x], f"layers.{i}") if i < len(_LAYERS) - 2 else x
    net.output(x, "output", (640,))


def _conv(net: Net, path: str, x: str, channels: tuple[int, int], kernel: int, stride: int, groups: int = 1) -> str:
    # "same" padding of a 3 x 3 kernel at stride 2 on an even size lies at the end only
    pads = (0, 0, 1, 1) if stride == 2 else None
    y = net.conv(path, x, channels, kernel, stride, groups, bias=True, pads=pads)
    return net.op("Relu", [y], path)


def network(name: str) -> bytes:
    """The float ONNX model of `name`: mobilenet-v1, autoencoder, or a model of the zoo."""
    own: dict[str, Callable[[Net], None]] = {"mobilenet-v1": mobilenet_v1, "autoencoder": autoencoder}
    if name in own:
        net = Net(Weights(0), 1, None)
        own[name](net)
        model = net.model(name, "MLPerf Tiny")
    else:
        model = build_model(name)
    serialized: bytes = model.SerializeToString()
    return serialized
