"""Target files: TOML -> System. Presets by name, a user's own file by path, `--set` on top.

A system file joins device presets (`targets/<family>/presets/*.toml`) with what they share (SRAM, flash, bus) and what
lies between them (cache, layout, link, switches). `extends` takes another file as base; tables merge key by key,
Quantities are replaced whole. Everything is checked at once and fails with TargetError.
Imports pydantic through h4hc.quantity (about 60 ms): import this module where it is used, not at CLI start.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from h4hc import registry
from h4hc.costtypes import DeviceModel
from h4hc.errors import Problem, TargetError
from h4hc.interconnect import SharedMemoryInterconnect
from h4hc.quantity import is_quantity, validated
from h4hc.system import HOST, System
from h4hc.system_spec import SystemSpec
from h4hc.target_overrides import apply_overrides, settable

MODEL_COST = "model"  # the cost model of each device's own family


@dataclass(frozen=True)
class TargetEntry:
    """A row of `targets list`: kind system or device; name as `--target` or `preset =` takes it."""

    kind: Literal["system", "device"]
    name: str
    title: str


# --- reading -----------------------------------------------------------------------------------------------


def _packaged(folder: str) -> list[Any]:
    entries = (resources.files("targets") / folder).iterdir()
    return sorted((e for e in entries if e.name.endswith(".toml")), key=lambda e: e.name)


def _system_names() -> list[str]:
    return [e.name.removesuffix(".toml") for e in _packaged("systems")]


def _preset_names() -> list[str]:
    return [
        f"{family}/{entry.name.removesuffix('.toml')}"
        for family in sorted(registry.TARGET_FAMILIES)
        for entry in _packaged(f"{family}/presets")
    ]


@functools.lru_cache(maxsize=64)  # a sweep reads the same files again and again; nobody changes what it gives
def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError("the target file is not valid TOML", (where,), str(error)) from None


def _read(name: str, folder: Path | None, kind: Literal["system", "device"]) -> tuple[dict[str, Any], str, Path | None]:
    """Content of a packaged name or of a .toml path relative to `folder`; its display name; its own folder."""
    if name.endswith(".toml"):
        path = (folder or Path()) / name
        try:
            return _parse(path.read_text(encoding="utf-8"), path.name), path.name, path.parent
        except FileNotFoundError:
            raise TargetError(f"there is no target file {name!r}", (str(path),), hint="check the path") from None
        except UnicodeDecodeError as error:
            why = f"it is not UTF-8 text: byte {error.start}"
            raise TargetError("the target file is not valid TOML", (name,), why) from None
        except OSError as error:
            raise TargetError(f"cannot read target file {name!r}", (name,), str(error.strerror)) from None
    known = _system_names() if kind == "system" else _preset_names()
    if name not in known:
        raise TargetError(
            f"there is no {kind} {name!r}",
            (name,),
            f"known: {', '.join(known)}",
            "name one of these, or give the path of a .toml file",
        )
    base = "systems" if kind == "system" else f"{name.split('/')[0]}/presets"
    entry = resources.files("targets") / base / f"{name.split('/')[-1]}.toml"
    return _parse(entry.read_text(encoding="utf-8"), f"{name}.toml"), f"{name}.toml", None


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; a Quantity, a list or a plain value replaces what was there."""
    out = dict(base)
    for key, value in top.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not is_quantity(old) and not is_quantity(value):
            out[key] = _merge(old, value)
        else:
            out[key] = copy.deepcopy(value)
    return out


def _extended(
    name: str, folder: Path | None, kind: Literal["system", "device"], seen: tuple[str, ...] = ()
) -> dict[str, Any]:
    data, shown, own_folder = _read(name, folder, kind)
    return _with_base(data, shown, own_folder, kind, (*seen, name))


def _with_base(
    data: dict[str, Any], where: str, folder: Path | None, kind: Literal["system", "device"], seen: tuple[str, ...]
) -> dict[str, Any]:
    """Resolve `extends` of a table and, in a system, the preset of each device, relative to its own file.

    A device with a preset of its own replaces the base's device of that name; one without changes it key by key.
    """
    data = dict(data)
    replaced: list[str] = []
    if kind == "system":
        devices = _table(data.get("devices", {}), "devices", where)
        replaced = [n for n, d in devices.items() if isinstance(d, dict) and "preset" in d]
        data["devices"] = {n: _device(_table(d, f"devices.{n}", where), where, folder) for n, d in devices.items()}
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str) or base in seen:
        raise TargetError("`extends` must name another file", (where,), f"got {base!r} after {' -> '.join(seen)}")
    below = _extended(base, folder, kind, seen)
    for name in replaced:
        below.get("devices", {}).pop(name, None)
    return _merge(below, data)


