"""Which system of this package a vendor's configuration names: (accel, sysconf, memmode) -> System.

The names are those of `targets/vendor_names.toml`.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from h4hc.costtypes import DeviceModel
from h4hc.errors import UserError
from h4hc.system import HOST, System

NPU_FAMILY = "ethos_u"
TABLES = {"accel": "accelerators", "sysconf": "system_configs", "memmode": "memory_modes"}


@dataclass(frozen=True)
class Config:
    """Names of one configuration; "" where none is given."""

    accel: str = ""
    sysconf: str = ""
    memmode: str = ""

    @property
    def text(self) -> str:
        """The names that are given."""
        return " ".join(n for n in (self.accel, self.sysconf, self.memmode) if n)


@functools.cache
def _names() -> dict[str, dict[str, Any]]:
    text = (resources.files("targets") / "vendor_names.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def known(column: str) -> tuple[str, ...]:
    """Names that column accel, sysconf or memmode takes."""
    return tuple(_names()[TABLES[column]])


def configured(config: Config, target: str, sets: tuple[str, ...]) -> System:
    """The system that `config` names, or `target` where it names none, with its settings and then `sets` applied.

    Raises UserError for unknown names, and for an accelerator in a system configuration of another product; what
    `load_system` raises for the rest.
    """
    from h4hc.target_file import load_system

    entries = {c: _entry(c, getattr(config, c)) for c in TABLES}
    products = {e["product"] for e in entries.values() if "product" in e}
    if len(products) > 1:
        raise UserError(
            f"{config.accel} is not an NPU of {config.sysconf}", why=f"products {', '.join(sorted(products))}"
        )
    systems = [entries[c]["system"] for c in ("sysconf", "accel") if "system" in entries[c]]
    base = systems[0] if systems else target
    changes = {key: value for entry in entries.values() for key, value in entry.get("set", {}).items()}
    name = npu(load_system(base)).name if changes else ""
    return load_system(base, (*(f"{name}.{key}={value}" for key, value in sorted(changes.items())), *sets))


def _entry(column: str, name: str) -> dict[str, Any]:
    if not name:
        return {}
    if name not in known(column):
        raise UserError(f"{column} {name!r} is not known", why=f"known: {', '.join(known(column))}")
    entry: dict[str, Any] = _names()[TABLES[column]][name]
    return entry


def npu(system: System) -> DeviceModel:
    """The NPU of a system: its only device of an NPU family. Raises UserError when there is none, or more."""
    found = [d for d in system.devices if d.family == NPU_FAMILY]
    if len(found) == 1:
        return found[0]
    others = ", ".join(d.name for d in system.devices if d.name != HOST) or HOST
    raise UserError(f"{system.name} has {len(found)} NPUs", hint=f"--device names what to cost: {others}")
