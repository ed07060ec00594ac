"""A training step of the supernet beside a plain static network of the same architecture: what slicing costs.

A step is forward, cross entropy, backward and AdamW, channels_last, with statistics of the batch. The two take turns,
on one thread; of each the median of the CPU seconds counts. `kept`: bytes that autograd holds for the backward pass,
each storage once. `random` is the mean over 4 architectures drawn with a fixed seed, where weights really are cut.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nas.space.arch import Arch
from nas.space.space import SearchSpace
from nas.supernet.supernet import Supernet

CLASSES = 10
RANDOM = 4
HEAD = ("space", "network", "static [ms]", "supernet [ms]", "overhead", "static kept [MB]", "supernet kept [MB]")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["tiny"], help="presets or paths of search spaces")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="steps of each, behind two to warm up")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for preset in given.presets for row in bench(preset, given.batch, given.steps)]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*HEAD)
    for row in rows:
        static, shared = (f"{1e3 * row[f'{kind}_s']:.1f}" for kind in ("static", "supernet"))
        kept = (f"{row[f'{kind}_kept_bytes'] / 1e6:.1f}" for kind in ("static", "supernet"))
        table.add_row(row["space"], row["network"], static, shared, f"{100 * row['overhead']:+.1f} %", *kept)
    Console().print(table)


def bench(preset: str, batch: int, steps: int) -> list[dict[str, Any]]:
    """Rows for the largest, the least and the mean of random networks of a space."""
    space = SearchSpace.load(preset)
    supernet = Supernet(space, CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    drawn = space.sample(np.random.default_rng(0), RANDOM)
    named = [("max", [space.maximum()]), ("min", [space.minimum()]), ("random", list(drawn))]
    return [
        row(space, supernet, name, [space.arch(genome) for genome in genomes], batch, steps) for name, genomes in named
    ]


def row(space: SearchSpace, supernet: Supernet, name: str, archs: list[Arch], batch: int, steps: int) -> dict[str, Any]:
    """The mean over `archs`."""
    seconds, kept = np.zeros(2), np.zeros(2)
    for arch in archs:
        size = (batch, space.spec.channels_in, arch.resolution, arch.resolution)
        images = torch.randn(size, generator=torch.Generator().manual_seed(0))
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(batch) % CLASSES
        plain = supernet.slice(arch).train()
        pair = [_step(plain, plain, images, labels), _step(supernet, partial(supernet, arch=arch), images, labels)]
        times: list[list[float]] = [[], []]
        for number in range(steps + 2):
            for i, step in enumerate(pair):
                begun = time.process_time()
                step()
                if number > 1:
                    times[i].append(time.process_time() - begun)
        seconds += [statistics.median(found) / len(archs) for found in times]
        kept += [_kept(step) / len(archs) for step in pair]
    return {
        "space": space.spec.name,
        "network": name,
        "batch": batch,
        "static_s": seconds[0],
        "supernet_s": seconds[1],
        "overhead": seconds[1] / seconds[0] - 1,
        "static_kept_bytes": int(kept[0]),
        "supernet_kept_bytes": int(kept[1]),
    }


def _step(net: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-6)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(forward(images), labels).backward()
        optimiser.step()

    return step


def _kept(step: Callable[[], None]) -> int:
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storages.values())


if __name__ == "__main__":
    main()
