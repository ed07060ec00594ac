"""matching: constants, and the group law that every grouping pass is held to."""

from __future__ import annotations

import pytest

from h4hc import annotations as notes
from h4hc.errors import PassError
from passes import matching
from tests.passes.grouping_support import graph, load, parse


def test_constant_sees_initialisers_constant_nodes_and_identities() -> None:
    text = graph(
        "float x", "float y", "float i = {2}", "c = Constant<value_float=3.0>() d = Identity(i) y = Sum(x, i, c, d)"
    )
    (node,) = [n for n in load(parse(text)).graph if n.op_type == "Sum"]
    assert [matching.scalar(v) for v in node.inputs] == [None, 2.0, 3.0, 2.0]


def test_initialiser_that_is_an_input_is_no_constant() -> None:
    """The caller may override it."""
    proto = parse(graph("float x", "float y", "float i = {2}", "y = Add(x, i)"))
    proto.graph.input.append(proto.graph.input[0])
    proto.graph.input[1].name = "i"
    (node,) = load(proto).graph
    assert matching.scalar(node.inputs[1]) is None


@pytest.mark.parametrize(
    ("seen", "wanted", "relative", "same"),
    [(0.16666667, 1 / 6, 1e-6, True), (0.1667, 1 / 6, 1e-6, False), (0.1667, 1 / 6, 1e-3, True), (1e-7, 0, 1e-6, True)],
)
def test_close(seen: float, wanted: float, relative: float, same: bool) -> None:
    assert matching.close(seen, wanted, relative) is same


def test_group_each_counts_what_was_made_and_says_why_not() -> None:
    model = load(parse(graph("float x", "float y", "", "a = Neg(x) b = Abs(a) y = Exp(b)")))
    answers = {"Neg": None, "Abs": "", "Exp": "too small"}
    result = matching.group_each(model, lambda groups, node: answers[node.op_type])
    assert (result.changed, [(s.node, s.why) for s in result.skipped]) == (1, [("Exp_2", "too small")])


def test_check_reports_every_broken_group() -> None:
    """Two values leave the first group; the second has lost its anchor."""
    text = graph("float x", "float y, float z, float w", "", "a = Neg(x) y = Abs(a) z = Exp(a) b = Neg(z) w = Abs(b)")
    model = load(parse(text))
    nodes = list(model.graph)
    notes.join_group(nodes[1], [nodes[0], nodes[2]])
    nodes[3].metadata_props[notes.GROUP] = nodes[4].metadata_props[notes.GROUP] = "gone"
    with pytest.raises(PassError) as caught:
        matching.Groups(model).check()
    assert [p.where for p in caught.value.problems] == [("Abs_1",), ("gone",)]
    assert "y (a model output)" in str(caught.value)


def test_obstacle_and_merge() -> None:
    text = graph("float x", "float y, float z", "", "a = Neg(x) b = Abs(a) y = Exp(b) z = Neg(y)")
    model = load(parse(text))
    groups = matching.Groups(model)
    first, second, third, fourth = model.graph
    assert groups.obstacle([first, second]) == ""
    assert "y (a model output)" in groups.obstacle([third, fourth])
    groups.merge(second, [first], kind="one", params={"p": 1})
    groups.merge(third, [second], kind="two", params={"q": 2})
    assert notes.group_members(model) == {"Exp_2": [first, second, third], "Neg_3": [fourth]}
    assert (notes.kind(second), notes.params(third)) == ("", {"q": 2})
    groups.check()


def test_subgraph_holder_is_never_merged() -> None:
    text = """g (float[2] x, bool f) => (float[2] y) {
        z = If (f) <then_branch = t () => (float[2] o) { o = Neg(x) },
                    else_branch = e () => (float[2] p) { p = Identity(x) }>
        y = Relu(z)
    }"""
    model = load(parse(text))
    assert "holds a subgraph" in matching.Groups(model).obstacle(list(model.graph))
