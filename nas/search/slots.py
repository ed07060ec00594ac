"""The places of blocks in a network of a search space, and which genes say what stands there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.space.space import SearchSpace

Ints = NDArray[np.int64]
Key = tuple[str, tuple[int, ...]]  # kind of block, and the index of each field it depends on
RESOLUTION, STEM, HEAD = "resolution", "stem", "head"
SKIP, MAP, TOKENS = "skip", "map", "tokens"


@dataclass(frozen=True)
class Slot:
    """One place: `s2.conv1` is the second convolution block of stage s2; its last node is `s2.conv1.out`.

    part: the stage. kind: slots of one kind hold the same blocks: `s2.conv0`, which alone sees the width of the stage
    before, `s2.conv` behind it, `s2.attn`, and `s2.tokens` and `s2.map`, which turn the map into tokens and back.
    fields: what the block depends on. depth: the field that says whether a block stands here, "" where one always does,
    and number: the least depth at which it does. makes: "map" or "tokens".
    """

    name: str
    part: str
    kind: str
    fields: tuple[str, ...]
    depth: str = ""
    number: int = 0
    makes: str = MAP

    @property
    def border(self) -> str:
        """The node that makes the tensor that the block hands on."""
        return f"{self.name}.out"

    @property
    def decides(self) -> tuple[str, ...]:
        """The fields that decide what stands here, a block or a skip."""
        return (*self.fields, self.depth, f"{self.part}.width") if self.depth else self.fields


def slots_of(space: SearchSpace) -> tuple[Slot, ...]:
    """All slots in the order of execution, up to the largest depths."""
    found = [Slot(STEM, STEM, STEM, (RESOLUTION, "stem.width"))]
    before = "stem.width"
    for stage in space.spec.stages:
        name, width = stage.name, f"{stage.name}.width"
        own = tuple(f"{name}.{key}" for key in ("width", "block", "kernel", "expand"))
        for i in range(max(stage.conv_depth)):
            kind, seen = (f"{name}.conv0", (before, *own)) if i == 0 else (f"{name}.conv", own)
            found.append(Slot(f"{name}.conv{i}", name, kind, (RESOLUTION, *seen), f"{name}.conv_depth", i + 1))
        if stage.attention and max(stage.attention.depth):
            depth, plain = f"{name}.attention_depth", (RESOLUTION, width)
            found.append(Slot(f"{name}.tokens", name, f"{name}.tokens", plain, depth, 1, TOKENS))
            for i in range(max(stage.attention.depth)):
                seen = (*plain, f"{name}.mlp_ratio")
                found.append(Slot(f"{name}.attn{i}", name, f"{name}.attn", seen, depth, i + 1, TOKENS))
            found.append(Slot(f"{name}.map", name, f"{name}.map", plain, depth, 1))
        before = width
    found.append(Slot(HEAD, HEAD, HEAD, (RESOLUTION, before, "head.width")))
    return tuple(found)


def genes_of(space: SearchSpace, fields: Sequence[str]) -> list[int]:
    """Positions in the genome of those fields that are genes, rising."""
    return sorted({space.position[field] for field in fields if field in space.position})


def grid(space: SearchSpace, genes: Sequence[int]) -> Ints:
    """All canonical values of some genes: genomes [N, all genes], the last of `genes` fastest, the others at 0."""
    counts = [range(int(space.cardinalities[g])) for g in genes]
    rows = np.zeros((int(np.prod([len(c) for c in counts], dtype=np.int64)), len(space.genes)), np.int64)
    rows[:, list(genes)] = np.array(list(itertools.product(*counts)), np.int64).reshape(len(rows), len(genes))
    return rows


def keys(space: SearchSpace, slot: Slot, genomes: Ints) -> list[Key]:
    """What stands in a slot in each genome: its key; where nothing does, `skip_key` of what passes."""
    rows = space.canonical(genomes)
    made = np.stack([_column(space, rows, field) for field in slot.fields], axis=1).tolist()
    if not slot.depth:
        return [(slot.kind, tuple(block)) for block in made]
    depth = np.array(space.fields[slot.depth], np.int64)[_column(space, rows, slot.depth)]
    passes = np.stack([_column(space, rows, f) for f in (RESOLUTION, f"{slot.part}.width")], axis=1).tolist()
    found = []
    for here, block, (resolution, width) in zip(depth.tolist(), made, passes, strict=True):
        form = slot.makes if here else MAP
        key = (slot.kind, tuple(block)) if here >= slot.number else skip_key(slot.part, form, resolution, width)
        found.append(key)
    return found


def skip_key(part: str, form: str, resolution: int, width: int) -> Key:
    """The key of nothing, where a map or tokens pass in a stage."""
    return f"{SKIP} {part} {form}", (resolution, width)


def passed_on(slot: Slot, key: Key) -> Key:
    """The key of a skip behind a block."""
    at = dict(zip(slot.fields, key[1], strict=True))
    return skip_key(slot.part, slot.makes, at[RESOLUTION], at[f"{slot.part}.width"])


def _column(space: SearchSpace, rows: Ints, field: str) -> Ints:
    """Index of the value of a field, 0 where it has one value only."""
    column: Ints = rows[:, space.position[field]] if field in space.position else np.zeros(len(rows), np.int64)
    return column
