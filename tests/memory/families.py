"""Families of random allocation problems, for tests and `tools/bench_memory`. A seed gives the same problem always."""

from __future__ import annotations

import random
from collections.abc import Callable

from h4hc.memory.problem import Item

MIB = 1 << 20


def uniform(seed: int, count: int) -> list[Item]:
    """Lifetimes and sizes drawn evenly."""
    rng = random.Random(seed)
    items = []
    for i in range(count):
        start = rng.randrange(count)
        items.append(Item(f"b{i}", start, start + rng.randint(1, count // 2 + 1), rng.randint(1, 1000)))
    return items


def heavy_tail(seed: int, count: int) -> list[Item]:
    """Sizes over four decades; most buffers live shortly, some nearly always."""
    rng = random.Random(seed)
    items = []
    for i in range(count):
        length = rng.randint(1, 4) if rng.random() < 0.8 else rng.randint(count // 4 + 1, count)
        start = rng.randrange(count)
        items.append(Item(f"b{i}", start, start + length, int(10 ** rng.uniform(1, 5)), 16))
    return items


def network(seed: int, count: int) -> list[Item]:
    """A vision network: each layer's output lives to the next layer, some to a later addition; sizes fall by stage."""
    rng = random.Random(seed)
    side, channels = rng.choice([96, 128, 224]), rng.choice([8, 16, 24])
    items = [Item("input", 0, 1, side * side * 3, 32)]
    for i in range(count - 1):
        if rng.random() < 0.15 and side > 7:
            side, channels = side // 2, channels * 2
        wide = rng.choice([1, 1, 4, 6])  # the inside of an inverted residual
        end = i + 2 + (rng.randint(1, 3) if rng.random() < 0.3 else 0)
        items.append(Item(f"layer{i}", i, end, side * side * channels * wide, 32))
    return items


def encoder_decoder(seed: int, count: int) -> list[Item]:
    """A U-Net: skips nest, the first made is the last read."""
    rng = random.Random(seed)
    steps = max(count, 4)
    items = []
    for i in range(count):
        depth = min(i, count - 1 - i) // 3
        size = max(16, (128 >> min(depth, 6)) ** 2 * 16 * 2**depth // 4)
        end = max(steps - i, i + 2) if i < count // 2 and rng.random() < 0.3 else i + 2
        items.append(Item(f"layer{i}", i, end, size, 16))
    return items


def aligned_mix(seed: int, count: int) -> list[Item]:
    """Alignments from 1 to 64 and odd sizes."""
    rng = random.Random(seed)
    items = []
    for i in range(count):
        start = rng.randrange(count)
        end = start + rng.randint(1, 6)
        items.append(Item(f"b{i}", start, end, rng.randint(1, 300), rng.choice([1, 4, 16, 64])))
    return items


def cut_rectangle(seed: int, count: int, capacity: int = MIB, grain: int = 1, times: int = 1000) -> list[Item]:
    """A full rectangle, capacity x times, cut again and again at random: a packing without a free byte exists.

    A tight problem of the shape of MiniMalloc's public ones: 1 MiB, some hundred buffers.
    """
    rng = random.Random(seed)
    pieces = [(0, times, 0, capacity)]  # start, end, low, high
    while len(pieces) < count:
        area = [(end - start) * (high - low) * rng.random() ** 2 for start, end, low, high in pieces]
        start, end, low, high = pieces.pop(area.index(max(area)))
        if end - start > 1 and (rng.random() < 0.5 or high - low < 2 * grain):
            at = rng.randint(start + 1, end - 1)
            pieces += [(start, at, low, high), (at, end, low, high)]
        elif high - low >= 2 * grain:
            level = low + grain * rng.randint(1, (high - low) // grain - 1)
            pieces += [(start, end, low, level), (start, end, level, high)]
        else:
            pieces.append((start, end, low, high))
    rng.shuffle(pieces)
    return [Item(f"b{i}", start, end, high - low) for i, (start, end, low, high) in enumerate(pieces)]


FAMILIES: dict[str, Callable[[int, int], list[Item]]] = {
    "aligned-mix": aligned_mix,
    "encoder-decoder": encoder_decoder,
    "heavy-tail": heavy_tail,
    "network": network,
    "uniform": uniform,
}
