"""Numbers of an Arm Ethos-U55. See README.md in this folder."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from h4hc.quantity import Quantity, Schema, Sourced, unit
from h4hc.system_spec import Shared
from targets.ethos_u.cycles import Port
from targets.ethos_u.work import Arch

LEAST_CLOCK_HZ, MOST_CLOCK_HZ = 10_000, 10_000_000_000
MOST_COUNT = 65536
MOST_BLOCK_SIDE = 256  # the block search tries every step of every side

Count = Annotated[int, Field(gt=0, le=MOST_COUNT)]
Whole = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Side = Annotated[int, Field(gt=0, le=MOST_BLOCK_SIDE)]
Shape = Annotated[tuple[Side, Side, Side], Field(strict=False)]
PerElement = Annotated[Quantity, unit("cycle/element")]
Cycles = Annotated[Quantity, unit("cycle")]


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
    weight_slice_channels: Count
    table_bytes: Count


class Variant(Schema):
    """One MAC configuration: micro-blocks, SHRAM, and cycles an element takes in the output stage."""

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
    softmax: PerElement


class PortSpec(Schema):
    """A memory port: data a cycle, latency of the first word, longest burst."""

    bytes_per_cycle: Annotated[Quantity, unit("B/cycle", positive=True)]
    read_latency: Cycles
    write_latency: Cycles
    burst: Annotated[Quantity, unit("B", positive=True, counted=True)]


class FlashPort(Schema):
    """The flash as the NPU sees it; its bandwidth is the system's `flash.bandwidth`."""

    read_latency: Cycles


class EthosUSpec(Sourced):
    """An Ethos-U55 with `macs` MACs a cycle. memory_mode says where the weights are: SRAM, or flash (Shared_Sram)."""

    injected: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared
    macs: Count
    clock_hz: Annotated[int, Field(ge=LEAST_CLOCK_HZ, le=MOST_CLOCK_HZ)]
    memory_mode: Literal["Sram_Only", "Shared_Sram"]
    arch: CommonArch
    variants: dict[str, Variant]
    sram_port: PortSpec
    flash_port: FlashPort
    calibration: Annotated[Quantity, unit("ratio", positive=True)]
    weight_ratio: Annotated[Quantity, unit("ratio", positive=True)]
    softmax_fixed: Cycles
    softmax_traffic: Annotated[Quantity, unit("B/element")]
    softmax_flash: Annotated[Quantity, unit("B/element")]
    table_load: Annotated[Quantity, unit("B/cycle", positive=True)]
    view_overhead: Annotated[Quantity, unit("cycle", positive=True)]
    mac_energy: Annotated[Quantity, unit("pJ/MAC")]
    cycle_energy: Annotated[Quantity, unit("pJ/cycle")]
    leakage: Annotated[Quantity, unit("W")]

    @model_validator(mode="after")
    def _has_variant(self) -> Self:
        if str(self.macs) not in self.variants:
            raise ValueError(f"macs must be one of {', '.join(sorted(self.variants, key=int))}, got {self.macs}")
        return self

    @cached_property
    def variant(self) -> Variant:
        """The variant that `macs` selects."""
        return self.variants[str(self.macs)]

    @cached_property
    def blocks_arch(self) -> Arch:
        """Structural parameters in the form the block search takes."""
        common, own = self.arch, self.variant
        return Arch(
            macs=self.macs,
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
    def port(self) -> Port:
        """The SRAM port, nominal values."""
        sram = self.sram_port
        return Port(
            sram.bytes_per_cycle.value, sram.read_latency.value, sram.write_latency.value, int(sram.burst.value)
        )
