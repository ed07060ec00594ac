"""The operators of a legalised model: its groups of nodes, what enters and leaves each, in execution order."""

from __future__ import annotations

import onnx_ir as ir

from h4hc import annotations as marks
from h4hc.errors import GraphError, Problem
from h4hc.lowering.facts import Known, made_by, read_by
from h4hc.lowering.inputs import structural
from h4hc.lowering.order import cycle_in, stable_order
from h4hc.lowering.site import Group

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def make_groups(model: ir.Model, known: Known) -> list[Group]:
    """All operators in execution order: topological, ties by the place of each operator's last node in the file.

    Nodes whose results are known at compile time are no operators of their own, unless a result is an output of
    the model or nothing uses it (so that no node is lost); their origins go to the operators that use them.
    Raises GraphError on a group without anchor, on nodes that share a name, and on operators that need each other.
    """
    members = _members(known)
    problems = _name_problems(members)
    if problems:
        raise GraphError.of(tuple(problems))
    kept = {name: nodes for name, nodes in members.items() if not _is_folded(nodes, known)}
    place = {node: index for index, node in enumerate(model.graph)}
    groups = [_group(name, nodes, known) for name, nodes in kept.items()]
    home = {value: index for index, group in enumerate(groups) for node in group.members for value in node.outputs}
    after = [
        [home[v] for node in group.members for v in read_by(node) if v in home and home[v] != index]
        for index, group in enumerate(groups)
    ]
    order, stuck = stable_order(after, [max(place[n] for n in group.members) for group in groups])
    if stuck:
        cycle = [groups[i] for i in cycle_in(after, stuck)]
        raise GraphError(
            "operators need each other's results",
            tuple(name for group in cycle for name in group.origin),
            f"the groups {', '.join(repr(g.id) for g in cycle)} form a cycle: one of them is not convex",
            "this is a fault of the pass that grouped them",
        )
    return [groups[i] for i in order]


def _members(known: Known) -> dict[str, list[ir.Node]]:
    members: dict[str, list[ir.Node]] = {}
    for node in known.nodes:
        members.setdefault(marks.group_id(node), []).append(node)
    return members


def _name_problems(members: dict[str, list[ir.Node]]) -> list[Problem]:
    problems = []
    for name, nodes in members.items():
        where = tuple(dict.fromkeys(o for n in nodes for o in (marks.origins(n) or (str(n.name),))))
        anchors = [n for n in nodes if n.name == name]
        if not name or name == "None":
            problems.append(Problem("a node has no name", where, hint="load the model with load_model"))
        elif not anchors:
            problems.append(Problem(f"operator {name!r} has no anchor node", where, "no node of it bears its name"))
        elif len(anchors) > 1:
            problems.append(
                Problem(
                    f"{len(anchors)} nodes are called {name!r}",
                    where,
                    hint="load the model with load_model, which names them apart",
                )
            )
    return problems


def _is_folded(nodes: list[ir.Node], known: Known) -> bool:
    """Whether a group is known at compile time and something else reads a result of it."""
    if not all(known.constant_nodes[n] for n in nodes):
        return False
    inside = set(nodes)
    made = [v for n in nodes for v in made_by(n)]
    read = any(user not in inside for v in made for user in v.consumers())
    handed_out_by_body = any(v.is_graph_output() for v in made) and not any(_is_main_output(v) for v in made)
    return (read or handed_out_by_body) and not any(_is_main_output(v) for v in made)


def _is_main_output(value: ir.Value) -> bool:
    graph = value.graph
    return value.is_graph_output() and isinstance(graph, ir.Graph) and any(value is out for out in graph.outputs)


def _group(name: str, nodes: list[ir.Node], known: Known) -> Group:
    anchor = next(n for n in nodes if n.name == name)
    inside = {v for n in nodes for v in n.outputs}
    inputs: dict[ir.Value, None] = {}
    constants: dict[ir.Value, None] = {}
    folded: list[ir.Node] = []
    for node in nodes:
        compiled_in = _compiled_in(node, anchor, len(nodes) > 1, known)
        for value in read_by(node):
            if value in inside:
                continue
            if not known.constant.get(value, False):
                inputs[value] = None
                continue
            if value not in compiled_in:
                constants[value] = None
            maker = value.producer()
            if maker is not None:
                folded.append(maker)
    return Group(
        id=name,
        anchor=anchor,
        members=tuple(nodes),
        inputs=tuple(inputs),
        outputs=_outputs(nodes),
        constants=tuple(constants),
        origin=_origin(nodes, folded),
    )


def _outputs(nodes: list[ir.Node]) -> tuple[ir.Value, ...]:
    """Values that leave a group; all unused ones of an operator of whose results nothing is used."""
    inside = set(nodes)
    made = [v for n in nodes for v in made_by(n)]
    leaving = [v for v in made if v.is_graph_output() or any(user not in inside for user in v.consumers())]
    return tuple(leaving) or tuple(v for v in made if not v.uses())


def _compiled_in(node: ir.Node, anchor: ir.Node, is_pattern: bool, known: Known) -> set[ir.Value]:
    """Constants of a node that are no data: structure, and the scalars of a recognised formula.

    A formula's scalars are those of arithmetic nodes beside the anchor (the 3 and 6 of hard-swish, the epsilon of
    a norm); scales and zero points of a quantiser count as parameters.
    """
    found = {node.inputs[i] for i in structural(node) if i < len(node.inputs)}
    recognised = marks.kind(anchor) or marks.activation(anchor)
    if is_pattern and recognised and node.op_type not in QUANTISERS:
        bias = marks.params(anchor).get("bias", "")
        for value in node.inputs:
            if value is not None and known.constant.get(value, False) and value.name != bias:
                is_weight = node is anchor and marks.kind(anchor) == "fully_connected"
                if known.facts[value].elements == 1 and not is_weight:
                    found.add(value)
    return {v for v in found if v is not None}


def _origin(nodes: list[ir.Node], folded: list[ir.Node]) -> tuple[str, ...]:
    """The user's nodes behind these, and behind the constant nodes they feed on."""
    names: set[str] = set()
    for node in nodes:
        names.update(marks.origins(node) or (str(node.name),))
    seen: set[ir.Node] = set(nodes)
    stack = list(folded)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        names.update(marks.origins(node) or (str(node.name),))
        stack.extend(maker for v in node.inputs if v is not None and (maker := v.producer()) is not None)
    return tuple(sorted(names))
