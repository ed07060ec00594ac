"""MobileNetV2 and MobileNetV3-Small, layer by layer as torchvision has them."""

from __future__ import annotations

import numpy as np

from h4hc.zoo.net import BRANCH, Net

_V2 = (  # expansion, out channels, repeats, first stride (MobileNetV2 paper, table 2)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

_V3_SMALL = (  # kernel, expanded, out, squeeze-excite, activation, stride (MobileNetV3 paper, table 2)
    (3, 16, 16, True, "Relu", 2),
    (3, 72, 24, False, "Relu", 2),
    (3, 88, 24, False, "Relu", 1),
    (5, 96, 40, True, "HardSwish", 2),
    (5, 240, 40, True, "HardSwish", 1),
    (5, 240, 40, True, "HardSwish", 1),
    (5, 120, 48, True, "HardSwish", 1),
    (5, 144, 48, True, "HardSwish", 1),
    (5, 288, 96, True, "HardSwish", 2),
    (5, 576, 96, True, "HardSwish", 1),
    (5, 576, 96, True, "HardSwish", 1),
)
_V3_EPS = 1e-3


def mobilenet_v2(net: Net) -> None:
    """MobileNetV2 1.0 at 224: inverted residuals with ReLU6."""
    x = net.input("input", (3, 224, 224))
    x = _v2_layer(net, "features.0", x, (3, 32), kernel=3, stride=2)
    index, before = 1, 32
    for expansion, width, repeats, first_stride in _V2:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _v2_block(net, f"features.{index}", x, (before, width), expansion, stride)
            index, before = index + 1, width
    x = _v2_layer(net, f"features.{index}", x, (320, 1280))
    x = net.op("GlobalAveragePool", [x], "")
    x = net.op("Flatten", [x], "", axis=1)
    net.output(net.linear("classifier.1", x, (1280, 1000)), "output", (1000,))


def _v2_layer(
    net: Net, at: str, x: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1, groups: int = 1
) -> str:
    """Convolution, batch norm, ReLU6 (exported as Clip)."""
    x = net.conv(f"{at}.0", x, channels, kernel, stride=stride, groups=groups)
    x = net.batch_norm(f"{at}.1", x, channels[1])
    low, high = net.literal(0.0, f"{at}.2", np.float32), net.literal(6.0, f"{at}.2", np.float32)
    return net.op("Clip", [x, low, high], f"{at}.2")


def _v2_block(net: Net, at: str, x: str, channels: tuple[int, int], expansion: int, stride: int) -> str:
    before, width = channels
    inner, y, step = before * expansion, x, 0
    if expansion != 1:
        y, step = _v2_layer(net, f"{at}.conv.0", y, (before, inner)), 1
    y = _v2_layer(net, f"{at}.conv.{step}", y, (inner, inner), 3, stride, groups=inner)
    y = net.conv(f"{at}.conv.{step + 1}", y, (inner, width), gain=1.0)
    skip = stride == 1 and before == width
    y = net.batch_norm(f"{at}.conv.{step + 2}", y, width, scale_mean=BRANCH if skip else 1.0)
    return net.op("Add", [x, y], at) if skip else y


def mobilenet_v3_small(net: Net) -> None:
    """MobileNetV3-Small 1.0 at 224: inverted residuals with squeeze-and-excite and hard swish."""
    x = net.input("input", (3, 224, 224))
    x = _v3_layer(net, "features.0", x, (3, 16), 3, 2, activation="HardSwish")
    before = 16
    for i, (kernel, inner, width, excite, activation, stride) in enumerate(_V3_SMALL):
        x = _v3_block(net, f"features.{i + 1}", x, (before, inner, width), kernel, stride, excite, activation)
        before = width
    x = _v3_layer(net, f"features.{len(_V3_SMALL) + 1}", x, (before, 576), activation="HardSwish")
    x = net.op("GlobalAveragePool", [x], "avgpool")
    x = net.op("Flatten", [x], "", axis=1)
    x = net.op("HardSwish", [net.linear("classifier.0", x, (576, 1024), gain=2.0)], "classifier.1")
    net.output(net.linear("classifier.3", x, (1024, 1000)), "output", (1000,))


def _v3_layer(
    net: Net,
    at: str,
    x: str,
    channels: tuple[int, int],
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: str = "",
    scale_mean: float = 1.0,
) -> str:
    x = net.conv(f"{at}.0", x, channels, kernel, stride=stride, groups=groups)
    x = net.batch_norm(f"{at}.1", x, channels[1], _V3_EPS, scale_mean)
    return net.op(activation, [x], f"{at}.2") if activation else x


def _v3_block(
    net: Net,
    at: str,
    x: str,
    channels: tuple[int, int, int],
    kernel: int,
    stride: int,
    excite: bool,
    activation: str,
) -> str:
    before, inner, width = channels
    y, step = x, 0
    if inner != before:
        y, step = _v3_layer(net, f"{at}.block.0", y, (before, inner), activation=activation), 1
    y = _v3_layer(net, f"{at}.block.{step}", y, (inner, inner), kernel, stride, inner, activation)
    if excite:
        step += 1
        y = _squeeze_excite(net, f"{at}.block.{step}", y, inner)
    skip = stride == 1 and before == width
    y = _v3_layer(net, f"{at}.block.{step + 1}", y, (inner, width), scale_mean=BRANCH if skip else 1.0)
    return net.op("Add", [y, x], at) if skip else y


def _squeeze_excite(net: Net, at: str, x: str, channels: int) -> str:
    """Scale each channel by a gate computed from its mean."""
    squeezed = make_divisible(channels // 4)
    y = net.op("GlobalAveragePool", [x], f"{at}.avgpool")
    y = net.op("Relu", [net.conv(f"{at}.fc1", y, (channels, squeezed), bias=True)], f"{at}.activation")
    y = net.conv(f"{at}.fc2", y, (squeezed, channels), bias=True)
    y = net.op("HardSigmoid", [y], f"{at}.scale_activation", alpha=1 / 6, beta=0.5)
    return net.op("Mul", [y, x], at)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of the value (the MobileNet papers' rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
