"""Costs of the NPU from another source: the vendor's tool, a calibration. Tables: `test_vendor_tables.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.calibration import Source
from h4hc.cli import run
from h4hc.cost import cost_table, device_rejection, op_row
from h4hc.errors import H4hcError, MissingToolError, UserError
from h4hc.layer_sample import sample_layers
from h4hc.npu_cost import remarks
from h4hc.system import System
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import Op, OpKind, Workload
from targets.ethos_u.device import EthosU
from targets.ethos_u.spec import EthosUSpec
from targets.ethos_u.vendor import tool
from targets.ethos_u.vendor.estimates import operator_estimate
from targets.ethos_u.vendor.oracle import Estimate
from tests.targets import samples
from tests.targets.cost_sources import (
    CLOCK_HZ,
    CONV,
    HEAD,
    LAYER,
    cost_of,
    cycles,
    kind_fit,
    npu,
    ticks,
    work,
    write_calibration,
    write_table,
)
from tests.targets.vela_layers import conv_workload, fc_workload, inside

# --- vendor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", sorted(set(OpKind) - {OpKind.GENERIC, OpKind.CONTROL_FLOW, OpKind.VIEW}))
def test_vendor_costs_are_the_tool_own_cycles(kind: OpKind, inner: bool) -> None:
    workload = inside(samples.legal()[kind]) if inner else samples.legal()[kind]
    base, device = npu("model"), npu("vela")
    assert isinstance(base, EthosU)
    told = operator_estimate(base.spec, workload.ops[0], workload).cycles
    cost = cost_of(device, workload)
    assert cost.cycles == told.total
    assert cost.latency.nominal == pytest.approx(told.total * PS_PER_S / CLOCK_HZ, abs=2)
    lanes = {t.resource: t.latency.nominal for t in cost.terms if t.role == "parallel"}
    assert lanes.get("mac_array", 0) == told.npu * PS_PER_S // CLOCK_HZ
    assert "vendor" in cost.marks
    assert work(cost) == work(cost_of(base, workload))
    assert ticks(cost)[1] == pytest.approx(told.total, abs=1)
    assert cost.latency.low < cost.latency.nominal < cost.latency.high  # silicon against the tool


def test_a_view_keeps_the_model() -> None:
    """By itself the tool would copy it; in a network it moves nothing."""
    workload = samples.legal()[OpKind.VIEW]
    assert cost_of(npu("vela"), workload) == cost_of(npu("model"), workload)


def test_an_inner_operator_is_not_the_one_with_the_model_own_tensors() -> None:
    """Plain maps of 24 channels read and written run by run; in bricks a depthwise convolution is quicker."""
    alone = conv_workload(24, 24, (28, 28), (3, 3), groups=24)
    device = npu("vela")
    plain, inner = cost_of(device, alone).cycles, cost_of(device, inside(alone)).cycles
    assert inner < 0.9 * plain
    assert inner == pytest.approx(cost_of(npu("model"), inside(alone)).cycles, rel=0.01)


def test_what_the_tool_leaves_to_the_host_is_refused() -> None:
    device = npu("vela")
    left = samples.resize("linear", "half_pixel", 7, 28)
    rule = device.rules()[-1]
    seen = rule.check(left.ops[0], left)
    assert rule.code == "ethos_u.vendor"
    assert seen is not None
    assert "left to the host" in seen.value
    assert device_rejection(CONV.ops[0], device, CONV) is None


def test_operators_that_are_alike_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(spec: EthosUSpec, op: Op, workload: Workload) -> Estimate:
        asked.append(op.id)
        return operator_estimate(spec, op, workload)

    monkeypatch.setattr("targets.ethos_u.vendor.costs.operator_estimate", counted)
    device = npu("vela")
    cost_of(device, CONV)
    op = replace(CONV.ops[0], id="other", origin=("other",))
    device.cost(op, device.modes()[0], CONV)
    assert len(asked) == 1
    cost_of(device, conv_workload(16, 32, (14, 14), (3, 3), 2))
    assert len(asked) == 2


def test_nothing_hides_more_than_it_costs(tmp_path: Path) -> None:
    first, second = CONV.ops[0], fc_workload(1, 640, 128)
    small = write_calibration(tmp_path, kind_fit("fully_connected", 0.01, 0.5, 2.0))
    for choice in ("vela", small, write_table(tmp_path, f"{HEAD},cycles", "c,fc,1,1,640,128,1,1,1,SAME,10")):
        device = npu(choice)
        both = replace(second, ops=(first, *second.ops), tensors=(*CONV.tensors, *second.tensors))
        hidden = device.hidden(first, second.ops[0], both)
        cost = cost_of(device, second).latency
        assert hidden.low <= cost.low, choice
        assert hidden.nominal <= cost.nominal, choice
        assert hidden.high <= cost.high, choice


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    tool.regor.cache_clear()
    monkeypatch.setitem(sys.modules, "ethosu.regor", None)
    with pytest.raises(MissingToolError, match="not installed") as caught:
        load_system("npu", (), "vela")
    assert caught.value.exit_code == 10


# --- identity ----------------------------------------------------------------------------------------------


def test_the_source_is_part_of_the_system_identity(tmp_path: Path) -> None:
    table = write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
    systems = [load_system("npu"), load_system("npu", (), "vela"), load_system("npu", (), table)]
    assert len({s.sha256 for s in systems}) == 3
    assert load_system("npu", (), "model").sha256 == systems[0].sha256
    assert systems[0].overrides == ()
    assert systems[1].overrides == (("npu-cost", "ethos-u-vela 5.2.0"),)
    ((key, shown),) = systems[2].overrides
    assert key == "npu-cost"
    assert shown.startswith("table.csv sha256 ")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    same = write_table(moved, f"{HEAD},cycles", f"{LAYER},7000", name="other.csv")
    assert load_system("npu", (), same).sha256 == systems[2].sha256  # contents count, names do not
    write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7001")
    assert load_system("npu", (), table).sha256 != systems[2].sha256


def test_other_devices_keep_their_costs() -> None:
    plain, other = load_system("npu+cim"), load_system("npu+cim", (), "vela")
    for name in ("host", "cim"):
        assert cost_of(plain.device(name), CONV) == cost_of(other.device(name), CONV)


# --- calibration -------------------------------------------------------------------------------------------


def test_a_calibration_scales_its_kinds_alone(tmp_path: Path) -> None:
    base = npu("model")
    cases: tuple[tuple[Source, str], ...] = (("vendor", "derived"), ("measured", "measured"))
    for source, mark in cases:
        device = npu(write_calibration(tmp_path, kind_fit("conv", 1.5, 0.9, 1.2), source))
        before, after = cost_of(base, CONV), cost_of(device, CONV)
        assert after.latency.nominal == pytest.approx(1.5 * before.latency.nominal, abs=4)
        low, high = (before.latency.low, before.latency.high) if source == "vendor" else (before.latency.nominal,) * 2
        assert after.latency.low == pytest.approx(1.5 * 0.9 * low, rel=1e-6)
        assert after.latency.high == pytest.approx(1.5 * 1.2 * high, rel=1e-6)
        assert mark in after.marks
        assert work(after) == work(before)
        assert ticks(after) == pytest.approx(cycles(after.latency), abs=1)
        assert cost_of(device, fc_workload(1, 64, 64)) == cost_of(base, fc_workload(1, 64, 64))


def test_one_measured_layer_says_nothing_of_the_spread(tmp_path: Path) -> None:
    """Its kind keeps the width of the model's interval; a quantile of one residual would be an error of zero."""
    table = write_table(tmp_path, f"{HEAD},time_us", f"{LAYER},20")
    before, after = (
        cost_of(npu(choice), conv_workload(16, 32, (28, 28), (3, 3))).latency for choice in ("model", table)
    )
    assert after.nominal != pytest.approx(before.nominal, rel=0.01)
    widths = (after.low / after.nominal, after.high / after.nominal)
    assert widths == pytest.approx((before.low / before.nominal, before.high / before.nominal), rel=1e-3)


