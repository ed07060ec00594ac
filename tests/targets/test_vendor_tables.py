"""Costs of the NPU from a table of measured layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.errors import UserError
from h4hc.npu_cost import remarks
from h4hc.target_file import load_system
from h4hc.units import PS_PER_S
from tests.targets.cost_sources import CLOCK_HZ, CONV, HEAD, LAYER, OTHER, cost_of, npu, ticks, work, write_table
from tests.targets.vela_layers import conv_workload


def test_a_measured_layer_wins_over_the_model(tmp_path: Path) -> None:
    device = npu(write_table(tmp_path, f"{HEAD},time_us,energy_nj", f"{LAYER},20,3"))
    cost = cost_of(device, CONV)
    assert (cost.latency.low, cost.latency.nominal, cost.latency.high) == (20_000_000,) * 3
    assert (cost.energy.low, cost.energy.nominal, cost.energy.high) == (3000,) * 3
    assert cost.marks == ("measured",)
    assert cost.cycles == 10_000


def test_energy_stays_the_model_where_nobody_measured_it(tmp_path: Path) -> None:
    device = npu(write_table(tmp_path, f"{HEAD},cycles,energy_nj", f"{LAYER},7000,"))
    cost, base = cost_of(device, CONV), cost_of(npu("model"), CONV)
    assert cost.latency.nominal == 7000 * PS_PER_S // CLOCK_HZ
    assert work(cost) == work(base)
    assert ticks(cost) == pytest.approx((7000,) * 3, abs=1)
    assert set(cost.marks) == {"measured", *base.marks}


def test_layers_that_the_table_lacks_take_the_scaled_model(tmp_path: Path) -> None:
    base = npu("model")
    model = cost_of(base, CONV).latency.nominal
    table = write_table(tmp_path, f"{HEAD},time_us", f"{LAYER},{3 * model / 1e6}")
    system = load_system("npu", (), table)
    device, other = system.device("npu"), conv_workload(32, 32, (28, 28), (3, 3))
    assert cost_of(device, other).latency.nominal == pytest.approx(3 * cost_of(base, other).latency.nominal, rel=1e-4)
    both = replace(CONV, ops=(CONV.ops[0], replace(CONV.ops[0], id="two", params=other.ops[0].params)))
    (told,) = remarks(system.devices, both)
    assert told.severity == "warning"
    assert "1 of 2 operators are in the table" in told.what
    assert "1 are not" in told.what


def test_an_activation_that_costs_nothing_does_not_hide_a_layer_and_one_that_does_is_another(tmp_path: Path) -> None:
    device = npu(write_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},,7000", f"{LAYER},gelu,9000"))
    for activation, cycles in (("", 7000), ("relu6", 7000), ("gelu", 9000)):
        workload = conv_workload(16, 32, (14, 14), (3, 3), activation=activation)
        assert cost_of(device, workload).cycles == cycles
    tanh = conv_workload(16, 32, (14, 14), (3, 3), activation="tanh")
    assert "measured" not in cost_of(device, tanh).terms[0].name


def test_an_activation_is_known_in_any_case_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    device = npu(write_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},ReLU,7000", f"{OTHER},HardSwish,9000"))
    assert cost_of(device, CONV).cycles == 7000
    assert cost_of(device, conv_workload(16, 32, (28, 28), (3, 3), activation="hard_swish")).cycles == 9000
    with pytest.raises(UserError) as caught:
        npu(
            write_table(tmp_path, f"{HEAD},activation,cycles", f"{LAYER},banana,7000", f"{OTHER},,9", f"{OTHER},Kiwi,9")
        )
    told = [(p.where, p.what) for p in caught.value.problems]
    assert told == [
        (("table.csv:2",), "activation 'banana' is not known"),
        (("table.csv:4",), "activation 'Kiwi' is not known"),
    ]


def test_rows_that_the_device_refuses_are_told(tmp_path: Path) -> None:
    refused = "b,avgpool,64,64,8,8,5,5,4,SAME"
    system = load_system("npu", (), write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000", f"{refused},100"))
    table, lost = remarks(system.devices, CONV)
    assert (table.code, lost.code, lost.severity) == ("H4W131", "H4W132", "warning")
    assert "1 rows of the table" in lost.what
    assert "table.csv:3" in lost.what
    with pytest.raises(UserError, match="runs no layer of the table"):
        npu(write_table(tmp_path, f"{HEAD},cycles", f"{refused},100"))


def test_a_layer_without_energy_takes_the_scaled_model_as_layers_outside_the_table_do(tmp_path: Path) -> None:
    base, other = npu("model"), conv_workload(16, 32, (28, 28), (3, 3))
    energy = 3 * cost_of(base, CONV).energy.nominal
    device = npu(write_table(tmp_path, f"{HEAD},cycles,energy_pj", f"{LAYER},7000,{energy}", f"{OTHER},9000,"))
    assert cost_of(device, other).cycles == 9000
    assert cost_of(device, other).energy.nominal == pytest.approx(3 * cost_of(base, other).energy.nominal, rel=1e-4)
    outside = conv_workload(16, 64, (28, 28), (3, 3))
    assert cost_of(device, outside).energy.nominal == pytest.approx(3 * cost_of(base, outside).energy.nominal, rel=1e-4)


def test_the_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hashed is what was parsed, even if the file changes in between."""
    table = Path(write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000"))
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
    assert cost_of(system.device("npu"), CONV).cycles == 7000
    table.write_bytes(before)
    assert load_system("npu", (), str(table)).sha256 == system.sha256


def test_rows_of_other_npus_do_not_count(tmp_path: Path) -> None:
    rows = (f"ethos-u55-256,{LAYER},7000", f"ethos-u55-128,{LAYER},9000")
    table = write_table(tmp_path, f"accel,{HEAD},cycles", *rows)
    assert cost_of(npu(table), CONV).cycles == 7000
    assert cost_of(npu(table, "npu.macs=128"), CONV).cycles == 9000
    with pytest.raises(UserError, match="no row of the table is for npu") as caught:
        npu(table, "npu.macs=64")
    assert "ethos-u55-256" in caught.value.problems[0].why


# --- wrong tables -----------------------------------------------------------------------------------------


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
        npu(write_table(tmp_path, *lines))
    whats = [p.what for p in caught.value.problems]
    assert all(any(t in what for what in whats) for t in told), whats
    assert all("table.csv" in p.where[0] or "column" in p.what for p in caught.value.problems)


def test_rows_that_contradict_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        npu(write_table(tmp_path, f"{HEAD},cycles", f"{LAYER},7000", f"{OTHER},1", f"again{LAYER[1:]},8000"))
    assert caught.value.problems[0].where == ("table.csv:2", "table.csv:4")
    unnamed = (f"accel,{HEAD},cycles", f"ethos-u55-256,{LAYER},7000", f",{LAYER},8000")
    with pytest.raises(UserError, match="contradict"):
        npu(write_table(tmp_path, *unnamed))
