"""MobileViT-XXS as exported from its Hugging Face form: SiLU as Sigmoid and Mul, LayerNorm in nine nodes."""

from __future__ import annotations

import numpy as np

from h4hc.zoo.mobilenet import make_divisible
from h4hc.zoo.net import BRANCH, Net

_PATCH, _HEADS, _EXPANSION = 2, 4, 2
_NECK = (16, 16, 24, 48, 64, 80, 320)  # channels between stages
_STAGES = ((64, 2), (80, 4), (96, 3))  # transformer width and depth of the three hybrid stages


def mobilevit_xxs(net: Net) -> None:
    """Stem, two MobileNetV2 stages, three MobileViT stages, 1000 classes, at 256."""
    x = net.input("pixel_values", (3, 256, 256))
    x = _layer(net, "mobilevit.conv_stem", x, (3, _NECK[0]), 3, stride=2)
    encoder = "mobilevit.encoder.layer"
    x = _inverted_residual(net, f"{encoder}.0.layer.0", x, (_NECK[0], _NECK[1]), 1)
    x = _inverted_residual(net, f"{encoder}.1.layer.0", x, (_NECK[1], _NECK[2]), 2)
    for i in (1, 2):
        x = _inverted_residual(net, f"{encoder}.1.layer.{i}", x, (_NECK[2], _NECK[2]), 1)
    size = 64
    for i, (width, depth) in enumerate(_STAGES):
        size //= 2
        x = _hybrid(net, f"{encoder}.{i + 2}", x, (_NECK[i + 2], _NECK[i + 3]), width, depth, size)
    x = _layer(net, "mobilevit.conv_1x1_exp", x, (_NECK[5], _NECK[6]))
    x = net.op("ReduceMean", [x, net.literal([-2, -1], "mobilevit", np.int64)], "mobilevit", keepdims=0)
    net.output(net.linear("classifier", x, (_NECK[6], 1000)), "logits", (1000,))


def _silu(net: Net, at: str, x: str) -> str:
    return net.op("Mul", [x, net.op("Sigmoid", [x], at)], at)


def _layer(
    net: Net,
    at: str,
    x: str,
    channels: tuple[int, int],
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
    scale_mean: float = 1.0,
) -> str:
    x = net.conv(f"{at}.convolution", x, channels, kernel, stride=stride, groups=groups)
    x = net.batch_norm(f"{at}.normalization", x, channels[1], scale_mean=scale_mean)
    return _silu(net, f"{at}.activation", x) if activation else x


def _inverted_residual(net: Net, at: str, x: str, channels: tuple[int, int], stride: int) -> str:
    before, width = channels
    inner = make_divisible(before * _EXPANSION)
    y = _layer(net, f"{at}.expand_1x1", x, (before, inner))
    y = _layer(net, f"{at}.conv_3x3", y, (inner, inner), 3, stride, inner)
    skip = stride == 1 and before == width
    y = _layer(net, f"{at}.reduce_1x1", y, (inner, width), activation=False, scale_mean=BRANCH if skip else 1.0)
    return net.op("Add", [x, y], at) if skip else y


def _hybrid(net: Net, at: str, x: str, channels: tuple[int, int], width: int, depth: int, size: int) -> str:
    """MobileViT block: downsample, local convolutions, transformer over patches, fusion with the residual."""
    channel = channels[1]
    x = _inverted_residual(net, f"{at}.downsampling_layer", x, channels, 2)
    y = _layer(net, f"{at}.conv_kxk", x, (channel, channel), 3)
    y = net.conv(f"{at}.conv_1x1.convolution", y, (channel, width), gain=1.0)
    y = _unfold(net, at, y, width, size)
    for i in range(depth):
        y = _transformer(net, f"{at}.transformer.layer.{i}", y, width, size)
    y = _layer_norm(net, f"{at}.layernorm", y, width)
    y = _fold(net, at, y, width, size)
    y = _layer(net, f"{at}.conv_projection", y, (width, channel))
    y = net.op("Concat", [x, y], at, axis=1)
    return _layer(net, f"{at}.fusion", y, (2 * channel, channel), 3)


