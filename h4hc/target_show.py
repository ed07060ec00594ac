"""What a target is made of, as rows of text: its numbers, and which operator kinds run where."""

from __future__ import annotations

from dataclasses import dataclass

from h4hc.costtypes import Rule
from h4hc.system import System
from h4hc.workload import OpKind


@dataclass(frozen=True)
class Description:
    """name, title, sha256; rows of (device or part, name, value with unit, bounds and mark)."""

    name: str
    title: str
    sha256: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Support:
    """One cell of the support table: supported or not, and the sentences of the rules that apply to the kind."""

    kind: OpKind
    device: str
    runs: bool
    conditions: tuple[str, ...]


def describe(system: System) -> Description:
    """All numbers a system was made of, device by device, then what lies between them."""
    rows = [(d.name, name, value) for d in system.devices for name, value in d.summary()]
    for device in system.devices:
        for ridge in device.ridge_points():
            rows.append((device.name, f"ridge point over {ridge.memory}", f"{ridge.macs_per_byte:.4g} MAC/B"))
    summary = getattr(system.interconnect, "summary", None)
    if summary is not None:
        rows += [("system", name, value) for name, value in summary()]
    return Description(system.name, system.title, system.sha256, tuple(rows))


def support_table(system: System) -> tuple[Support, ...]:
    """Kind x device, generated from the same Rule objects that refuse operators.

    A rule that always refuses makes the cell a `no`; the sentences of the others are conditions.
    """
    return tuple(_cell(kind, device.name, device.rules()) for kind in OpKind for device in system.devices)


def _cell(kind: OpKind, device: str, rules: tuple[Rule, ...]) -> Support:
    applying = [r for r in rules if r.kinds is None or kind in r.kinds]
    refused = [r for r in applying if r.always]
    if refused:
        return Support(kind, device, False, tuple(r.sentence for r in refused))
    return Support(kind, device, True, tuple(r.sentence for r in applying))
