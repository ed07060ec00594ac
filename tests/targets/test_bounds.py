"""No bound of a number is lost: of every quantity of every shipped preset, both bounds move an interval somewhere.

Each bound is moved by itself, away from the value, also where the preset states none, and what the device answers is
compared: no nominal figure may change, and some low or high one must.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import pytest

from h4hc import registry
from h4hc.costtypes import DeviceModel, Interval
from h4hc.errors import CostModelError, TargetError
from h4hc.interconnect import SharedMemoryInterconnect
from h4hc.quantity import RANGES, Quantity, quantities
from h4hc.system import HOST, MoveStep, Switch
from h4hc.target_file import _build, _extended, _read, list_targets
from h4hc.workload import Layout, OpKind, Tensor, Workload
from targets.cim.device import Cim
from targets.cim.upkeep import life_years
from targets.ethos_u.device import EthosU
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload

Numbers = dict[str, Any]
Answer = tuple[float, float, float]
Answers = Callable[[Numbers], Iterator[Answer]]

QUICK = {
    "ethos_u/base",
    "ethos_u/u65-mid",
    "cim/mram-4x4",
    "cim/analog-8",
    "cortex_m/m55-400",
    "npu+cim",
}
SYSTEMS = [e.name for e in list_targets() if e.kind == "system"]
DEVICES = [e.name for e in list_targets() if e.kind == "device"]
USUAL = "npu+cim"  # whose memories a device gets that no system names
WIDER = 64.0  # how far a bound is moved
FROM_ZERO = 100.0  # high bound of what is zero

ALONE = "the host alone: `npu+cim`, which extends it, is asked about all of it"
MEMORY = "the memory behind is slower than this stage"
# What may be silent, and why: preset, path, bound.
SILENT = {
    ("ethos_u/*", "variants.*.act_*", "low"): "rescaling takes at least as long as the activation",
    ("ethos_u/alif-hp", "variants.*.out_int32_unary", "low"): MEMORY,
    ("ethos_u/u65-client", "variants.*.out_*", "low"): MEMORY,
    ("ethos_u/u65-high", "variants.*.out_*", "low"): MEMORY,
    ("ethos_u/*", "table_load", "high"): "the memory that a table comes from is slower than its port",
    ("cim/*", "write_bandwidth", "high"): "the memory that weights come from is slower than the write port",
    ("cim/*", "adc.output_error", "*"): "both bounds are said in words, see `inexact`",
    ("cortex_m/*", "mac_peak", "*"): "the roofline, which has no bounds",
    ("host*", "shared.*", "*"): ALONE,
    ("host*", "cache.*", "*"): ALONE,
    ("host*", "link.*", "*"): ALONE,
}


# --- what is asked -----------------------------------------------------------------------------------------


def _workloads() -> Iterator[Workload]:
    """Operators that between them rest on every number of a device."""
    yield from samples.legal().values()
    for activation in ("relu", "tanh"):
        yield conv_workload(8, 64, (16, 16), (1, 1), activation=activation)
    yield fc_workload(1, 512, 512)
    yield samples.pool("max", 3, 1, 14, 64)
    yield samples.elementwise(OpKind.ELEMENTWISE, "mul", inputs=2)
    yield samples.elementwise(OpKind.ELEMENTWISE, "pow", inputs=2)
    yield samples.resize("linear")
    yield samples.resize("cubic")
    yield samples.move(OpKind.MOVE, "pad")


WORKLOADS = tuple(_workloads())


def _bounds(interval: Interval) -> Answer:
    return interval.low, interval.nominal, interval.high


def _device_answers(device: DeviceModel) -> Iterator[Answer]:
    """Every interval that a device answers with."""
    yield device.area_mm2()
    yield device.leakage_w()
    yield from map(_bounds, device.wake_up()[:2])
    if isinstance(device, Cim):
        yield life_years(device.spec) or (0.0, 0.0, 0.0)
    modes = dict.fromkeys((device.modes()[0], device.modes()[-1]))
    for dtype in ("int8", "float32", "float16", "int64"):
        for workload in WORKLOADS:
            op = replace(workload.ops[0], dtype=dtype)
            for mode in modes:
                try:
                    cost = device.cost(op, mode, workload)
                except CostModelError:  # not its kind of work
                    break
                yield _bounds(cost.latency)
                yield _bounds(cost.energy)
        if device.family != "cortex_m":
            break


def _of_preset(numbers: Numbers) -> Iterator[Answer]:
    """Of a device as it is, and of a CIM device whose weights are rewritten at each wake-up."""
    yield from _device_answers(_load(numbers))
    if numbers["family"] == "cim":
        yield from _device_answers(_load({**numbers, "residency": "per_wake_up"}))


def _load(numbers: Numbers) -> DeviceModel:
    rest = {key: value for key, value in numbers.items() if key != "family"}
    device: DeviceModel = registry.load_device(numbers["family"], "device", copy.deepcopy(rest), "device")
    return device


def _of_system(numbers: Numbers) -> Iterator[Answer]:
    """Of what lies between the devices of a system, also with a memory of its own for each; then of the devices."""
    image = Tensor("t", (1, 8, 8, 8), "int8", "float32", 512, Layout.CHANNELS_LAST)
    others = [name for name in numbers["devices"] if name != HOST]
    for apart in ([], others):
        data = copy.deepcopy(numbers)
        own = data.pop("devices")
        data["link"]["devices"] = apart
        spec, devices = _build(data, own, "system")
        between = SharedMemoryInterconnect(spec, devices)
        for name in others:
            switch = between.switch(name)
            there = between.moves(image, HOST, name, Layout.CHANNELS_LAST, Layout.ROW_MAJOR)
            back = between.moves(image, name, HOST, Layout.CHANNELS_LAST, Layout.CHANNELS_LAST)
            steps: list[Switch | MoveStep] = [switch, *there, *back]
            for cost in steps:
                yield _bounds(cost.latency)
                yield _bounds(cost.energy)
    for device in devices:
        yield from _device_answers(device)


# --- bounds moved ------------------------------------------------------------------------------------------


def _moved(numbers: Numbers, path: str, quantity: Quantity, bound: str) -> Iterator[Numbers]:
    """The numbers with one bound further out, as far as its range lets it; several to try, the furthest first."""
    least, most = RANGES[quantity.unit]
    now: float = getattr(quantity, bound)
    ways = [max(now / WIDER, least)] if bound == "low" else [min(now * WIDER or FROM_ZERO, most), 1.0]
    for way in ways:
        if (way < now) if bound == "low" else (way > now):
            moved = copy.deepcopy(numbers)
            node = moved
            for key in path.split("."):
                node = node[key]
            node.update({"low": quantity.low, "high": quantity.high, bound: way})
            yield moved


def _is_heard(before: list[Answer], after: Iterator[Answer]) -> bool:
    """Whether a bound changed; asserts that no nominal figure did up to there."""
    for old, new in zip(before, after, strict=True):
        assert old[1] == new[1]
        if old != new:
            return True
    return False


def _silent(numbers: Numbers, answers: Answers, found: list[tuple[str, Quantity]]) -> list[tuple[str, str]]:
    """(path, bound) of what moves nothing."""
    before, silent = list(answers(numbers)), []
    for path, quantity in found:
        for bound in ("low", "high"):
            for moved in _moved(numbers, path, quantity, bound):
                try:
                    heard = _is_heard(before, answers(moved))
                except TargetError:  # beyond a limit of its own, such as a share of more than one
                    continue
                if not heard:
                    silent.append((path, bound))
                break
    return silent


@functools.cache
def _memories(preset: str) -> Numbers:
    """What the first system that names a preset shares with it."""
    for system in (*SYSTEMS, USUAL):
        named = _read(system, None, "system")[0].get("devices", {})
        if system == USUAL or preset in [device.get("preset") for device in named.values()]:
            break
    shared: Numbers = _extended(system, None, "system")["shared"]
    return shared


def _is_used(device: DeviceModel, path: str) -> bool:
    """Of an NPU the selected variant, and writes only to DRAM; what devices share is the system's."""
    if isinstance(device, EthosU):
        if path.startswith("flash_port.write_"):
            return device.spec.memory_mode == "Dedicated_Sram"
        if path.startswith("variants."):
            return path.startswith(f"variants.{device.spec.variant_name}.")
    return not path.startswith("shared.")


