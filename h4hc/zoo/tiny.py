"""The two MLPerf Tiny nets: DS-CNN and ResNet-8, with the biases and paddings of their Keras originals."""

from __future__ import annotations

from h4hc.zoo.net import BRANCH, Net

_KERAS_EPS = 1e-3  # Keras' BatchNormalization default


def ds_cnn(net: Net) -> None:
    """Keyword spotting on 49 x 10 MFCC: a 10 x 4 convolution, 4 separable blocks of 64 channels, 12 classes."""
    x = net.input("input", (1, 49, 10))
    # "same" padding of a 10 x 4 kernel at stride 2 on 49 x 10: 9 rows (4 + 5) and 2 columns
    x = net.conv("stem.conv", x, (1, 64), (10, 4), stride=2, bias=True, pads=(4, 1, 5, 1))
    x = _norm_relu(net, "stem", x, 64)
    for i in range(4):
        at = f"blocks.{i}"
        x = net.conv(f"{at}.depthwise.conv", x, (64, 64), 3, groups=64, bias=True)
        x = _norm_relu(net, f"{at}.depthwise", x, 64)
        x = net.conv(f"{at}.pointwise.conv", x, (64, 64), bias=True)
        x = _norm_relu(net, f"{at}.pointwise", x, 64)
    x = net.op("AveragePool", [x], "pool", kernel_shape=[25, 5], strides=[25, 5])
    x = net.op("Flatten", [x], "", axis=1)
    x = net.linear("classifier", x, (64, 12), gain=8.0)
    net.output(net.op("Softmax", [x], "", axis=-1), "probabilities", (12,))


def resnet8(net: Net) -> None:
    """CIFAR-10: a stem and three residual stacks of 16, 32 and 64 channels."""
    x = net.input("input", (3, 32, 32))
    x = net.conv("stem.conv", x, (3, 16), 3, bias=True)
    x = _norm_relu(net, "stem", x, 16)
    for i, (before, width, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2))):
        x = _stack(net, f"stacks.{i}", x, before, width, stride)
    x = net.op("AveragePool", [x], "pool", kernel_shape=[8, 8], strides=[8, 8])
    x = net.op("Flatten", [x], "", axis=1)
    x = net.linear("classifier", x, (64, 10), gain=2.0)
    net.output(net.op("Softmax", [x], "", axis=-1), "probabilities", (10,))


def _stack(net: Net, at: str, x: str, before: int, width: int, stride: int) -> str:
    # "same" padding of a 3 x 3 kernel at stride 2 on an even size lies at the end only
    pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
    y = net.conv(f"{at}.a.conv", x, (before, width), 3, stride=stride, bias=True, pads=pads)
    y = _norm_relu(net, f"{at}.a", y, width)
    y = net.conv(f"{at}.b.conv", y, (width, width), 3, bias=True)
    y = net.batch_norm(f"{at}.b.norm", y, width, _KERAS_EPS, BRANCH)
    if stride != 1:  # without batch norm, as in the original
        x = net.conv(f"{at}.shortcut", x, (before, width), 1, stride=stride, bias=True, pads=(0, 0, 0, 0), gain=1.0)
    return net.op("Relu", [net.op("Add", [x, y], at)], at)


def _norm_relu(net: Net, at: str, x: str, channels: int) -> str:
    return net.op("Relu", [net.batch_norm(f"{at}.norm", x, channels, _KERAS_EPS)], at)
