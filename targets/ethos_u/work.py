"""One pass of the NPU's hardware over a block of work: what blocks.py and cycles.py are asked about.

Named tuples, since they are keys of every memo: they hash and compare at the speed of C.
"""

from __future__ import annotations

from math import prod
from typing import Literal, NamedTuple

Hwc = tuple[int, int, int]  # height, width, channels
SHALLOW, BRICK = 8, 16  # channels of a map that is laid out anew; of a brick

Unit = Literal["conv", "depthwise", "vector", "pool", "reduce_sum", "elementwise", "copy", "matmul"]
Output = Literal["int32_unary", "int32_binary", "mul_int32", "mul", "add", "maxpool", "other"]
Activation = Literal["lut", "relu", "none"]
Format = Literal["nhwc", "brick"]  # brick: NHCWB16, channels padded to 16
Place = Literal["inner", "outer", "constant"]  # a map between two operators, one of the model's borders, a constant


class Arch(NamedTuple):
    """Structural parameters of one MAC variant; all counts. See presets/base.toml for their source."""

    macs: int  # of all cores
    cores: int
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


class Work(NamedTuple):
    """A hardware pass, repeated `times`. weights: how many int8 weights it reads (0: none).

    ifm2 is the second operand of an elementwise pass; (1, 1, 1) for a scalar. A matmul is a compound pass: ifm (b, m,
    k) times ifm2 (b, n, k), both with k innermost.
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
    ifm2_format: Format = "nhwc"
    ofm_format: Format = "nhwc"
    ifm_place: Place = "inner"
    ifm2_place: Place = "inner"
    ofm_place: Place = "inner"
    weights: int = 0
    times: int = 1
    even_weights: bool = False  # all the same: they take a bit each
    shared: Literal["no", "first", "again"] = "no"  # passes one behind the other with the same weights

    @property
    def is_plain(self) -> bool:
        """A pass that does nothing but its output stage: a clamp, a table or a new scale by itself."""
        return self.unit == "pool" and self.kernel == (1, 1)


class Blocks(NamedTuple):
    """Block configuration: what is worked on at a time, and in which order.

    product: input and output block of the first half of a product of activations.
    """

    ifm: Hwc
    ofm: Hwc
    traversal: Literal["depth_first", "part_kernel", "depthwise"]
    product: tuple[Hwc, Hwc] | None = None


def area(shape: Hwc) -> int:
    """Height times width."""
    return shape[0] * shape[1]


def volume(shape: Hwc) -> int:
    """Elements."""
    return shape[0] * shape[1] * shape[2]


def smaller(a: Hwc, b: Hwc) -> Hwc:
    """Axis by axis minimum."""
    (h, w, c), (height, width, depth) = a, b  # twice as fast as min(), and asked for every block
    return h if h < height else height, w if w < width else width, c if c < depth else depth


def round_up(value: int, step: int) -> int:
    """Next multiple of `step`."""
    return -(-value // step) * step


def deepened(shape: Hwc) -> Hwc:
    """How the vendor's compiler lays out a map of few channels where its order does not matter.

    Prime factors, smallest first, go to the channels until a brick is full, then to height and width in turn; a map of
    8 channels or more, or of no more than a brick's channels in all, stays as it is.
    """
    if shape[2] >= SHALLOW or volume(shape) <= BRICK:
        return shape
    primes, depth = _prime_factors(volume(shape)), 1
    while primes and depth < BRICK:
        depth *= primes.pop(0)
    return shape if depth < BRICK else (prod(primes[::2]), prod(primes[1::2]), depth)


def _prime_factors(count: int) -> list[int]:
    factors, prime = [], 2
    while count > 1:
        while count % prime == 0:
            factors.append(prime)
            count //= prime
        prime = prime + 1 if prime * prime <= count else max(count, prime + 1)
    return factors
