"""The TFLite writer: what it writes is read back with the schema's own classes, and compared with numpy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.errors import CostModelError, InternalError, MissingToolError
from h4hc.workload import OpKind
from targets.ethos_u.axes import joined
from targets.ethos_u.vendor.layers import network_model, operator_model
from targets.ethos_u.vendor.numbers import SeededNumbers
from targets.ethos_u.vendor.tflite import OPERATORS, Quant, TfliteModel
from tests.targets import samples
from tests.targets.vela_layers import conv_workload, fc_workload


def _graph(data: bytes) -> tuple[Any, Any]:
    from ethosu.vela.tflite.Model import Model

    assert data[4:8] == b"TFL3"
    model = Model.GetRootAs(data, 0)
    assert model.Version() == 3
    assert model.Buffers(0).DataLength() == 0
    return model, model.Subgraphs(0)


def _names(model: Any, graph: Any) -> list[str]:
    from ethosu.vela.tflite.BuiltinOperator import BuiltinOperator

    known = {value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)}
    codes = [known[model.OperatorCodes(i).BuiltinCode()] for i in range(model.OperatorCodesLength())]
    return [codes[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())]


def test_a_convolution_reads_back_as_it_was_meant() -> None:
    from ethosu.vela.tflite.Conv2DOptions import Conv2DOptions

    workload = conv_workload(16, 24, (15, 13), (3, 5), 2)
    data = operator_model(workload.ops[0], workload)
    model, graph = _graph(data)
    assert _names(model, graph) == ["CONV_2D"]
    operator = graph.Operators(0)
    image, weights, bias = (graph.Tensors(i) for i in operator.InputsAsNumpy())
    result = graph.Tensors(operator.Outputs(0))
    assert image.ShapeAsNumpy().tolist() == [1, 15, 13, 16]
    assert weights.ShapeAsNumpy().tolist() == [24, 3, 5, 16]
    assert result.ShapeAsNumpy().tolist() == [1, 8, 7, 24]
    options = Conv2DOptions()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    assert (options.StrideH(), options.StrideW(), options.Padding()) == (2, 2, 0)
    by_channel, of_bias = weights.Quantization(), bias.Quantization()
    assert by_channel.ScaleLength() == 24
    assert by_channel.QuantizedDimension() == 0
    assert not by_channel.ZeroPointAsNumpy().any()
    products = image.Quantization().Scale(0) * by_channel.ScaleAsNumpy()
    np.testing.assert_allclose(of_bias.ScaleAsNumpy(), products, rtol=1e-6)
    stored = np.frombuffer(model.Buffers(weights.Buffer()).DataAsNumpy().tobytes(), np.int8)
    wanted, _ = SeededNumbers().weights(workload.ops[0], (24, 3, 5, 16), 0)
    assert stored.tolist() == wanted.ravel().tolist()


def test_vectors_of_buffers_are_aligned() -> None:
    workload = fc_workload(3, 17, 5)
    data = operator_model(workload.ops[0], workload)
    model, _ = _graph(data)
    for i in range(model.BuffersLength()):
        content = model.Buffers(i)
        if content.DataLength():
            start = data.find(content.DataAsNumpy().tobytes())
            assert content._tab.Vector(content._tab.Offset(4)) % 16 == 0, start


def test_the_same_operator_gives_the_same_bytes_and_another_seed_others() -> None:
    workload = conv_workload(16, 24, (14, 14), (3, 3))
    first = operator_model(workload.ops[0], workload)
    assert operator_model(workload.ops[0], workload) == first
    assert operator_model(workload.ops[0], workload, SeededNumbers(1)) != first


def test_padding_that_tflite_has_no_name_for_becomes_an_operator() -> None:
    pool = samples.pool("max", 3, 2, pads=(1, 1))
    assert _names(*_graph(operator_model(pool.ops[0], pool))) == ["PADV2", "MAX_POOL_2D"]
    same = samples.pool("max", 3, 1, pads=(1, 1))
    assert _names(*_graph(operator_model(same.ops[0], same))) == ["MAX_POOL_2D"]


def test_a_network_joins_its_operators_and_says_whose_they_are() -> None:
    conv = conv_workload(16, 24, (14, 14), (3, 3), activation="silu")
    written = network_model(conv)
    model, graph = _graph(written.tflite)
    assert _names(model, graph) == ["CONV_2D", "LOGISTIC", "MUL"]
    assert written.owners == ("op", "op", "op")
    assert graph.Tensors(graph.Inputs(0)).Name() == b"x0"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_transpose_with_joined_axes_moves_the_same_bytes(shape: list[int], random: Any) -> None:
    perm = list(range(len(shape)))
    random.shuffle(perm)
    values = np.arange(prod(shape)).reshape(shape)
    few, order = joined(tuple(shape), tuple(perm))
    assert np.transpose(values, perm).ravel().tolist() == np.transpose(values.reshape(few), order).ravel().tolist()
    assert len(few) <= len(shape)


def test_what_tflite_has_no_form_of_is_an_error_that_names_the_nodes() -> None:
    workload = samples.legal()[OpKind.GENERIC]
    with pytest.raises(CostModelError, match="as TFLite") as caught:
        operator_model(workload.ops[0], workload)
    assert caught.value.problems[0].where == ("op",)
    model = TfliteModel("m")
    with pytest.raises(InternalError, match="NOT_THERE"):
        model.operator("NOT_THERE", [], [])
    with pytest.raises(InternalError, match="float32"):
        model.activation("x", (1,), Quant.whole(1.0), "float32")


def test_all_operators_exist_in_the_schema() -> None:
    from ethosu.vela.tflite.BuiltinOperator import BuiltinOperator
    from ethosu.vela.tflite.BuiltinOptions import BuiltinOptions

    for kind, (version, options) in OPERATORS.items():
        assert hasattr(BuiltinOperator, kind)
        assert not options or hasattr(BuiltinOptions, options)
        assert version >= 1


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    workload = fc_workload(1, 8, 8)
    with pytest.raises(MissingToolError, match="not installed") as caught:
        operator_model(workload.ops[0], workload)
    assert caught.value.exit_code == 10
    assert "h4hc[ethosu]" in caught.value.problems[0].hint
