"""The NPU of a target as the vendor's compiler is told of it: product, configuration text, options.

The clock, ports and memories are those of the target, not those of a system configuration that comes with the tool.
"""

from __future__ import annotations

from dataclasses import dataclass

from targets.ethos_u.spec import EthosUSpec, FlashPort, PortSpec

PORT_BYTES = {"u55": 8, "u65": 16}  # what a clock scale of 1 moves a cycle
UNLIMITED = 2**32  # the tool's own limit where none is set
OUTSTANDING = 4  # accesses under way; the tool's estimates do not depend on it
OPTIONS = """
[compiler]
enable_db=true
output_format={form}
cop_format=COP1

[scheduler]
optimize=Performance
arena_size_limit={arena}
disable_feature=
cpu_tensor_alignment=16
tensor_allocator=HillClimb

[graph]
"""


@dataclass(frozen=True)
class Machine:
    """What `regor.compile` is told: product, configuration of the system, options of the compiler."""

    product: str
    configuration: str
    options: str


def machine(spec: EthosUSpec, form: str = "TFLite") -> Machine:
    """The NPU of a target. form: TFLite (one custom operator in a TFLite file) or Raw (the command stream itself)."""
    dedicated = spec.memory_mode == "Dedicated_Sram"
    arena = spec.cache_bytes if dedicated else UNLIMITED
    return Machine(f"Ethos{spec.product.upper()}", _configuration(spec), OPTIONS.format(form=form, arena=arena))


def _configuration(spec: EthosUSpec) -> str:
    product = spec.product.upper()
    name = f"Ethos_{product}_h4hc"  # the tool tells the width of the ports by the product in the name
    dedicated = spec.memory_mode == "Dedicated_Sram"
    second = "Dram" if dedicated else "OffChipFlash"
    per_cycle = spec.shared.flash.bandwidth.value / spec.clock_hz
    width = PORT_BYTES[spec.product]
    const, arena = ("Axi0" if spec.memory_mode == "Sram_Only" else "Axi1"), ("Axi1" if dedicated else "Axi0")
    lines = [
        "[architecture]",
        f"macs={spec.macs // spec.variant.cores}",
        f"cores={spec.variant.cores}",
        "[vela]",
        f"system_config_name={name}",
        f"memory_mode_name={spec.memory_mode}",
        f"[System_Config.{name}]",
        f"core_clock={spec.clock_hz}",
        "axi0_port=Sram",
        f"axi1_port={second}",
        *_memory("Sram", spec.sram_port.bytes_per_cycle.value / width, spec.sram_port),
        *_memory(second, per_cycle / width, spec.flash_port),
        f"[Memory_Mode.{spec.memory_mode}]",
        f"const_mem_area={const}",
        f"arena_mem_area={arena}",
        "cache_mem_area=Axi0",
    ]
    return "\n".join(lines) + "\n"


def _memory(name: str, scale: float, port: PortSpec | FlashPort) -> list[str]:
    return [
        f"{name}_clock_scale={scale:.9g}",
        f"{name}_burst_length={port.burst.value:.0f}",
        f"{name}_read_latency={port.read_latency.value:.0f}",
        f"{name}_write_latency={port.write_latency.value:.0f}",
        f"{name}_max_reads={OUTSTANDING}",
        f"{name}_max_writes={OUTSTANDING}",
    ]
