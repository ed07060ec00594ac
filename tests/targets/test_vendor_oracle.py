"""The vendor's compiler in process: its figures are those of its own command line and of the stored table."""

from __future__ import annotations

import csv
import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from h4hc.api import CompileOptions, compile_model
from h4hc.cost import device_rejection
from h4hc.errors import CostModelError, MissingToolError
from h4hc.layer_table import LayerRow, read_layers
from h4hc.target_file import load_system
from h4hc.workload import Layout, MoveParams, OpKind, Workload
from h4hc.zoo.build import build_model
from targets.ethos_u import functions
from targets.ethos_u.device import EthosU
from targets.ethos_u.mapping import is_free
from targets.ethos_u.vendor import tool
from targets.ethos_u.vendor.estimates import network_estimate, operator_estimate
from targets.ethos_u.vendor.layers import operator_model
from targets.ethos_u.vendor.machine import machine
from targets.ethos_u.vendor.oracle import Estimate, estimate
from tests.targets import samples
from tests.targets.vela_layers import CSV, conv_workload, fc_workload, inside, one_op

LANES = ("npu_cycles", "sram_cycles", "dram_cycles", "offflash_cycles", "total_cycles")
LAST_TWO = "transpose_64x64_021"  # the other transposes of the table exchange the first two axes
TRANSPOSED_OPERAND = "bmm_4x32x16x32_T"  # the table's second operand lies transposed, which saves the tool one pass


@functools.cache
def _npu(*sets: str) -> EthosU:
    device = load_system("npu", sets).device("npu")
    assert isinstance(device, EthosU)
    return device


@functools.cache
def _lowered(name: str) -> Workload:
    workload = compile_model(build_model(name).SerializeToString(), CompileOptions("host"), "workload").workload
    assert workload is not None
    return workload


def _ask(workload: Workload, npu: EthosU | None = None) -> Estimate:
    return operator_estimate((npu or _npu()).spec, workload.ops[0], workload)


def _of(row: LayerRow) -> Estimate:
    npu = _npu(f"npu.macs={row.accel.rpartition('-')[2]}", f"npu.memory_mode={row.memmode}")
    return _ask(_last_two() if row.layer == LAST_TWO else row.workload, npu)


def _last_two() -> Workload:
    params = MoveParams("move", "transpose", 64 * 64, (0, 2, 1))
    return one_op(OpKind.MOVE, params, (1, 64, 64), (1, 64, 64), layout=Layout.ROW_MAJOR)


@pytest.mark.slow
def test_figures_are_those_of_the_table() -> None:
    """Exact without weights; with weights, whose values are not the table's, what does not depend on values is."""
    exact = close = 0
    for layer in read_layers(CSV).rows:
        row = dict(layer.cells)
        found = _of(layer)
        cycles = found.cycles
        assert found.macs == int(row["macs"] or 0) or row["kind"] == "mean", row["layer"]
        assert (found.npu_ops, found.cpu_ops) == (int(row["npu_ops"]), int(row["cpu_ops"]))
        if row["layer"] == TRANSPOSED_OPERAND:
            assert cycles.total == pytest.approx(int(row["total_cycles"]), rel=0.01)
        elif found.original_weight_bytes and row["kind"] != "mean":
            assert found.original_weight_bytes == int(row["w_orig_bytes"])
            exact_npu = row["memmode"] == "Sram_Only"
            assert cycles.npu == pytest.approx(int(row["npu_cycles"]), rel=0 if exact_npu else 0.005)
            assert cycles.total == pytest.approx(int(row["total_cycles"]), rel=0.007), row["layer"]
            close += 1
        else:
            lanes = (cycles.npu, cycles.sram, cycles.dram, cycles.flash, cycles.total)
            assert lanes == tuple(int(row[c]) for c in LANES), row["layer"]
            exact += 1
    assert (exact, close) == (84, 124)