def _table(value: Any, path: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TargetError(f"target value {path!r} is not valid", (where,), "must be a table")
    return value


def _device(table: dict[str, Any], where: str, folder: Path | None) -> dict[str, Any]:
    table = dict(table)
    preset = table.pop("preset", None)
    if preset is None:
        return table
    if not isinstance(preset, str):
        raise TargetError("`preset` must be a name or a path", (where,), f"got {preset!r}")
    return _merge(_extended(preset, folder, "device"), table)


# --- building ----------------------------------------------------------------------------------------------


def load_system(target: str, sets: tuple[str, ...] = (), npu_cost: str = MODEL_COST) -> System:
    """The system called `target` (or the file at that path), with each `KEY=VALUE` of `sets` applied.

    npu_cost: where the NPU's costs come from, see h4hc.npu_cost. Raises TargetError (exit 6) with all faults of the
    files; UserError (exit 2) for a bad `--set` or `--npu-cost`; MissingToolError (exit 10) without the vendor's tool.
    """
    data = _extended(target, None, "system")
    name = Path(target).stem if target.endswith(".toml") else target
    data = apply_overrides(data, sets)
    digest = hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
    devices_data = data.pop("devices", {})
    spec, devices = _build(data, devices_data, name)
    pairs = tuple((key, value) for key, _, value in (s.partition("=") for s in sets))
    if npu_cost != MODEL_COST:
        from h4hc.npu_cost import OPTION, with_source

        sourced = with_source(devices, npu_cost)
        devices, pairs = sourced.devices, (*pairs, (OPTION, sourced.shown))
        digest = hashlib.sha256(f"{digest} {OPTION} {sourced.identity}".encode()).hexdigest()
    between, sram_bytes = SharedMemoryInterconnect(spec, devices), spec.shared.sram.size_bytes
    return System(name, spec.title, digest, devices, between, sram_bytes, pairs, spec.cache.line_bytes)


def _build(
    data: dict[str, Any], devices_data: dict[str, dict[str, Any]], name: str
) -> tuple[SystemSpec, tuple[DeviceModel, ...]]:
    """Validate the system and every device, and only then fail: with all problems of all of them."""
    problems: list[Problem] = []
    spec: SystemSpec | None = None
    try:
        spec = validated(SystemSpec, data, name)
    except TargetError as error:
        problems += error.problems
    if HOST not in devices_data:
        problems.append(
            Problem(
                f"system {name!r} has no device called {HOST!r}", (name,), "the host starts all others and ends models"
            )
        )
    devices: list[DeviceModel] = []
    for device in sorted(devices_data):
        numbers = {**devices_data[device], "shared": data.get("shared", {})}
        try:
            family = numbers.pop("family", None)
            if not isinstance(family, str):
                raise TargetError("a device needs `preset` or `family`", (f"{name}: {device}",))
            devices.append(registry.load_device(family, device, numbers, f"{name}: {device}"))
        except TargetError as error:
            problems += (p for p in error.problems if spec or "'shared" not in p.what)  # said once, for the system
    if spec:
        problems += _switch_problems(spec, set(devices_data), name)
    if problems or spec is None:
        raise TargetError.of(tuple(problems))
    return spec, tuple(devices)


def _switch_problems(spec: SystemSpec, devices: set[str], name: str) -> list[Problem]:
    others = devices - {HOST}
    out = [
        Problem(f"no [switch.{d}] for device {d!r}", (name,), "entering a device is never free", "add the table")
        for d in sorted(others - set(spec.switch))
    ]
    unknown = (set(spec.switch) | set(spec.link.devices)) - others
    out += [
        Problem(f"[switch] or [link] names {d!r}, which is no device but the host", (name,)) for d in sorted(unknown)
    ]
    return out


def target_values(target: str, sets: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every key that `--set` takes, with its value after `sets`; a Quantity as its table. Raises as `load_system`."""
    return settable(apply_overrides(_extended(target, None, "system"), sets))


def list_targets() -> tuple[TargetEntry, ...]:
    """All systems, then all device presets, by name."""
    systems = [TargetEntry("system", n, _title(_extended(n, None, "system"))) for n in _system_names()]
    devices = [TargetEntry("device", n, _title(_extended(n, None, "device"))) for n in _preset_names()]
    return tuple(systems + devices)


def _title(data: dict[str, Any]) -> str:
    return str(data["title"])
