"""What networks of a search space cost on a system: tables made once, then a few look-ups for each network.

The network is planned as `h4hc compile` plans it: every operator on the device that makes the whole cheapest. The
numbers of a genome are those of its exported network, to the integer, wherever `Costs.proved`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h4hc.api import (
    Block,
    Objective,
    PartTables,
    block_tables,
    estimate_parts,
    load_system,
    part_tables,
    peak_bytes,
)
from h4hc.errors import UserError
from nas.search.blocks import Place, Progress, Write, ZeroWriter, places
from nas.search.slots import Ints, grid
from nas.search.workers import Workers
from nas.space.space import SearchSpace

CHUNK = 8192  # genomes at a time: the columns in work stay in the cache
MOST_COMBINATIONS = 50_000  # of the genes of one part: its columns still fit the cache


@dataclass(frozen=True)
class Costs:
    """One entry for each genome; NO_PLAN where no plan was found that fits.

    latency_ps, energy_pj: of the plan that is optimal for the objective (where `proved`; else of a good one). bound: no
    plan has less of the objective. cim_bytes: what the plan keeps in the weight store. sram_bytes: live tensors at the
    peak before placement (in place needs less, copies in another layout more), plus all weights where a device of the
    system reads weights from SRAM (an upper bound of them). weight_bytes: of the whole network.
    """

    latency_ps: Ints
    energy_pj: Ints
    bound: Ints
    proved: NDArray[np.bool_]
    cim_bytes: Ints
    sram_bytes: Ints
    weight_bytes: Ints

    def metric(self, name: str) -> Ints:
        """One of METRICS by its name."""
        values: Ints = getattr(self, name)
        return values


METRICS = ("latency_ps", "energy_pj", "cim_bytes", "sram_bytes", "weight_bytes")


@dataclass(frozen=True)
class Part:
    """Neighbouring slots. genes: positions that decide; number: combination by place in `grid(space, genes)`."""

    genes: tuple[int, ...]
    number: NDArray[np.intp]
    peak_bytes: Ints
    weight_bytes: Ints


@dataclass(frozen=True)
class HardwareTable:
    """Tables of a space on one system: `HardwareTable.build`, then `estimate`."""

    space: SearchSpace
    target: str
    sets: tuple[str, ...]
    objective: Objective
    parts: tuple[Part, ...]
    tables: PartTables
    weights_in_sram: bool
    system_sha256: str
    write: Write

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        target: str,
        sets: Sequence[str] = (),
        objective: Objective = Objective.LATENCY,
        *,
        classes: int,
        cache: Path | None = None,
        write: Write | None = None,
        workers: Workers | None = None,
        progress: Progress = lambda done, total: None,
    ) -> HardwareTable:
        """Cost all blocks of the space on a system: `npu`, `cim` (with the host), `npu+cim`, a file.

        objective: what plans minimise. classes: outputs of the network. cache: folder that keeps the blocks of the
        space for all systems; write: how a network becomes ONNX, in place of `ZeroWriter(classes)`. Raises what
        `load_system`, `compile_model` and `block_tables` raise; UserError for an empty space.
        """
        if space.size() == 0:
            raise UserError(f"the search space {space.spec.name!r} is empty")
        system = load_system(target, tuple(sets))
        writer = write or ZeroWriter(classes)
        found = places(space, writer, cache, workers, progress)
        tables = block_tables([place.blocks for place in found], system, objective)
        runs = _runs(space, found)
        made = [_part(space, run) for run in runs]
        joined = part_tables(tables, [options for _, options in made])
        resident = any(device.weights_in_sram() for device in system.devices)
        return cls(
            space, target, tuple(sets), objective, tuple(p for p, _ in made), joined, resident, system.sha256, writer
        )

    def estimate(self, genomes: NDArray[np.integer]) -> Costs:
        """Costs of genomes [N, genes], canonical or not. Raises UserError for indices outside the space."""
        rows = np.asarray(genomes)
        found = [self._chunk(rows[at : at + CHUNK]) for at in range(0, max(1, len(rows)), CHUNK)]
        return Costs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def _chunk(self, rows: NDArray[np.integer]) -> tuple[NDArray[Any], ...]:
        rows = rows.astype(np.int64, copy=False)
        wrong = rows.ndim != 2 or rows.shape[1] != len(self._counts)
        if wrong or (rows.view(np.uint64) >= self._counts).any():  # a negative index is a large one
            what = f"genomes are {len(self._counts)} indices within the values of the genes of {self.space.spec.name!r}"
            raise UserError(what, why=f"got an array of shape {rows.shape}")
        columns = np.ascontiguousarray(rows.T)
        picks = np.empty((len(rows), len(self.parts)), np.intp, order="F")
        sram, weights = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for p, part in enumerate(self.parts):
            index = np.zeros(len(rows), np.int64)
            for gene in part.genes:  # the place in the grid of the part's genes, the last fastest
                index *= self.space.cardinalities[gene]
                index += columns[gene]
            pick = part.number.take(index)
            picks[:, p] = pick
            np.maximum(sram, part.peak_bytes.take(pick), out=sram)
            weights += part.weight_bytes.take(pick)
        found = estimate_parts(self.tables, picks)
        if self.weights_in_sram:
            sram = sram + weights
        return found.latency_ps, found.energy_pj, found.bound, found.proved, found.stored_bytes, sram, weights

    @functools.cached_property
    def _counts(self) -> NDArray[np.uint64]:
        return np.asarray(self.space.cardinalities, np.uint64)


def _genes(run: Sequence[Place]) -> tuple[int, ...]:
    return tuple(sorted({gene for place in run for gene in place.genes}))


def _runs(space: SearchSpace, found: Sequence[Place]) -> list[list[Place]]:
    """Slots of a stage, and neighbouring stages as long as their genes have few combinations: fewer look-ups."""
    runs: list[list[Place]] = []
    for place in found:
        if runs and runs[-1][-1].slot.part == place.slot.part:
            runs[-1].append(place)
        else:
            runs.append([place])
    joined = [runs[0]]
    for run in runs[1:]:
        both = [*joined[-1], *run]
        if np.prod(space.cardinalities[list(_genes(both))], dtype=float) <= MOST_COMBINATIONS:
            joined[-1] = both
        else:
            joined.append(run)
    return joined


def _part(space: SearchSpace, run: Sequence[Place]) -> tuple[Part, Ints]:
    """A part and its combinations of options [M, slots], each once."""
    genes = _genes(run)
    rows = grid(space, genes)
    options = np.stack([place.option[_index(space, place.genes, rows)] for place in run], axis=1)
    combinations, number = np.unique(options, axis=0, return_inverse=True)
    peaks = _sizes(run, combinations, peak_bytes).max(axis=1)
    weights = _sizes(run, combinations, _weight_bytes).sum(axis=1)
    return Part(genes, number.ravel().astype(np.intp), peaks, weights), combinations


def _sizes(run: Sequence[Place], combinations: Ints, size: Callable[[Block], int]) -> Ints:
    columns = [np.array([size(block) for block in place.blocks], np.int64) for place in run]
    return np.stack([column[combinations[:, i]] for i, column in enumerate(columns)], axis=1)


def _weight_bytes(block: Block) -> int:
    return sum(op.weight_bytes for op in block.workload.ops)


def _radix(space: SearchSpace, genes: Sequence[int]) -> Ints:
    counts = [int(space.cardinalities[gene]) for gene in genes]
    return np.array([int(np.prod(counts[i + 1 :], dtype=np.int64)) for i in range(len(counts))], np.int64)


def _index(space: SearchSpace, genes: Sequence[int], rows: Ints) -> Ints:
    """Place of each genome in `grid(space, genes)`."""
    found: Ints = rows[:, list(genes)] @ _radix(space, genes)
    return found
