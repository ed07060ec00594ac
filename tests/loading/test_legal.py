"""Legal oddities that must load, held against onnxruntime: it runs them, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

from h4hc.annotations import origins
from h4hc.limits import Limits
from h4hc.load import LoadedModel, load_bytes, load_model
from tests.loading import build

BOOL, STRING = onnx.TensorProto.BOOL, onnx.TensorProto.STRING
_X = np.arange(6, dtype=np.float32).reshape(2, 3)
_RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


def _load(made: onnx.ModelProto) -> LoadedModel:
    return load_bytes(made.SerializeToString(), None, Limits(), "m")


def _session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(data: bytes) -> list[object]:
    session = _session(data)
    feeds = {"x": _X, "c": np.array(True), "s": np.array(["a", "b"])}
    return list(session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()}))


def _optional_input() -> onnx.ModelProto:
    return build.model([helper.make_node("Clip", ["x", "", "top"], ["y"])], initializers=[build.tensor("top", 3.0)])


def _function() -> onnx.ModelProto:
    return build.function_chain(4)


def _sparse() -> onnx.ModelProto:
    made = build.model([helper.make_node("Add", ["x", "w"], ["y"])])
    values, indices = build.tensor("w", [5.0, 7.0]), build.tensor("i", [1, 5], "int64")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    return made


def _sparse_constant() -> onnx.ModelProto:
    values, indices = build.tensor("v", [5.0, 7.0]), build.tensor("i", [[0, 1], [1, 2]], "int64")
    sparse = helper.make_sparse_tensor(values, indices, [2, 3])
    nodes = [helper.make_node("Constant", [], ["w"], sparse_value=sparse), helper.make_node("Add", ["x", "w"], ["y"])]
    return build.model(nodes)


def _strings() -> onnx.ModelProto:
    words = onnx.TensorProto(name="w", data_type=STRING, dims=[2], string_data=[b"a", b"\xff"])
    node = helper.make_node("Concat", ["s", "w"], ["y"], axis=0)
    return build.model([node], [build.value("s", (2,), STRING)], [build.value("y", None, STRING)], [words])


def _sequence() -> onnx.ModelProto:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["q"]),
        helper.make_node("ConcatFromSequence", ["q"], ["y"], axis=0),
    ]
    return build.model(nodes)


def _sequence_output() -> onnx.ModelProto:
    out = helper.make_tensor_sequence_value_info("y", build.FLOAT, None)
    return build.model([helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], outputs=[out])


def _optional_type() -> onnx.ModelProto:
    nodes = [helper.make_node("Optional", ["x"], ["o"]), helper.make_node("OptionalGetElement", ["o"], ["y"])]
    return build.model(nodes)


def _map_output() -> onnx.ModelProto:
    """A classifier as scikit-learn exports it: the probabilities leave as a sequence of maps."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[1, 2, 3])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(build.INT64, helper.make_tensor_type_proto(build.FLOAT, []))
    )
    return build.model([node], outputs=[helper.make_value_info("y", kind)], domains=[("ai.onnx.ml", 3)])


def _microsoft() -> onnx.ModelProto:
    nodes = [
        helper.make_node("FastGelu", ["x"], ["f"], domain="com.microsoft"),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    return build.model(nodes, domains=[("com.microsoft", 1)], value_info=[build.value("f")])


def _empty_tensor() -> onnx.ModelProto:
    empty = build.tensor("w", np.zeros((0, 3)))
    return build.model([helper.make_node("Concat", ["x", "w"], ["y"], axis=0)], initializers=[empty])


def _scalar() -> onnx.ModelProto:
    scalar = helper.make_tensor("w", build.FLOAT, [], [2.0])
    return build.model([helper.make_node("Mul", ["x", "w"], ["y"])], initializers=[scalar])


def _typed_float16() -> onnx.ModelProto:
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT16, [2], [1.0, 2.0])
    nodes = [helper.make_node("Cast", ["w"], ["y"], to=build.FLOAT)]
    return build.model(nodes, [], None, [weight])


