"""Numbers of a Cortex-M host. See README.md in this folder."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from h4hc.quantity import Quantity, Schema, Sourced, unit
from h4hc.system_spec import Shared

MacRate = Annotated[Quantity, unit("MAC/cycle", positive=True)]
ElementCycles = Annotated[Quantity, unit("cycle/element")]


def _at_most_one(quantity: Quantity) -> Quantity:
    if quantity.high > 1:
        raise ValueError(f"a share is at most 1, got {quantity.high:g}")
    return quantity


Share = Annotated[Quantity, unit("ratio"), AfterValidator(_at_most_one)]
PositiveShare = Annotated[Quantity, unit("ratio", positive=True), AfterValidator(_at_most_one)]
LEAST_CLOCK_HZ, MOST_CLOCK_HZ = 10_000, 10_000_000_000


class MacRates(Schema):
    """MACs per cycle of the inner loops of one element type: long inner products; results cost `output` on top."""

    conv: MacRate
    depthwise: MacRate
    grouped_conv: MacRate
    conv_transpose: MacRate
    fully_connected: MacRate
    matmul: MacRate


class ElementCosts(Schema):
    """Cycles per element of the kernels of one element type.

    output: per result of a MAC kernel (bias, requantisation, store, loop). pool, reduce: per input value read; norm,
    softmax: per element; resize: per output element; elementwise: per result of the simple functions,
    elementwise_slow of all others; activation: per value.
    """

    output: ElementCycles
    softmax: ElementCycles
    norm: ElementCycles
    elementwise: ElementCycles
    elementwise_slow: ElementCycles
    activation: ElementCycles
    pool: ElementCycles
    reduce: ElementCycles
    resize_nearest: ElementCycles
    resize_linear: ElementCycles
    resize_cubic: ElementCycles
    quantize: ElementCycles
    generic: ElementCycles
    control_flow: ElementCycles


class TypeRates(Schema):
    """One element type: its MAC kernels and its element kernels."""

    macs: MacRates
    elements: ElementCosts


class Rates(Schema):
    """By element type; int8 covers uint8 and bool; other covers 16 to 64 bit integers, double, bfloat16, strings."""

    int8: TypeRates
    float16: TypeRates
    float32: TypeRates
    other: TypeRates


class CortexMSpec(Sourced):
    """A Cortex-M core as the host of a system.

    mac_peak: 8-bit products. fetch_share: of the flash's bandwidth, what the core's loads reach. energy_per_cycle: a
    busy core with instruction fetch, caches and what inner loops read again; without leakage, and without the tensors'
    and weights' own bytes, which the memories charge. stall_share: of that energy, what a waiting cycle takes. area:
    the core with its caches.
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    clock_hz: Annotated[int, Field(ge=LEAST_CLOCK_HZ, le=MOST_CLOCK_HZ)]
    simple_functions: Annotated[tuple[str, ...], Field(strict=False)]
    free_activations: Annotated[tuple[str, ...], Field(strict=False)]
    mac_peak: MacRate
    memory_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    move_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    transpose_rate: Annotated[Quantity, unit("B/cycle", positive=True)]
    op_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    view_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    fetch_share: PositiveShare
    stall_share: Share
    energy_per_cycle: Annotated[Quantity, unit("pJ/cycle")]
    leakage: Annotated[Quantity, unit("W")]
    area: Annotated[Quantity, unit("mm2", positive=True)]
    rates: Rates
