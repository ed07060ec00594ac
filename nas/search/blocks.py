"""The blocks of a search space, cut out of networks of it: as few networks as show every block once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h4hc.api import Block, CompileOptions, Workload, compile_model, cut_blocks, skip
from h4hc.errors import InternalError
from nas.search.sealed import Sealed, source_sha256
from nas.search.slots import SKIP, Ints, Key, Slot, genes_of, grid, keys, passed_on, slots_of
from nas.search.workers import Serial, Workers
from nas.space.arch import Arch
from nas.space.space import SearchSpace

Progress = Callable[[int, int], None]  # networks done, of how many
Write = Callable[[SearchSpace, Arch], bytes]  # a network as ONNX, with the node `<slot>.out` at the end of each block


@dataclass(frozen=True)
class ZeroWriter:
    """Networks as `h4hc nas export` writes them, with zero weights: costs depend on shapes only."""

    classes: int

    def __call__(self, space: SearchSpace, arch: Arch) -> bytes:
        from nas.supernet.onnx_writer import zero_onnx

        data: bytes = zero_onnx(arch, space.spec, self.classes).SerializeToString()
        return data


@dataclass(frozen=True)
class Place:
    """A slot with what may stand there. option: which of `blocks` for each genome of `grid(space, genes)`."""

    slot: Slot
    genes: tuple[int, ...]
    blocks: tuple[Block, ...]
    option: Ints


def places(
    space: SearchSpace,
    write: Write,
    cache: Path | None = None,
    workers: Workers | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Place, ...]:
    """All slots of a space with their blocks. cache: a folder that keeps the blocks; they do not depend on a target.

    Equal blocks are one object. Raises what `compile_model` and `cut_blocks` raise for a network.
    """
    asked = []
    wanted: dict[Key, int] = {}
    for slot in slots_of(space):
        genes = genes_of(space, slot.decides)
        rows = grid(space, genes)
        found = keys(space, slot, rows)
        asked.append((slot, genes, found))
        wanted.update(dict.fromkeys(found, 0))
    blocks = _cached(
        space, [k for k in wanted if not k[0].startswith(SKIP)], write, cache, workers or Serial(), progress
    )
    first = {slot.kind: slot for slot, _, _ in reversed(asked)}
    makers = {passed_on(first[key[0]], key): block for key, block in blocks.items() if first[key[0]].depth}
    for key in wanted:
        if key[0].startswith(SKIP):
            blocks[key] = skip(makers[key].workload.tensor[makers[key].exit])
    return tuple(_place(slot, genes, found, blocks) for slot, genes, found in asked)


def _place(slot: Slot, genes: Sequence[int], found: Sequence[Key], blocks: dict[Key, Block]) -> Place:
    number = {key: i for i, key in enumerate(dict.fromkeys(found))}
    options = np.array([number[key] for key in found], np.int64)
    return Place(slot, tuple(genes), tuple(blocks[key] for key in number), options)


# --- out of networks ---------------------------------------------------------------------------------------


def covering(space: SearchSpace, wanted: Sequence[Key]) -> list[tuple[int, ...]]:
    """Genomes that show every wanted block at least once: greedy, stage by stage, each with as many new ones as fit."""
    slots = {slot.kind: slot for slot in reversed(slots_of(space))}  # of each kind the first
    pending = {
        kind: dict.fromkeys(k for k in wanted if k[0] == kind)
        for kind in dict.fromkeys(s.kind for s in slots_of(space))
    }
    found = []
    while left := [kind for kind, open_ in pending.items() if open_]:
        most = max(left, key=lambda kind: len(pending[kind]))
        fixed = _ask(space, slots[most], next(iter(pending[most])), {})
        assert fixed is not None
        for kind, open_ in pending.items():
            for key in open_:
                more = _ask(space, slots[kind], key, fixed)
                if more is not None:
                    fixed = more
                    break
        genome = np.array([[fixed.get(gene.name, 0) for gene in space.genes]], np.int64)
        shown = {key for slot in slots_of(space) for key in keys(space, slot, genome)}
        for kind, open_ in pending.items():
            pending[kind] = {key: None for key in open_ if key not in shown}
        found.append(tuple(space.canonical(genome)[0].tolist()))
    return found


def _ask(space: SearchSpace, slot: Slot, key: Key, fixed: dict[str, int]) -> dict[str, int] | None:
    """The genes `fixed` and those that put the block into the network; None where they disagree."""
    asked = dict(zip(slot.fields, key[1], strict=True))
    if any(fixed.get(field, index) != index for field, index in asked.items()):
        return None
    if slot.depth:  # more depth never takes a block away
        enough = next(i for i, depth in enumerate(space.fields[slot.depth]) if int(depth) >= slot.number)
        asked[slot.depth] = max(enough, fixed.get(slot.depth, 0))
    return fixed | asked


def _cut(item: tuple[SearchSpace, Write, tuple[int, ...]]) -> list[tuple[Key, Block]]:
    """All blocks of one network with their keys."""
    space, write, genome = item
    arch = space.arch(genome)
    workload = compile_model(write(space, arch), CompileOptions("host"), stop_after="workload").workload
    assert workload is not None
    row = np.array([genome], np.int64)
    there = [(slot, keys(space, slot, row)[0]) for slot in slots_of(space)]
    there = [(slot, key) for slot, key in there if not key[0].startswith(SKIP)]
    maker = {node: op for op in workload.ops for node in op.origin}  # passes may rename tensors, origins stay
    borders = [slot.border for slot, _ in there[:-1]]
    if lost := [border for border in borders if border not in maker]:
        raise InternalError("the network has no operator for these blocks' last nodes", tuple(lost))
    parts = cut_blocks(workload, [maker[border].outputs[0] for border in borders])
    return [(key, part) for (_, key), part in zip(there, parts, strict=True)]


# --- on disk -----------------------------------------------------------------------------------------------


def _cached(
    space: SearchSpace, wanted: Sequence[Key], write: Write, cache: Path | None, workers: Workers, progress: Progress
) -> dict[Key, Block]:
    writer = (
        repr(write) if isinstance(write, ZeroWriter) else f"{write.__module__}.{getattr(write, '__qualname__', '')}"
    )
    name = json.dumps([space.spec.model_dump(mode="json"), writer, source_sha256()], sort_keys=True)
    store = Sealed(cache, "blocks") if cache else None
    if store and (body := store.get(name)) is not None:
        known = _from_json(body)
        if set(wanted) <= set(known):
            return known
    found: dict[Key, Block] = {}
    networks = covering(space, wanted)
    for done, cut in enumerate(workers.map(_cut, [(space, write, genome) for genome in networks]), 1):
        found.update((key, block) for key, block in cut if key not in found)
        progress(done, len(networks))
    if missing := [key for key in wanted if key not in found]:
        raise InternalError("no network shows these blocks", tuple(map(str, missing)))
    if store:
        store.put(name, _to_json(found))
    return found


def _to_json(blocks: dict[Key, Block]) -> bytes:
    rows = [[*key, block.entry, block.exit, json.loads(block.workload.to_json())] for key, block in blocks.items()]
    return json.dumps(rows, separators=(",", ":")).encode()


def _from_json(body: bytes) -> dict[Key, Block]:
    return {
        (kind, tuple(indices)): Block(Workload.from_json(json.dumps(work).encode()), entry, exit_)
        for kind, indices, entry, exit_, work in json.loads(body)
    }
