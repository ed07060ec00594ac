"""How a forward of the supernet treats batch norm, dropout and stochastic depth."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5
BnStats = dict[str, tuple[Tensor, Tensor]]  # name of the batch norm -> mean, variance [channels in use]


@dataclass
class Mode:
    """One forward: statistics of the batch (stats None) or given ones; collected too while calibrating.

    stats: calibrated for the architecture in use; collecting: batches seen so far, counted from 1, None = do not
    collect; dropout: in front of the classifier; drop_path: chance that a residual branch is left out, reached at the
    last block of the network and rising in equal steps to it.
    """

    stats: BnStats | None = None
    collecting: int | None = None
    dropout: float = 0.0
    drop_path: float = 0.0
    collected: BnStats = field(default_factory=dict)

    def batch_norm(self, key: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalise; while collecting, the cumulative average of means and unbiased variances is kept as well."""
        if self.collecting is not None:
            if key not in self.collected:
                self.collected[key] = (x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1]))
            mean, var = self.collected[key]
            return F.batch_norm(x, mean, var, weight, bias, True, 1 / self.collecting, EPS)
        if self.stats is None:
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)
        mean, var = self.stats[key]
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, EPS)

    def keep(self, branch: Tensor, place: float) -> Tensor:
        """Stochastic depth of a residual branch [B, ...] at `place` in 0..1 of the network's depth."""
        rate = self.drop_path * place
        if rate == 0.0:
            return branch
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        kept = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(1 - rate)
        return branch * kept / (1 - rate)
