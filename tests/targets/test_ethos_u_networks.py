"""Whole networks on the NPU, with what hides behind the operator before, against Vela 5.2.0 and published figures."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.cost import device_rejection
from h4hc.costtypes import ZERO, DeviceModel
from h4hc.quantity import Quantity
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import ConvParams, Op, Workload
from h4hc.zoo.build import build_model
from targets.ethos_u.device import EthosU
from targets.ethos_u.lanes import operator
from tests.targets.vela_layers import NETWORKS, WEIGHT_RATIO, Row, conv_workload, rows

REACHED = 0.03  # of every network and mode, ds-cnn on 256 MACs the worst of the small ones
BAR = 0.05
FVP_CYCLES = 7_345_741  # MobileNetV2 1.0 224 int8, U55-128, ml-embedded-evaluation-kit, img_class.md: NPU active cycles
FVP_SRAM_BEATS, FVP_FLASH_BEATS, BEAT_BYTES = 2_468_259 + 1_151_319, 432_351, 8  # the same run: AXI0, AXI1
FVP_SRAM_ONLY_CYCLES = (
    5.5e6  # as exported by ExecuTorch, weights in SRAM: pytorch/executorch PR 9830, "5.5M NPU cycles"
)
U55_HZ = 500_000_000
SILICON_MS = 19.0  # MobileNetV2 224 on Alif E8 HP, U55-256, end to end: pytorch/executorch PR 19131


@functools.cache
def _workload(name: str) -> Workload:
    model = build_model(name).SerializeToString()
    workload = compile_model(model, CompileOptions("host"), stop_after="workload").workload
    assert workload is not None
    return workload


@functools.cache
def _npu(system: str, *sets: str) -> DeviceModel:
    return load_system(system, sets).device("npu")


def _calibration(system: str) -> Quantity:
    device = _npu(system)
    assert isinstance(device, EthosU)
    return device.spec.calibration


def _total_ps(device: DeviceModel, workload: Workload, ops: Sequence[Op]) -> int:
    """As the vendor's tool sums it: each operator, less what is fetched behind the one before."""
    mode = device.modes()[0]
    alone = sum(device.cost(op, mode, workload).latency.nominal for op in ops)
    return alone - sum(device.hidden(a, b, workload).nominal for a, b in pairwise(ops))


def _cycles(row: Row) -> tuple[float, int]:
    """(Ours, the vendor tool's) cycles of what the NPU runs of a row, without the transposes of the border."""
    sets = (f"npu.macs={row['macs']}", f"npu.memory_mode={row['memory_mode']}", f"npu.weight_ratio={WEIGHT_RATIO}")
    device, workload = _npu(row["system"], *sets), _workload(row["network"])
    clock_hz = device.cost(workload.ops[0], device.modes()[0], workload).clock_hz
    ops = [op for op in workload.ops if device_rejection(op, device, workload) is None]
    assert len(ops) >= len(workload.ops) - 1, row["network"]  # vit-tiny ends with a Gather
    ours = _total_ps(device, workload, ops) * clock_hz / PS_PER_S
    return ours, int(row["total_cycles"]) - int(row["border_cycles"])


def test_network_totals_are_the_vendor_tools(record_property: Callable[[str, object], None]) -> None:
    lines, networks = ["Networks against Vela 5.2.0: network, system, MACs, memory mode, cycles, error"], set()
    for row in rows(NETWORKS):
        ours, reference = _cycles(row)
        error = ours / reference - 1
        name = f"{row['network']:19} {row['system']:12} {row['macs']:>3} {row['memory_mode']:12}"
        lines.append(f"  {name} {ours:11.0f} {error:+.2%}")
        assert abs(error) <= REACHED < BAR, lines[-1]
        networks.add((row["network"], row["macs"], row["memory_mode"]))
    record_property("summary", "\n".join(lines))
    names = {n for n, _, _ in networks}
    assert len(names) >= 5
    assert {(n, m, mode) for n in names for m in ("128", "256") for mode in ("Shared_Sram", "Sram_Only")} <= networks


def test_published_cycles_of_mobilenet_v2() -> None:
    """The FVP's figures, with the spread of weights that the preset assumes: 0.8 and 5 % below ours."""
    workload = _workload("mobilenet-v2")
    shared, alone = _npu("npu128"), _npu("npu128", "npu.memory_mode=Sram_Only")
    ours = [_total_ps(device, workload, workload.ops) * U55_HZ / PS_PER_S for device in (shared, alone)]
    ratios = FVP_CYCLES / ours[0], FVP_SRAM_ONLY_CYCLES / ours[1]
    assert ratios == pytest.approx((0.992, 0.948), abs=0.003)
    assert all(_calibration("npu128").low <= ratio <= _calibration("npu128").high for ratio in ratios)


