"""A system: devices joined by memories, links and a host that starts them. What a plan costs besides its operators.

Loaded from `targets/systems/*.toml` by `h4hc.target_file`; frozen afterwards.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from h4hc.costtypes import ZERO, Capacity, DeviceModel, Interval
from h4hc.errors import UserError
from h4hc.workload import Layout, Tensor

HOST = "host"  # every system has a host: it holds the model's inputs and outputs and starts the others


@dataclass(frozen=True)
class MoveStep:
    """One thing that must happen to a tensor between its producer and a consumer.

    kind: transfer (bytes copied), cache (flush or invalidate), layout (axes reordered), quantize, dequantize
    (at the model's border), wake_up (a device's, the inference's share). engine: the device or DMA that does it.
    """

    kind: Literal["transfer", "cache", "layout", "quantize", "dequantize", "wake_up"]
    engine: str
    size_bytes: int
    latency: Interval
    energy: Interval
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Switch:
    """Cost of entering a device (driver call, kick-off) plus leaving it again (interrupt, wake-up), once a stay."""

    device: str
    latency: Interval
    energy: Interval
    marks: tuple[str, ...]


def no_device(system: str, device: str, known: Iterable[str]) -> UserError:
    """The error for a device that a system has not."""
    hint = "name one of these, or another target"
    return UserError(f"{system} has no device {device!r}", (device,), f"devices: {', '.join(known)}", hint)


class Interconnect(Protocol):
    """Costs between devices, from the system's file."""

    def switch(self, device: str) -> Switch: ...
    def moves(self, tensor: Tensor, src: str, dst: str, have: Layout, want: Layout) -> tuple[MoveStep, ...]: ...
    def border(self, tensor: Tensor, direction: Literal["quantize", "dequantize"]) -> tuple[MoveStep, ...]: ...


@dataclass(frozen=True)
class System:
    """name and sha256 identify the target; devices sorted by name, `host` among them; sram_bytes: for all tensors.

    line_bytes: a line of the host's data cache, 1 = it has none. Buffers begin on a line of their own, else cleaning
    or invalidating one would hit its neighbour.
    """

    name: str
    title: str
    sha256: str
    devices: tuple[DeviceModel, ...]
    interconnect: Interconnect
    sram_bytes: int
    overrides: tuple[tuple[str, str], ...] = ()
    line_bytes: int = 1

    def device(self, name: str) -> DeviceModel:
        """The device called `name`. Raises UserError if the system has none."""
        for device in self.devices:
            if device.name == name:
                return device
        raise no_device(self.name, name, self.device_names)

    @property
    def device_names(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(d.name for d in self.devices)

    def capacities(self) -> tuple[Capacity, ...]:
        """Weight store of every device."""
        return tuple(d.capacity() for d in self.devices)

    def leakage_energy(self, latency: Interval) -> Interval:
        """Energy [pJ] that all devices leak while a step of `latency` [ps] runs: sum(P_leak) * t.

        1 W * 1 ps = 1 pJ, so the product needs no factor. Rounded up at each bound.
        """
        low, nominal, high = self.leakage_w
        if high == 0:
            return ZERO
        return Interval(
            math.ceil(latency.low * low), math.ceil(latency.nominal * nominal), math.ceil(latency.high * high)
        )

    @functools.cached_property
    def leakage_w(self) -> tuple[float, float, float]:
        """Power that all devices leak together, low, nominal and high [W]."""
        low, nominal, high = zip(*(d.leakage_w() for d in self.devices), strict=True)
        return sum(low), sum(nominal), sum(high)
