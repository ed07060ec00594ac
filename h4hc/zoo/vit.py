"""ViT-Tiny (DeiT-Ti) as exported from timm: fused LayerNormalization, GELU spelled with Erf."""

from __future__ import annotations

import numpy as np

from h4hc.zoo.net import Net

_WIDTH, _DEPTH, _HEADS, _PATCHES = 192, 12, 3, 14 * 14
_HEAD_WIDTH = _WIDTH // _HEADS


def vit_tiny(net: Net) -> None:
    """Patches of 16, 12 blocks of width 192 with 3 heads, class token, 1000 classes."""
    x = net.input("input", (3, 224, 224))
    x = net.conv("patch_embed.proj", x, (3, _WIDTH), 16, stride=16, bias=True, pads=(0, 0, 0, 0), gain=1.0)
    x = net.reshape(x, (net.batch, _WIDTH, _PATCHES), "patch_embed")
    x = net.op("Transpose", [x], "patch_embed", perm=[0, 2, 1])
    token = net.parameter("cls_token", (1, 1, _WIDTH), 0.5)
    if net.batch != 1:
        token = net.op("Expand", [token, net.literal([net.batch, 1, 1], "", np.int64)], "")
    x = net.op("Concat", [token, x], "", axis=1)
    x = net.op("Add", [x, net.parameter("pos_embed", (1, _PATCHES + 1, _WIDTH), 0.5)], "")
    for i in range(_DEPTH):
        x = _block(net, f"blocks.{i}", x)
    x = _layer_norm(net, "norm", x)
    x = net.op("Gather", [x, net.literal(0, "", np.int64)], "", axis=1)
    net.output(net.linear("head", x, (_WIDTH, 1000)), "output", (1000,))


def _block(net: Net, at: str, x: str) -> str:
    y = _attention(net, f"{at}.attn", _layer_norm(net, f"{at}.norm1", x))
    x = net.op("Add", [x, y], at)
    y = net.token_linear(f"{at}.mlp.fc1", _layer_norm(net, f"{at}.norm2", x), (_WIDTH, 4 * _WIDTH))
    y = net.token_linear(f"{at}.mlp.fc2", _gelu(net, f"{at}.mlp.act", y), (4 * _WIDTH, _WIDTH))
    return net.op("Add", [x, y], at)


def _attention(net: Net, at: str, x: str) -> str:
    """Fused query-key-value projection, scaled scores, softmax, output projection."""
    tokens = _PATCHES + 1
    x = net.token_linear(f"{at}.qkv", x, (_WIDTH, 3 * _WIDTH))
    x = net.reshape(x, (net.batch, tokens, 3, _HEADS, _HEAD_WIDTH), at)
    x = net.op("Transpose", [x], at, perm=[2, 0, 3, 1, 4])
    first = net.literal([0], at, np.int64)
    parts = [net.op("Squeeze", [part, first], at) for part in net.ops("Split", [x], at, 3, axis=0, num_outputs=3)]
    query = net.op("Mul", [parts[0], net.literal(_HEAD_WIDTH**-0.5, at)], at)
    key = net.op("Transpose", [parts[1]], at, perm=[0, 1, 3, 2])
    weights = net.op("Softmax", [net.op("MatMul", [query, key], at)], at, axis=-1)
    x = net.op("Transpose", [net.op("MatMul", [weights, parts[2]], at)], at, perm=[0, 2, 1, 3])
    x = net.reshape(x, (net.batch, tokens, _WIDTH), at)
    return net.token_linear(f"{at}.proj", x, (_WIDTH, _WIDTH))


def _layer_norm(net: Net, at: str, x: str) -> str:
    scale, shift = net.parameter(f"{at}.weight", (_WIDTH,), 0.1, 1.0), net.parameter(f"{at}.bias", (_WIDTH,), 0.1)
    return net.op("LayerNormalization", [x, scale, shift], at, axis=-1, epsilon=1e-6)


def _gelu(net: Net, at: str, x: str) -> str:
    """x * (erf(x / sqrt 2) + 1) * 0.5, in the five nodes PyTorch exports."""
    start = net.mark()
    y = net.op("Erf", [net.op("Div", [x, net.literal(2.0**0.5, at)], at)], at)
    y = net.op("Add", [y, net.literal(1.0, at)], at)
    y = net.op("Mul", [net.op("Mul", [x, y], at), net.literal(0.5, at)], at)
    net.composite(start)
    return y
