"""The pipeline holds passes to their contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from h4hc.annotations import origins, stamp_origins
from h4hc.errors import PassError, UserError
from h4hc.passbase import Pass, PassResult
from h4hc.pipeline import parse_pipeline, run_pipeline


def _model() -> ir.Model:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name=""),
        helper.make_node("Relu", ["b"], ["y"], name="first"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])])
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    stamp_origins(model)
    return model


def test_nameless_and_repeated_names_become_unique_origins() -> None:
    assert [origins(node) for node in _model().graph] == [("first",), ("Relu_1",), ("first#2",)]


@dataclass(frozen=True)
class _Drop(Pass):
    """Drop the second node, with or without saying so."""

    name: ClassVar[str] = "drop-second"
    say: bool = True
    double: bool = False

    def run(self, model: ir.Model) -> PassResult:
        middle = list(model.graph)[1]
        lost = origins(middle)
        middle.outputs[0].replace_all_uses_with(middle.inputs[0])  # type: ignore[arg-type]
        model.graph.remove(middle, safe=True)
        if self.double:
            next(iter(model.graph)).name = list(model.graph)[1].name
        return PassResult(1, dict.fromkeys(lost, "tested") if self.say else {})


def test_a_dropped_origin_must_be_accounted_for() -> None:
    model = _model()
    run = run_pipeline(model, (_Drop(),))
    assert run.removed == {"Relu_1": "drop-second: tested"}
    assert (run.steps[0].nodes_before, run.steps[0].nodes_after) == (3, 2)
    assert len(model.graph) == 3, "the caller's model was changed"
    with pytest.raises(PassError, match="lost the origin"):
        run_pipeline(_model(), (_Drop(say=False),))
    with pytest.raises(PassError, match="nodes of one name"):
        run_pipeline(_model(), (_Drop(double=True),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fold-constant", "no pass 'fold-constant'"),
        ("fold-constants{max-growth=1}", "has no option 'max-growth'"),
        ("fold-constants{max-growth-bytes=x}", "is not a value"),
        ("fold-constants{max-growth-bytes=1", "cannot read the pass list"),
        ("fold-batch-norm,infer-shapes", "infer-shapes stands before fold-batch-norm"),
        ("", "empty"),
    ],
)
def test_mistakes_in_a_pass_list_are_named(text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_pipeline(text)
    assert expected.split(" stands")[0] in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_pipeline("nonsense,fold-constants{x=1},drop-no-ops,infer-shapes")
    assert len(caught.value.problems) == 3


def test_options_reach_the_pass() -> None:
    passes = parse_pipeline(
        "infer-shapes, fold-constants{max-growth-bytes=7}", {"infer-shapes": {"fix_dims": (("n", 2),)}}
    )
    assert getattr(passes[0], "fix_dims") == (("n", 2),)  # noqa: B009
    assert getattr(passes[1], "max_growth_bytes") == 7  # noqa: B009
