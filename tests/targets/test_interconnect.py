"""What a tensor costs between devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.cost import cost_table
from h4hc.partition import PartitionOptions, partition
from h4hc.schedule import schedule
from h4hc.system import MoveStep, System
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import Layout, OpKind, Tensor, Workload
from targets.cortex_m.device import CortexM
from tests.targets import samples

SYSTEM = load_system("npu+cim")
LAST, ROW = Layout.CHANNELS_LAST, Layout.ROW_MAJOR
IMAGE = Tensor("x", (1, 16, 8, 8), "int8", "int8", 1024, LAST)


def _moves(
    src: str,
    dst: str,
    tensor: Tensor = IMAGE,
    have: Layout = LAST,
    want: Layout = LAST,
    system: System = SYSTEM,
) -> tuple[MoveStep, ...]:
    return system.interconnect.moves(tensor, src, dst, have, want)


def _kinds(*args: object, **kw: object) -> list[str]:
    return [f"{s.kind}@{s.engine}" for s in _moves(*args, **kw)]  # type: ignore[arg-type]


def test_shared_sram_copies_nothing_between_accelerators() -> None:
    assert _kinds("npu", "cim") == []
    assert _kinds("cim", "npu") == []
    assert _kinds("npu", "npu") == []
    assert _kinds("host", "host") == []


def test_host_cache_is_cleaned_and_invalidated() -> None:
    assert _kinds("host", "npu") == ["cache@host"]
    assert _kinds("cim", "host") == ["cache@host"]
    (clean,) = _moves("host", "npu")
    # 1024 bytes are 32 lines: 250 ns call + 32 * 25 ns
    assert clean.latency.nominal == 250_000 + 32 * 25_000
    assert clean.energy.nominal == 2000 + 32 * 152
    (one_more,) = _moves("host", "npu", replace(IMAGE, size_bytes=1025))
    assert one_more.latency.nominal - clean.latency.nominal == 25_000
    (invalidate,) = _moves("cim", "host")
    assert invalidate.latency.nominal == 250_000 + 32 * 15_000
    assert set(clean.marks) == {"guess"}


def test_layout_change_runs_on_the_npu_where_it_is_an_end() -> None:
    assert _kinds("npu", "cim", want=ROW) == ["layout@npu"]
    assert _kinds("cim", "npu", want=ROW) == ["layout@npu"]
    assert _kinds("host", "npu", have=ROW, want=LAST) == ["cache@host", "layout@npu"]
    assert _kinds("npu", "host", want=ROW) == ["layout@npu", "cache@host"]
    assert _kinds("npu", "npu", want=ROW) == ["layout@npu"]


def test_layout_change_runs_on_the_host_otherwise() -> None:
    assert _kinds("host", "cim", have=ROW, want=LAST) == ["layout@host", "cache@host"]
    assert _kinds("cim", "host", want=ROW) == ["cache@host", "layout@host"]
    assert _kinds("cim", "cim", want=ROW) == ["cache@host", "layout@host", "cache@host"]
    assert _kinds("host", "host", want=ROW) == ["layout@host"]


def test_interrupting_a_stay_costs_a_switch() -> None:
    within = _moves("cim", "cim", want=ROW)[1]
    leaving = _moves("cim", "host", want=ROW)[1]
    switch = SYSTEM.interconnect.switch("cim")
    assert within.latency.nominal == leaving.latency.nominal + switch.latency.nominal
    assert within.energy.high == leaving.energy.high + switch.energy.high


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 64, 1, 1), (1, 64), (64,), ()])
def test_orders_that_coincide_cost_nothing(shape: tuple[int, ...]) -> None:
    tensor = Tensor("x", shape, "int8", "int8", 64, LAST)
    assert _kinds("npu", "cim", tensor, want=ROW) == []


def test_float_layout_change_is_the_hosts() -> None:
    tensor = replace(IMAGE, dtype="float32", stored_dtype="float32", size_bytes=4096)
    assert _kinds("npu", "cim", tensor, want=ROW)[1] == "layout@host"


def test_empty_tensor_moves_for_free() -> None:
    assert _moves("host", "npu", Tensor("x", (0, 4, 4, 4), "int8", "float32", 0, ROW), ROW, LAST) == ()


def test_border_converts_only_what_is_stored_otherwise() -> None:
    stored = replace(IMAGE, stored_dtype="float32")
    for direction in ("quantize", "dequantize"):
        (step,) = SYSTEM.interconnect.border(stored, direction)
        assert (step.kind, step.engine) == (direction, "host")
        assert step.latency.low > 0
        assert SYSTEM.interconnect.border(IMAGE, direction) == ()
    assert _kinds("host", "host", stored) == []


def test_an_input_read_by_two_devices_is_quantised_once() -> None:
    first, second = (samples.legal()[kind].ops[0] for kind in (OpKind.CONV, OpKind.POOL))
    base = samples.legal()[OpKind.CONV]
    image = replace(base.tensor["x0"], stored_dtype="float32")
    ops = (
        replace(first, id="a", inputs=("x0",), outputs=("y",)),
        replace(second, id="b", inputs=("x0",), outputs=("z",)),
    )
    tensors = (image, *(t for t in base.tensors if t.name != "x0"), replace(base.tensor["y"], name="z"))
    workload = Workload("two", "planned int8", ops, tensors, ("x0",), ("y", "z"))
    table = cost_table(workload, SYSTEM)
    assert [border.tensor for border in table.arrivals] == ["x0"]
    for pins in ((), ("a=cim", "b=npu"), ("a=host", "b=npu")):
        plan = partition(workload, table, PartitionOptions(pins=pins)).assignment
        kinds = [step.kind for step in schedule(workload, plan, table).steps]
        assert kinds.count("quantize") == 1, pins


def test_switches() -> None:
    assert SYSTEM.interconnect.switch("host").latency.high == 0
    for name in ("npu", "cim"):
        switch = SYSTEM.interconnect.switch(name)
        assert 0 < switch.latency.low < switch.latency.nominal < switch.latency.high
        assert switch.marks == ("guess",)


def test_link_copies_for_each_end_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "far.toml"
    file.write_text('extends = "npu+cim"\ntitle = "CIM with its own memory"\n[link]\ndevices = ["cim"]\n')
    far = load_system(str(file))
    assert _kinds("host", "cim", system=far) == ["transfer@dma", "cache@host"]
    assert _kinds("cim", "npu", system=far) == ["transfer@dma"]
    assert _kinds("npu", "host", system=far) == ["cache@host"]
    assert _kinds("cim", "cim", system=far) == []
    (copy,) = _moves("cim", "npu", system=far)
    assert copy.latency.nominal == 500_000 + 1024 * 1000 // 4  # 500 ns and 4 GB/s
    assert copy.energy.nominal == 1024 * 3.5


def test_every_step_has_an_ordered_interval_and_marks() -> None:
    for src in SYSTEM.device_names:
        for dst in SYSTEM.device_names:
            for step in _moves(src, dst, replace(IMAGE, stored_dtype="float32"), want=ROW):
                assert 0 < step.latency.low <= step.latency.nominal <= step.latency.high
                assert step.marks


@pytest.mark.parametrize("name", ["npu", "cim", "npu+cim"])
def test_the_host_burns_its_energy_a_cycle_between_devices_too(name: str) -> None:
    """A stay and a call of cache maintenance keep the core busy: its energy a cycle for their time, at each bound."""
    system = load_system(name)
    host = system.device("host")
    assert isinstance(host, CortexM)
    steps = [system.interconnect.switch(device) for device in system.device_names if device != "host"]
    timed = [(step.latency, step.energy) for step in steps]
    small = Tensor("x", (1, 1), "int8", "int8", 1, ROW)
    (line,) = system.interconnect.moves(small, "host", steps[0].device, ROW, ROW)
    for bound, of in (("low", "low"), ("nominal", "value"), ("high", "high")):
        power_w = getattr(host.spec.energy_per_cycle, of) * host.spec.clock_hz / PS_PER_S  # pJ a ps
        for latency, energy in timed:
            assert getattr(energy, bound) == pytest.approx(getattr(latency, bound) * power_w, rel=0.001)
        # one line: a call, and a wait of at most the same power with an SRAM access of 5 pJ a byte
        least = host.spec.stall_share.low * getattr(line.latency, bound) * power_w
        assert least < getattr(line.energy, bound) <= getattr(line.latency, bound) * power_w + 32 * 5
