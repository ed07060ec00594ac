"""Numbers of an Arm Ethos-U55 or U65. See README.md in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from h4hc.quantity import Quantity, Schema, Sourced, unit
from h4hc.system_spec import Shared
from targets.ethos_u.cycles import Port
from targets.ethos_u.work import Arch

LEAST_CLOCK_HZ, MOST_CLOCK_HZ = 10_000, 10_000_000_000
MOST_COUNT = 65536
MOST_CACHE_BYTES = 2**32
UNLIMITED_BYTES = 2**30  # what Vela takes for staging buffers where the SRAM is shared
MOST_BLOCK_SIDE = 256  # the block search tries every step of every side

Count = Annotated[int, Field(gt=0, le=MOST_COUNT)]
Whole = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Side = Annotated[int, Field(gt=0, le=MOST_BLOCK_SIDE)]
Shape = Annotated[tuple[Side, Side, Side], Field(strict=False)]
PerElement = Annotated[Quantity, unit("cycle/element")]
Cycles = Annotated[Quantity, unit("cycle")]
Bound = Literal["low", "value", "high"]
OPPOSITE: dict[Bound, Bound] = {"low": "high", "value": "value", "high": "low"}  # of a rate: more of it costs less


class CommonArch(Schema):
    """What all variants share: SHRAM banks, largest block, sub-kernel, storage granules."""

    bank_bytes: Count
    reserved_output_banks: Whole
    acc_bits: Count
    ofm_block_max: Shape
    subkernel_max: Count
    split_depth: Count
    brick_depth: Count
    scale_bytes: Count
    table_bytes: Count


class Variant(Schema):
    """One MAC configuration: cores, micro-blocks, SHRAM, cycles an element takes in the output stage, silicon area."""

    cores: Count
    ofm_ublock: Shape
    ifm_ublock_depth: Count
    shram_banks: Count
    reserved_end_banks: Whole
    ifm_granule: Count
    ifm_elementwise_granule: Count
    ifm32_granule: Count
    acc_granule: Count
    delay_cycles: Count
    pool_factor: Count
    out_int32_unary: PerElement
    out_int32_binary: PerElement
    out_mul_int32: PerElement
    out_mul: PerElement
    out_add: PerElement
    out_maxpool: PerElement
    out_other: PerElement
    act_lut: PerElement
    act_relu: PerElement
    act_none: PerElement
    area: Annotated[Quantity, unit("mm2", positive=True)]


STAGES = tuple(name for name in Variant.model_fields if name.startswith(("out_", "act_")))


class PortSpec(Schema):
    """A memory port: data a cycle, latency of the first word, longest burst."""

    bytes_per_cycle: Annotated[Quantity, unit("B/cycle", positive=True)]
    read_latency: Cycles
    write_latency: Cycles
    burst: Annotated[Quantity, unit("B", positive=True, counted=True)]


class FlashPort(Schema):
    """The memory behind the second port, flash or DRAM; its bandwidth and read energy are those of the system's flash.

    It is written only with Dedicated_Sram.
    """

    read_latency: Cycles
    write_latency: Cycles
    burst: Annotated[Quantity, unit("B", positive=True, counted=True)]
    write_energy: Annotated[Quantity, unit("pJ/B")]


@dataclass(frozen=True)
class Corner:
    """Least, nominal or most of the numbers that decide cycles and bytes."""

    ratio: float  # of encoded weights
    table_load: float  # bytes a cycle
    sram: Port
    second: Port
    rates: dict[str, float]  # cycles an element takes in each output stage of the variant


class EthosUSpec(Sourced):
    """An Ethos-U with `macs` MACs a cycle in all its cores.

    memory_mode, as the vendor names it: Sram_Only (everything in SRAM), Shared_Sram (weights behind the second port),
    Dedicated_Sram (feature maps as well, with `cache_bytes` of SRAM for what is live).
    """

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    product: Literal["u55", "u65"]
    macs: Count
    clock_hz: Annotated[int, Field(ge=LEAST_CLOCK_HZ, le=MOST_CLOCK_HZ)]
    memory_mode: Literal["Sram_Only", "Shared_Sram", "Dedicated_Sram"]
    cache_bytes: Annotated[int, Field(gt=0, le=MOST_CACHE_BYTES)]
    arch: CommonArch
    variants: dict[str, Variant]
    sram_port: PortSpec
    flash_port: FlashPort
    calibration: Annotated[Quantity, unit("ratio", positive=True)]
    weight_ratio: Annotated[Quantity, unit("ratio", positive=True)]
    table_load: Annotated[Quantity, unit("B/cycle", positive=True)]
    view_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    mac_energy: Annotated[Quantity, unit("pJ/MAC")]
    output_energy: Annotated[Quantity, unit("pJ/output")]
    cycle_energy: Annotated[Quantity, unit("pJ/cycle")]
    leakage: Annotated[Quantity, unit("W")]

    @model_validator(mode="after")
    def _has_variant(self) -> Self:
        sizes = sorted(int(name.rpartition("-")[2]) for name in self.variants if name.startswith(f"{self.product}-"))
        if self.macs not in sizes:
            raise ValueError(f"macs must be one of {', '.join(map(str, sizes))}, got {self.macs}")
        return self

    @model_validator(mode="after")
    def _writes_memory(self) -> Self:
        if self.memory_mode == "Dedicated_Sram" and self.product == "u55":
            raise ValueError("memory_mode Dedicated_Sram is one of the Ethos-U65, whose second port can write")
        return self

    @property
    def variant_name(self) -> str:
        """Key of the variant that `product` and `macs` select."""
        return f"{self.product}-{self.macs}"

    @cached_property
    def variant(self) -> Variant:
        """The variant that `product` and `macs` select."""
        return self.variants[self.variant_name]

    @property
    def buffer_bytes(self) -> int:
        """SRAM that staged weights may take."""
        return self.cache_bytes if self.memory_mode == "Dedicated_Sram" else UNLIMITED_BYTES

    @cached_property
    def blocks_arch(self) -> Arch:
        """Structural parameters in the form the block search takes."""
        common, own = self.arch, self.variant
        return Arch(
            macs=self.macs,
            cores=own.cores,
            ofm_ublock=own.ofm_ublock,
            ifm_ublock_depth=own.ifm_ublock_depth,
            shram_banks=own.shram_banks,
            reserved_end_banks=own.reserved_end_banks,
            reserved_output_banks=common.reserved_output_banks,
            bank_bytes=common.bank_bytes,
            ifm_granule=own.ifm_granule,
            ifm_elementwise_granule=own.ifm_elementwise_granule,
            ifm32_granule=own.ifm32_granule,
            acc_granule=own.acc_granule,
            acc_bits=common.acc_bits,
            ofm_block_max=common.ofm_block_max,
            subkernel_max=common.subkernel_max,
            split_depth=common.split_depth,
            brick_depth=common.brick_depth,
            delay_cycles=own.delay_cycles,
            pool_factor=own.pool_factor,
        )

    @cached_property
    def corners(self) -> tuple[Corner, Corner, Corner]:
        """Numbers at their least cost, nominal, and at their most."""
        return self._corner("low"), self._corner("value"), self._corner("high")

    @cached_property
    def new_passes(self) -> tuple[bool, ...]:
        """Whether a pass, apart from weights and tables, costs something else in a corner than in the one before."""
        numbers = [(corner.sram, corner.second, corner.rates) for corner in self.corners]
        return (True, *(numbers[at] != numbers[at - 1] for at in range(1, len(numbers))))

    def _corner(self, bound: Bound) -> Corner:
        rate = OPPOSITE[bound]
        return Corner(
            getattr(self.weight_ratio, bound),
            getattr(self.table_load, rate),
            _port(self.sram_port, getattr(self.sram_port.bytes_per_cycle, rate), bound),
            _port(self.flash_port, getattr(self.shared.flash.bandwidth, rate) / self.clock_hz, bound),
            {name: getattr(getattr(self.variant, name), bound) for name in STAGES},
        )

    @cached_property
    def memo(self) -> dict[object, object]:
        """Operators worked out before (lanes.py): pure, so that asking again is only quicker."""
        return {}

    @property
    def port(self) -> Port:
        """The SRAM port, nominal values."""
        return self.corners[1].sram


def _port(spec: PortSpec | FlashPort, bytes_per_cycle: float, bound: Bound) -> Port:
    """A memory at one bound of its latencies and of its burst, of which short runs waste the rest."""
    read, write = getattr(spec.read_latency, bound), getattr(spec.write_latency, bound)
    return Port(bytes_per_cycle, read, write, int(getattr(spec.burst, bound)))