def _packed_int4() -> onnx.ModelProto:
    weight = helper.make_tensor("w", onnx.TensorProto.INT4, [3], [1, -2, 3])
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    return build.model([node], [], None, [weight, build.tensor("s", 0.5)], opset=21)


def _same_dim_twice() -> onnx.ModelProto:
    return build.model([_RELU], [build.value("x", ("N", "N"))], [build.value("y", ("N", "N"))])


def _unknown_dims() -> onnx.ModelProto:
    return build.model([_RELU], [build.value("x", ("?", "?"))], [build.value("y", (-1, "?"))])


def _minus_one() -> onnx.ModelProto:
    return build.model([_RELU], [build.value("x", (-1, -1))], [build.value("y", (-1, -1))])


def _no_rank() -> onnx.ModelProto:
    return build.model([_RELU], [build.value("x", None)], [build.value("y", None)])


def _untyped_output() -> onnx.ModelProto:
    return build.model([_RELU], outputs=[onnx.ValueInfoProto(name="y")])


def _no_graph_name() -> onnx.ModelProto:
    made = build.model([_RELU])
    made.graph.ClearField("name")
    return made


def _old_initializer() -> onnx.ModelProto:
    """IR 3 demands that initialisers are inputs, too; exporters forgot it and onnxruntime does not mind."""
    made = build.add_weight()
    made.ir_version = 3
    made.opset_import[0].version = 9
    return made


def _default_input() -> onnx.ModelProto:
    made = build.add_weight()
    made.graph.input.append(build.value("w"))
    return made


def _input_as_output() -> onnx.ModelProto:
    return build.model([_RELU], outputs=[build.value("x"), build.value("y")])


def _same_node_name_twice() -> onnx.ModelProto:
    nodes = [helper.make_node("Abs", ["x"], ["a"], name="n"), helper.make_node("Relu", ["a"], ["y"], name="n")]
    return build.model(nodes)


def _tf_names() -> onnx.ModelProto:
    node = helper.make_node("Relu", ["serving_default_input_2:0"], ["Identity:0"], name="a/b;c:0 \u00e9")
    return build.model([node], [build.value("serving_default_input_2:0")], [build.value("Identity:0")])


def _large_constant_node() -> onnx.ModelProto:
    weight = build.tensor("v", np.ones((3, 1000)))
    nodes = [helper.make_node("Constant", [], ["w"], value=weight), helper.make_node("MatMul", ["x", "w"], ["y"])]
    return build.model(nodes)


def _range_downwards() -> onnx.ModelProto:
    bounds = [build.tensor(n, v, "float32") for n, v in (("a", 10.0), ("b", 0.5), ("c", -0.25))]
    return build.model([helper.make_node("Range", ["a", "b", "c"], ["y"])], [], None, bounds)


_LEGAL: list[Callable[[], onnx.ModelProto]] = [
    _default_input,
    _empty_tensor,
    _function,
    _input_as_output,
    _large_constant_node,
    _map_output,
    _microsoft,
    _minus_one,
    _no_graph_name,
    _no_rank,
    _old_initializer,
    _optional_input,
    _optional_type,
    _packed_int4,
    _range_downwards,
    _same_dim_twice,
    _scalar,
    _sequence,
    _sequence_output,
    _sparse,
    _sparse_constant,
    _strings,
    _typed_float16,
    _unknown_dims,
    _untyped_output,
    lambda: build.nested_if(14),
    lambda: build.quantize([0.5], [3]),
    lambda: build.quantize(0.5, kind="float32", zero_kind="uint8"),
]


@pytest.mark.parametrize("make", _LEGAL, ids=lambda make: make.__name__.strip("_"))
def test_loads_and_computes_the_same(make: Callable[[], onnx.ModelProto]) -> None:
    made = make()
    if make is _strings:
        made.graph.initializer[0].string_data[1] = b"b"  # onnxruntime's Python side wants UTF-8 back
    loaded = _load(made)
    before = _run(made.SerializeToString())
    after = _run(ir.to_proto(loaded.model).SerializeToString())
    assert len(before) == len(after) > 0
    for left, right in zip(before, after, strict=True):
        if isinstance(left, list):
            assert len(left) == len(right)  # type: ignore[arg-type]
        else:
            np.testing.assert_array_equal(left, right)
    assert loaded.original == made.SerializeToString()


