"""Single layers of the sizes that vision networks are made of, drawn by a seed: what a cost model is fitted on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict

from h4hc.layer_kinds import KINDS, LayerShape
from h4hc.layer_table import LayerRow

MOST_MACS = 30_000_000  # so that the vendor's compiler takes milliseconds a layer
SIZES = (4, 7, 8, 14, 16, 28, 32, 56)
CHANNELS = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256)
TOKENS = (1, 4, 16, 49, 64, 197, 256)
HEADS = (1, 2, 3, 4, 8)
COLUMNS = ("layer", "kind", "h", "w", "cin", "cout", "kh", "kw", "stride", "dil", "groups", "pad")
Draw = Callable[[random.Random], LayerShape]


def _conv(r: random.Random) -> LayerShape:
    k, stride = r.choice((1, 1, 3, 3, 5)), r.choice((1, 1, 2))
    size = r.choice([s for s in SIZES if s >= k])
    dilation = r.choice((1, 1, 2)) if k == 3 and stride == 1 and size > 8 else 1
    cin, cout = r.choice((3, *CHANNELS)), r.choice(CHANNELS)
    return LayerShape(size, size, cin, cout, k, k, stride, dilation, same=r.random() < 0.8)


def _grouped(r: random.Random) -> LayerShape:
    k, stride, groups = r.choice((1, 3, 3)), r.choice((1, 1, 2)), r.choice((2, 4, 8))
    cin, cout = (r.choice([c for c in CHANNELS if c > groups]) for _ in range(2))
    size = r.choice([s for s in SIZES if s >= k])
    return LayerShape(size, size, cin, cout, k, k, stride, groups=groups, same=r.random() < 0.8)


def _depthwise(r: random.Random) -> LayerShape:
    k, stride, channels = r.choice((3, 3, 5)), r.choice((1, 1, 2)), r.choice(CHANNELS)
    size = r.choice([s for s in SIZES if s >= k])
    return LayerShape(size, size, channels, channels, k, k, stride, same=r.random() < 0.8)


def _fully_connected(r: random.Random) -> LayerShape:
    return LayerShape(1, r.choice(TOKENS), r.choice((*CHANNELS, 640, 1280)), r.choice((*CHANNELS, 512, 1000)))


def _matmul(r: random.Random) -> LayerShape:
    tokens, depth = r.choice((16, 32, 49, 64, 128)), r.choice((16, 20, 32, 64))
    wide, deep = (tokens, depth) if r.random() < 0.5 else (depth, tokens)
    return LayerShape(r.choice(HEADS), tokens, deep, wide)


def _rows(r: random.Random) -> LayerShape:
    length = r.choice((16, 49, 64, 128, 197, 256))
    return LayerShape(r.choice(HEADS), r.choice((1, 16, 49, 64, 128)), length, length)


def _tokens(r: random.Random) -> LayerShape:
    channels = r.choice(CHANNELS)
    return LayerShape(r.choice(HEADS[1:]), r.choice((16, 49, 64, 128)), channels, channels)


def _image(r: random.Random) -> LayerShape:
    size, channels = r.choice(SIZES), r.choice(CHANNELS)
    return LayerShape(size, size, channels, channels)


def _pool(r: random.Random) -> LayerShape:
    k = r.choice((2, 3))
    size, channels = r.choice([s for s in SIZES if s >= k]), r.choice(CHANNELS)
    return LayerShape(size, size, channels, channels, k, k, r.choice((1, 2)), same=r.random() < 0.5)


DRAWS: dict[str, Draw] = {
    "conv": _conv,
    "dwconv": _depthwise,
    "grouped_conv": _grouped,
    "fc": _fully_connected,
    "batch_matmul": _matmul,
    "softmax": _rows,
    "layer_norm": _rows,
    "mean": _image,
    "add": _image,
    "mul": _image,
    "lut": _image,
    "avgpool": _pool,
    "maxpool": _pool,
    "transpose": _tokens,
}


def sample_layers(count: int, seed: int) -> tuple[LayerRow, ...]:
    """`count` layers of each kind; the same for the same seed, and each kind apart from the others."""
    rows: list[LayerRow] = []
    for kind, draw in DRAWS.items():
        generator = random.Random(f"{seed} {kind}")
        drawn = 0
        while drawn < count:
            shape = draw(generator)
            workload = KINDS[kind](shape)
            if workload.ops[0].macs <= MOST_MACS:
                drawn += 1
                name = f"{kind}_{drawn}"
                rows.append(LayerRow(0, _cells(name, kind, shape), workload, name, kind))
    return tuple(rows)


def _cells(name: str, kind: str, shape: LayerShape) -> tuple[tuple[str, str], ...]:
    sizes = asdict(shape)
    values = {"layer": name, "kind": kind, "pad": "SAME" if shape.same else "VALID"}
    return tuple((c, values[c] if c in values else str(sizes[c])) for c in COLUMNS)
