"""A small U-Net: four levels, max pooling down, transposed convolution up, skip connections by Concat."""

from __future__ import annotations

from h4hc.zoo.net import Net

_WIDTHS = (16, 32, 64, 128)
_CLASSES = 4


def unet(net: Net) -> None:
    """Segmentation of 128 x 128 images into 4 classes, one score map a class."""
    x = net.input("image", (3, 128, 128))
    skips: list[str] = []
    before = 3
    for i, width in enumerate(_WIDTHS):
        if i:
            x = net.op("MaxPool", [x], f"down.{i - 1}.pool", kernel_shape=[2, 2], strides=[2, 2])
        at = f"down.{i - 1}" if i else "stem"
        x = _double(net, at, x, before, width)
        skips.append(x)
        before = width
    for i, width in enumerate(reversed(_WIDTHS[:-1])):
        x = net.conv_transpose(f"up.{i}.up", x, (before, width), 2)
        x = net.op("Concat", [skips[-2 - i], x], f"up.{i}", axis=1)
        x = _double(net, f"up.{i}", x, 2 * width, width)
        before = width
    x = net.conv("head", x, (before, _CLASSES), bias=True, gain=1.0)
    net.output(x, "scores", (_CLASSES, 128, 128))


def _double(net: Net, at: str, x: str, before: int, width: int) -> str:
    """Twice convolution 3 x 3, batch norm, ReLU."""
    for i, inputs in enumerate((before, width)):
        x = net.conv(f"{at}.conv.{3 * i}", x, (inputs, width), 3)
        x = net.batch_norm(f"{at}.conv.{3 * i + 1}", x, width)
        x = net.op("Relu", [x], f"{at}.conv.{3 * i + 2}")
    return x