def test_bytes_that_are_no_text_stay() -> None:
    _load(_strings())


def test_odd_names_are_kept() -> None:
    loaded = _load(_tf_names())
    assert origins(loaded.model.graph[0]) == ("a/b;c:0 \u00e9",)
    assert loaded.model.graph.inputs[0].name == "serving_default_input_2:0"


def test_a_node_name_used_twice_is_told_apart() -> None:
    """Node names need not be unique in ONNX, but onnxruntime and every report need them so."""
    model = _load(_same_node_name_twice()).model
    assert [node.name for node in model.graph] == ["n", "n#2"]
    _session(ir.to_proto(model).SerializeToString())


def test_unknown_dims_are_free_and_not_equal() -> None:
    for make in (_unknown_dims, _minus_one):
        shape = _load(make()).model.graph.inputs[0].shape
        assert shape is not None
        assert [d.value for d in shape if isinstance(d, ir.SymbolicDim)] == [None, None]
    shape = _load(_same_dim_twice()).model.graph.inputs[0].shape
    assert shape is not None
    assert shape[0] == shape[1] == "N"


def test_shapes_that_lie_are_not_used() -> None:
    nodes = [helper.make_node("Abs", ["x"], ["a"], name="abs"), helper.make_node("Relu", ["a"], ["y"])]
    lies = [build.value("a", (9, 3, 1))]
    loaded = _load(build.model(nodes, outputs=[build.value("y", (7, 3))], value_info=lies))
    (note,) = loaded.diagnostics
    assert note.code == "H4W302"
    assert note.where == ("a", "y")
    assert loaded.model.graph.outputs[0].shape == ir.Shape([2, 3])
    assert loaded.model.graph[0].outputs[0].shape is None


def test_shapes_that_onnx_cannot_infer_are_kept() -> None:
    assert _load(_microsoft()).model.graph[0].outputs[0].shape == ir.Shape([2, 3])


def test_marks_of_the_compiler_in_the_file_are_not_believed() -> None:
    made = build.model([_RELU])
    for key in ("h4hc.origin", "h4hc.op", "mine"):
        made.graph.node[0].metadata_props.add(key=key, value="not json")
    node = _load(made).model.graph[0]
    assert origins(node) == ("relu",)
    assert sorted(node.metadata_props) == ["h4hc.origin", "mine"]


@pytest.mark.parametrize("where", ["w.bin", "./data/w.bin", "data//w.bin"])
def test_external_data_beside_the_model(where: str, tmp_path: Path) -> None:
    made = build.add_weight()
    weight = made.graph.initializer[0]
    target = tmp_path / where
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(bytes(64) + weight.raw_data + bytes(8))
    inside = made.SerializeToString()
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, text in (("location", where), ("offset", "64"), ("length", "24")):
        weight.external_data.add(key=key, value=text)
    path = tmp_path / "My Model-v2 (1).onnx"
    path.write_bytes(made.SerializeToString())
    loaded = load_model(path, Limits())
    assert loaded.name == "my_model_v2_1"
    np.testing.assert_array_equal(_run(loaded.original)[0], _run(inside)[0])
    stored = loaded.model.graph.initializers["w"].const_value
    assert stored is not None
    np.testing.assert_array_equal(stored.numpy(), build.WEIGHT)


def test_nodes_of_one_name_are_told_apart_with_a_warning() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["t"], "same"), helper.make_node("Abs", ["t"], ["y"], "same")]
    loaded = _load(build.model(nodes))
    assert [d.code for d in loaded.diagnostics] == ["H4W304"]
    assert loaded.diagnostics[0].where == ("same",)
    assert [origins(node) for node in loaded.model.graph] == [("same",), ("same#2",)]