def _unfold(net: Net, at: str, x: str, width: int, size: int) -> str:
    """(B, C, H, W) -> (B * 4, patches, C): pixel k of each 2 x 2 patch forms sequence k."""
    side, area = size // _PATCH, _PATCH * _PATCH
    x = net.reshape(x, (net.batch * width * side, _PATCH, side, _PATCH), at)
    x = net.op("Transpose", [x], at, perm=[0, 2, 1, 3])
    x = net.reshape(x, (net.batch, width, side * side, area), at)
    x = net.op("Transpose", [x], at, perm=[0, 3, 2, 1])
    return net.reshape(x, (net.batch * area, side * side, width), at)


def _fold(net: Net, at: str, x: str, width: int, size: int) -> str:
    """Inverse of `_unfold`."""
    side, area = size // _PATCH, _PATCH * _PATCH
    x = net.reshape(x, (net.batch, area, side * side, width), at)
    x = net.op("Transpose", [x], at, perm=[0, 3, 2, 1])
    x = net.reshape(x, (net.batch * width * side, side, _PATCH, _PATCH), at)
    x = net.op("Transpose", [x], at, perm=[0, 2, 1, 3])
    return net.reshape(x, (net.batch, width, size, size), at)


def _transformer(net: Net, at: str, x: str, width: int, size: int) -> str:
    y = _attention(net, f"{at}.attention", _layer_norm(net, f"{at}.layernorm_before", x, width), width, size)
    x = net.op("Add", [y, x], at)
    y = net.token_linear(
        f"{at}.intermediate.dense", _layer_norm(net, f"{at}.layernorm_after", x, width), (width, 2 * width)
    )
    y = _silu(net, f"{at}.intermediate.intermediate_act_fn", y)
    y = net.token_linear(f"{at}.output.dense", y, (2 * width, width))
    return net.op("Add", [y, x], f"{at}.output")


def _attention(net: Net, at: str, x: str, width: int, size: int) -> str:
    """Separate query, key and value projections; scores divided by sqrt(head width)."""
    inner, head = f"{at}.attention", width // _HEADS
    rows, tokens = net.batch * _PATCH * _PATCH, (size // _PATCH) ** 2
    perms = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    heads: dict[str, str] = {}
    for part, perm in perms.items():
        y = net.token_linear(f"{inner}.{part}", x, (width, width))
        y = net.reshape(y, (rows, tokens, _HEADS, head), inner)
        heads[part] = net.op("Transpose", [y], inner, perm=perm)
    scores = net.op("MatMul", [heads["query"], heads["key"]], inner)
    scores = net.op("Div", [scores, net.literal(head**0.5, inner)], inner)
    weights = net.op("Softmax", [scores], inner, axis=-1)
    y = net.op("Transpose", [net.op("MatMul", [weights, heads["value"]], inner)], inner, perm=[0, 2, 1, 3])
    y = net.reshape(y, (rows, tokens, width), inner)
    return net.token_linear(f"{at}.output.dense", y, (width, width))


def _layer_norm(net: Net, at: str, x: str, width: int) -> str:
    """(x - mean) / sqrt(variance + eps) * scale + shift in nine nodes, as exported before opset 17."""
    start = net.mark()
    axes = net.literal([-1], at, np.int64)
    centred = net.op("Sub", [x, net.op("ReduceMean", [x, axes], at)], at)
    variance = net.op("ReduceMean", [net.op("Pow", [centred, net.literal(2.0, at)], at), axes], at)
    deviation = net.op("Sqrt", [net.op("Add", [variance, net.literal(1e-5, at)], at)], at)
    normal = net.op("Div", [centred, deviation], at)
    scaled = net.op("Mul", [normal, net.parameter(f"{at}.weight", (width,), 0.1, 1.0)], at)
    y = net.op("Add", [scaled, net.parameter(f"{at}.bias", (width,), 0.1)], at)
    net.composite(start)
    return y
