"""Target files: presets, overrides, user files, and every fault with its path."""

from __future__ import annotations

import math
import random
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from h4hc.errors import ExitCode, TargetError, UserError
from h4hc.quantity import Quantity, quantities, whole
from h4hc.system import System
from h4hc.target_file import list_targets, load_system
from h4hc.target_overrides import settable
from h4hc.target_show import describe, support_table
from h4hc.workload import OpKind
from tests.targets.vela_layers import fc_workload

SYSTEMS = [e.name for e in list_targets() if e.kind == "system"]
PRESETS = [e.name for e in list_targets() if e.kind == "device" and "no device by itself" not in e.title]


def _spec(system: System, device: str) -> object:
    return getattr(system.device(device), "spec")  # noqa: B009 - DeviceModel does not promise it


def _all(system: System) -> list[tuple[str, Quantity]]:
    out = []
    for device in system.devices:
        out += quantities(_spec(system, device.name), device.name + ".")  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_number_of_every_system_has_unit_mark_and_source(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert system.title
    assert [d.name for d in system.devices] == sorted(d.name for d in system.devices)
    for path, quantity in _all(system):
        assert quantity.unit, path
        assert len(quantity.source) > 5, path
        if quantity.mark == "guess":
            assert quantity.low < quantity.high, f"{path}: a guess has a width"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_device(name: str, tmp_path: Path) -> None:
    family = name.split("/")[0]
    device = {"cim": "cim", "cortex_m": "host", "ethos_u": "npu"}[family]
    base = {"cim": "cim", "cortex_m": "host", "ethos_u": "npu"}[family]
    file = tmp_path / "one.toml"
    file.write_text(f'extends = "{base}"\ntitle = "one"\n[devices.{device}]\npreset = "{name}"\n')
    assert load_system(str(file)).device(device).family == family


def test_list_names_what_exists() -> None:
    assert {"npu+cim", "npu", "cim", "host"} <= set(SYSTEMS)
    assert all(e.title for e in list_targets())
    files = {e.name for e in (resources.files("targets") / "systems").iterdir() if e.name.endswith(".toml")}
    assert {f"{n}.toml" for n in SYSTEMS} == files


def test_hash_follows_the_content() -> None:
    same = load_system("npu+cim").sha256
    assert load_system("npu+cim").sha256 == same
    assert len(same) == 64
    assert load_system("npu+cim", ("cim.macros=8",)).sha256 != same
    assert len({load_system(n).sha256 for n in SYSTEMS}) == len(SYSTEMS)


def test_default_system_is_the_documented_one() -> None:
    system = load_system("npu+cim")
    rows = {(part, name): value for part, name, value in describe(system).rows}
    assert rows["npu", "macs"] == "256 MAC/cycle"
    assert rows["npu", "clock_hz"] == "500000000 Hz"
    assert rows["npu", "memory_mode"] == "Shared_Sram"
    assert rows["cim", "macros"] == "4"
    assert rows["cim", "cus"] == "4"
    assert rows["cim", "bank_bits"] == str(8 * 1024 * 1024)
    assert rows["cim", "read_cycle"].startswith("3 ns")
    assert rows["host", "clock_hz"] == "400000000 Hz"
    assert rows["system", "sram.size_bytes"] == f"{2 * 1024 * 1024} B"
    assert "guess" in rows["npu", "mac_energy"]


# --- --set -----------------------------------------------------------------------------------------------------


def _resolved(name: str) -> dict[str, object]:
    from h4hc.target_file import _extended

    return settable(_extended(name, None, "system"))


def _text(value: object) -> str:
    """A value as a user would write it."""
    if isinstance(value, dict):
        return repr(float(value["value"]))
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_key_can_be_set(name: str) -> None:
    """All at once, each to its own value: the system is valid, and every quantity is exact and the user's."""
    sets = tuple(f"{key}={_text(value)}" for key, value in _resolved(name).items())
    system = load_system(name, sets)
    assert len(system.overrides) == len(sets)
    assert system.sha256 != load_system(name).sha256
    assert {q.mark for _, q in _all(system)} == {"user"}
    assert all(q.low == q.value == q.high for _, q in _all(system))


def test_a_set_quantity_is_exact_and_the_users() -> None:
    for key in ("cim.mac_energy", "cim.mac_energy.value"):
        system = load_system("npu+cim", (f"{key}=0.05",))
        quantity = dict(_all(system))["cim.mac_energy"]
        assert (quantity.low, quantity.value, quantity.high) == (0.05, 0.05, 0.05)
        assert quantity.mark == "user"
        assert quantity.unit == "pJ/MAC"
        workload = fc_workload(8, 64, 64)
        cim = system.device("cim")
        assert "user" in cim.cost(workload.ops[0], cim.modes()[0], workload).marks


def test_shared_numbers_reach_every_device() -> None:
    workload = fc_workload(8, 64, 64)
    for device in ("cim", "npu", "host"):
        cheap, dear = (load_system("npu+cim", (f"sram.read_energy={v}",)).device(device) for v in (0.1, 50))
        mode = cheap.modes()[0]
        low, high = (d.cost(workload.ops[0], mode, workload).energy.nominal for d in (cheap, dear))
        assert low < high, device


def test_modes_follow_set() -> None:
    assert len(load_system("npu+cim", ("cim.macros=8",)).device("cim").modes()) == 8


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cim.macro=8", "cim.macros"),
        ("npu.mac=128", "npu.macs"),
        ("npu.clock=1", "npu.clock_hz"),
        ("bus.bandwith=1", "bus.bandwidth"),
        ("tpu.macs=8", ""),
        ("cim.mac_energy.low=1", "cim.mac_energy"),
        ("cim.sources.macros=x", "cim.macros"),
    ],
)
def test_unknown_key_names_the_known_ones(text: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_system("npu+cim", (text,))
    assert caught.value.exit_code == ExitCode.USAGE
    assert hint in str(caught.value)
    assert "known keys" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["cim.macros", "cim.macros=many", "cim.macros=1.5", "cim.dedup=maybe", "cim.mac_energy=nan", "cim.mac_energy="],
)
def test_unreadable_value(text: str) -> None:
    with pytest.raises(UserError):
        load_system("npu+cim", (text,))


