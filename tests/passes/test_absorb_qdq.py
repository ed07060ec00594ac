"""absorb-qdq: which operators become integer ones, which stay float and why; no bit changes either way."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from h4hc import annotations as notes
from passes.absorb_qdq import AbsorbQdq
from passes.fuse_activation import FuseActivation
from passes.fuse_fully_connected import FuseFullyConnected
from passes.fuse_layer_norm import FuseLayerNorm
from tests.passes.grouping_support import anchor, apply, graph, groups, parse, reasons

PASS = [AbsorbQdq()]
ALL = [FuseLayerNorm(), FuseFullyConnected(), FuseActivation(), AbsorbQdq()]
SCALES = "float s = {0.1}, float[1] s2 = {0.25}, uint8 z = {3}, int8 i8 = {-2}"
DQ = "f = DequantizeLinear(x, s, z)"
Q = "y = QuantizeLinear(o, s2, z)"

CONV_CONSTANTS = (
    "int8[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2] ws = {0.1,0.2}, int8[2] wz = {0,0},"
    " int32[2] b = {5,6}, float[2] bs = {0.01,0.02}, int32[2] bz = {0,0}"
)
CONV = "wf = DequantizeLinear<axis=0>(w, ws, wz) bf = DequantizeLinear<axis=0>(b, bs, bz) o = Conv(f, wf, bf)"

# operator: (shape of x, shape of y, more constants, body between f and o)
OPERATORS = {
    "Conv": ("1,1,4,4", "1,2,2,2", CONV_CONSTANTS, CONV),
    "Conv float bias": ("1,1,2,2", "1,1,2,2", "int8[1,1,1,1] w = {1}, float[1] b = {2}",
                        "wf = DequantizeLinear(w, s) o = Conv(f, wf, b)"),
    "ConvTranspose": ("1,1,2,2", "1,1,3,3", "int8[1,1,2,2] w = {1,2,3,4}",
                      "wf = DequantizeLinear(w, s) o = ConvTranspose(f, wf)"),
    "Gemm": ("2,3", "2,2", "int8[3,2] w = {1,2,3,4,5,6}", "wf = DequantizeLinear(w, s) o = Gemm(f, wf)"),
    "MatMul square": ("3,3", "3,3", "", "o = MatMul(f, f)"),
    "Add constant": ("2,3", "2,3", "float[3] c = {1,2,3}", "o = Add(f, c)"),
    "MaxPool": ("1,1,4,4", "1,1,2,2", "", "o = MaxPool<kernel_shape=[2,2], strides=[2,2]>(f)"),
    "AveragePool": ("1,1,4,4", "1,1,2,2", "", "o = AveragePool<kernel_shape=[2,2], strides=[2,2]>(f)"),
    "GlobalAveragePool": ("1,2,4,4", "1,2,1,1", "", "o = GlobalAveragePool(f)"),
    "ReduceMean": ("2,3", "2,1", "", "o = ReduceMean<axes=[1]>(f)"),
    "Softmax": ("2,3", "2,3", "", "o = Softmax(f)"),
    "LayerNormalization": ("2,3", "2,3", "float[3] c = {1,2,3}", "o = LayerNormalization(f, c)"),
    "Concat": ("2,3", "4,3", "", "o = Concat<axis=0>(f, f)"),
    "Resize": ("1,1,2,2", "1,1,4,4", "float[4] c = {1,1,2,2}", "o = Resize<mode=\"nearest\">(f, , c)"),
    "Transpose": ("2,3", "3,2", "", "o = Transpose(f)"),
    "Reshape": ("2,3", "6", "int64[1] c = {6}", "o = Reshape(f, c)"),
    "Squeeze": ("1,3", "3", "", "o = Squeeze(f)"),
    "Slice": ("4,3", "2,3", "int64[1] c = {1}, int64[1] d = {3}, int64[1] e = {0}", "o = Slice(f, c, d, e)"),
    "Gather": ("4,3", "2,3", "int64[2] c = {1,3}", "o = Gather(f, c)"),
    "Pad": ("2,3", "2,5", "int64[4] c = {0,1,0,1}", "o = Pad(f, c)"),
    "Clip": ("2,3", "2,3", "float lo = {0}, float hi = {6}", "o = Clip(f, lo, hi)"),
    "PRelu": ("2,3", "2,3", "float[1] c = {0.5}", "o = PRelu(f, c)"),
    **{op: ("2,3", "2,3", "", f"o = {op}(f)")
       for op in ("Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Erf", "Sqrt")},
    **{op: ("2,3", "2,3", "", f"o = {op}(f, f)") for op in ("Add", "Sub", "Mul", "Div")},
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_between_q_and_dq_is_one_integer_operator(name: str) -> None:
    before, after, constants, body = OPERATORS[name]
    text = graph(
        f"uint8[{before}] x", f"uint8[{after}] y", ", ".join(filter(None, (SCALES, constants))), f"{DQ} {body} {Q}"
    )
    model, (result,) = apply(parse(text), PASS)
    assert result.skipped == []
    (members,) = groups(model).values()
    assert len(members) == len(list(model.graph))
    node = next(n for n in model.graph if notes.is_anchor(n))
    assert node.op_type == name.split()[0]
    qdq = notes.params(node)["qdq"]
    assert isinstance(qdq, dict)
    assert qdq["inputs"][0] == ["s", "z"]
    assert qdq["outputs"] == [["s2", "z"]]
    assert qdq["tensors"]["x"] == ["s", "z"]
    assert notes.params(node)["same_scale"] is False


def test_weight_scales_are_named() -> None:
    before, after, constants, body = OPERATORS["Conv"]
    text = graph(f"uint8[{before}] x", f"uint8[{after}] y", f"{SCALES}, {constants}", f"{DQ} {body} {Q}")
    model, _ = apply(parse(text), PASS)
    qdq = notes.params(anchor(model, "Conv"))["qdq"]
    assert isinstance(qdq, dict)
    assert qdq["inputs"] == [["s", "z"], ["ws", "wz"], ["bs", "bz"]]
    assert qdq["tensors"] == {"x": ["s", "z"], "w": ["ws", "wz"], "b": ["bs", "bz"]}


@pytest.mark.parametrize(("dtype", "opset", "domain"), [
    ("uint8", 13, ""), ("int8", 13, ""), ("int8", 21, ""), ("int16", 21, ""), ("uint16", 21, ""),
    ("int16", 17, "com.microsoft."), ("uint8", 10, ""),
])  # fmt: skip
def test_types_and_domains(dtype: str, opset: int, domain: str) -> None:
    body = f"f = {domain}DequantizeLinear(x, s, z) o = Relu(f) y = {domain}QuantizeLinear(o, s, z)"
    text = graph(f"{dtype}[2,3] x", f"{dtype}[2,3] y", f"float s = {{0.1}}, {dtype} z = {{0}}", body)
    model, _ = apply(parse(text, opset), PASS)
    assert list(groups(model).values()) == [["DequantizeLinear", "QuantizeLinear", "Relu"]]
    assert notes.params(anchor(model, "Relu"))["same_scale"] is True


def test_missing_zero_points() -> None:
    body = "f = DequantizeLinear(x, s) o = Transpose(f) y = QuantizeLinear(o, s)"
    model, _ = apply(parse(graph("uint8[2,3] x", "uint8[3,2] y", "float s = {0.1}", body)), PASS)
    params = notes.params(anchor(model, "Transpose"))
    assert params == {
        "qdq": {"inputs": [["s", ""]], "outputs": [["s", ""]], "tensors": {"x": ["s", ""]}},
        "same_scale": True,
    }


def test_activation_and_layer_norm_groups_are_absorbed_whole() -> None:
    constants = SCALES + ", int8[1,1,1,1] w = {2}, float two = {2}"
    body = (
        f"{DQ} wf = DequantizeLinear(w, s) c = Conv(f, wf) g = Sigmoid(c) a = Mul(c, g)"
        " q1 = QuantizeLinear(a, s2, z) d1 = DequantizeLinear(q1, s2, z)"
        " m = ReduceMean<axes=[3]>(d1) d = Sub(d1, m) p = Pow(d, two) v = ReduceMean<axes=[3]>(p) r = Sqrt(v)"
        f" o = Div(d, r) {Q}"
    )
    model, results = apply(parse(graph("uint8[1,1,2,3] x", "uint8[1,1,2,3] y", constants, body)), ALL)
    assert results[-1].skipped == []
    found = groups(model)
    assert len(found) == 2
    assert len(notes.group_members(model)) == 2
    conv, norm = (next(n for n in model.graph if n.name == name) for name in found)
    assert (conv.op_type, notes.activation(conv)) == ("Conv", "silu")
    assert (norm.op_type, notes.kind(norm)) == ("ReduceMean", "layer_norm")


def test_fully_connected_with_quantised_bias() -> None:
    constants = SCALES + ", int8[3,2] w = {1,2,3,4,5,6}, int32[2] b = {3,4}"
    body = f"{DQ} wf = DequantizeLinear(w, s) bf = DequantizeLinear(b, s) t = MatMul(f, wf) o = Add(t, bf) {Q}"
    model, _ = apply(parse(graph("uint8[2,3] x", "uint8[2,2] y", constants, body)), ALL)
    node = anchor(model, "MatMul")
    params = notes.params(node)
    assert (params["weight"], params["bias"], notes.kind(node)) == ("w", "b", "fully_connected")
    assert len(notes.group_members(model)) == 1


def test_split_keeps_its_outputs() -> None:
    body = f"{DQ} a, b = Split<axis=0>(f) y = QuantizeLinear(a, s2, z) y2 = QuantizeLinear(b, s, z)"
    model, _ = apply(parse(graph("uint8[2,3] x", "uint8[1,3] y, uint8[1,3] y2", SCALES, body), 17), PASS)
    assert list(groups(model).values()) == [["DequantizeLinear", "QuantizeLinear", "QuantizeLinear", "Split"]]
    qdq = notes.params(anchor(model, "Split"))["qdq"]
    assert isinstance(qdq, dict)
    assert qdq["outputs"] == [["s2", "z"], ["s", "z"]]


def test_integer_result_needs_no_quantizer() -> None:
    model, _ = apply(parse(graph("uint8[2,3] x", "int64[2,1] y", SCALES, f"{DQ} y = ArgMax<axis=1>(f)")), PASS)
    assert list(groups(model).values()) == [["ArgMax", "DequantizeLinear"]]


def test_shared_dequantizer_is_split() -> None:
    """Three users, one of them the model output: the copies carry the origin of the original."""
    body = f"{DQ} a = Relu(f) y = QuantizeLinear(a, s, z) b = Tanh(f) y2 = QuantizeLinear(b, s, z)"
    outputs = "uint8[2,3] y, uint8[2,3] y2, float[2,3] f"
    model, _ = apply(parse(graph("uint8[2,3] x", outputs, SCALES, body)), PASS)
    assert sorted(groups(model).values()) == [["DequantizeLinear", "QuantizeLinear", op] for op in ("Relu", "Tanh")]
    copies = [n for n in model.graph if n.op_type == "DequantizeLinear"]
    assert len(copies) == 3
    assert {notes.origins(n) for n in copies} == {("DequantizeLinear_0",)}
    assert len({n.name for n in copies}) == 3


def test_renamed_input_of_a_group_is_followed() -> None:
    """Splitting gives the group another float input; its parameter `input` says the new name."""
    body = f"{DQ} g = Sigmoid(f) o = Mul(f, g) {Q} a = Relu(f) y2 = QuantizeLinear(a, s, z)"
    model, _ = apply(parse(graph("uint8[2,3] x", "uint8[2,3] y, uint8[2,3] y2", SCALES, body)), ALL)
    node = anchor(model, "Sigmoid")
    assert notes.params(node)["input"] == node.inputs[0].name  # type: ignore[union-attr]


def test_equal_quantizers_are_merged() -> None:
    body = (
        f"{DQ} a = Relu(f) q1 = QuantizeLinear(a, s, z) q2 = QuantizeLinear(a, s3, z)"
        " d1 = DequantizeLinear(q1, s, z) d2 = DequantizeLinear(q2, s3, z)"
        " b = Tanh(d1) c = Sigmoid(d2) y = QuantizeLinear(b, s, z) y2 = QuantizeLinear(c, s, z)"
    )
    constants = SCALES + ", float s3 = {0.1}"
    model, (result,) = apply(parse(graph("uint8[2,3] x", "uint8[2,3] y, uint8[2,3] y2", constants, body)), PASS)
    assert result.skipped == []
    assert len(notes.group_members(model)) == 3
    assert sum(n.op_type == "QuantizeLinear" for n in model.graph) == 3


def test_requantize() -> None:
    model, _ = apply(parse(graph("uint8[2,3] x", "uint8[2,3] y", SCALES, f"{DQ} y = QuantizeLinear(f, s2, z)")), PASS)
    node = anchor(model, "QuantizeLinear")
    assert notes.kind(node) == "requantize"
    assert list(groups(model).values()) == [["DequantizeLinear", "QuantizeLinear"]]


def test_border_of_the_model_stays_alone() -> None:
    """Quantise at the input, dequantise at the output: operators of their own, and nothing to complain about."""
    body = (
        "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) o = Relu(f) r = QuantizeLinear(o, s2, z)"
        " y = DequantizeLinear(r, s2, z)"
    )
    model, (result,) = apply(parse(graph("float[2,3] x", "float[2,3] y", SCALES, body)), PASS)
    assert result.skipped == []
    assert [len(g) for g in notes.group_members(model).values()] == [1, 3, 1]


@pytest.mark.parametrize(
    ("body", "outputs", "why"),
    [
        (f"{DQ} y = Softmax(f)", "float[2,3] y", "its output 'y' is a model output"),
        (f"{DQ} o = Softmax(f) {Q}", "uint8[2,3] y, float[2,3] o", "its output 'o' is a model output"),
        (f"{DQ} o = Softmax(f) {Q} n = Neg(o)", "uint8[2,3] y, float[2,3] n", "'o' is also used in float by Neg"),
        (f"{DQ} o = Add(f, e) {Q}", "uint8[2,3] y", "its input 'e' is not quantised"),
        (f"o = Neg(e) {Q}", "uint8[2,3] y", "its input 'e' is not quantised"),
        (f"f = DequantizeLinear(x, t, z) o = Relu(f) {Q}", "uint8[2,3] y", "is computed at run time"),
        (f"f = DequantizeLinear<axis=1>(x, per, zs) o = Relu(f) {Q}", "uint8[2,3] y", "more than one scale"),
        (
            f"{DQ} o = Relu(f) {Q} y2 = QuantizeLinear(o, s, z)",
            "uint8[2,3] y, uint8[2,3] y2",
            "is quantised in different ways",
        ),
    ],
)
def test_float_islands_say_why(body: str, outputs: str, why: str) -> None:
    constants = SCALES + ", float[3] per = {0.1,0.2,0.3}, uint8[3] zs = {0,0,0}"
    inputs = "uint8[2,3] x, float[2,3] e, float t"
    model, (result,) = apply(parse(graph(inputs, outputs, constants, body)), PASS)
    assert why in reasons(result)
    assert groups(model) == {}


def test_block_quantised_weights_keep_the_operator_float() -> None:
    constants = SCALES + ", int8[4,2] w = {1,2,3,4,5,6,7,8}, float[2,2] ws = {0.1,0.2,0.3,0.4}"
    body = f"{DQ} wf = DequantizeLinear<axis=0, block_size=2>(w, ws) o = MatMul(f, wf) {Q}"
    model, (result,) = apply(parse(graph("uint8[2,4] x", "uint8[2,2] y", constants, body), 21), PASS)
    assert "in blocks of 2" in reasons(result)
    assert notes.params(anchor(model, "MatMul"))["weight_only"] is True


FLOAT_WEIGHTS = {
    "Conv": ("1,1,2,2", "1,1,2,2", "float[1,1,1,1] w = {1}", "o = Conv(f, w)"),
    "Conv with a quantised bias": ("1,1,2,2", "1,1,2,2", "float[1,1,1,1] w = {1}, int32[1] b = {2}",
                                   "bf = DequantizeLinear(b, s) o = Conv(f, w, bf)"),
    "ConvTranspose": ("1,1,2,2", "1,1,3,3", "float[1,1,2,2] w = {1,2,3,4}", "o = ConvTranspose(f, w)"),
    "Gemm": ("2,3", "2,2", "float[3,2] w = {1,2,3,4,5,6}", "o = Gemm(f, w)"),
    "MatMul": ("2,3", "2,2", "float[3,2] w = {1,2,3,4,5,6}", "o = MatMul(f, w)"),
    "MatMul left": ("3,2", "1,2", "float[1,3] w = {1,2,3}", "o = MatMul(w, f)"),
    "MatMul transposed": ("2,3", "2,2", "float[2,3] w = {1,2,3,4,5,6}", "t = Transpose(w) o = MatMul(f, t)"),
    "Einsum": ("2,3", "2,2", "float[3,2] w = {1,2,3,4,5,6}", 'o = Einsum<equation="ij,jk->ik">(f, w)'),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT_WEIGHTS)
def test_float_weights_keep_the_operator_float(name: str) -> None:
    before, after, constants, body = FLOAT_WEIGHTS[name]
    text = graph(f"uint8[{before}] x", f"uint8[{after}] y", f"{SCALES}, {constants}", f"{DQ} {body} {Q}")
    model, results = apply(parse(text), ALL)
    assert "stays float: its weights 'w' are stored as float, not quantised" in reasons(results[-1])
    joined = {op for members in groups(model).values() for op in members}
    assert "QuantizeLinear" not in joined
    node = next(n for n in model.graph if n.op_type == name.split()[0])
    assert "same_scale" not in notes.params(node)


def test_weights_of_32_bits_keep_the_operator_float() -> None:
    constants = SCALES + ", int32[3,2] w = {1,2,3,4,5,6}"
    body = f"{DQ} wf = DequantizeLinear(w, s) o = MatMul(f, wf) {Q}"
    _, (result,) = apply(parse(graph("uint8[2,3] x", "uint8[2,2] y", constants, body)), PASS)
    assert "its weights 'w' are int32, not an integer of 16 bits or less" in reasons(result)


def test_weight_only_quantisation() -> None:
    """Float activations, int8 constants: the operator reads the constants as stored; shared ones once each."""
    constants = SCALES + ", int8[3,3] w = {1,2,3,4,5,6,7,8,9}"
    body = "wf = DequantizeLinear(w, s, i8) t = MatMul(x, wf) y = MatMul(t, wf)"
    model, (result,) = apply(parse(graph("float[2,3] x", "float[2,3] y", constants, body)), PASS)
    assert result.skipped == []
    assert list(groups(model).values()) == [["DequantizeLinear", "MatMul"]] * 2
    for node in model.graph:
        if node.op_type == "MatMul":
            assert notes.params(node)["weight_only"] is True
            assert notes.params(node)["qdq"] == {
                "inputs": [None, ["s", "i8"]],
                "outputs": [],
                "tensors": {"w": ["s", "i8"]},
            }


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_data_movement_is_quantised_on_both_sides(dtype: str) -> None:
    """norm -> Reshape -> Transpose -> Q, and DQ -> Reshape -> op: pairs are inserted, and nothing stays float."""
    constants = (
        f"float s = {{0.01}}, {dtype} z = {{3}}, float[3] c = {{1,2,3}}, int64[3] sh = {{1,2,3}},"
        " int64[2] back = {3,2}"
    )
    body = (
        "f = DequantizeLinear(x, s, z) n = LayerNormalization(f, c) r = Reshape(n, sh) t = Transpose<perm=[0,2,1]>(r)"
        " q = QuantizeLinear(t, s, z) d = DequantizeLinear(q, s, z) u = Reshape(d, back) o = Softmax(u)"
        " y = QuantizeLinear(o, s, z)"
    )
    model, (result,) = apply(parse(graph(f"{dtype}[2,3] x", f"{dtype}[3,2] y", constants, body), 21), PASS)
    assert result.skipped == []
    anchors = [n.op_type for n in model.graph if notes.is_anchor(n)]
    assert anchors == ["LayerNormalization", "Reshape", "Transpose", "Reshape", "Softmax"]
    assert all(len(g) == 3 for g in notes.group_members(model).values())


def test_dynamic_quantisation() -> None:
    constants = "int8[3,2] w = {1,2,3,4,5,6}, float[1] ws = {0.5}, int8 wz = {0}, float[2] b = {1,2}"
    body = (
        "q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, wz) f = Cast<to=1>(i) k = Mul(s, ws)"
        " m = Mul(f, k) y = Add(m, b)"
    )
    model, (result,) = apply(parse(graph("float[2,3] x", "float[2,2] y", constants, body)), PASS)
    assert result.skipped == []
    node = anchor(model, "MatMulInteger")
    assert groups(model)[str(node.name)] == ["Add", "Cast", "MatMulInteger", "Mul", "Mul"]
    assert notes.params(node) == {"dynamic_quantized": True, "bias": "b"}


def test_dynamic_quantisation_without_rescaling_says_why() -> None:
    body = "y = MatMulInteger(x, w)"
    _, (result,) = apply(parse(graph("uint8[2,3] x", "int32[2,2] y", "int8[3,2] w = {1,2,3,4,5,6}", body)), PASS)
    assert "not rescaled by a Cast and a Mul" in reasons(result)


def test_integer_operators_need_nothing() -> None:
    body = "y = QLinearMatMul(x, s, z, w, s, i8, s, z)"
    constants = "float s = {0.1}, uint8 z = {3}, int8 i8 = {-2}, int8[3,2] w = {1,2,3,4,5,6}"
    model, (result,) = apply(parse(graph("uint8[2,3] x", "uint8[2,2] y", constants, body)), PASS)
    assert (result.changed, result.skipped, groups(model)) == (0, [], {})


def test_float_model_is_not_looked_at() -> None:
    model = ir.from_proto(parse(graph("float[2] x", "float[2] y", "", "y = Relu(x)")))
    notes.stamp_origins(model)
    assert AbsorbQdq().run(model).changed == 0
