"""Costs of the NPU from another source: the vendor's tool, a calibration, a table of measurements."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.calibration import Errors, KindFit
from h4hc.cli import run
from h4hc.cost import cost_table, device_rejection, op_row
from h4hc.costtypes import Cost, DeviceModel
from h4hc.errors import H4hcError, MissingToolError, UserError
from h4hc.layer_sample import sample_layers
from h4hc.npu_cost import facts, remarks
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
from tests.targets.vela_layers import conv_workload, fc_workload

CLOCK_HZ = 500_000_000
CONV = conv_workload(16, 32, (14, 14), (3, 3))
HEAD = "layer,kind,h,w,cin,cout,kh,kw,stride,pad"
LAYER = "a,conv,14,14,16,32,3,3,1,SAME"
OTHER = "b,conv,28,28,16,32,3,3,1,SAME"


def _npu(choice: str, *sets: str) -> DeviceModel:
    return load_system("npu", sets, choice).device("npu")


def _cost(device: DeviceModel, workload: Workload) -> Cost:
    return device.cost(workload.ops[0], device.modes()[0], workload)


def _table(folder: Path, *lines: str, name: str = "table.csv") -> str:
    file = folder / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def _fit(kind: str, ratio: float, low: float, high: float) -> KindFit:
    return KindFit(kind, 3, ratio, low, high, Errors(0.5, 0.5), Errors(0, 0), None)


def _calibration(folder: Path, fit: KindFit, source: str = "vendor") -> str:
    from h4hc.calibration import FORMAT, METHOD, Calibration, Source

    kind: Source = "vendor" if source == "vendor" else "measured"
    made = Calibration(FORMAT, "0", kind, "r", METHOD, "npu", "0", "npu", facts(_npu("model")), 0, 1, (fit,), (), ())
    file = folder / "calibration.json"
    file.write_bytes(made.to_json())
    return str(file)


# --- vendor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(OpKind) - {OpKind.GENERIC, OpKind.CONTROL_FLOW, OpKind.VIEW}))
def test_vendor_costs_are_the_tool_own_cycles(kind: OpKind) -> None:
    workload = samples.legal()[kind]
    base, device = _npu("model"), _npu("vela")
    assert isinstance(base, EthosU)
    told = operator_estimate(base.spec, workload.ops[0], workload).cycles
    cost = _cost(device, workload)
    assert cost.cycles == told.total
    assert cost.latency.nominal == pytest.approx(told.total * PS_PER_S / CLOCK_HZ, abs=2)
    lanes = {t.resource: t.latency.nominal for t in cost.terms if t.role == "parallel"}
    assert lanes.get("mac_array", 0) == told.npu * PS_PER_S // CLOCK_HZ
    assert "vendor" in cost.marks
    assert cost.energy == _cost(base, workload).energy
    assert cost.latency.low < cost.latency.nominal < cost.latency.high  # silicon against the tool


def test_a_view_keeps_the_model() -> None:
    """By itself the tool would copy it; in a network it moves nothing."""
    workload = samples.legal()[OpKind.VIEW]
    assert _cost(_npu("vela"), workload) == _cost(_npu("model"), workload)


def test_what_the_tool_leaves_to_the_host_is_refused() -> None:
    device = _npu("vela")
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
    device = _npu("vela")
    _cost(device, CONV)
    op = replace(CONV.ops[0], id="other", origin=("other",))
    device.cost(op, device.modes()[0], CONV)
    assert len(asked) == 1
    _cost(device, conv_workload(16, 32, (14, 14), (3, 3), 2))
    assert len(asked) == 2


def test_nothing_hides_more_than_it_costs(tmp_path: Path) -> None:
    first, second = CONV.ops[0], fc_workload(1, 640, 128)
    small = _calibration(tmp_path, _fit("fully_connected", 0.01, 0.5, 2.0))
    for choice in ("vela", small, _table(tmp_path, f"{HEAD},cycles", "c,fc,1,1,640,128,1,1,1,SAME,10")):
        device = _npu(choice)
        both = replace(second, ops=(first, *second.ops), tensors=(*CONV.tensors, *second.tensors))
        hidden = device.hidden(first, second.ops[0], both)
        cost = _cost(device, second).latency
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
    table = _table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
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
    same = _table(moved, f"{HEAD},cycles", f"{LAYER},7000", name="other.csv")
    assert load_system("npu", (), same).sha256 == systems[2].sha256  # contents count, names do not
    _table(tmp_path, f"{HEAD},cycles", f"{LAYER},7001")
    assert load_system("npu", (), table).sha256 != systems[2].sha256


def test_other_devices_keep_their_costs() -> None:
    plain, other = load_system("npu+cim"), load_system("npu+cim", (), "vela")
    for name in ("host", "cim"):
        assert _cost(plain.device(name), CONV) == _cost(other.device(name), CONV)


# --- calibration -------------------------------------------------------------------------------------------


def test_a_calibration_scales_its_kinds_alone(tmp_path: Path) -> None:
    base = _npu("model")
    for source, mark in (("vendor", "derived"), ("measured", "measured")):
        device = _npu(_calibration(tmp_path, _fit("conv", 1.5, 0.9, 1.2), source))
        before, after = _cost(base, CONV), _cost(device, CONV)
        assert after.latency.nominal == pytest.approx(1.5 * before.latency.nominal, abs=4)
        low, high = (before.latency.low, before.latency.high) if source == "vendor" else (before.latency.nominal,) * 2
        assert after.latency.low == pytest.approx(1.5 * 0.9 * low, rel=1e-6)
        assert after.latency.high == pytest.approx(1.5 * 1.2 * high, rel=1e-6)
        assert mark in after.marks
        assert after.energy == before.energy
        assert _cost(device, fc_workload(1, 64, 64)) == _cost(base, fc_workload(1, 64, 64))


def test_kinds_that_a_calibration_lacks_are_told(tmp_path: Path) -> None:
    system = load_system("npu", (), _calibration(tmp_path, _fit("conv", 1.5, 0.9, 1.2)))
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
    file = _calibration(tmp_path, _fit("conv", 1.5, 0.9, 1.2))
    with pytest.raises(UserError, match="for another device") as caught:
        _npu(file, *change)
    assert [p.where for p in caught.value.problems] == [("calibration.json", f"facts.{fact}")]
    assert _npu(file, "npu.weight_ratio=0.5").name == "npu"  # the same NPU with other weights


# --- table -------------------------------------------------------------------------------------------------


def test_a_measured_layer_wins_over_the_model(tmp_path: Path) -> None:
    device = _npu(_table(tmp_path, f"{HEAD},time_us,energy_nj", f"{LAYER},20,3"))
    cost = _cost(device, CONV)
    assert (cost.latency.low, cost.latency.nominal, cost.latency.high) == (20_000_000,) * 3
    assert (cost.energy.low, cost.energy.nominal, cost.energy.high) == (3000,) * 3
    assert cost.marks == ("measured",)
    assert cost.cycles == 10_000


def test_energy_stays_the_model_where_nobody_measured_it(tmp_path: Path) -> None:
    device = _npu(_table(tmp_path, f"{HEAD},cycles,energy_nj", f"{LAYER},7000,"))
    cost, base = _cost(device, CONV), _cost(_npu("model"), CONV)
    assert cost.latency.nominal == 7000 * PS_PER_S // CLOCK_HZ
    assert cost.energy == base.energy
    assert set(cost.marks) == {"measured", *base.marks}


def test_layers_that_the_table_lacks_take_the_scaled_model(tmp_path: Path) -> None:
    base = _npu("model")
    model = _cost(base, CONV).latency.nominal
    table = _table(tmp_path, f"{HEAD},time_us", f"{LAYER},{3 * model / 1e6}")
    system = load_system("npu", (), table)
    device, other = system.device("npu"), conv_workload(32, 32, (28, 28), (3, 3))
    assert _cost(device, other).latency.nominal == pytest.approx(3 * _cost(base, other).latency.nominal, rel=1e-4)
    both = replace(CONV, ops=(CONV.ops[0], replace(CONV.ops[0], id="two", params=other.ops[0].params)))
    (told,) = remarks(system.devices, both)
    assert told.severity == "warning"
    assert "1 of 2 operators are in the table" in told.what
    assert "1 are not" in told.what


def test_an_activation_that_costs_nothing_does_not_hide_a_layer_and_one_that_does_is_another(tmp_path: Path) -> None:
    device = _npu(_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},,7000", f"{LAYER},gelu,9000"))
    for activation, cycles in (("", 7000), ("relu6", 7000), ("gelu", 9000)):
        workload = conv_workload(16, 32, (14, 14), (3, 3), activation=activation)
        assert _cost(device, workload).cycles == cycles
    tanh = conv_workload(16, 32, (14, 14), (3, 3), activation="tanh")
    assert "measured" not in _cost(device, tanh).terms[0].name


def test_an_activation_is_known_in_any_case_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    device = _npu(_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},ReLU,7000", f"{OTHER},HardSwish,9000"))
    assert _cost(device, CONV).cycles == 7000
    assert _cost(device, conv_workload(16, 32, (28, 28), (3, 3), activation="hard_swish")).cycles == 9000
    with pytest.raises(UserError) as caught:
        _npu(_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},banana,7000", f"{OTHER},,9", f"{OTHER},Kiwi,9"))
    told = [(p.where, p.what) for p in caught.value.problems]
    assert told == [
        (("table.csv:2",), "activation 'banana' is not known"),
        (("table.csv:4",), "activation 'Kiwi' is not known"),
    ]


def test_rows_that_the_device_refuses_are_told(tmp_path: Path) -> None:
    refused = "b,avgpool,64,64,8,8,5,5,4,SAME"
    system = load_system("npu", (), _table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000", f"{refused},100"))
    table, lost = remarks(system.devices, CONV)
    assert (table.code, lost.code, lost.severity) == ("H4W131", "H4W132", "warning")
    assert "1 rows of the table" in lost.what
    assert "table.csv:3" in lost.what
    with pytest.raises(UserError, match="runs no layer of the table"):
        _npu(_table(tmp_path, f"{HEAD},cycles", f"{refused},100"))


def test_a_layer_without_energy_takes_the_scaled_model_as_layers_outside_the_table_do(tmp_path: Path) -> None:
    base, other = _npu("model"), conv_workload(16, 32, (28, 28), (3, 3))
    energy = 3 * _cost(base, CONV).energy.nominal
    device = _npu(_table(tmp_path, f"{HEAD},cycles,energy_pj", f"{LAYER},7000,{energy}", f"{OTHER},9000,"))
    assert _cost(device, other).cycles == 9000
    assert _cost(device, other).energy.nominal == pytest.approx(3 * _cost(base, other).energy.nominal, rel=1e-4)
    outside = conv_workload(16, 64, (28, 28), (3, 3))
    assert _cost(device, outside).energy.nominal == pytest.approx(3 * _cost(base, outside).energy.nominal, rel=1e-4)


def test_the_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hashed is what was parsed, even if the file changes in between."""
    table = Path(_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000"))
    before = table.read_bytes()
    read = Path.read_bytes

    def then_changed(path: Path) -> bytes:
        data = read(path)
        if path == table:
            path.write_bytes(before.replace(b"7000", b"9000"))
        return data

    monkeypatch.setattr(Path, "read_bytes", then_changed)
    system = load_system("npu", (), str(table))
    monkeypatch.undo()
    assert _cost(system.device("npu"), CONV).cycles == 7000
    table.write_bytes(before)
    assert load_system("npu", (), str(table)).sha256 == system.sha256


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.json"])
def test_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="not a regular file"):
        _npu(str(tmp_path / name))