def _reason(name: str, path: str, bound: str) -> str:
    keys = (key for key in SILENT if all(fnmatch(a, b) for a, b in zip((name, path, bound), key, strict=True)))
    return next((SILENT[key] for key in keys), "")


def _each(names: list[str]) -> list[Any]:
    """One of each sort in every run, all where slow tests run."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("preset", _each(DEVICES))
def test_every_bound_of_a_device_reaches_an_interval(preset: str) -> None:
    numbers = {**_extended(preset, None, "device"), "shared": _memories(preset)}
    device = _load(numbers)
    found = [(path, q) for path, q in quantities(device.spec) if _is_used(device, path)]  # type: ignore[attr-defined]
    silent = _silent(numbers, _of_preset, found)
    assert [one for one in silent if not _reason(preset, *one)] == []


@pytest.mark.parametrize("system", _each(SYSTEMS))
def test_every_bound_of_a_system_reaches_an_interval(system: str) -> None:
    """Of the numbers that its own file states, as a file it extends is asked by itself; of the usual one, all."""
    numbers = _extended(system, None, "system")
    spec, _ = _build({k: v for k, v in numbers.items() if k != "devices"}, numbers["devices"], system)
    stated = _read(system, None, "system")[0]
    found = [(path, q) for path, q in quantities(spec) if system == USUAL or _states(stated, path)]
    silent = _silent(numbers, _of_system, found)
    assert [one for one in silent if not _reason(system, *one)] == []


def _states(numbers: Numbers, path: str) -> bool:
    node: Any = numbers
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node is not None


def test_reasons_are_of_presets_that_exist() -> None:
    assert [name for name, _, _ in SILENT if not any(fnmatch(one, name) for one in (*DEVICES, *SYSTEMS))] == []
