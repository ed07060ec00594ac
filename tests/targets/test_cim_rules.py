"""The rules of CIM devices at their limits, and faults of their numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from h4hc.cost import device_rejection, op_row
from h4hc.costtypes import Mode
from h4hc.errors import TargetError
from h4hc.target_file import load_system
from h4hc.workload import OpKind, Workload
from tests.targets import samples
from tests.targets.test_cim import cim_device
from tests.targets.vela_layers import conv_workload, fc_workload


def _code(workload: Workload, *sets: str, system: str = "npu+cim") -> str:
    rejection = device_rejection(workload.ops[0], cim_device(*sets, system=system), workload)
    return "" if rejection is None else rejection.code


@pytest.mark.parametrize(
    "kind", [OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED, OpKind.VIEW]
)
def test_runs(kind: OpKind) -> None:
    assert _code(samples.legal()[kind]) == ""


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (OpKind.MATMUL, "cim.product"),
        (OpKind.CONV_TRANSPOSE, "cim.product"),
        (OpKind.SOFTMAX, "cim.other_work"),
        (OpKind.ELEMENTWISE, "cim.other_work"),
        (OpKind.POOL, "cim.other_work"),
        (OpKind.GENERIC, "cim.other_work"),
        (OpKind.CONTROL_FLOW, "cim.other_work"),
    ],
)
def test_refuses_kind(kind: OpKind, code: str) -> None:
    assert _code(samples.legal()[kind]) == code


@pytest.mark.parametrize(
    ("activation", "code"), [("", ""), ("relu6", ""), ("clip", ""), ("hard_swish", "cim.post_unit")]
)
def test_post_unit(activation: str, code: str) -> None:
    assert _code(conv_workload(8, 8, (8, 8), (3, 3), activation=activation)) == code


def test_dtype_and_stationary_weights() -> None:
    assert _code(fc_workload(2, 8, 8, dtype="float32")) == "cim.dtype"
    assert _code(fc_workload(2, 8, 8, dtype="uint8")) == ""
    loose = fc_workload(2, 8, 8)
    op = replace(loose.ops[0], weights=())
    assert _code(replace(loose, ops=(op,))) == "cim.stationary_weights"


def test_weights_fit_exactly_or_not() -> None:
    """One macro of 64 words of 128 weights: 64 outputs of 128 weights fit, 65 do not."""
    sets = ("cim.macros=1", f"cim.bank_bits={64 * 1024}")
    assert _code(fc_workload(4, 128, 63), *sets) == ""
    assert _code(fc_workload(4, 128, 64), *sets) == ""
    assert _code(fc_workload(4, 128, 65), *sets) == "cim.fits"
    assert _code(fc_workload(4, 128, 65), "cim.macros=2", sets[1]) == ""


def test_modes_at_their_limits() -> None:
    device, workload = cim_device(), fc_workload(4, 16, 3)
    op = workload.ops[0]
    assert device.mode_rejection(op, Mode("cim", 3)) is None
    violation = device.mode_rejection(op, Mode("cim", 4))
    assert violation is not None
    assert violation.limit.startswith("3 output channels")
    view = samples.legal()[OpKind.VIEW].ops[0]
    assert device.mode_rejection(view, Mode("cim", 1)) is None
    assert device.mode_rejection(view, Mode("cim", 2)) is not None


def test_rejection_reaches_the_row() -> None:
    row = op_row(samples.matmul().ops[0], load_system("npu+cim"), samples.matmul())
    refused = [r for r in row.rejections if r.mode.device == "cim"]
    assert [r.mode.units for r in refused] == [1, 2, 3, 4]


def test_capacity() -> None:
    assert cim_device().capacity().unit_bytes == 1024 * 1024
    assert cim_device().capacity().units == 4
    assert cim_device(system="npu+cim-sram").capacity().unit_bytes is None


@pytest.mark.parametrize(
    ("system", "text", "said"),
    [
        ("npu+cim", "cim.kind=abacus", "'mram_nearmem', 'sram_digital', 'sram_analog' or 'rram_analog'"),
        ("npu+cim", "cim.kind=sram_analog", "endurance must be given"),
        ("npu+cim", "cim.kind=rram_analog", "[adc] must be given"),
        ("npu+cim", "cim.kind=sram_digital", "endurance must be given"),
        ("npu+cim-analog", "cim.kind=sram_digital", "[adc] must be given"),
        ("npu+cim-analog", "cim.cus=2", "cus must be 1"),
        ("npu+cim-analog", "cim.adc.rows=17", "adc.rows must be at most the 16 rows"),
        ("npu+cim-sram", "cim.segments=true", "diagonal has no use with segments"),
        ("npu+cim", "cim.bits_per_cycle=9", "bits_per_cycle must be at most input_bits"),
        ("npu+cim", "cim.residency=sometimes", "'resident', 'per_wake_up' or 'per_inference'"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(system: str, text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system(system, (text,))
    assert said in str(caught.value)


def test_impossible_geometry_is_refused() -> None:
    with pytest.raises(TargetError, match="read_bits"):
        load_system("npu+cim", ("cim.read_bits=1000",))


def test_weights_that_come_at_run_time_are_refused_even_beside_a_constant_bias() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    op = workload.ops[0]
    assert device_rejection(op, cim_device(), workload) is None
    dynamic = replace(op, inputs=(*op.inputs, "w"))
    rejection = device_rejection(dynamic, cim_device(), workload)
    assert rejection is not None
    assert rejection.code == "cim.stationary_weights"


def test_depthwise_layer_on_an_array() -> None:
    """By hand: 16 channels have different inputs. Without the diagonal they are 16 words of one column each; on the
    diagonal 8 of them (columns) stand in 72 of 128 rows: 2 words, as a dense layer of 16 outputs."""
    depthwise = conv_workload(16, 16, (8, 8), (3, 3), groups=16)
    dense = conv_workload(8, 16, (8, 8), (3, 3))
    for diagonal, words in (("false", (16, 2)), ("true", (2, 2))):
        device = cim_device("cim.macros=1", f"cim.diagonal={diagonal}", system="npu+cim-sram")
        cycles = [device.cost(w.ops[0], Mode("cim"), w).cycles for w in (depthwise, dense)]
        assert cycles == [n * 64 * 4 for n in words]


@pytest.mark.parametrize("kind", [OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.FULLY_CONNECTED])
@pytest.mark.parametrize(
    ("types", "code"),
    [
        ((), ""),
        (("int8",), ""),
        (("uint8",), "cim.weight_type"),
        (("int8 asymmetric",), "cim.weight_type"),
        (("float32",), "cim.weight_type"),
        (("int8", "int16"), "cim.weight_type"),
    ],
)
def test_weight_types(kind: OpKind, types: tuple[str, ...], code: str) -> None:
    workload = samples.legal()[kind]
    op = replace(workload.ops[0], weight_types=types)
    rejection = device_rejection(op, cim_device(), workload)
    assert (rejection.code if rejection else "") == code
    if rejection is not None:
        assert rejection.value == types[-1]


@pytest.mark.parametrize(("bits", "code"), [(1, "cim.weight_bits"), (4, "cim.weight_bits"), (8, ""), (16, "")])
def test_weights_wider_than_a_cell_are_refused(bits: int, code: str) -> None:
    workload = fc_workload(4, 64, 64)
    device = cim_device(f"cim.weight_bits={bits}")
    rejection = device_rejection(workload.ops[0], device, workload)
    assert (rejection.code if rejection else "") == code
    assert any(r.code == "cim.weight_bits" and r.always == bool(code) for r in device.rules())


def test_view_that_rescales_is_refused() -> None:
    workload = samples.legal()[OpKind.VIEW]
    op = replace(workload.ops[0], rescales=True)
    rejection = device_rejection(op, cim_device(), workload)
    assert rejection is not None
    assert rejection.code == "cim.rescale"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cim.macros=65", "less than or equal to 64"),
        ("cim.cus=1000000", "less than or equal to 64"),
        ("cim.input_bits=65", "less than or equal to 32"),
        (f"cim.read_bits={2**23}", f"less than or equal to {2**22}"),
        (f"cim.bank_bits={2**37}", f"less than or equal to {2**36}"),
        ("cim.weight_bits=64", "less than or equal to 32"),
        (f"cim.columns={2**23}", f"less than or equal to {2**22}"),
        ("cim.input_types=int8,int9", "'int8' or 'uint8'"),
        ("cim.input_types=", "at least 1 item"),
        ("cim.post_activations=relu,rlu", "'relu6'"),
    ],
)
def test_counts_and_names_are_held_to_their_limits(text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_system("npu+cim", (text,))
    assert said in str(caught.value)


def test_energy_of_a_read_reaches_down_to_the_published_macros() -> None:
    """At its low bound a word read for four windows costs no more a MAC than the best whole macro: 12.5 fJ."""
    spec = cim_device().spec
    macs_a_word = spec.rows * spec.cus
    assert spec.read_energy.low * spec.read_bits / macs_a_word == pytest.approx(0.0125)
    assert spec.read_energy.value * spec.read_bits / macs_a_word == pytest.approx(0.46)
    assert spec.mac_energy.mark == "guess"
    assert spec.mac_energy.low < 0.0125 < spec.mac_energy.high <= 0.066


def test_wide_results_and_empty_tensors_are_refused() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    for change, code in (({"dtype": "int32"}, "cim.results"), ({"shape": (1, 0, 8, 8)}, "cim.present")):
        tensors = tuple(replace(t, **change) if t.name == "y" else t for t in workload.tensors)
        rejection = device_rejection(workload.ops[0], cim_device(), replace(workload, tensors=tensors))
        assert rejection is not None
        assert rejection.code == code
