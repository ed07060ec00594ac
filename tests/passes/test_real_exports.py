"""Grouping on trained models as their exporter wrote them: everything that is there is found."""

from __future__ import annotations

import collections
import importlib.util
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from h4hc import annotations as notes
from h4hc.pipeline import parse_pipeline
from tests.passes.grouping_support import assert_same_outputs, check_groups, load

GROUPING = "fuse-layer-norm,fuse-conv-bias,fuse-fully-connected,fuse-activation,absorb-qdq,fuse-attention"


def model_file(name: str) -> Path:
    found = importlib.util.find_spec("rapidocr")
    if found is None or found.origin is None:
        pytest.skip("the package rapidocr, which carries the models, is not installed")
    return Path(found.origin).parent / "models" / name


def test_text_recogniser_is_understood() -> None:
    """PP-OCRv6 rec: 5 norms in parts, 13 erf Gelu, 5 SiLU, 2 attention blocks, 9 products with weights."""
    proto = onnx.load(model_file("PP-OCRv6_rec_small.onnx"))
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (1, 3, 48, 160), strict=True):
        dim.dim_value = size
    model = load(proto)
    for one in parse_pipeline("infer-shapes,fold-constants,infer-shapes,drop-no-ops"):
        one.run(model)
    before = ir.to_proto(model)
    for one in parse_pipeline(GROUPING):
        one.run(model)
    check_groups(model)
    assert_same_outputs(before, ir.to_proto(model))
    anchors = [n for n in model.graph if notes.is_anchor(n)]
    kinds = collections.Counter(notes.kind(n) for n in anchors)
    assert (kinds["layer_norm"], kinds["fully_connected"], kinds["activation"]) == (5, 9, 0)
    functions = collections.Counter(notes.activation(n) for n in anchors)
    assert (functions["gelu"], functions["silu"]) == (13, 5)
    assert {notes.region(n) for n in anchors} == {"", "attention_0", "attention_1"}
    assert {"Erf", "Sigmoid", "Pow", "Sqrt"}.isdisjoint(n.op_type for n in anchors)
