"""The graphs of a model, flattened: main graph, function bodies and the bodies inside If, Loop and Scan.

Walked with an explicit stack, so that no file can exhaust Python's own. The other checks of this folder run over the
flat list of scopes and look names up through `Scope.outer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings

if TYPE_CHECKING:
    import onnx

FunctionKey = tuple[str, str, str]  # domain, name, overload
BEFORE = -1  # position of what is there before the first node: inputs and initialisers


def domain_of(text: str) -> str:
    """The domain with the two spellings of the standard one made equal."""
    return "" if text == "ai.onnx" else text


def function_key(function: onnx.FunctionProto) -> FunctionKey:
    """What a node must say to call `function`."""
    return domain_of(function.domain), function.name, function.overload


def call_key(node: onnx.NodeProto) -> FunctionKey:
    """The function that `node` calls, if there is one of this key."""
    return domain_of(node.domain), node.op_type, node.overload


@dataclass
class Scope:
    """One list of nodes and the names it can see.

    path: where it is, for messages; position: index in `outer.nodes` of the node that holds it;
    function: key of the function it belongs to, None in the main graph; defined: name -> index of the node
    that makes it, BEFORE for inputs and initialisers (filled by `names.check_names`).
    """

    path: tuple[str, ...]
    nodes: Sequence[onnx.NodeProto]
    graph: onnx.GraphProto | None
    body: onnx.FunctionProto | None
    outer: Scope | None
    position: int
    depth: int
    function: FunctionKey | None
    defined: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node_name(self, index: int) -> str:
        """The user's name of a node, with the path down to it; `<op_type>_<index>` when it has none."""
        node = self.nodes[index]
        return self.place(node.name or f"{node.op_type}_{index}")

    def place(self, name: str) -> str:
        """`name` with the path of this scope before it."""
        return " > ".join((*self.path, name))

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The tensor called `name` when its value stands in the file, as seen from here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.tensors:
                return scope.tensors[name]
            if name in scope.defined:
                return None
            scope = scope.outer
        return None


def subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """The graphs in the attributes of `node`, with the attribute's name."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for index, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}[{index}]", graph


def collect_scopes(model: onnx.ModelProto, limits: Limits, findings: Findings) -> list[Scope]:
    """All scopes, each after the one around it; a finding, and no more scopes, at a limit."""
    if len(model.functions) > limits.functions:
        findings.add(
            "the model has too many functions",
            why=f"{len(model.functions)} functions, limit functions = {limits.functions}",
            hint="raise it with --limit functions=...",
        )
        return []
    pending = [
        Scope((f"function {f.domain}::{f.name}",), f.node, None, f, None, BEFORE, 1, function_key(f))
        for f in reversed(model.functions)
    ]
    pending.append(Scope((), model.graph.node, model.graph, None, None, BEFORE, 1, None))
    done: list[Scope] = []
    count = 0
    while pending:
        scope = pending.pop()
        done.append(scope)
        count += len(scope.nodes)
        if count > limits.nodes:
            findings.add(
                "the model has too many nodes",
                (scope.place(scope.graph.name) if scope.graph else scope.path[0],),
                f"more than limit nodes = {limits.nodes}",
                "raise it with --limit nodes=...",
            )
            return done
        inner = list(_inner_scopes(scope))
        if inner and scope.depth >= limits.graph_nesting:
            findings.add(
                "graphs are nested too deeply",
                (scope.node_name(inner[0].position),),
                f"deeper than limit graph-nesting = {limits.graph_nesting}",
                "raise it with --limit graph-nesting=...",
            )
            continue
        pending.extend(reversed(inner))
    return done


def _inner_scopes(scope: Scope) -> Iterator[Scope]:
    if scope.body is not None:  # default values of attributes can be graphs, too
        for attribute in scope.body.attribute_proto:
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                path = (*scope.path, attribute.name)
                yield Scope(path, graph.node, graph, None, scope, 0, scope.depth + 1, scope.function)
    for index, node in enumerate(scope.nodes):
        if not node.attribute:
            continue
        for name, graph in subgraphs(node):
            path = (*scope.path, node.name or f"{node.op_type}_{index}", name)
            yield Scope(path, graph.node, graph, None, scope, index, scope.depth + 1, scope.function)
