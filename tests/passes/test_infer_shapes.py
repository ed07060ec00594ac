"""infer-shapes: what is free is fixed, taken as 1 or refused with the flag to type; the rest is inferred."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from h4hc.annotations import stamp_origins
from h4hc.errors import GraphError, UserError
from passes.fold_constants import FoldConstants
from passes.infer_shapes import InferShapes
from passes.local_shapes import is_settled
from passes.values import is_used
from tests.passes.rewriting_support import apply, why
from tests.passes.rewriting_support import load as load_inferred

CONV = """
g (float[batch, 3, height, width] x) => (float[batch, 3, height, width] y)
<float[3, 3, 1, 1] w = {1,0,0,0,1,0,0,0,1}> { [conv] y = Conv(x, w) }
"""
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def load(text: str) -> ir.Model:
    """As it comes from the file: no inner shapes."""
    return load_inferred(text, shapes=False)


def _shape(model: ir.Model, name: str) -> list[object]:
    values = [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]
    found = next(v for v in values if v.name == name)
    return list(found.shape or ())


def _with_input(dims: Sequence[str | int | None], name: str = "x") -> ir.Model:
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", [name], ["y"], name="relu")], "g", [value], [output])
    imports = [onnx.helper.make_opsetid("", 17)]
    model = ir.from_proto(onnx.helper.make_model(graph, ir_version=10, opset_imports=imports))
    stamp_origins(model)
    return model


def _problems(model: ir.Model, **options: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        InferShapes(**options).run(model)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return ["\n".join(problem.lines()) for problem in caught.value.problems]


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"input_shapes": (("x", (2, 3, 8, 6)),)},
        {"fix_dims": (("batch", 2), ("height", 8), ("width", 6))},
        {"input_shapes": (("x", (2, 3, 8, 6)),), "fix_dims": (("height", 8),)},
    ],
)
def test_options_fix_the_inputs_and_stale_symbols_go(options: dict[str, object]) -> None:
    out, result = apply(load(CONV), InferShapes(**options))  # type: ignore[arg-type]
    assert _shape(out, "x") == _shape(out, "y") == [2, 3, 8, 6]
    assert result.diagnostics == []


def test_a_name_fixed_in_one_input_holds_for_the_others() -> None:
    model = load("""
        g (float[n, t] x, float[m, t] z) => (float[a, b] y) { w = Transpose<perm=[1,0]>(z) y = MatMul(x, w) }
    """)
    out, result = apply(model, InferShapes(input_shapes=(("x", (1, 5)),)))
    assert _shape(out, "z") == [1, 5]
    assert _shape(out, "y") == [1, 1]
    assert [d.code for d in result.diagnostics] == ["H4W101"]


def test_free_batch_is_taken_as_one_with_a_warning() -> None:
    model = load(CONV)
    out, result = apply(model, InferShapes(fix_dims=(("height", 4), ("width", 4))))
    assert _shape(out, "y") == [1, 3, 4, 4]
    (warning,) = result.diagnostics
    assert (warning.code, warning.severity, warning.where) == ("H4W101", "warning", ("x",))
    assert "--fix-dim batch=N" in warning.hint


@pytest.mark.parametrize("dim", ["?", "-1", "", None, -1, "N", "unk__7"])
def test_first_dimension_counts_as_batch_however_it_is_spelled(dim: str | int | None) -> None:
    out, result = apply(_with_input([dim, 3, 4]), InferShapes())
    assert _shape(out, "y") == [1, 3, 4]
    assert len(result.diagnostics) == 1


def test_every_other_free_dimension_is_an_error_with_what_to_type() -> None:
    (text,) = _problems(load(CONV))
    assert "2 ('height'), 3 ('width')" in text
    assert "--input-shape x=1,3,?,?" in text
    assert "--fix-dim height=SIZE --fix-dim width=SIZE" in text


def test_question_marks_are_not_names() -> None:
    """Two '?' in one input need not be equal, so no flag may fix them by name."""
    model = _with_input([1, 3, "?", "?"], "serving_default_input_2:0")
    (text,) = _problems(model)
    assert "--input-shape serving_default_input_2:0=1,3,?,?" in text
    assert "--fix-dim" not in text
    assert "'?'" in _problems(_with_input([1, "?"]), fix_dims=(("?", 3),))[0]
    out, _ = apply(model, InferShapes(input_shapes=(("serving_default_input_2:0", (1, 3, 8, 9)),)))
    assert _shape(out, "y") == [1, 3, 8, 9]


def test_all_mistakes_at_once() -> None:
    texts = _problems(
        load(CONV),
        input_shapes=(("x", (1, 4, 8, 8)), ("image", (1,))),
        fix_dims=(("depth", 3), ("height", 9)),
    )
    assert len(texts) == 4
    assert "dimension 1 of input 'x' is 3 and cannot become 4" in texts[0]
    assert "no input 'image'" in texts[1]
    assert "x[batch, 3, height, width]" in texts[1]
    assert "no input has a free dimension 'depth'" in texts[2]
    assert "known: batch, height, width" in texts[2]
    assert "'height' cannot be both 8 and 9" in texts[3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"input_shapes": (("x", (1, 3, 8)),)}, "has 4 dimensions, not 3"),
        ({"input_shapes": (("x", (1, 3, -8, 8)),)}, "negative size"),
        ({"fix_dims": (("height", 0),)}, "'height' cannot be 0"),
    ],
)
def test_refusals_of_options(options: dict[str, object], expected: str) -> None:
    assert expected in _problems(load(CONV), **options)[0]


def test_an_input_without_a_shape_needs_one() -> None:
    model = _with_input([1])
    model.graph.inputs[0].shape = None
    assert "--input-shape x=D0,D1,..." in _problems(model)[0]
    out, _ = apply(model, InferShapes(input_shapes=(("x", (2, 5)),)))
    assert _shape(out, "y") == [2, 5]


def test_a_symbol_that_is_also_an_inner_dimension_is_no_batch() -> None:
    (text,) = _problems(load("g (float[t, t] x) => (float[t, t] y) { y = Relu(x) }"))
    assert "0 ('t'), 1 ('t')" in text


def test_options_may_be_given_to_each_run_of_the_pass() -> None:
    options = {"fix_dims": (("batch", 2), ("height", 8), ("width", 6))}
    out, result = apply(load(CONV), InferShapes(**options), InferShapes(**options))  # type: ignore[arg-type]
    assert result.changed == 0
    assert _shape(out, "y") == [2, 3, 8, 6]


def test_inputs_that_are_no_tensors_and_inputs_that_are_weights_are_left_alone() -> None:
    model = load("g (seq(float[n]) s, float[2, k] w) => (int64 y, float[2, k] v) { y = SequenceLength(s) v = Relu(w) }")
    weight = model.graph.inputs[1]
    weight.const_value = ir.tensor([[1.0], [2.0]])
    model.graph.register_initializer(weight)
    InferShapes().run(model)
    assert str(weight.shape) == "[2,k]"


# ---------------------------------------------------------------- inference


def test_contradictions_are_graph_errors_that_name_the_node() -> None:
    model = load(
        "g (float[1, 4] x) => (float[1, 5] y) <float[3, 5] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> "
        "{ [bad] y = MatMul(x, w) }"
    )
    with pytest.raises(GraphError) as caught:
        InferShapes().run(model)
    assert "bad" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_wrong_output_shape_in_the_file_is_corrected_with_a_warning() -> None:
    model = load("g (float[2, 3] x) => (float[2, 3] y) { y = Transpose<perm=[1,0]>(x) }")
    result = InferShapes().run(model)
    assert [d.code for d in result.diagnostics] == ["H4W102"]
    assert "3x2, not 2x3" in result.diagnostics[0].what
    assert _shape(model, "y") == [3, 2]


def test_stale_inner_shapes_are_inferred_anew() -> None:
    model = load("g (float[b, 4] x) => (float[b, 4] y) <float[9, 9] t> { t = Relu(x) y = Neg(t) }")
    out, _ = apply(model, InferShapes())
    assert _shape(out, "t") == [1, 4]


def test_shape_arithmetic_in_a_chain_of_any_length_settles_with_folding() -> None:
    """Each Reshape takes its shape from the one before, which ONNX's own inference cannot follow through Split."""
    lines, last = [], "x"
    for i in range(12):
        lines.append(f"s{i} = Shape({last}) a{i}, b{i} = Split<axis=0>(s{i}, halves) ")
        lines.append(f"t{i} = Concat<axis=0>(b{i}, a{i}) r{i} = Reshape({last}, t{i})")
        last = f"r{i}"
    model = load(
        f"g (float[2, 6] x) => (float[p, q] y) <int64[2] halves = {{1, 1}}> {{ {' '.join(lines)} y = Relu({last}) }}"
    )
    out, _ = apply(model, InferShapes(), FoldConstants(), InferShapes())
    assert all(is_settled(v) for node in out.graph for v in node.outputs)
    assert _shape(out, "y") == [2, 6]


