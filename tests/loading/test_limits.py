"""Limits: the option's spelling, and that each limit is the one that stops its case, at the limit and above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import onnx
import pytest
from onnx import helper

from h4hc.errors import ExitCode, ModelFileError, UserError
from h4hc.limits import Limits, parse
from h4hc.load import load_bytes
from tests.loading import build


def test_parse() -> None:
    limits = parse(("model-bytes=64M", "nodes=10", "rank=4", "nodes=2K", "static_bytes=1G"))
    assert (limits.model_bytes, limits.nodes, limits.rank, limits.static_bytes) == (64 << 20, 2048, 4, 1 << 30)
    assert parse(()) == Limits()


@pytest.mark.parametrize(
    "text", ["", "nodes", "nodez=3", "=3", "nodes=", "nodes=-1", "nodes=0", "nodes=1.5", "nodes=1T"]
)
def test_parse_refuses_and_names_the_known_ones(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse((text,))
    assert caught.value.exit_code == ExitCode.USAGE
    assert all(f.name.replace("_", "-") in str(caught.value) for f in fields(Limits))


def test_parse_refuses_what_no_integer_of_64_bits_holds() -> None:
    with pytest.raises(UserError, match="2\\^62"):
        parse(("nodes=999999999999999999G",))


def _chain(nodes: int) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(nodes - 1)), "y"]
    return build.model([helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(nodes)])


def _weights(count: int) -> onnx.ModelProto:
    return build.model(
        [helper.make_node("Relu", ["x"], ["y"])], initializers=[build.tensor(f"w{i}", [1.0]) for i in range(count)]
    )


def _weight_of(count: int) -> onnx.ModelProto:
    return build.model([helper.make_node("Relu", ["x"], ["y"])], initializers=[build.tensor("w", [1.0] * count)])


def _ints(count: int) -> onnx.ModelProto:
    return build.model(
        [helper.make_node("Constant", [], ["y"], value_ints=[1] * count)], outputs=[build.value("y", None, build.INT64)]
    )


def _functions(count: int) -> onnx.ModelProto:
    return build.function_chain(count - 1, 1)


def _input(count: int) -> onnx.ModelProto:
    return build.model([helper.make_node("Relu", ["x"], ["y"])], [build.value("x", (count,))])


def _rank(rank: int) -> onnx.ModelProto:
    return build.model([helper.make_node("Relu", ["x"], ["y"])], [build.value("x", (1,) * rank)])


def _named(length: int) -> onnx.ModelProto:
    return build.model([helper.make_node("Relu", ["x"], ["y"], name="n" * length)])


# Limit -> (value of the limit, model just inside it, model just outside it).
_CASES: dict[str, tuple[int, Callable[[int], onnx.ModelProto], int, int]] = {
    "nodes": (5, _chain, 5, 6),
    "graph_nesting": (3, build.nested_if, 2, 3),  # the main graph is the first level
    "functions": (4, _functions, 4, 5),
    "function_nesting": (4, _functions, 4, 5),
    "expanded_nodes": (8, build.function_chain, 3, 4),  # 2^levels
    "attribute_bytes": (80, _ints, 10, 11),  # 8 bytes a number
    "name_length": (20, _named, 20, 21),
    "rank": (4, _rank, 4, 5),
    "tensors": (3, _weights, 3, 4),
    "initializer_bytes": (40, _weight_of, 10, 11),
    "static_bytes": (80, _input, 10, 11),  # input and output of 4 bytes an element
}


@pytest.mark.parametrize("name", sorted(_CASES))
def test_at_the_limit_and_above(name: str) -> None:
    limit, make, inside, outside = _CASES[name]
    limits = parse((f"{name}={limit}",))
    load_bytes(make(inside).SerializeToString(), None, limits, "m")
    with pytest.raises(ModelFileError, match=name.replace("_", "-")):
        load_bytes(make(outside).SerializeToString(), None, limits, "m")


def test_messages_and_model_bytes() -> None:
    data = _chain(20).SerializeToString()
    load_bytes(data, None, parse((f"model-bytes={len(data)}", "messages=100")), "m")
    with pytest.raises(ModelFileError, match="limit model-bytes"):
        load_bytes(data, None, parse((f"model-bytes={len(data) - 1}",)), "m")
    with pytest.raises(ModelFileError, match="limit messages"):
        load_bytes(data, None, parse(("messages=10",)), "m")
