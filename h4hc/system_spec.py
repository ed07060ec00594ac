"""The numbers of a system file: what its devices share and what lies between them, validated.

Imports pydantic through h4hc.quantity (about 60 ms): import this module where it is used, not at CLI start.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from h4hc.quantity import Quantity, Schema, Sourced, unit

PJ_PER_BYTE = unit("pJ/B")
BYTES_PER_S = unit("B/s", positive=True)
MOST_SRAM_BYTES = 2**40
MOST_LINE_BYTES = 4096


class Sram(Schema):
    """On-chip SRAM that all devices reach. size_bytes is what tensors may use."""

    size_bytes: Annotated[int, Field(gt=0, le=MOST_SRAM_BYTES)]
    read_energy: Annotated[Quantity, PJ_PER_BYTE]
    write_energy: Annotated[Quantity, PJ_PER_BYTE]


class Flash(Schema):
    """Non-volatile memory that holds weights which do not stay in a device."""

    bandwidth: Annotated[Quantity, BYTES_PER_S]
    read_energy: Annotated[Quantity, PJ_PER_BYTE]


class Bus(Schema):
    """The bus between SRAM and the devices that have no port of their own."""

    bandwidth: Annotated[Quantity, BYTES_PER_S]
    energy: Annotated[Quantity, PJ_PER_BYTE]


class Shared(Schema):
    """What the devices of a system share; every device is given it along with its own numbers."""

    sram: Sram
    flash: Flash
    bus: Bus


class Cache(Schema):
    """Maintenance of the host's data cache: one operation a line, once a direction."""

    line_bytes: Annotated[int, Field(gt=0, le=MOST_LINE_BYTES)]
    clean_per_line: Annotated[Quantity, unit("ns/line")]
    invalidate_per_line: Annotated[Quantity, unit("ns/line")]
    call: Annotated[Quantity, unit("ns")]
    call_energy: Annotated[Quantity, unit("pJ")]
    energy_per_line: Annotated[Quantity, unit("pJ/line")]


class SwitchSpec(Schema):
    """A stay on a device: driver call, kick-off, interrupt, wake-up of the host. Energy beside leakage."""

    latency: Annotated[Quantity, unit("us")]
    energy: Annotated[Quantity, unit("pJ")]


class Link(Schema):
    """Copies to and from devices with a memory of their own; `devices` names them, empty = all share the SRAM."""

    devices: Annotated[tuple[str, ...], Field(strict=False)]
    bandwidth: Annotated[Quantity, BYTES_PER_S]
    setup: Annotated[Quantity, unit("ns")]
    energy: Annotated[Quantity, PJ_PER_BYTE]


class SystemSpec(Sourced):
    """A system file after merging, without its devices. Costs between devices are made in h4hc.interconnect."""

    shared: Shared
    cache: Cache
    switch: dict[str, SwitchSpec]
    link: Link