@pytest.mark.parametrize(
    ("macs", "mode", "config"),
    [
        (256, "Shared_Sram", "Ethos_U65_Embedded"),
        (512, "Sram_Only", "Ethos_U65_Embedded"),
        (512, "Dedicated_Sram_384KB", "Ethos_U65_Mid_End"),
    ],
)
def test_the_configuration_says_what_the_tool_own_says(macs: int, mode: str, config: str, tmp_path: Path) -> None:
    """The text made of a target against the tool's own vela.ini, through its command line."""
    second = ("3.75e9", "500", "250") if mode.startswith("Dedicated") else ("0.5e9", "64", "0")
    npu = _npu(
        "npu.product=u65",
        f"npu.macs={macs}",
        f"npu.memory_mode={mode.removesuffix('_384KB')}",
        "npu.sram_port.bytes_per_cycle=16",
        f"flash.bandwidth={second[0]}",
        f"npu.flash_port.read_latency={second[1]}",
        f"npu.flash_port.write_latency={second[2]}",
    )
    workload = conv_workload(32, 64, (28, 28), (3, 3))
    file = tmp_path / "layer.tflite"
    file.write_bytes(operator_model(workload.ops[0], workload).tflite)
    vela = [sys.executable, "-m", "ethosu.vela", str(file), "--accelerator-config", f"ethos-u65-{macs}"]
    vela += [
        "--config",
        "Arm/vela.ini",
        "--system-config",
        config,
        "--memory-mode",
        mode,
        "--output-dir",
        str(tmp_path),
    ]
    subprocess.run(vela, check=True, capture_output=True)
    with next(tmp_path.glob("*_summary_*.csv")).open(newline="") as table:
        (row,) = csv.DictReader(table)
    found = _ask(workload, npu).cycles
    told = [row[f"cycles_{lane}"] for lane in ("npu", "sram_access", "dram_access", "off_chip_flash_access", "total")]
    assert [found.npu, found.sram, found.dram, found.flash, found.total] == [int(x) for x in told]


def test_the_target_own_numbers_count() -> None:
    """Half the flash bandwidth doubles the flash's cycles; half the clock halves them; the array does not mind."""
    workload = fc_workload(1, 640, 128)
    usual = _ask(workload).cycles
    slow = _ask(workload, _npu("flash.bandwidth=0.25e9")).cycles
    assert slow.flash == pytest.approx(2 * usual.flash, rel=0.01)
    calm = _ask(workload, _npu("npu.clock_hz=250000000")).cycles
    assert calm.flash == pytest.approx(usual.flash / 2, rel=0.01)
    assert calm.npu == slow.npu == usual.npu


def test_it_prints_nothing_and_says_the_same_again(capfd: pytest.CaptureFixture[str]) -> None:
    gelu = samples.elementwise(OpKind.ACTIVATION, "gelu")
    assert _ask(gelu) == _ask(gelu)
    left = samples.resize("linear", "half_pixel", 7, 28)
    found = _ask(left)
    assert found.cpu_ops == 1
    assert "RESIZE_BILINEAR" in found.said
    assert capfd.readouterr() == ("", "")


def test_a_refused_file_is_an_error_with_the_reason() -> None:
    workload = fc_workload(1, 8, 8)
    nonsense = replace(machine(_npu().spec), configuration="[architecture]\nmacs=77\n")
    with pytest.raises(CostModelError, match="refuses the file") as caught:
        estimate(operator_model(workload.ops[0], workload).tflite, nonsense)
    assert caught.value.problems[0].why


def test_another_version_of_the_tool_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    tool.regor.cache_clear()
    monkeypatch.setattr(metadata, "version", lambda name: "5.3.0")
    with pytest.raises(MissingToolError, match=r"5\.3\.0 is installed, 5\.2\.0 is needed"):
        tool.regor()
    monkeypatch.undo()
    assert tool.regor().compile


def _accepted() -> list[Workload]:
    """Every function that the rules name, and every kind."""
    found = [w for kind, w in samples.legal().items() if kind not in (OpKind.GENERIC, OpKind.CONTROL_FLOW)]
    found += [samples.elementwise(OpKind.ACTIVATION, f) for f in sorted(functions.ACTIVATIONS)]
    found += [conv_workload(16, 32, (14, 14), (3, 3), activation=f) for f in sorted(functions.ACTIVATIONS)]
    both = functions.SUMS | functions.PRODUCTS | functions.SELECTIONS | {"squared_difference"}
    found += [samples.elementwise(OpKind.ELEMENTWISE, f, inputs=2) for f in sorted(both)]
    found += [samples.vector(OpKind.REDUCE, f) for f in sorted(functions.REDUCTIONS)]
    found += [samples.vector(OpKind.NORM, f) for f in sorted(functions.NORMS)]
    found += [samples.outer_vector(OpKind.NORM, f) for f in sorted(functions.NORMS)]
    found += [samples.pool(f, k, s) for f in ("max", "average") for k, s in ((2, 2), (3, 1), (7, 7), (14, 14))]
    found += [samples.pool("max", 3, 2, pads=(1, 1)), samples.transposed(1, 14), samples.transposed(1, 15)]
    found += [samples.resize(m, c, 7, o) for m in ("nearest", "linear") for c in ("asymmetric",) for o in (14, 28, 56)]
    found += [samples.resize("linear", "align_corners", 7, o) for o in (13, 25, 49)]
    found += [conv_workload(16, 32, (14, 14), (3, 3), s, same=False) for s in (1, 2, 3, 4)]
    found += [replace(w, ops=(replace(w.ops[0], rescales=True),)) for w in (samples.pool(), samples.resize())]
    return found


