"""What every device of every system must hold to, whatever its family."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from h4hc.cost import cost_table, device_rejection, op_row
from h4hc.costtypes import Cost, DeviceModel, Interval
from h4hc.errors import TargetError, UserError
from h4hc.system import System
from h4hc.target_file import list_targets, load_system
from h4hc.workload import OpKind, Workload
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload

SYSTEMS = [e.name for e in list_targets() if e.kind == "system"]
MARKS = {"measured", "vendor", "published", "derived", "guess", "user"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> System:
    return load_system(request.param)


def _costs(system: System, workload: Workload) -> tuple[Cost, ...]:
    return op_row(workload.ops[0], system, workload).costs


@pytest.mark.parametrize("kind", list(OpKind))
def test_each_mode_answers_with_a_cost_or_a_rejection(system: System, kind: OpKind) -> None:
    workload = samples.legal()[kind]
    row = op_row(workload.ops[0], system, workload)
    answered = [c.mode for c in row.costs] + [r.mode for r in row.rejections]
    assert sorted(answered, key=repr) == sorted((m for d in system.devices for m in d.modes()), key=repr)
    assert any(c.mode.device == "host" for c in row.costs)
    for rejection in row.rejections:
        assert rejection.rule
        assert rejection.value
        assert rejection.limit
        assert rejection.origin == ("op",)


@pytest.mark.parametrize("kind", list(OpKind))
def test_cost_is_positive_ordered_and_composed_of_its_terms(system: System, kind: OpKind) -> None:
    for cost in _costs(system, samples.legal()[kind]):
        assert cost.cycles > 0
        for interval in (cost.latency, cost.energy):
            assert 0 < interval.low <= interval.nominal <= interval.high
            assert all(isinstance(v, int) for v in (interval.low, interval.nominal, interval.high))
        energy = [sum(getattr(t.energy, b) for t in cost.terms) for b in ("low", "nominal", "high")]
        assert cost.energy == Interval(*energy)
        for bound in ("low", "nominal", "high"):
            parallel = max((getattr(t.latency, bound) for t in cost.terms if t.role == "parallel"), default=0)
            serial = sum(getattr(t.latency, bound) for t in cost.terms if t.role == "serial")
            assert getattr(cost.latency, bound) == parallel + serial
        assert cost.marks
        assert set(cost.marks) <= MARKS
        assert list(cost.marks) == sorted(cost.marks)
        assert cost.model


def test_a_device_with_a_clock_puts_it_into_its_costs(system: System) -> None:
    """Users count cycles in it: of estimates, of tables of measurements. CIM macros have a read cycle and no clock."""
    for device in system.devices:
        shown = dict(device.summary()).get("clock_hz", "0 Hz")
        clock_hz = int(shown.split()[0])
        assert (clock_hz > 0) == (device.family in ("cortex_m", "ethos_u"))
        for workload in samples.legal().values():
            for cost in (c for c in _costs(system, workload) if c.mode.device == device.name):
                assert cost.clock_hz == clock_hz


def test_same_question_same_answer(system: System) -> None:
    for workload in samples.legal().values():
        assert op_row(workload.ops[0], system, workload) == op_row(workload.ops[0], load_system(system.name), workload)


GROWING = {
    # Multiples of 32 channels and of 8 positions: between them the NPU's blocks make staircases that go down too,
    # e.g. 24 input channels cost more than 32.
    "channels out": lambda n: conv_workload(32, 32 * n, (16, 16), (3, 3)),
    "channels in": lambda n: conv_workload(32 * n, 32, (16, 16), (3, 3)),
    "positions": lambda n: conv_workload(32, 32, (16 * n, 16 * n), (1, 1)),
    "depthwise": lambda n: conv_workload(32 * n, 32 * n, (16, 16), (3, 3), groups=32 * n),
    "tokens": lambda n: fc_workload(16 * n * n, 64, 64),
    "features": lambda n: fc_workload(16, 128 * n, 128 * n),
    "rows": lambda n: samples.vector(OpKind.SOFTMAX, "softmax", 8 * n, 64),
    "length": lambda n: samples.vector(OpKind.NORM, "layer_norm", 8, 64 * n),
    "matmul": lambda n: samples.matmul(2, 16 * n, 32, 16 * n),
    "elements": lambda n: samples.elementwise(OpKind.ELEMENTWISE, "add", (1, 16, 8 * n, 8 * n), 2),
    "bytes": lambda n: samples.move(OpKind.MOVE, "transpose", (1, 16 * n, 8, 8)),
}


@pytest.mark.parametrize("name", sorted(GROWING))
def test_more_work_costs_more(system: System, name: str) -> None:
    seen: dict[str, list[Cost]] = {}
    for n in (1, 2, 4):
        workload = GROWING[name](n)
        for cost in _costs(system, workload):
            seen.setdefault(cost.mode.name, []).append(cost)
    for mode, costs in seen.items():
        latencies, energies = [c.latency.nominal for c in costs], [c.energy.nominal for c in costs]
        assert latencies == sorted(latencies), (mode, latencies)
        assert energies == sorted(energies), (mode, energies)
        assert len(costs) < 3 or latencies[0] < latencies[-1], mode


def test_table_of_all_kinds(system: System) -> None:
    for workload in samples.legal().values():
        table = cost_table(workload, system)
        assert len(table.rows) == 1
        assert {s.device for s in table.switches} == set(system.device_names)
        for switch in table.switches:
            assert (switch.latency.nominal > 0) == (switch.device != "host")
        assert type(table).from_json(table.to_json()) == table


def test_ridge_points_and_leakage(system: System) -> None:
    for device in system.devices:
        assert device.ridge_points()
        for ridge in device.ridge_points():
            assert ridge.device == device.name
            assert ridge.macs_per_byte > 0
        low, nominal, high = device.leakage_w()
        assert 0 < low <= nominal <= high
        assert device.capacity().device == device.name


def test_host_refuses_nothing(system: System) -> None:
    host = system.device("host")
    for dtype in ("int8", "uint8", "float16", "float32", "float64", "int64", "bool", "string"):
        for kind, workload in samples.legal().items():
            from dataclasses import replace

            op = replace(workload.ops[0], dtype=dtype)
            assert device_rejection(op, host, workload) is None
            assert host.cost(op, host.modes()[0], workload).latency.low > 0, kind


def test_ridge_points_of_the_default_system() -> None:
    ridges = {(r.device, r.memory): r.macs_per_byte for d in load_system("npu+cim").devices for r in d.ridge_points()}
    assert ridges["npu", "sram"] == 256 / 8  # 256 MAC and 8 B a cycle
    assert ridges["npu", "flash"] == 256  # 1 B a cycle
    assert ridges["cim", "sram"] == pytest.approx(4 * 4 * 128 / 3e-9 / 4e9)
    assert ridges["cim", "bank"] == 4  # every byte read serves 4 compute units


# --- no bare number in a cost model -------------------------------------------------------------------------

STRUCTURAL = {0, 1, 2, -1, -2}
NAMED_CONSTANTS_ONLY = ("targets/*/cost.py", "targets/*/cycles.py", "targets/cim/geometry.py")


def _literals(path: Path) -> list[tuple[int, object]]:
    """Numbers in the code of a file, other than structural ones and module constants with a name and a comment."""
    tree = ast.parse(path.read_text())
    named = {c for n in tree.body if isinstance(n, ast.Assign) for c in ast.walk(n) if isinstance(c, ast.Constant)}
    cached = {c for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg == "maxsize" for c in ast.walk(n)}
    return [
        (n.lineno, n.value)
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant)
        and isinstance(n.value, int | float)
        and not isinstance(n.value, bool)
        and n not in named
        and n not in cached
        and n.value not in STRUCTURAL
    ]


@pytest.mark.parametrize("path", [p for g in NAMED_CONSTANTS_ONLY for p in sorted(ROOT.glob(g))], ids=str)
def test_no_bare_number_in_a_cost_model(path: Path) -> None:
    assert _literals(path) == []


def test_rules_have_codes_sentences_and_kinds(system: System) -> None:
    for device in system.devices:
        rules = device.rules()
        assert len({r.code for r in rules}) == len(rules)
        for rule in rules:
            assert rule.code.startswith(device.family + ".")
            assert len(rule.sentence) > 10
            assert not rule.sentence.endswith(".")


def test_speed_of_one_row_is_fit_for_large_graphs() -> None:
    """No time is measured: the block search must be asked once for equal layers."""
    from targets.ethos_u.blocks import choose_blocks

    system = load_system("npu")
    npu: DeviceModel = system.device("npu")
    workload = conv_workload(48, 72, (21, 21), (3, 3))
    npu.cost(workload.ops[0], npu.modes()[0], workload)
    before = choose_blocks.cache_info()
    npu.cost(workload.ops[0], npu.modes()[0], workload)
    after = choose_blocks.cache_info()
    assert after.misses == before.misses


def test_marks_of_leakage_reach_operators_moves_and_stays() -> None:
    """Leakage of every device is in every energy, so its mark must be too."""
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    for key in ("cim.leakage_per_macro", "host.leakage", "npu.leakage"):
        table = cost_table(workload, load_system("npu+cim", (f"{key}=0.001",)))
        assert all("user" in cost.marks for row in table.rows for cost in row.costs), key
        steps = [s for port in table.ports for move in port.moves for s in move.steps]
        assert steps
        assert all("user" in s.marks for s in steps), key
        assert all(("user" in s.marks) == (s.device != "host") for s in table.switches), key
        assert all(list(s.marks) == sorted(set(s.marks)) for s in steps)


def _extremes(name: str) -> tuple[list[list[str]], list[str]]:
    """Keys at the ends of their range and beyond, as `--set` texts: quantities by end, counts one by one."""
    from h4hc.quantity import RANGES, is_quantity
    from h4hc.target_file import _extended
    from h4hc.target_overrides import settable

    ends: list[list[str]] = [[], [], [], [], []]
    counts = []
    for key, value in settable(_extended(name, None, "system")).items():
        if is_quantity(value):
            for end, number in zip(ends, (0, 1e-300, *RANGES[value["unit"]], 1e300), strict=True):
                end.append(f"{key}={number!r}")
        elif isinstance(value, list):
            counts += [f"{key}={v}" for v in ("", "1,1,1", "256,256,256", f"{'9' * 5000},1,1")]
        elif isinstance(value, int) and not isinstance(value, bool) and ".variants." not in key:
            counts += [f"{key}={number}" for number in (0, 1, 65536, 10**30)]
        elif isinstance(value, int) and ".variants.256." in key:
            counts += [f"{key}={number}" for number in (1, 65536)]
    return ends, counts


def _loads(name: str, texts: tuple[str, ...], refused: list[str]) -> System | None:
    try:
        return load_system(name, texts)
    except (TargetError, UserError) as error:
        refused.append(f"{texts[0]}\n{error}")
        return None


@pytest.mark.parametrize("name", ["npu+cim", "npu+cim-sram"])
def test_no_value_of_a_key_breaks_a_cost_model(name: str) -> None:
    """Each is refused by name, or every operator still gets a cost or a rejection from every device.

    Quantities at one end of their range are costed all at once, which is worse than one by one.
    """
    refused: list[str] = []
    ends, counts = _extremes(name)
    systems = [_loads(name, (text,), refused) for text in counts]
    for end in ends:
        faults: list[str] = []
        system = _loads(name, tuple(end), faults)
        if system is None:  # all faults at once: the others must load
            named = [text for text in end if _names(faults[0], text)]
            refused += [f"{text}\n{faults[0]}" for text in named]
            system = _loads(name, tuple(text for text in end if text not in named), [])
            assert system is not None
        systems.append(system)
    for system in filter(None, systems):
        for workload in samples.legal().values():
            cost_table(workload, system)
    assert len(refused) > 50
    for said in refused:
        text, _, message = said.partition("\n")
        key = text.partition("=")[0]
        assert key.rpartition(".")[2] in message or key == "link.devices", said


def _names(message: str, text: str) -> bool:
    """Whether a message names the key of a `--set` text, in the system or in its device."""
    key = text.partition("=")[0]
    quoted = (f"{path!r}" for path in (key, f"shared.{key}", key.partition(".")[2]))
    return any(q in message for q in quoted)