def test_all_bad_overrides_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_system("npu+cim", ("cim.macro=8", "npu.mac=1"))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "text",
    [
        "npu.sram_port.burst=0.5",
        "npu.sram_port.burst=32.5",
        "npu.clock_hz=1",
        "host.clock_hz=100000000000000",
        "sram.read_energy=1e300",
        "flash.bandwidth=1e-300",
        f"sram.size_bytes={10**30}",
        "cache.line_bytes=1000000",
        f"npu.arch.ofm_block_max=1,1,{'9' * 18}",
        "cim.macros=0",
        "npu.macs=100",
        "npu.memory_mode=Dram",
        "cim.read_cycle=0",
        "cim.macros=-1",
    ],
)
def test_value_out_of_range_is_a_target_error(text: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system("npu+cim", (text,))
    assert caught.value.exit_code == ExitCode.TARGET


# --- a user's own files ------------------------------------------------------------------------------------------


def test_own_system_with_own_preset(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "my_cim.toml").write_text(
        'extends = "cim/mram-4x4"\ntitle = "mine"\nmacros = 2\n[sources]\nmacros = "data sheet"\n'
    )
    file = tmp_path / "soc.toml"
    file.write_text(
        'extends = "npu+cim"\ntitle = "my SoC"\n[devices.cim]\npreset = "parts/my_cim.toml"\ncus = 8\n'
        '[devices.cim.sources]\ncus = "data sheet"\n'
    )
    system = load_system(str(file))
    assert (system.name, system.title) == ("soc", "my SoC")
    assert system.device("cim").capacity().units == 2
    rows = {(p, n): v for p, n, v in describe(system).rows}
    assert rows["cim", "cus"] == "8"


def _broken(tmp_path: Path, text: str) -> TargetError:
    file = tmp_path / "soc.toml"
    file.write_text(text)
    with pytest.raises(TargetError) as caught:
        load_system(str(file))
    assert caught.value.exit_code == ExitCode.TARGET
    return caught.value


BASE = 'extends = "npu+cim"\ntitle = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "[devices.cim]\nmacro = 3\n", "macro"),
        (
            BASE + '[devices.cim]\nread_cycle = { value = 3.0, unit = "us", mark = "vendor", source = "sheet" }\n',
            "unit must be 'ns'",
        ),
        (
            BASE
            + '[devices.cim]\nread_cycle = { value = 3.0, low = 4.0, unit = "ns", mark = "vendor", source = "s" }\n',
            "low <= value <= high",
        ),
        (
            BASE + '[devices.cim]\nread_cycle = { value = 3.0, unit = "ns", mark = "guess", source = "s" }\n',
            "read_cycle.low",
        ),
        (BASE + '[devices.cim]\nread_cycle = { value = 3.0, unit = "ns", mark = "hope", source = "s" }\n', "mark"),
        (
            BASE + '[devices.cim]\nread_cycle = { value = 3.0, unit = "ns", mark = "vendor", source = " " }\n',
            "source is empty",
        ),
        (BASE + '[devices.cim]\nread_cycle = { value = 3.0, unit = "ns", mark = "vendor" }\n', "read_cycle.source"),
        (BASE + "[devices.cim]\nread_cycle = 3.0\n", "must be a table"),
        (BASE + '[devices.cim]\nmacros = "four"\n', "macros"),
        (BASE + '[devices.tpu]\npreset = "ethos_u/u55-64"\n', "no [switch.tpu]"),
        (BASE + '[devices.tpu]\npreset = "ethos_u/u99"\n', "known:"),
        (BASE + '[devices.tpu]\nfamily = "tpu"\n', "no target family"),
        (BASE + "[devices.tpu]\nmacs = 3\n[switch.tpu]\n", "family"),
        ('extends = "nowhere"\n', "there is no system 'nowhere'"),
        ('extends = "soc.toml"\n', "extends"),
        ("devices = 3\n", "must be a table"),
        ("title = \n", "not valid TOML"),
        ('title = "empty"\n', "no device called 'host'"),
    ],
)
def test_fault_is_named_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    assert said in str(_broken(tmp_path, text))