def test_kinds_that_a_calibration_lacks_are_told(tmp_path: Path) -> None:
    system = load_system("npu", (), write_calibration(tmp_path, kind_fit("conv", 1.5, 0.9, 1.2)))
    assert remarks(system.devices, CONV) == ()
    (told,) = remarks(system.devices, fc_workload(1, 64, 64))
    assert told.severity == "warning"
    assert "1 fully_connected" in told.what


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (("npu.macs=128",), "macs"),
        (("npu.clock_hz=250000000",), "clock_hz"),
        (("npu.memory_mode=Sram_Only",), "memory_mode"),
    ],
)
def test_a_calibration_of_another_npu_is_refused(change: tuple[str, ...], fact: str, tmp_path: Path) -> None:
    file = write_calibration(tmp_path, kind_fit("conv", 1.5, 0.9, 1.2))
    with pytest.raises(UserError, match="for another device") as caught:
        npu(file, *change)
    assert [p.where for p in caught.value.problems] == [("calibration.json", f"facts.{fact}")]
    assert npu(file, "npu.weight_ratio=0.5").name == "npu"  # the same NPU with other weights


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: tree["latency"][0].update(kind="warp"), "there is no kind 'warp'"),
        (lambda tree: tree["latency"][0].update(ratio=-1.0), "out of range"),
        (lambda tree: tree["latency"][0].update(low=1.1), "out of range"),
        (lambda tree: tree["latency"].append(dict(tree["latency"][0])), "fitted twice"),
        (lambda tree: tree.update(format="h4hc-calibration-9"), "not valid"),
        (lambda tree: tree.pop("latency"), "not valid"),
        (lambda tree: tree["latency"][0].update(ratio="1e999"), "out of range"),
    ],
)
def test_a_wrong_calibration_is_an_error(change: object, told: str, tmp_path: Path) -> None:
    path = Path(write_calibration(tmp_path, kind_fit("conv", 1.5, 0.9, 1.2)))
    tree = json.loads(path.read_text())
    assert callable(change)
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=told):
        npu(str(path))
    path.write_bytes(b"\xff\x00 not JSON")
    with pytest.raises(UserError, match="not valid"):
        npu(str(path))