def test_operators_of_onnxruntime_get_shapes_and_unknown_ones_keep_what_the_file_says() -> None:
    model = load("""
        g (uint8[1, 4, 6, 6] x) => (uint8[n, c] y) <float s = {0.1}, uint8 z = {3}, uint8[1, 4, 1, 1] d> {
            [pool] a = com.microsoft.QLinearGlobalAveragePool(x, s, z, s, z)
            [add] b = com.microsoft.QLinearAdd(a, s, z, x, s, z, s, z)
            [concat] c = com.microsoft.QLinearConcat<axis = 1>(s, z, b, s, z, b, s, z)
            [own] d = local.Mystery(c)
            [flat] y = Flatten(d)
        }
    """)
    InferShapes().run(model)
    assert _shape(model, "a") == [1, 4, 1, 1]
    assert _shape(model, "b") == [1, 4, 6, 6]
    assert _shape(model, "c") == [1, 8, 6, 6]
    assert _shape(model, "y") == [1, 4]
    assert model.graph.node("concat").outputs[0].dtype == ir.DataType.UINT8


def test_an_operator_that_onnx_cannot_infer_does_not_end_knowledge() -> None:
    text = "g (float[2, 3, 4, 5] x) => (float[a, b, c, d] y) { t = MeanVarianceNormalization(x) y = Relu(t) }"
    model = load(text)
    InferShapes().run(model)
    assert _shape(model, "t") == _shape(model, "y") == [2, 3, 4, 5]


