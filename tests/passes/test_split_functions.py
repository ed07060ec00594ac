"""split-functions: calls are inlined, names and origins follow the call, and what cannot be inlined says why."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from h4hc.annotations import origins, stamp_origins
from h4hc.errors import GraphError
from passes.split_functions import SplitFunctions
from tests.passes.rewriting_support import apply, assert_same, ops, run_model, why

MAIN = """
agraph (float[2,3] x, float[2,3] w) => (float[2,3] y) {
    [first] t = local.scaled_add<alpha: float = 0.5>(x, w)
    [second] y = local.scaled_add(t, x)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
scaled_add <alpha: float = 2.0> (a, b) => (c) {
    [add] s = Add(a, b)
    [act] c = LeakyRelu<alpha: float = @alpha>(s)
}
"""


def _load(text: str, opset: int = 17) -> ir.Model:
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "local" : 1]>'
    model = ir.from_proto(onnx.parser.parse_model(header + text))
    stamp_origins(model)
    return model


def test_inlines_with_names_origins_and_attributes_of_the_call() -> None:
    model = _load(MAIN)
    out, result = apply(model, SplitFunctions())
    assert result.changed == 3  # two calls, one function that nothing needs any more
    assert not out.functions
    assert ops(out) == ["Add", "LeakyRelu", "Add", "LeakyRelu"]
    assert [(n.name, origins(n)) for n in out.graph] == [
        ("first/add", ("first",)),
        ("first/act", ("first",)),
        ("second/add", ("second",)),
        ("second/act", ("second",)),
    ]
    slopes = [n.attributes["alpha"].as_float() for n in out.graph if n.op_type == "LeakyRelu"]
    assert slopes == [0.5, 2.0]  # the call's value, then the function's default
    assert_same(model, out, {"x": (2, 3), "w": (2, 3)})


def test_nested_calls_missing_inputs_and_values_handed_through() -> None:
    model = _load("""
        agraph (float[4] x) => (float[4] y, float[4] z, float[4] u) { [call] y, z, u = local.outer(x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        clip (v, low, high) => (r) { r = Clip(v, low, high) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        outer (v) => (v, r, r) { zero = Constant<value_float: float = 0.0>() r = local.clip(v, zero) }
    """)
    out, _ = apply(model, SplitFunctions())
    assert sorted(ops(out)) == ["Clip", "Constant", "Identity", "Identity"]
    assert all(origins(node) == ("call",) for node in out.graph)
    clip = next(node for node in out.graph if node.op_type == "Clip")
    assert clip.name == "call/clip/Clip"
    assert clip.inputs[2] is None
    x = np.asarray([-2.0, -0.5, 0.5, 3.0], np.float32)  # onnxruntime refuses the function as it stands
    expected = [x, np.maximum(x, 0), np.maximum(x, 0)]
    for seen, wanted in zip(run_model(out, {"x": x}), expected, strict=True):
        assert np.array_equal(seen, wanted)


def test_a_body_of_control_flow_keeps_its_call_and_the_function() -> None:
    model = _load("""
        agraph (float[2] x, bool c) => (float[2] y) {
            [out] a = local.twice(x)
            [choice] y = If (c) <
                then_branch = g1 () => (float[2] p) { p = local.twice(a) },
                else_branch = g2 () => (float[2] q) { q = Neg(a) }
            >
        }
        <domain: "local", opset_import: ["" : 17]>
        twice (v) => (r) { r = Add(v, v) }
    """)
    out, _ = apply(model, SplitFunctions())
    assert ops(out) == ["Add", "If"]
    assert [f.name for f in out.functions.values()] == ["twice"]
    assert_same(model, out, {"x": (2,), "c": ()})


@pytest.mark.parametrize(("body", "inlined"), [("r = Relu(v)", True), ("r = ReduceSum<axes=[0]>(v)", False)])
def test_another_opset_is_fine_unless_an_operator_changed(body: str, inlined: bool) -> None:
    function_opset, model_opset = (14, 17) if inlined else (11, 17)
    model = _load(
        f"""
        agraph (float[2] x) => (float[N] y) {{ [call] y = local.f(x) }}
        <domain: "local", opset_import: ["" : {function_opset}]>
        f (v) => (r) {{ {body} }}
        """,
        model_opset,
    )
    result = SplitFunctions().run(model)
    assert (ops(model) == ["f"]) is not inlined
    if not inlined:
        assert why(result, "call") == "the function uses opset 11, the model 17, and ReduceSum changed in between"


def test_recursion_is_a_graph_error_that_names_the_call() -> None:
    model = _load("""
        agraph (float[2] x) => (float[2] y) { [call] y = local.f(x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f (v) => (r) { r = local.f(v) }
    """)
    with pytest.raises(GraphError, match="calls itself") as caught:
        SplitFunctions().run(model)
    assert caught.value.problems[0].where == ("call",)


def test_annotations_inside_a_body_do_not_leak() -> None:
    model = _load(MAIN)
    for function in model.functions.values():
        for node in function:
            node.metadata_props["h4hc.origin"] = '["old"]'
            node.metadata_props["h4hc.op"] = "old"
    out, _ = apply(model, SplitFunctions())
    assert all("h4hc.op" not in node.metadata_props for node in out.graph)
    assert_same(model, out, {"x": (2, 3), "w": (2, 3)})


def test_no_functions_no_change() -> None:
    model = _load("agraph (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert SplitFunctions().run(model).changed == 0
    assert ops(model) == ["Relu"]
