"""A small detector: residual backbone, feature pyramid (Resize and Add), one head shared by three scales."""

from __future__ import annotations

from h4hc.zoo.net import BRANCH, Net

_WIDTHS = (24, 48, 96, 160)  # channels at strides 4, 8, 16, 32
_PYRAMID = 64
_CLASSES = 8
_SIZE = 256


def fpn_detector(net: Net) -> None:
    """256 x 256 images; for strides 8, 16 and 32 class scores (8) and box distances (4) at each position."""
    x = net.input("image", (3, _SIZE, _SIZE))
    x = _layer(net, "backbone.stem.0", x, (3, 16), 2)
    stages: list[str] = []
    before = 16
    for i, width in enumerate(_WIDTHS):
        x = _residual(net, f"backbone.stages.{i}.0", x, before, width, 2)
        x = _residual(net, f"backbone.stages.{i}.1", x, width, width, 1)
        stages.append(x)
        before = width
    for level, feature in zip((3, 4, 5), _pyramid(net, stages[1:]), strict=True):
        _head(net, feature, level)


def _layer(net: Net, at: str, x: str, channels: tuple[int, int], stride: int = 1) -> str:
    x = net.conv(f"{at}.conv", x, channels, 3, stride=stride)
    return net.op("Relu", [net.batch_norm(f"{at}.bn", x, channels[1])], f"{at}.act")


def _residual(net: Net, at: str, x: str, before: int, width: int, stride: int) -> str:
    y = _layer(net, f"{at}.conv1", x, (before, width), stride)
    y = net.conv(f"{at}.conv2.conv", y, (width, width), 3)
    y = net.batch_norm(f"{at}.conv2.bn", y, width, scale_mean=BRANCH)
    if stride != 1:
        x = net.conv(f"{at}.downsample.0", x, (before, width), stride=stride)
        x = net.batch_norm(f"{at}.downsample.1", x, width)
    return net.op("Relu", [net.op("Add", [y, x], at)], f"{at}.act")


def _pyramid(net: Net, stages: list[str]) -> list[str]:
    """Lateral 1 x 1 convolutions, each coarser level enlarged by two and added; a 3 x 3 convolution smooths."""
    widths = _WIDTHS[1:]
    laterals = [
        net.conv(f"fpn.lateral.{i}", x, (widths[i], _PYRAMID), bias=True, gain=1.0) for i, x in enumerate(stages)
    ]
    merged = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        scales = net.literal([1.0, 1.0, 2.0, 2.0], "fpn")
        larger = net.op(
            "Resize",
            [merged[0], "", scales],
            "fpn",
            coordinate_transformation_mode="asymmetric",
            mode="nearest",
            nearest_mode="floor",
        )
        merged.insert(0, net.op("Add", [lateral, larger], "fpn"))
    return [net.conv(f"fpn.output.{i}", x, (_PYRAMID, _PYRAMID), 3, bias=True, gain=1.0) for i, x in enumerate(merged)]


def _head(net: Net, feature: str, level: int) -> None:
    """Two towers of two convolutions; the weights are the same at each level."""
    side = _SIZE >> level
    for tower, width in (("classes", _CLASSES), ("boxes", 4)):
        x = feature
        for i in (0, 2):
            at = f"head.{tower}.{i}"
            x = net.conv(at, x, (_PYRAMID, _PYRAMID), 3, bias=True, call=f"level{level}.{at}")
            x = net.op("Relu", [x], f"level{level}.head.{tower}.{i + 1}")
        at = f"head.{tower}.4"
        x = net.conv(at, x, (_PYRAMID, width), 3, bias=True, gain=1.0, call=f"level{level}.{at}")
        x = net.op("Sigmoid" if tower == "classes" else "Relu", [x], f"level{level}.head.{tower}")
        net.output(x, f"{tower}_p{level}", (width, side, side))