def test_all_faults_at_once(tmp_path: Path) -> None:
    error = _broken(
        tmp_path,
        BASE + "[devices.cim]\nmacros = 0\ncus = 0\nspeed = 1\n[devices.npu]\nmacs = 0\n[cache]\nways = 4\n",
    )
    text = str(error)
    for path in ("macros", "cus", "speed", "cache.ways"):
        assert repr(path) in text
    assert len(error.problems) >= 4


def test_plain_value_needs_a_source(tmp_path: Path) -> None:
    data = tomllib.loads((resources.files("targets") / "systems" / "host.toml").read_text())
    assert "cache.line_bytes" in data["sources"]
    file = tmp_path / "stale.toml"
    file.write_text(BASE + '[sources]\n"cache.colour" = "a hunch"\n')
    with pytest.raises(TargetError, match=r"cache\.colour"):
        load_system(str(file))


def test_missing_file() -> None:
    with pytest.raises(TargetError, match="there is no target file"):
        load_system("no/such/file.toml")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"title = \xff")
    with pytest.raises(TargetError, match="not UTF-8 text: byte 8"):
        load_system(str(file))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(TargetError, match="Is a directory"):
        load_system(str(tmp_path / "folder.toml"))


def test_a_value_that_is_refused_is_named() -> None:
    with pytest.raises(TargetError, match="less than or equal to 64, got '100'"):
        load_system("npu+cim", ("cim.macros=100",))
    with pytest.raises(TargetError, match=r"'Dedicated_Sram', got 'Fast'"):
        load_system("npu", ("npu.memory_mode=Fast",))
    with pytest.raises(TargetError, match=r"values do not go together(.|\n)*got 100"):
        load_system("npu", ("npu.macs=100",))


def test_a_key_of_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError) as caught:
        load_system("npu", ("cim.macros=2",))
    (told,) = caught.value.problems
    assert "nothing here is called 'cim'; there are bus, cache, flash, host, link, npu, sram, switch" in told.why
    assert "npu.macs" not in told.hint


# --- support table --------------------------------------------------------------------------------------------------


def test_support_table_comes_from_the_rules() -> None:
    system = load_system("npu+cim")
    table = support_table(system)
    assert len(table) == len(OpKind) * len(system.devices)
    cell = {(c.kind, c.device): c for c in table}
    assert cell[OpKind.CONV, "host"].runs
    assert not cell[OpKind.CONV, "host"].conditions
    assert not cell[OpKind.MATMUL, "cim"].runs
    assert cell[OpKind.MATMUL, "npu"].runs
    assert not cell[OpKind.GENERIC, "npu"].runs
    sentences = {r.sentence for d in system.devices for r in d.rules()}
    assert {s for c in table for s in c.conditions} == sentences


# --- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sram.read_energy=1e6", "at most 100000 pJ/B"),
        ("flash.bandwidth=0.1", "at least 10000 B/s"),
        ("cim.read_cycle=1e12", "at most 1e+07 ns"),
        ("npu.sram_port.burst=0.5", "at least 1 B"),
        ("npu.sram_port.burst=1.5", "whole number of B"),
        ("npu.leakage=1e9", "at most 100 W"),
        ("cim.macros=100", "less than or equal to 64"),
    ],
)
def test_bound_is_named(text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system("npu+cim", (text,))
    assert said in str(caught.value)


def test_interval_is_held_to_the_range_at_both_ends(tmp_path: Path) -> None:
    """A nominal value inside is not enough: the bounds are costed as well."""
    quantity = '{ value = 1.0, low = 0.5, high = 1e9, unit = "pJ/MAC", mark = "guess", source = "sheet" }'
    error = _broken(tmp_path, BASE + f"[devices.cim]\nmac_energy = {quantity}\n")
    assert "at most 10000 pJ/MAC" in str(error)


def test_list_of_endless_numbers_is_unreadable() -> None:
    with pytest.raises(UserError, match="ofm_block_max"):
        load_system("npu", (f"npu.arch.ofm_block_max=1,1,{'9' * 5000}",))


def test_bounds_are_rounded_up_and_noise_is_dropped() -> None:
    """Against decimal rounding to 1e-6, for numbers on and beside whole ones, from below one up to 1e15."""
    dice = random.Random(7)
    for _ in range(2000):
        number = int(10 ** dice.uniform(0, 15))
        beside = number + dice.choice((-5e-7, -1e-9, 0.0, 1e-9, 4.9e-7, 5.1e-7, 1e-6))
        values = sorted((dice.random() * 1e-5, number * dice.choice((0.05, 0.2, 1 / 3)), beside))
        found = whole((values[0], values[1], values[2]))
        assert [found.low, found.nominal, found.high] == [math.ceil(round(v, 6)) for v in values], values