def test_published_traffic_of_mobilenet_v2() -> None:
    """The FVP's beats of 8 bytes, Shared_Sram: 9 % less on the SRAM's port here; 26 % more on the flash's.

    An operator by itself reads again what the compiler stages behind the operator before it.
    """
    device, workload = _npu("npu128"), _workload("mobilenet-v2")
    moved = Counter[str]()
    for op in workload.ops:
        moved.update(dict(device.cost(op, device.modes()[0], workload).bytes_moved))
    sram, flash = (FVP_SRAM_BEATS * BEAT_BYTES, FVP_FLASH_BEATS * BEAT_BYTES)
    assert (moved["sram"] / sram, moved["flash"] / flash) == pytest.approx((0.912, 1.256), abs=0.005)


def test_silicon_of_the_alif_hp_is_what_bounds_the_calibration() -> None:
    """19 ms end to end on silicon are 1.24 of the model. The bound is that ratio, so the interval proves nothing here;
    the preset must say what the model of today gives."""
    device, workload = _npu("npu-alif-hp"), _workload("mobilenet-v2")
    nominal_ms = _total_ps(device, workload, workload.ops) / PS_PER_S * 1e3
    assert nominal_ms == pytest.approx(15.3, abs=0.05)
    assert SILICON_MS / nominal_ms == pytest.approx(1.24, abs=0.005)
    bound = _calibration("npu-alif-hp")
    assert bound.high == pytest.approx(SILICON_MS / nominal_ms, abs=0.005)
    assert "19 ms end to end" in bound.source
    assert "15.3 ms here" in bound.source


def test_nothing_hides_where_weights_are_in_sram() -> None:
    workload = _workload("resnet8")
    device = _npu("npu", "npu.memory_mode=Sram_Only")
    assert all(device.hidden(a, b, workload) == ZERO for a, b in pairwise(workload.ops))


@pytest.mark.parametrize("system", ["npu", "npu128", "npu-u65-512", "npu-u65-mid", "npu-alif-he"])
@pytest.mark.parametrize("name", ["resnet8", "mobilenet-v3-small"])
def test_what_hides_is_part_of_the_cost(system: str, name: str) -> None:
    """Never more than the operator's own latency, at any bound; and it is what the first weights cost, or less."""
    device, workload = _npu(system), _workload(name)
    mode, found = device.modes()[0], 0
    for before, op in pairwise(workload.ops):
        hidden, latency = device.hidden(before, op, workload), device.cost(op, mode, workload).latency
        assert hidden.low <= latency.low
        assert hidden.nominal <= latency.nominal
        assert hidden.high <= latency.high
        found += hidden.nominal > 0
    assert found > 3


def _two_convolutions(size: int) -> Workload:
    """A 3 x 3 convolution over a square image, and a 1 x 1 behind it that keeps its shape."""
    first = conv_workload(32, 64, (size, size), (3, 3))
    second = conv_workload(64, 64, (size, size), (1, 1))
    middle = replace(first.tensor["y"], name="m")
    weights = (replace(first.tensor["w"], name="w0"), second.tensor["w"])
    ops = (
        replace(first.ops[0], id="a", outputs=("m",), weights=("w0",)),
        replace(second.ops[0], id="b", inputs=("m",)),
    )
    tensors = (first.tensor["x0"], middle, *weights, second.tensor["y"])
    return Workload("two", "as stored", ops, tensors, ("x0",), ("y",))


def test_first_weights_hide_behind_enough_work() -> None:
    """1 x 1 convolutions wait for their first weights; the more there is to do before, the less they do."""
    device = _npu("npu")
    waits = []
    for size in (4, 8, 16, 32, 64):
        workload = _two_convolutions(size)
        cost = device.cost(workload.ops[1], device.modes()[0], workload).latency.nominal
        waits.append((cost, device.hidden(workload.ops[0], workload.ops[1], workload).nominal))
    assert all(0 <= hidden < cost for cost, hidden in waits)
    assert [hidden > 0 for _, hidden in waits[-3:]] == [True] * 3


def test_a_dedicated_sram_keeps_each_map_that_fits_by_itself() -> None:
    """Of an operator that reads a small inner map and writes a large one, only the small one lies in the SRAM."""
    workload = _two_convolutions(64)  # maps of 256 KiB
    shapes = {"m": 64 * 64 * 64, "y": 64 * 64 * 64}
    middle = replace(workload, outputs=("z",))  # y is an inner map as well
    for cache, near in ((2**20, (True, True)), (shapes["m"], (True, True)), (shapes["m"] - 1, (False, False))):
        device = _npu("npu-u65-mid", f"npu.cache_bytes={cache}")
        assert isinstance(device, EthosU)
        (part,) = operator(device.spec, workload.ops[1], middle).parts[1]
        assert (part.in_sram[0], part.in_sram[2]) == near, cache
    small = replace(middle, tensors=tuple(replace(t, size_bytes=9) if t.name == "m" else t for t in middle.tensors))
    device = _npu("npu-u65-mid", f"npu.cache_bytes={shapes['y'] - 1}")
    assert isinstance(device, EthosU)
    params = small.ops[1].params
    assert isinstance(params, ConvParams)
    grown = replace(params, in_channels=1)
    (part,) = operator(device.spec, replace(small.ops[1], params=grown), small).parts[1]
    assert (part.in_sram[0], part.in_sram[2]) == (True, False)