def test_the_tool_runs_on_the_npu_what_the_rules_allow() -> None:
    npu = _npu()
    checked = 0
    for workload in _accepted():
        op = workload.ops[0]
        if device_rejection(op, npu, workload) is None:
            found = _ask(workload)
            assert found.cpu_ops == 0, (op.kind, op.params, found.said)
            assert found.npu_ops > 0, (op.kind, op.params)
            checked += 1
    assert checked > 90


def test_an_inner_operator_runs_between_its_neighbours() -> None:
    """Its steps lie together, behind a single element's and before what reads its results: nothing is merged."""
    npu = _npu()
    checked = 0
    for workload in map(inside, _accepted()):
        op = workload.ops[0]
        if device_rejection(op, npu, workload) is not None or is_free(op, workload):
            continue
        written = operator_model(op, workload)
        steps = estimate(written.tflite, machine(npu.spec)).steps
        own = [i for i, step in enumerate(steps) if written.owner(step.source) == op.id]
        assert own == list(range(own[0], own[-1] + 1)), (op.kind, op.params)
        assert steps[own[0] - 1].cycles.total == 1, (op.kind, op.params)  # so much can hide behind it
        assert len(steps) - own[-1] - 1 == len(op.outputs)
        told = operator_estimate(npu.spec, op, workload)
        assert [step.operator for step in told.steps] == [steps[i].operator for i in own]
        assert told.cycles.total == sum(steps[i].cycles.total for i in own)
        checked += 1
    assert checked > 90


@pytest.mark.parametrize("name", ["ds-cnn", "fpn-detector", "mobilenet-v3-small"])
def test_an_inner_operator_costs_what_it_costs_in_its_network(name: str) -> None:
    """With weights in SRAM nothing hides: an operator's cycles are those of its steps in the network, lane by lane.

    Not of the first one, before which the network's input is transposed; a vector behind a view reads 8 bytes more.
    """
    npu = _npu("npu.memory_mode=Sram_Only")
    workload = _lowered(name)
    ops = tuple(op for op in workload.ops if device_rejection(op, npu, workload) is None)
    whole = dict(network_estimate(npu.spec, workload, ops).by_op)
    moved = [op for op in ops if not is_free(op, workload)]
    assert len(moved) > 10
    for op in moved[1:]:
        told = operator_estimate(npu.spec, op, workload).cycles
        if op.kind is OpKind.FULLY_CONNECTED:
            assert told.total == pytest.approx(whole[op.id].total, rel=0, abs=2), op.id
        else:
            assert told == whole[op.id], op.id


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ds-cnn", "fpn-detector", "hybrid-xxs", "mobilenet-v3-small", "resnet8", "vit-tiny"])
def test_networks_compile_whole(name: str, record_property: Callable[[str, object], None]) -> None:
    """All operators of a network that the rules allow, as one file: none left to the CPU, every cycle has an owner."""
    npu = _npu("npu.macs=128")
    workload = _lowered(name)
    ours = tuple(op for op in workload.ops if device_rejection(op, npu, workload) is None)
    found = network_estimate(npu.spec, workload, ours)
    assert found.whole.cpu_ops == 0, found.whole.said
    assert sum(c.total for _, c in found.by_op) + found.made_up.total == found.whole.cycles.total
    assert {op for op, _ in found.by_op} <= {op.id for op in ours}
    asked = [op for op in ours if not is_free(op, workload)]
    alone = sum(operator_estimate(npu.spec, op, workload).cycles.total for op in asked)
    line = f"{name}: {len(ours)} of {len(workload.ops)} operators, {found.whole.cycles.total} cycles on U55-128"
    record_property("summary", f"{line}; operators one by one {alone / found.whole.cycles.total:.3f} of that")
