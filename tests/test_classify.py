"""Classes against numbers worked out by hand from the two fake devices (peak 64 and 1 MAC/ns over 4 B/ns)."""

from __future__ import annotations

import json

import pytest

from h4hc.classify import DeviceClass, OpClass, classify, to_json
from h4hc.costtypes import Bound
from tests.fake_compilation import compile_fake


def classes() -> dict[str, OpClass]:
    done = compile_fake()
    assert done.workload is not None
    assert done.table is not None
    assert done.system is not None
    return {c.op: c for c in classify(done.workload, done.table, done.system)}


def on(op: str, device: str) -> DeviceClass:
    found = classes()[op].device(device)
    assert found is not None
    return found


def test_intensity_and_ridge_by_hand() -> None:
    dense = classes()["/net/layer0"]
    assert dense.moved_bytes == 32 + 1024 + 32
    assert dense.macs_per_byte == pytest.approx(1024 / 1088, rel=1e-5)
    fast, host = on("/net/layer0", "fast"), on("/net/layer0", "host")
    assert fast.rooflines[0].ridge_macs_per_byte == 64 / 4
    assert host.rooflines[0].ridge_macs_per_byte == 1 / 4
    assert (fast.rooflines[0].side, fast.bound) == ("memory", Bound.MEMORY)
    assert (host.rooflines[0].side, host.bound) == ("compute", Bound.COMPUTE)
    times = {p.name: p.latency_ps for p in fast.parts}
    assert times == {"compute": 1024 * 1000 // 64, "input": 1088 * 250, "start": 200}
    assert {p.name: p.latency_ps for p in host.parts} == {"compute": 1024 * 1000, "input": 1088 * 250, "start": 10}
    assert fast.latency_ps == 1088 * 250 + 200


def test_fastest_mode_is_shown_and_ties_go_to_fewer_units() -> None:
    assert on("/net/layer0", "fast").mode == "fast"  # memory bound: more units do not help


def test_refusals_name_code_value_and_limit_once_for_all_modes() -> None:
    softmax = classes()["/net/layer2"]
    assert softmax.macs_per_byte == 0
    assert softmax.device("fast") is None
    (refusal,) = softmax.refusals
    assert refusal.modes == ("fast", "fast*2", "fast*3", "fast*4")
    assert (refusal.device, refusal.code) == ("fast", "fast.macs")
    assert (refusal.value, refusal.limit) == ("0 MAC", "1 MAC or more")
    (limit,) = classes()["/net/layer0"].refusals
    assert (limit.modes, limit.value) == (("fast*4",), "4 units")


def test_json_round() -> None:
    rows = to_json(tuple(classes().values()))
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0]["devices"][0]["rooflines"][0]["memory"] == "bus"
