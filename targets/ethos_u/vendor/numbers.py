"""What a Workload does not hold but a TFLite file must: weights, scales, and attributes such as where padding goes.

`SeededNumbers` makes them up, for cost estimates; whoever has the model gives its own through the same protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from h4hc.workload import Op
from targets.ethos_u.vendor.tflite import Array, Quant, Shape

WEIGHT_SIGMA = 32.0  # int8 steps; the vendor's weight coding keeps 0.895 of such weights
LARGEST_WEIGHT = 127
SCALE = 0.05
OTHER_SCALE = 0.0625  # of what is requantised
WEIGHT_SCALE = 0.01


class Numbers(Protocol):
    """The contents of a model, asked for one operator at a time."""

    def quant(self, tensor: str) -> Quant | None:
        """Quantisation of an activation tensor; None: it keeps that of what it is made from."""

    def weights(self, op: Op, shape: Shape, axis: int) -> tuple[Array, Quant]:
        """int8 weights in TFLite's order: OHWI, 1HWC (depthwise) or OI; quantised by channel along `axis`."""

    def bias(self, op: Op, channels: int) -> Array:
        """int32 bias, in steps of input scale times weight scale."""

    def constant(self, op: Op, tensor: str, shape: Shape) -> tuple[Array, Quant]:
        """int8 contents of a constant operand in memory order."""

    def attribute(self, op: Op, name: str) -> tuple[int, ...] | None:
        """begins, steps, pads, axes, order, bounds: what the operator says of itself; None where nobody knows."""


@dataclass(frozen=True)
class SeededNumbers:
    """Gaussian int8 weights; the same for operators of the same shape, whatever they are called. No attributes."""

    seed: int = 0
    sigma: float = WEIGHT_SIGMA

    def quant(self, tensor: str) -> Quant | None:
        """Of what it is made from."""
        return None

    def weights(self, op: Op, shape: Shape, axis: int) -> tuple[Array, Quant]:
        """Gaussian of `sigma` steps, clipped to -127 .. 127; scales within 10 % of each other."""
        rng = np.random.default_rng([self.seed, *shape])
        values = np.clip(np.rint(rng.normal(0.0, self.sigma, shape)), -LARGEST_WEIGHT, LARGEST_WEIGHT)
        scales = tuple(float(s) for s in WEIGHT_SCALE * rng.uniform(0.9, 1.1, shape[axis]))
        return values.astype(np.int8), Quant(scales, (0,) * shape[axis], axis)

    def bias(self, op: Op, channels: int) -> Array:
        """Zero."""
        return np.zeros(channels, np.int32)

    def constant(self, op: Op, tensor: str, shape: Shape) -> tuple[Array, Quant]:
        """Gaussian like the weights, one scale."""
        rng = np.random.default_rng([self.seed, prod(shape), len(shape)])
        values = np.clip(np.rint(rng.normal(0.0, self.sigma, shape)), -LARGEST_WEIGHT, LARGEST_WEIGHT)
        return values.astype(np.int8), Quant.whole(SCALE)

    def attribute(self, op: Op, name: str) -> tuple[int, ...] | None:
        """Unknown."""
        return None
