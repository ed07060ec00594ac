"""One process or many, by the environment that torchrun sets; gradients are averaged once a step, as one buffer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from h4hc.errors import UserError
from nas.training.gradients import Part

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def average(self, parts: list[Part], numbers: list[float]) -> list[float]:
        """Replace every gradient of `parts` by its mean over the ranks, in place; the means of `numbers` come back.

        One all-reduce of one buffer. All ranks must use the same parameters, which they do: they train the same
        networks.
        """
        if self.size == 1:
            return numbers
        used = [gradient for part in parts for gradient in part if gradient is not None]
        extra = torch.tensor(numbers, dtype=torch.float32, device=self.device)
        flat = torch.cat([gradient.reshape(-1) for gradient in used] + [extra])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = flat.split([gradient.numel() for gradient in used] + [len(numbers)])
        torch._foreach_copy_(used, [p.view(g.shape) for p, g in zip(pieces, used, strict=False)])
        return [float(number) for number in pieces[-1]]

    def same_weights(self, net: nn.Module) -> None:
        """Give every rank the weights of the first."""
        if self.size > 1:
            for tensor in net.state_dict().values():
                _broadcast(tensor)

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.size > 1:
            dist.barrier()


def _broadcast(tensor: Tensor) -> None:
    dense = tensor.contiguous()
    dist.broadcast(dense, 0)
    tensor.copy_(dense)


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """The ranks that torchrun started (gloo on CPU, nccl on GPUs), or this process alone. device: auto, cpu or cuda.

    Raises UserError for cuda where there is none, and for an environment that is half set.
    """
    given = [name for name in VARIABLES if name in os.environ]
    if given and len(given) < len(VARIABLES):
        raise UserError("the environment of torchrun is incomplete", VARIABLES, f"only {', '.join(given)} is set")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise UserError("there is no CUDA device", ("device",), hint="device: auto or cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    place = torch.device("cuda", local) if cuda and device != "cpu" else torch.device("cpu")
    if not given:
        yield Ranks(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()