def test_where_knowledge_ends_is_said_once() -> None:
    model = load("""
        g (float[4] x) => (float[n] y) { [nz] i = NonZero(x) f = Cast<to=1>(i) y = ReduceSum<keepdims=0>(f) }
    """)
    result = InferShapes().run(model)
    assert [s.node for s in result.skipped] == ["nz"]
    assert "depends on values" in why(result, "nz")


def test_contrib_rules_agree_with_onnxruntime(tmp_path: Path) -> None:
    """Every static output shape inferred for an operator-quantised net is the run-time shape."""
    model = load("""
        g (float[1, 3, 8, 8] x) => (float[n, c] y)
        <float s = {0.1}, uint8 z = {3}, uint8[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}> {
            q = QuantizeLinear(x, s, z)
            m = com.microsoft.QLinearMul(q, s, z, q, s, z, s, z)
            l = com.microsoft.QLinearLeakyRelu<alpha = 0.1>(m, s, z, s, z)
            i = com.microsoft.QLinearSigmoid(l, s, z, s, z)
            p = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(i, s, z, s, z)
            g = com.microsoft.QLinearGlobalAveragePool(p, s, z, s, z)
            f = Flatten(g)
            y = com.microsoft.QGemm(f, s, z, w, s, z)
        }
    """)
    out, _ = apply(model, InferShapes())
    inner = [v for node in out.graph for v in node.outputs]
    assert all(is_settled(v) for v in inner)
    proto = ir.to_proto(out)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=v.name) for v in inner)
    del proto.graph.value_info[:]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options)
    for value, seen in zip(inner, session.get_outputs(), strict=True):
        assert seen.shape == list(value.shape or ()), value.name
        assert value.dtype is not None
        expected = {"FLOAT": "tensor(float)", "UINT8": "tensor(uint8)"}[value.dtype.name]
        assert seen.type == expected, value.name


@pytest.mark.parametrize("name", ["light_densenet121", "light_shufflenet", "light_inception_v1"])
def test_real_models_are_fully_static(name: str) -> None:
    model = ir.load(os.fspath(LIGHT / f"{name}.onnx"))
    stamp_origins(model)
    out, _ = apply(model, InferShapes())
    assert [n.name for n in out.graph for v in n.outputs if is_used(v) and not is_settled(v)] == []