# --- wrong choices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.json"])
def test_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="not a regular file"):
        npu(str(tmp_path / name))


@pytest.mark.parametrize("choice", ["nonsense", "missing.json", "missing.csv", "x.toml"])
def test_a_wrong_choice_is_an_error(choice: str) -> None:
    with pytest.raises(UserError):
        npu(choice)


def test_a_target_without_npu_has_no_use_for_a_source() -> None:
    with pytest.raises(H4hcError, match="no NPU"):
        load_system("host", (), "vela")


# --- plans -------------------------------------------------------------------------------------------------


def _whole(system: System) -> int:
    workload = conv_workload(16, 32, (14, 14), (3, 3))
    row = cost_table(workload, system).row["op"]
    return next(c.latency.nominal for c in row.costs if c.mode.device == "npu")


def test_the_cost_table_is_made_of_it(tmp_path: Path) -> None:
    table = write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
    assert _whole(load_system("npu", (), table)) == 7000 * PS_PER_S // CLOCK_HZ


def test_the_report_names_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from h4hc.zoo.build import build_model

    model = tmp_path / "model.onnx"
    model.write_bytes(build_model("ds-cnn").SerializeToString())
    table = write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
    args = ["compile", str(model), "--target", "npu", "--npu-cost", table, "--dry-run", "--json"]
    assert run(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["target"]["overrides"][0]["key"] == "npu-cost"
    assert "table.csv sha256" in report["target"]["overrides"][0]["value"]
    assert any(d["code"] == "H4W131" for d in report["diagnostics"])


@pytest.mark.slow
def test_npu_against_cim_is_ranked_as_the_vendor_tool_ranks_it(record_property: Callable[[str, object], None]) -> None:
    """200 random layers on a system where either wins about as often: one macro with one unit."""
    model, vendor = load_system("npu+cim-1x1"), load_system("npu+cim-1x1", (), "vela")
    layers = [r for r in sample_layers(90, 11) if r.kind in ("conv", "dwconv", "fc")]
    same = compared = faster = 0
    for row in layers:
        op, workload = row.workload.ops[0], row.workload
        cims = [c.latency.nominal for c in op_row(op, model, workload).costs if c.mode.device == "cim"]
        if not cims or compared == 200:
            continue
        npus = [cost_of(system.device("npu"), workload).latency.nominal for system in (model, vendor)]
        same += (npus[0] < min(cims)) == (npus[1] < min(cims))
        faster += npus[1] < min(cims)
        compared += 1
    said = f"{same} of {compared} layers agree, the NPU is faster on {faster}"
    record_property("summary", f"npu against cim, model and vendor's tool: {said}")
    assert compared == 200
    assert 60 < faster < 140
    assert same >= 0.98 * compared
