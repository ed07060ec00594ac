"""Each rule of the NPU at its limit, just inside and just outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from h4hc.cost import device_rejection
from h4hc.costtypes import Cost
from h4hc.target_file import load_system
from h4hc.workload import (
    ConvParams,
    ElementwiseParams,
    OpKind,
    PoolParams,
    ResizeParams,
    Tensor,
    VectorParams,
    Workload,
)
from targets.ethos_u.blocks import choose_blocks
from targets.ethos_u.cycles import Port
from targets.ethos_u.device import EthosU
from targets.ethos_u.mapping import passes
from targets.ethos_u.weights import Slicing, choose_staging
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload, one_op

NPU = load_system("npu").device("npu")


def _code(workload: Workload) -> str:
    rejection = device_rejection(workload.ops[0], NPU, workload)
    if rejection is None:
        assert NPU.cost(workload.ops[0], NPU.modes()[0], workload).latency.low > 0
        return ""
    return rejection.code.removeprefix("ethos_u.")


def _tensors(workload: Workload, change: Callable[[Tensor], Tensor]) -> Workload:
    return replace(workload, tensors=tuple(change(t) for t in workload.tensors))


def _mean(channels: int, height: int, width: int, batch: int = 1) -> Workload:
    params = VectorParams("vector", "mean", channels * batch, height * width)
    return one_op(OpKind.REDUCE, params, (batch, channels, height, width), (batch, channels, 1, 1))


def _transposed(**changes: object) -> Workload:
    workload = samples.transposed()
    params = workload.ops[0].params
    assert isinstance(params, ConvParams)
    op = replace(workload.ops[0], params=replace(params, **changes))  # type: ignore[arg-type]
    return replace(workload, ops=(op,))


def _padded_average(kernel: int, *, counted: bool = False) -> Workload:
    """SAME padding at stride 1."""
    pads = ((kernel - 1) // 2, kernel // 2)
    return samples.pool("average", kernel, 1, size=20, pads=pads, counted=counted)


def _changed(workload: Workload, **changes: object) -> Workload:
    return replace(workload, ops=(replace(workload.ops[0], **changes),))  # type: ignore[arg-type]


def _product(left: tuple[int, int, int], right: tuple[int, int, int]) -> Workload:
    """Of two maps, each repeated along its axes of 1."""
    a, b, c = (max(pair) for pair in zip(left, right, strict=True))
    params = ElementwiseParams("elementwise", "mul", a * b * c, 2, "general")
    return one_op(OpKind.ELEMENTWISE, params, left, (a, b, c), inputs=2, second_shape=right)


def _line_resize(mode: str, coordinates: str) -> Workload:
    """7 to 14 along the only axis."""
    params = ResizeParams("resize", mode, coordinates, 16, (7,), (14,))
    return one_op(OpKind.RESIZE, params, (1, 16, 7), (1, 16, 14))


CASES: list[tuple[str, Workload, str]] = [
    ("stride 3", conv_workload(8, 8, (20, 20), (3, 3), 3), ""),
    ("stride 4, padded", conv_workload(8, 8, (21, 21), (5, 5), 4), "stride"),
    ("stride 4, not padded", conv_workload(8, 8, (21, 21), (3, 3), 4, same=False), ""),
    ("stride 4, depthwise", conv_workload(8, 8, (21, 21), (3, 3), 4, groups=8, same=False), "stride"),
    ("stride 4, groups", conv_workload(8, 8, (21, 21), (3, 3), 4, groups=2, same=False), "stride"),
    ("stride 3, groups", conv_workload(8, 8, (21, 21), (3, 3), 3, groups=2), ""),
    ("stride 3, depthwise", conv_workload(8, 8, (21, 21), (3, 3), 3, groups=8), ""),
    ("kernel 64 high", conv_workload(4, 4, (70, 70), (64, 1)), ""),
    ("kernel 65 high", conv_workload(4, 4, (70, 70), (65, 1)), "kernel"),
    ("dilated to 63", conv_workload(4, 4, (80, 80), (32, 32), dilation=2), ""),
    ("dilated to 65", conv_workload(4, 4, (80, 80), (33, 33), dilation=2), "kernel"),
    ("dilation 3", conv_workload(4, 4, (80, 80), (2, 2), dilation=3), "dilation"),
    ("dilation 2, depthwise", conv_workload(8, 8, (20, 20), (3, 3), groups=8, dilation=2), ""),
    ("dilation 3, depthwise", conv_workload(8, 8, (20, 20), (3, 3), groups=8, dilation=3), "dilation"),
    ("dilation 3, groups", conv_workload(8, 8, (20, 20), (3, 3), groups=2, dilation=3), "dilation"),
    ("dilation 3, 1-D", conv_workload(8, 8, (100,), (3,), dilation=3), "dilation"),
    ("1-D kernel of 4096", conv_workload(1, 8, (5000,), (4096,)), ""),
    ("1-D kernel of 4097", conv_workload(1, 8, (5000,), (4097,)), "kernel"),
    ("filter of 65536", fc_workload(1, 65536, 4), ""),
    ("filter of 65537", fc_workload(1, 65537, 4), "axis"),
    ("conv filter over 65536", conv_workload(7300, 4, (9, 9), (3, 3)), "filter"),
    ("batch 2", conv_workload(8, 8, (8, 8), (3, 3), batch=2), "batch"),
    ("3-D conv", conv_workload(3, 4, (4, 4, 4), (3, 3, 3)), "planar"),
    ("1-D conv", conv_workload(8, 16, (100,), (9,)), ""),
    ("depth multiplier 2", conv_workload(8, 16, (8, 8), (3, 3), groups=8, kind=OpKind.DEPTHWISE), "multiplier"),
    ("one channel to 16", conv_workload(1, 16, (8, 8), (3, 3), kind=OpKind.DEPTHWISE), ""),
    ("groups", samples.legal()[OpKind.GROUPED_CONV], ""),
    ("float", conv_workload(8, 8, (8, 8), (3, 3), dtype="float32"), "dtype"),
    ("uint8", conv_workload(8, 8, (8, 8), (3, 3), dtype="uint8"), ""),
    ("fused gelu", conv_workload(8, 8, (8, 8), (3, 3), activation="gelu"), ""),
    ("fused silu", conv_workload(8, 8, (8, 8), (3, 3), activation="silu"), ""),
    ("fused mish", conv_workload(8, 8, (8, 8), (3, 3), activation="mish"), "fused"),
    ("transposed conv", samples.transposed(), ""),
    ("transposed conv, stride 3", _transposed(stride=(3, 3)), "transposed"),
    ("transposed conv, uneven", _transposed(stride=(1, 2)), "transposed"),
    ("transposed conv, dilated", _transposed(dilation=(2, 2)), "transposed"),
    ("transposed conv, odd output", _transposed(out_spatial=(29, 29)), "transposed"),
    ("max pool", samples.pool("max"), ""),
    ("lp pool", samples.pool("lp"), "pool"),
    ("padded average 8", _padded_average(8), ""),
    ("padded average 9", _padded_average(9), "window"),
    ("padded average, padding counted", _padded_average(3, counted=True), "average"),
    ("average, nothing to count", samples.pool("average", 2, 2, counted=True), ""),
    ("average padded before only", samples.pool("average", 3, 1, size=20, pads=(2, 0)), "average"),
    ("average padded to 22", samples.pool("average", 3, 1, size=20, pads=(2, 2)), "average"),
    (
        "average of 3 by 2, 1 on each side: SAME puts it behind",
        samples.pool("average", 3, 2, 20, 16, (1, 1)),
        "average",
    ),
    ("average of 3 by 2, 1 behind", samples.pool("average", 3, 2, 20, 16, (0, 1)), ""),
    ("average with padding no window reads", samples.pool("average", 2, 2, 20, 16, (0, 1)), ""),
    ("max padded before only", samples.pool("max", 3, 1, size=20, pads=(2, 0)), ""),
    ("average 20, not padded", samples.pool("average", 20, 1, size=20), ""),
    ("window of 256", samples.pool("average", 256, 1, size=256, channels=1), ""),
    ("window of 257", samples.pool("average", 257, 1, size=257, channels=1), "window"),
    ("softmax of 65535 rows", samples.vector(OpKind.SOFTMAX, "softmax", 65535, 2), ""),
    ("softmax of 65536 rows", samples.vector(OpKind.SOFTMAX, "softmax", 65536, 2), "softmax"),
    ("log softmax", samples.vector(OpKind.SOFTMAX, "log_softmax"), "softmax"),
    ("softmax over an outer axis", samples.outer_vector(OpKind.SOFTMAX, "softmax"), "innermost"),
    ("outer softmax of one value", samples.outer_vector(OpKind.SOFTMAX, "softmax", length=1), ""),
    ("outer layer norm", samples.outer_vector(OpKind.NORM, "layer_norm"), "innermost"),
    ("outer RMS norm", samples.outer_vector(OpKind.NORM, "rms_norm"), "innermost"),
    ("instance norm over positions", samples.outer_vector(OpKind.NORM, "instance_norm"), ""),
    ("instance norm of 16 channels", samples.image_norm("instance_norm", (1, 16, 14, 14)), ""),
    ("instance norm of 3 channels", samples.image_norm("instance_norm", (1, 3, 14, 14)), ""),
    ("group norm of 16 channels", samples.image_norm("group_norm", (1, 16, 14, 14)), ""),
    ("group norm of 3 channels", samples.image_norm("group_norm", (1, 3, 14, 14)), ""),
    ("batch norm of 3 channels", samples.image_norm("batch_norm", (1, 3, 14, 14)), ""),
    ("sum over an outer axis", samples.outer_vector(OpKind.REDUCE, "sum"), "innermost"),
    ("mean over an outer axis", samples.outer_vector(OpKind.REDUCE, "mean"), ""),
    ("maximum over an outer axis", samples.outer_vector(OpKind.REDUCE, "max", length=1000), ""),
    ("mean of 64 x 64", _mean(16, 64, 64), ""),
    ("mean over an axis of 4095", samples.vector(OpKind.REDUCE, "mean", 4, 4095), ""),
    ("mean over an axis of 4096", samples.vector(OpKind.REDUCE, "mean", 4, 4096), "mean"),
    ("mean, batch 2", _mean(16, 7, 7, 2), "mean"),
    ("reduce max", samples.vector(OpKind.REDUCE, "max", 4, 1000), ""),
    ("reduce sum", samples.vector(OpKind.REDUCE, "sum", 4, 1000), ""),
    ("reduce prod", samples.vector(OpKind.REDUCE, "prod"), "reduction"),
    ("layer norm of 4095", samples.vector(OpKind.NORM, "layer_norm", 4, 4095), ""),
    ("layer norm of 4096", samples.vector(OpKind.NORM, "layer_norm", 4, 4096), "norm"),
    ("local response norm", samples.vector(OpKind.NORM, "local_response_norm"), "norm"),
    ("nearest 2", samples.resize(), ""),
    ("nearest 8", samples.resize(size=4, out=32), ""),
    ("nearest 3", samples.resize(size=4, out=12), "resize"),
    ("nearest 16", samples.resize(size=2, out=32), "resize"),
    ("half-pixel linear 2", samples.resize("linear", "half_pixel"), ""),
    ("half-pixel linear 4", samples.resize("linear", "half_pixel", 7, 28), "resize"),
    ("half-pixel linear 2 of one axis", _line_resize("linear", "half_pixel"), "resize"),
    ("half-pixel nearest 2 of one axis", _line_resize("nearest", "half_pixel"), ""),
    ("asymmetric linear 4", samples.resize("linear", "asymmetric", 7, 28), ""),
    ("aligned linear 2", samples.resize("linear", "align_corners", 7, 13), ""),
    ("aligned linear, not 2", samples.resize("linear", "align_corners", 7, 14), "resize"),
    ("shrinking", samples.resize(size=14, out=7), "resize"),
    ("cubic", samples.resize("cubic"), "resize"),
    ("cropped", samples.resize("nearest", "tf_crop_and_resize"), "resize"),
    *[(f, samples.elementwise(OpKind.ELEMENTWISE, f, inputs=2), "") for f in ("add", "sub", "mul", "min", "max")],
    *[(f, samples.elementwise(OpKind.ELEMENTWISE, f, inputs=2), "elementwise") for f in ("div", "pow", "where")],
    ("one operand repeated", _product((1, 64, 56), (1, 1, 56)), ""),
    ("both operands repeated", _product((1, 64, 1), (1, 1, 56)), ""),
    *[(f, samples.elementwise(OpKind.ACTIVATION, f), "") for f in ("relu6", "tanh", "hard_swish", "silu", "abs")],
    *[(f, samples.elementwise(OpKind.ACTIVATION, f), "activation") for f in ("sqrt", "sin", "erf", "mish")],
    *[(f, samples.move(OpKind.MOVE, f), "") for f in ("transpose", "concat", "slice", "split", "pad", "tile")],
    *[(f, samples.move(OpKind.MOVE, f), "move") for f in ("gather", "scatter", "depth_to_space")],
    ("transpose within limits", samples.move(OpKind.MOVE, "transpose", (256, 256, 256, 3)), ""),
    ("transpose beyond", samples.move(OpKind.MOVE, "transpose", (257, 257, 256, 3)), "transpose"),
    ("five axes", samples.move(OpKind.MOVE, "slice", (2, 3, 4, 5, 6)), "rank"),
    ("five axes, one of 1", samples.move(OpKind.MOVE, "slice", (1, 3, 4, 5, 6)), ""),
    ("matmul k 65536", samples.matmul(1, 2, 65536, 2), ""),
    ("matmul k 65537", samples.matmul(1, 2, 65537, 2), "axis"),
    ("rescale", samples.legal()[OpKind.QUANTIZE], ""),
    ("generic", samples.legal()[OpKind.GENERIC], "no_mapping"),
    ("loop", samples.legal()[OpKind.CONTROL_FLOW], "no_mapping"),
    ("view", samples.legal()[OpKind.VIEW], ""),
]


@pytest.mark.parametrize(("workload", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_rule_at_its_limit(workload: Workload, code: str) -> None:
    assert _code(workload) == code


def test_weights_computed_at_run_time() -> None:
    workload = samples.legal()[OpKind.CONV]
    assert _code(replace(workload, ops=(replace(workload.ops[0], weights=()),))) == "constant_weights"


def test_shape_that_depends_on_data() -> None:
    workload = _tensors(samples.legal()[OpKind.CONV], lambda t: replace(t, exact=False))
    assert _code(workload) == "static"


def test_empty_tensor() -> None:
    workload = _tensors(samples.legal()[OpKind.ELEMENTWISE], lambda t: replace(t, shape=(1, 0, 4, 4), size_bytes=0))
    assert _code(workload) == "present"


def test_border_to_float() -> None:
    workload = _tensors(samples.legal()[OpKind.QUANTIZE], lambda t: replace(t, dtype="float32"))
    assert _code(workload) == "rescale"


def test_long_strides_run_position_by_position() -> None:
    """In one pass, 2 x 2 positions at stride 200 need 208 x 208 inputs, which no SHRAM holds; one needs 9 x 9."""
    device = load_system("npu").device("npu")
    assert isinstance(device, EthosU)
    workload = conv_workload(64, 64, (900, 900), (9, 9), 200, same=False)
    assert _code(workload) == ""
    first, rest = passes(device.spec.blocks_arch, workload.ops[0], workload)
    assert (first.ofm, first.times + rest.times, first.ifm) == ((1, 1, 64), 25, (9, 9, 64))
    whole = first._replace(ifm=(900, 900, 64), ofm=(5, 5, 64), stride=(200, 200))
    assert choose_blocks(device.spec.blocks_arch, whole) is None
    assert choose_blocks(device.spec.blocks_arch, first) is not None


@pytest.mark.parametrize("macs", [32, 64, 128, 256])
def test_more_macs_are_not_slower_on_a_wide_layer(macs: int) -> None:
    workload = conv_workload(64, 64, (28, 28), (3, 3))
    npu = load_system("npu", (f"npu.macs={macs}", "npu.memory_mode=Sram_Only")).device("npu")
    cost = npu.cost(workload.ops[0], npu.modes()[0], workload)
    least = workload.ops[0].macs / macs
    assert least <= cost.cycles <= 3 * least


def test_several_operands_are_several_passes() -> None:
    def cycles(operands: int) -> int:
        params = ElementwiseParams("elementwise", "add", 3136, operands)
        workload = one_op(OpKind.ELEMENTWISE, params, samples.IMAGE, samples.IMAGE, inputs=operands)
        return NPU.cost(workload.ops[0], NPU.modes()[0], workload).cycles

    assert cycles(4) == 3 * cycles(2)


# --- weights, scales, padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OpKind.CONV, OpKind.DEPTHWISE, OpKind.CONV_TRANSPOSE, OpKind.FULLY_CONNECTED])
@pytest.mark.parametrize(
    ("types", "code"),
    [
        ((), ""),
        (("int8",), ""),
        (("uint8",), "weight_type"),
        (("int8 asymmetric",), "weight_type"),
        (("int16",), "weight_type"),
        (("int8", "float32"), "weight_type"),
    ],
)
def test_weight_types(kind: OpKind, types: tuple[str, ...], code: str) -> None:
    workload = _changed(samples.legal()[kind], weight_types=types)
    assert _code(workload) == code
    if code:
        rejection = device_rejection(workload.ops[0], NPU, workload)
        assert rejection is not None
        assert rejection.value == types[-1]


def _npu_cost(workload: Workload) -> Cost:
    assert device_rejection(workload.ops[0], NPU, workload) is None
    return NPU.cost(workload.ops[0], NPU.modes()[0], workload)


@pytest.mark.parametrize(
    "workload",
    [samples.move(OpKind.MOVE, "concat"), samples.pool("max"), samples.move(OpKind.VIEW, "reshape")],
    ids=["concat", "max pool", "view"],
)
def test_change_of_scale_is_one_more_pass(workload: Workload) -> None:
    """As much as the requantisation of a tensor of that size."""
    plain, scaled = _npu_cost(workload), _npu_cost(_changed(workload, rescales=True))
    shape = workload.tensor["y"].shape
    alone = _npu_cost(samples.elementwise(OpKind.QUANTIZE, "requantize", shape))
    own = 0 if workload.ops[0].kind is OpKind.VIEW else plain.latency.nominal
    assert scaled.latency.nominal == pytest.approx(own + alone.latency.nominal, rel=1e-6)
    assert dict(scaled.bytes_moved)["sram"] == dict(plain.bytes_moved).get("sram", 0) + dict(alone.bytes_moved)["sram"]
    assert scaled.energy.nominal > plain.energy.nominal


@pytest.mark.parametrize("function", ["max", "min"])
def test_selection_between_scales(function: str) -> None:
    workload = samples.elementwise(OpKind.ELEMENTWISE, function, inputs=2)
    assert _code(_changed(workload, rescales=True)) == "selection"
    assert _code(_changed(samples.elementwise(OpKind.ELEMENTWISE, "add", inputs=2), rescales=True)) == ""


def test_view_with_a_pass_has_the_limits_of_a_pass() -> None:
    workload = samples.move(OpKind.VIEW, "flatten", (1, 65537))
    assert _code(workload) == ""
    assert _code(_changed(workload, rescales=True)) == "axis"


def test_maximum_with_other_padding_pays_a_copy() -> None:
    """3x3 by 2 on 20 x 20: SAME pads 1 behind. With 1 on each side, a 21 x 21 image is written first, then pooled."""
    same, around = (_npu_cost(samples.pool("max", 3, 2, 20, 16, pads)) for pads in ((0, 1), (1, 1)))
    copied = _npu_cost(samples.move(OpKind.MOVE, "pad", (1, 16, 21, 21)))
    pooled = _npu_cost(samples.pool("max", 3, 2, 21, 16))
    both = copied.latency.nominal + pooled.latency.nominal  # the copy between them lies in bricks: up to a quarter more
    assert both <= around.latency.nominal <= 1.25 * both
    assert around.latency.nominal > same.latency.nominal


def test_padding_of_ceil_mode_is_padding() -> None:
    """2x2 by 2 on 13 x 13 gives 7 x 7 with ceil_mode: one row and column behind, which is SAME."""
    workload = samples.pool("average", 2, 2, size=13)
    params = workload.ops[0].params
    assert isinstance(params, PoolParams)
    assert _code(_changed(workload, params=replace(params, out_spatial=(7, 7)))) == ""
    counted = replace(params, out_spatial=(7, 7), count_include_pad=True)
    assert _code(_changed(workload, params=counted)) == "average"


@pytest.mark.parametrize("kind", sorted(set(OpKind) - {OpKind.GENERIC, OpKind.CONTROL_FLOW}))
def test_no_shram_is_a_refusal_of_everything_that_takes_blocks(kind: OpKind) -> None:
    npu = load_system("npu", ("npu.arch.bank_bytes=1",)).device("npu")
    workload = samples.legal()[kind]
    rejection = device_rejection(workload.ops[0], npu, workload)
    if kind is OpKind.VIEW:
        assert rejection is None
        return
    assert rejection is not None
    assert rejection.code == "ethos_u.shram"
    assert "banks of 1 B" in rejection.limit


def test_marks_are_those_of_the_numbers_used() -> None:
    """The table's load time counts where there is a table, the port's latency where there is traffic."""
    table, plain = (samples.elementwise(OpKind.ACTIVATION, f) for f in ("sigmoid", "relu"))

    def marks(key: str, workload: Workload) -> tuple[str, ...]:
        npu = load_system("npu", (key,)).device("npu")
        return npu.cost(workload.ops[0], npu.modes()[0], workload).marks

    assert "user" in marks("npu.table_load=2", table)
    assert "user" not in marks("npu.table_load=2", plain)
    clamped = conv_workload(8, 8, (8, 8), (3, 3), activation="relu6")
    assert "user" in marks("npu.variants.u55-256.act_relu=0.5", clamped)
    assert "user" not in marks("npu.variants.u55-128.act_relu=0.5", clamped)
    assert "user" in marks("npu.sram_port.read_latency=40", plain)
    added = samples.elementwise(OpKind.ELEMENTWISE, "add", inputs=2)
    assert "user" in marks("npu.variants.u55-256.out_add=1", added)
    assert "user" not in marks("npu.variants.u55-256.out_mul=1", added)
    assert "user" not in marks("npu.mac_energy=1", added)  # it passes the output stage alone
    assert "user" in marks("npu.output_energy=1", added)
    assert "user" not in marks("npu.output_energy=1", samples.legal()[OpKind.MOVE])
    for through_the_array in (plain, samples.legal()[OpKind.CONV], samples.legal()[OpKind.MATMUL]):
        assert "user" in marks("npu.mac_energy=1", through_the_array)
    assert "user" in marks("npu.variants.u55-256.out_int32_binary=1.2", samples.legal()[OpKind.SOFTMAX])


def test_weights_lie_in_sram_with_sram_only() -> None:
    assert not NPU.weights_in_sram()
    assert load_system("npu", ("npu.memory_mode=Sram_Only",)).device("npu").weights_in_sram()
    assert not any(d.weights_in_sram() for d in load_system("npu+cim").devices)


def test_weights_that_come_at_run_time_are_refused_even_beside_a_constant_bias() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    assert _code(workload) == ""
    op = replace(workload.ops[0], inputs=("x0", "w"))
    assert _code(replace(workload, ops=(op,))) != ""


def test_wide_results_are_refused() -> None:
    workload = conv_workload(16, 16, (8, 8), (3, 3))
    wide = _tensors(workload, lambda t: replace(t, dtype="int32") if t.name == "y" else t)
    assert _code(wide) == "results"


def test_weights_that_a_fast_port_moves_in_under_a_cycle() -> None:
    """16 bytes over ports of 64 and 128 bytes a cycle without latency: no division by the 0 whole cycles."""
    slicing = Slicing(32, 8, 2, lambda depth: 10 * depth, 320, 0, (1, 1), 1 << 20)
    staging = choose_staging(slicing, 16, None, Port(64, 0, 0, 32), Port(128, 0, 0, 32))
    assert staging is not None
    assert staging.slices == (16, 16)
