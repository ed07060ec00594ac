"""One pass of the NPU's hardware over a block of work: what blocks.py and cycles.py are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hwc = tuple[int, int, int]  # height, width, channels

Unit = Literal["conv", "depthwise", "vector", "pool", "reduce_sum", "elementwise", "copy"]
Output = Literal["int32_unary", "int32_binary", "mul_int32", "mul", "add", "maxpool", "other"]
Activation = Literal["lut", "relu", "none"]
Format = Literal["nhwc", "brick"]  # brick: NHCWB16, channels padded to 16


@dataclass(frozen=True)
class Arch:
    """Structural parameters of one MAC variant; all counts. See presets/u55.toml for their source."""

    macs: int
    ofm_ublock: Hwc
    ifm_ublock_depth: int
    shram_banks: int
    reserved_end_banks: int
    reserved_output_banks: int
    bank_bytes: int
    ifm_granule: int  # SHRAM banks in which 8-bit input buffers grow
    ifm_elementwise_granule: int
    ifm32_granule: int
    acc_granule: int
    acc_bits: int
    ofm_block_max: Hwc
    subkernel_max: int
    split_depth: int
    brick_depth: int
    delay_cycles: int
    pool_factor: int


@dataclass(frozen=True)
class Work:
    """A hardware pass, repeated `times`. weights: how many int8 weights it reads (0: none).

    ifm2 is the second operand of an elementwise pass; (1, 1, 1) for a scalar. fit: blocks are chosen for an input
    of this size instead of `ifm` (parts of a product of activations).
    """

    unit: Unit
    output: Output
    ifm: Hwc
    ofm: Hwc
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    upscale: int = 1
    ifm2: Hwc | None = None
    activation: Activation = "none"
    ifm_bits: int = 8
    ofm_bits: int = 8
    ifm_format: Format = "nhwc"
    ofm_format: Format = "nhwc"
    weights: int = 0
    times: int = 1
    fit: Hwc | None = None


@dataclass(frozen=True)
class Blocks:
    """Block configuration: what is worked on at a time, and in which order."""

    ifm: Hwc
    ofm: Hwc
    traversal: Literal["depth_first", "part_kernel", "depthwise"]


def area(shape: Hwc) -> int:
    """Height times width."""
    return shape[0] * shape[1]


def volume(shape: Hwc) -> int:
    """Elements."""
    return shape[0] * shape[1] * shape[2]


def smaller(a: Hwc, b: Hwc) -> Hwc:
    """Axis by axis minimum."""
    return min(a[0], b[0]), min(a[1], b[1]), min(a[2], b[2])


def round_up(value: int, step: int) -> int:
    """Next multiple of `step`."""
    return -(-value // step) * step