def test_rows_of_other_npus_do_not_count(tmp_path: Path) -> None:
    rows = (f"ethos-u55-256,{LAYER},7000", f"ethos-u55-128,{LAYER},9000")
    table = _table(tmp_path, f"accel,{HEAD},cycles", *rows)
    assert _cost(_npu(table), CONV).cycles == 7000
    assert _cost(_npu(table, "npu.macs=128"), CONV).cycles == 9000
    with pytest.raises(UserError, match="no row of the table is for npu") as caught:
        _npu(table, "npu.macs=64")
    assert "ethos-u55-256" in caught.value.problems[0].why


# --- hostile files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((f"{HEAD}", LAYER), ["no column with times"]),
        (
            (f"{HEAD},time_days", f"{LAYER},1"),
            ["'time_days' has a unit nobody knows", "no column with times"],
        ),
        ((f"{HEAD},cycles,energy_wh", f"{LAYER},1,1"), ["'energy_wh' has a unit nobody knows"]),
        ((f"{HEAD},cycles,time_us", f"{LAYER},7000,14"), ["say the same thing"]),
        ((f"{HEAD},cycles", f"{LAYER},-5", f"{OTHER},nan"), ["cycles is '-5'", "cycles is 'nan'"]),
        ((f"{HEAD},cycles", f"{LAYER},", f"{OTHER},1e300"), ["cycles is empty", "cycles is '1e300'"]),
        ((f"{HEAD},cycles", f"{LAYER},7000", f"again{LAYER[1:]},8000"), ["contradict each other"]),
        ((f"{HEAD},cycles", "a,warp,1,1,1,1,1,1,1,SAME,5", "b,conv,x,1,1,1,1,1,1,SAME,5"), ["'warp'", "h is 'x'"]),
        ((f"accel,{HEAD},cycles", f"ethos-u99,{LAYER},5"), ["'ethos-u99' is not known"]),
        ((f"{HEAD},cycles", f"{LAYER},1e18"), ["1e+18 cycles are too long"]),
        ((f"{HEAD},time_ms", f"{LAYER},1e9"), ["the fit of conv is out of range"]),
        (("h,w", "1,1"), ["no column 'layer'", "no column 'kind'"]),
        (("",), ["the table is empty"]),
    ],
)
def test_a_wrong_table_is_an_error_with_all_lines(lines: tuple[str, ...], told: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        _npu(_table(tmp_path, *lines))
    whats = [p.what for p in caught.value.problems]
    assert all(any(t in what for what in whats) for t in told), whats
    assert all("table.csv" in p.where[0] or "column" in p.what for p in caught.value.problems)


def test_rows_that_contradict_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        _npu(_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000", f"{OTHER},1", f"again{LAYER[1:]},8000"))
    assert caught.value.problems[0].where == ("table.csv:2", "table.csv:4")
    unnamed = (f"accel,{HEAD},cycles", f"ethos-u55-256,{LAYER},7000", f",{LAYER},8000")
    with pytest.raises(UserError, match="contradict"):
        _npu(_table(tmp_path, *unnamed))


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
    path = Path(_calibration(tmp_path, _fit("conv", 1.5, 0.9, 1.2)))
    tree = json.loads(path.read_text())
    assert callable(change)
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=told):
        _npu(str(path))
    path.write_bytes(b"\xff\x00 not JSON")
    with pytest.raises(UserError, match="not valid"):
        _npu(str(path))


@pytest.mark.parametrize("choice", ["nonsense", "missing.json", "missing.csv", "x.toml"])
def test_a_wrong_choice_is_an_error(choice: str) -> None:
    with pytest.raises(UserError):
        _npu(choice)


def test_a_target_without_npu_has_no_use_for_a_source() -> None:
    with pytest.raises(H4hcError, match="no NPU"):
        load_system("host", (), "vela")


# --- plans -------------------------------------------------------------------------------------------------


def _whole(system: System) -> int:
    workload = conv_workload(16, 32, (14, 14), (3, 3))
    row = cost_table(workload, system).row["op"]
    return next(c.latency.nominal for c in row.costs if c.mode.device == "npu")


def test_the_cost_table_is_made_of_it(tmp_path: Path) -> None:
    table = _table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
    assert _whole(load_system("npu", (), table)) == 7000 * PS_PER_S // CLOCK_HZ


def test_the_report_names_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from h4hc.zoo.build import build_model

    model = tmp_path / "model.onnx"
    model.write_bytes(build_model("ds-cnn").SerializeToString())
    table = _table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000")
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
        npus = [_cost(system.device("npu"), workload).latency.nominal for system in (model, vendor)]
        same += (npus[0] < min(cims)) == (npus[1] < min(cims))
        faster += npus[1] < min(cims)
        compared += 1
    said = f"{same} of {compared} layers agree, the NPU is faster on {faster}"
    record_property("summary", f"npu against cim, model and vendor's tool: {said}")
    assert compared == 200
    assert 60 < faster < 140
    assert same >= 0.98 * compared
