"""Fits: a known ratio comes back, errors are those worked out by hand, and the command keeps what it found."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.calibrate import Wish, calibrate
from h4hc.calibration import Pair, fit, parse_calibration
from h4hc.cli import run
from h4hc.cost import device_rejection
from h4hc.errors import UserError
from h4hc.layer_sample import COLUMNS, DRAWS, sample_layers
from h4hc.layer_table import parse_layers
from h4hc.measured import layer_key
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from h4hc.workload import ConvParams

CLOCK_HZ = 500_000_000


def _measured(folder: Path, ratio: float, noise: float, count: int = 20) -> Path:
    """A table in which every layer takes what the model says, times `ratio` and a factor of up to 1 +- noise."""
    device = load_system("npu").device("npu")
    draw = random.Random(7)
    lines = [",".join((*COLUMNS, "cycles", "energy_pj"))]
    seen = set()
    for row in sample_layers(count, 3):
        op, workload = row.workload.ops[0], row.workload
        cells = dict(row.cells)
        shape = layer_key(op, workload)
        if row.kind not in ("conv", "fc", "add") or shape in seen or device_rejection(op, device, workload):
            continue
        seen.add(shape)
        cost = device.cost(op, device.modes()[0], workload)
        factor = ratio * (1 + draw.uniform(-noise, noise))
        cycles = cost.latency.nominal * CLOCK_HZ / PS_PER_S * factor
        lines.append(",".join([*cells.values(), f"{cycles}", f"{2 * cost.energy.nominal}"]))
    file = folder / "measured.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_known_ratio_comes_back(tmp_path: Path) -> None:
    system = load_system("npu")
    made, refused = calibrate(system, system.device("npu"), Wish(str(_measured(tmp_path, 1.7, 0)), None, 1, 0))
    assert not refused
    assert {f.kind for f in made.latency} == {"conv", "fully_connected", "elementwise"}
    for one in made.latency:
        assert one.ratio == pytest.approx(1.7, rel=1e-4)
        assert (one.low, one.high) == pytest.approx((1, 1), abs=1e-4)
        assert one.before.median == pytest.approx(1 - 1 / 1.7, rel=1e-3)
        assert one.after.p95 < 1e-3
    assert [f.ratio for f in made.energy] == pytest.approx([2.0] * 3, rel=1e-6)
    assert made.source == "measured"
    assert made.seed is None


def test_noise_becomes_the_interval(tmp_path: Path) -> None:
    system = load_system("npu")
    file = _measured(tmp_path, 0.6, 0.2, count=60)
    made, _ = calibrate(system, system.device("npu"), Wish(str(file), None, 1, 0))
    for one in made.latency:
        assert one.ratio == pytest.approx(0.6, rel=0.1)
        assert 0.75 < one.low < 0.95
        assert 1.05 < one.high < 1.35
        assert one.left_out is not None
        assert one.left_out.median >= one.after.median * 0.99
    calibrated = load_system("npu", (), str(file)).device("npu")
    row = next(r for r in sample_layers(1, 99) if r.kind == "conv")
    cost = calibrated.cost(row.workload.ops[0], calibrated.modes()[0], row.workload)
    assert cost.latency.low < cost.latency.nominal < cost.latency.high


def test_errors_and_quantiles_by_hand() -> None:
    """model 100; references 80, 100, 200: median ratio 1, what is left 0.8 to 2, errors 0.25, 0, 0.5."""
    (one,) = fit([Pair("conv", 100, r) for r in (100, 200, 80)])
    assert one.ratio == pytest.approx(1.0)
    assert (one.low, one.high) == pytest.approx((0.8, 2.0))
    assert (one.before.median, one.before.p95) == pytest.approx((0.25, 0.5))
    assert (one.after.median, one.after.p95) == pytest.approx((0.25, 0.5))
    # without 100: ratio sqrt(1.6), without 200: sqrt(0.8), without 80: sqrt(2)
    assert one.left_out is not None
    assert one.left_out.median == pytest.approx(1 - 0.8**0.5 / 2, rel=1e-6)
    (single,) = fit([Pair("conv", 10, 20)])
    assert single.left_out is None
    assert single.ratio == pytest.approx(2)


@given(st.lists(st.tuples(st.floats(1, 1e12), st.floats(1, 1e12)), min_size=1, max_size=30), st.floats(0.01, 100))
def test_scaling_the_reference_scales_the_ratio_alone(pairs: list[tuple[float, float]], factor: float) -> None:
    (plain,) = fit([Pair("k", m, r) for m, r in pairs])
    (scaled,) = fit([Pair("k", m, r * factor) for m, r in pairs])
    assert scaled.ratio == pytest.approx(plain.ratio * factor, rel=1e-9)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), rel=1e-9)
    assert plain.low <= 1 <= plain.high


def test_samples_are_those_of_their_seed() -> None:
    assert sample_layers(3, 1) == sample_layers(3, 1)
    assert sample_layers(3, 1) != sample_layers(3, 2)
    assert sample_layers(2, 1) == tuple(r for r in sample_layers(3, 1) if not r.layer.endswith("_3"))
    assert len(sample_layers(4, 0)) == 4 * len(DRAWS)


@pytest.mark.parametrize("kind", ["conv", "dwconv", "grouped_conv"])
def test_the_sample_holds_padded_and_bare_windows(kind: str) -> None:
    """VALID and SAME, each with stride and with windows that padding touches; the rows say what the operators are."""
    rows = [row for row in sample_layers(40, 0) if row.kind == kind]
    pads = [dict(row.cells)["pad"] for row in rows]
    assert 3 <= pads.count("VALID") < pads.count("SAME")
    for row, pad in zip(rows, pads, strict=True):
        params, cells = row.workload.ops[0].params, dict(row.cells)
        assert isinstance(params, ConvParams)
        reach = (params.kernel[0] - 1) * params.dilation[0] + 1
        inside = params.in_spatial[0] - reach if pad == "VALID" else params.in_spatial[0] - 1
        assert params.out_spatial[0] == inside // params.stride[0] + 1
        assert pad == "SAME" or not any(params.pads)
        assert params.groups == {"dwconv": params.in_channels}.get(kind, int(cells["groups"]))
        assert row.workload.ops[0].macs == math.prod(
            (params.in_channels // params.groups, params.out_channels, *params.kernel, *params.out_spatial)
        )
    assert any(any(row.workload.ops[0].params.pads) for row in rows)  # type: ignore[union-attr]
    assert {dict(row.cells)["groups"] for row in rows} == ({"2", "4", "8"} if kind == "grouped_conv" else {"1"})


def test_the_sample_is_read_back_as_the_same_layers() -> None:
    """A calibration keeps the cells alone: they must say all of a layer."""
    rows = sample_layers(12, 5)
    text = "\n".join([",".join(COLUMNS), *(",".join(dict(row.cells).values()) for row in rows)])
    read = parse_layers(text.encode(), "sample.csv").rows
    assert [row.workload for row in read] == [row.workload for row in rows]


def test_the_model_against_the_vendor_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    """The whole way through the command: fit, file, and the plan of a network that takes it."""
    file = tmp_path / "calibration.json"
    fitted = ["targets", "calibrate", "npu", "--with", "vela", "--samples", "6", "--set", "npu.weight_ratio=0.895"]
    assert run([*fitted, "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reference"] == "ethos-u-vela 5.2.0"
    assert told["layers"] + len(told["refused"]) == 6 * len(DRAWS)
    assert not told["refused"]
    kinds = {f["kind"]: f for f in told["latency"]}
    for kind in ("conv", "depthwise", "fully_connected", "elementwise", "pool"):
        assert kinds[kind]["before"]["median_ratio"] < 0.02, kind
    kept = parse_calibration(file.read_bytes(), file.name)
    assert kept.to_json() == file.read_bytes()
    assert {f.kind for f in kept.latency} == set(kinds)
    assert (kept.seed, kept.samples) == (0, 6)
    assert kept.target_sha256 == load_system("npu", ("npu.weight_ratio=0.895",)).sha256
    assert run([*fitted, "-o", str(file)]) == 2  # the file exists
    again = tmp_path / "again.json"
    assert run([*fitted, "-o", str(again)]) == 0
    assert again.read_bytes() == file.read_bytes()
    record_property("summary", capsys.readouterr().out)
    assert load_system("npu", (), str(file)).device("npu").name == "npu"


def test_layers_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "layers.csv"
    file.write_text("layer,kind,h,w,cin,cout,kh,kw\na,conv,14,14,16,32,3,3\nb,softmax,1,8,64,64,1,1\n")
    assert run(["targets", "calibrate", "npu", "--with", "vela", "--layers", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(f["kind"], f["layers"]) for f in told["latency"]] == [("conv", 1), ("softmax", 1)]
    assert told["seed"] is None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--with", "abacus"], "is no reference"),
        (["--with", "missing.csv"], "there is no table of measurements"),
        (["--with", "vela", "--samples", "0"], "--samples 0 is out of range"),
        (["--with", "vela", "--seed", "-1"], "--seed -1 is negative"),
        (["--with", "vela", "--target", "host"], "host has no device 'npu'"),
        (["--with", "vela", "--layers", "missing.csv"], "there is no --layers file"),
    ],
)
def test_wrong_use(more: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "calibrate", "npu", *more]) == 2
    assert told in capsys.readouterr().err


def test_a_system_in_place_of_its_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "calibrate", "npu128", "--with", "vela"]) == 2
    assert "h4hc targets calibrate npu --target npu128" in capsys.readouterr().err


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["targets", "calibrate", "npu", "--with", "vela", "--samples", "0", "-o", str(tmp_path)]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "this is a folder" in said
    assert "--samples 0" in said


def test_one_layer_has_no_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = (LAYER + ",9000", "b,fc,1,1,64,64,,,700", "c,fc,1,1,128,64,,,1500")
    assert run(["targets", "calibrate", "npu", "--with", _file(tmp_path, f"{HEAD},cycles", *layers)]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if line.startswith(("conv ", "fully_connected "))}
    assert " to " not in rows["conv"]
    assert " to " in rows["fully_connected"]
    assert "one layer has no spread" in said


def test_a_device_without_vendor_tool(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "calibrate", "host", "--with", "vela"]) == 2
    assert "no vendor's tool for host" in capsys.readouterr().err


HEAD = "layer,kind,h,w,cin,cout,kh,kw"
LAYER = "a,conv,14,14,16,32,3,3"


def _file(folder: Path, *lines: str) -> str:
    file = folder / "t2.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def test_a_host_is_fitted_to_times_and_cycles_and_refuses_npu_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["targets", "calibrate", "host", "--target", "npu+cim", "--json", "--with"]
    assert run([*args, _file(tmp_path, f"{HEAD},time_us", f"{LAYER},900")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in told["latency"]] == ["conv"]
    host = load_system("npu+cim").device("host")
    op = sample_layers(1, 0)[0].workload
    assert device_rejection(op.ops[0], host, op) is None
    assert run([*args, _file(tmp_path, f"{HEAD},accel,time_us", f"{LAYER},ethos-u55-256,900")]) == 2
    err = capsys.readouterr().out
    assert "t2.csv:2" in err
    assert "host is none" in err
    cycles = _file(tmp_path, f"{HEAD},cycles", f"{LAYER},360000", "b,conv,28,28,16,32,3,3,9")
    kept = tmp_path / "host.json"
    assert run([*args, cycles, "-o", str(kept)]) == 0
    capsys.readouterr()
    made = parse_calibration(kept.read_bytes(), kept.name)
    assert [row.reference_ps for row in made.rows] == [900_000_000, 22_500]  # 400 MHz
    # a device without a clock
    assert run(["targets", "calibrate", "cim", "--target", "npu+cim", "--json", "--with", cycles]) == 2
    err = capsys.readouterr().out
    assert all(said in err for said in ("no clock", "t2.csv:2", "t2.csv:3", "time_us"))


def test_a_calibration_keeps_the_device_and_serves_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    table = _file(tmp_path, f"{HEAD},cycles", f"{LAYER},9000")
    assert run(["targets", "calibrate", "npu", "--with", table, "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["facts"]
    assert (told["family"], told["macs"], told["clock_hz"]) == ("ethos_u", "256 MAC/cycle", "500000000 Hz")
    assert load_system("npu", (), str(file)).device("npu").name == "npu"
    with pytest.raises(UserError, match="for another device"):
        load_system("npu", ("npu.macs=64",), str(file))
    host = tmp_path / "host.json"
    times = _file(tmp_path, f"{HEAD},time_us", f"{LAYER},900")
    assert run(["targets", "calibrate", "host", "--target", "npu", "--with", times, "-o", str(host)]) == 0
    with pytest.raises(UserError, match="for another device"):
        load_system("npu", (), str(host))


def test_a_fit_out_of_range_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    for head, figure, told in (("time_ms", "1e9", "out of range"), ("cycles", "1e18", "too long")):
        table = _file(tmp_path, f"{HEAD},{head}", f"{LAYER},{figure}")
        assert run(["targets", "calibrate", "npu", "--with", table, "-o", str(file)]) == 2
        assert told in capsys.readouterr().err
        assert not file.exists()


def test_layers_of_other_npus_are_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = f"{LAYER},ethos-u55-256", "b,conv,28,28,16,32,3,3,ethos-u55-128"
    args = ["targets", "calibrate", "npu", "--with", "vela", "--json", "--layers"]
    assert run([*args, _file(tmp_path, f"{HEAD},accel", own, other)]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 1
    assert run([*args, _file(tmp_path, f"{HEAD},accel", other)]) == 2
    assert "no row of the table is for npu" in capsys.readouterr().out
    assert run([*args, _file(tmp_path, f"{HEAD},accel", own, "c,conv,8,8,8,8,3,3,ethos-u99")]) == 2
    assert "t2.csv:3" in capsys.readouterr().out


def test_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "p.csv"
    os.mkfifo(pipe)
    for more in (["--with", str(pipe)], ["--with", "vela", "--layers", str(pipe)]):
        assert run(["targets", "calibrate", "npu", *more]) == 2
        assert "not a regular file" in capsys.readouterr().err


def test_nothing_left_to_fit_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "layers.csv"
    file.write_text("layer,kind,h,w,cin,cout,kh,kw,stride,cycles\na,avgpool,64,64,8,8,5,5,4,100\n")
    system = load_system("npu")
    with pytest.raises(UserError, match="no layer is left to fit"):
        calibrate(system, system.device("npu"), Wish(str(file), None, 1, 0))
