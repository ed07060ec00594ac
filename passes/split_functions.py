"""split-functions: replace each call of a function defined in the model by the nodes of its body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from h4hc.annotations import origins, set_origins
from h4hc.errors import GraphError
from h4hc.passbase import Pass, PassResult, Skip
from passes.values import Names

_PREFIX = "h4hc."  # annotations in a body speak of another compile (a partitioned model that is compiled again)


@dataclass(frozen=True)
class SplitFunctions(Pass):
    """Inline the calls of model-local functions into the main graph.

    Before: y = my.Block(x, w)     After: t = MatMul(x, w), y = Relu(t), named <call>/<inner name>
    Every inlined node has the origin of the call. Requires the loader to have bounded the expansion. A function
    written for another operator set version is inlined if none of its operators changed between the two. Calls
    in bodies of control flow stay, and so do the functions they need. Numerics: the same operators, bit-equal.
    """

    name: ClassVar[str] = "split-functions"

    def run(self, model: ir.Model) -> PassResult:
        """Inline until no call that can be inlined is left in the main graph."""
        if not model.functions:
            return PassResult()
        result = PassResult()
        names = Names(model)
        work: list[tuple[ir.Node, tuple[ir.OperatorIdentifier, ...]]] = [
            (node, ()) for node in model.graph if node.op_identifier() in model.functions
        ]
        while work:
            call, path = work.pop()
            function = model.functions[call.op_identifier()]
            if function.identifier() in path:
                raise GraphError(
                    f"function {function.name!r} calls itself",
                    where=origins(call),
                    why="functions of a model are expanded, so they cannot be recursive",
                )
            why = _refusal(model, function, call)
            if why:
                result.skipped.append(Skip(str(call.name), why))
                continue
            inserted = _inline(model, call, function, names)
            inner = (*path, function.identifier())
            work.extend((node, inner) for node in inserted if node.op_identifier() in model.functions)
            result.changed += 1
        result.changed += _drop_unused_functions(model)
        return result


def _refusal(model: ir.Model, function: ir.Function, call: ir.Node) -> str:
    """Why this call has to stay, or empty."""
    if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
        return "the call has more inputs or outputs than the function"
    for domain, version in function.opset_imports.items():
        have = model.graph.opset_imports.get(domain)
        if have is None or have == version:
            continue
        for node in function.all_nodes():
            if node.domain == domain and node.op_identifier() not in model.functions:
                changed = _changed_between(node, have, version)
                if changed:
                    return f"the function uses opset {version}, the model {have}, and {node.op_type} {changed}"
    return ""


def _changed_between(node: ir.Node, one: int, other: int) -> str:
    """Why the operator does not mean the same in two versions of its operator set; empty when it does."""
    try:
        versions = {
            onnx.defs.get_schema(node.op_type, max_inclusive_version=v, domain=node.domain).since_version
            for v in (one, other)
        }
    except onnx.defs.SchemaError:
        return "is not known in both"
    return "" if len(versions) == 1 else "changed in between"


def _inline(model: ir.Model, call: ir.Node, function: ir.Function, names: Names) -> list[ir.Node]:
    """Put a copy of the body in the place of `call`; gives the new nodes."""
    body = function.clone().graph
    for domain, version in function.opset_imports.items():
        model.graph.opset_imports.setdefault(domain, version)
    nodes = list(body)
    given = dict(function.attributes)
    given.update(call.attributes)
    for node in body.all_nodes():
        _resolve_attributes(node, given)
    for index, value in enumerate(list(body.inputs)):
        _connect(value, call.inputs[index] if index < len(call.inputs) else None)
    sources = dict(zip(body.inputs, [*call.inputs, *[None] * len(body.inputs)], strict=False))
    outputs = [sources.get(v, v) for v in body.outputs]
    body.outputs.clear()
    body.remove(nodes)
    for node in nodes:
        _adopt_node(node, call, names)
    model.graph.insert_before(call, nodes)
    nodes.extend(_hand_over(model.graph, call, outputs, {v for n in nodes for v in n.outputs}, names))
    model.graph.remove(call, safe=True)
    return nodes


def _resolve_attributes(node: ir.Node, given: dict[str, ir.Attr]) -> None:
    """Give attributes that refer to the function's the call's value, or the function's default; else none."""
    for name, attribute in list(node.attributes.items()):
        if not attribute.is_ref():
            continue
        source = given.get(str(attribute.ref_attr_name))
        if source is None or source.value is None:
            del node.attributes[name]
        else:
            node.attributes[name] = ir.Attr(name, source.type, source.value)


def _connect(inner: ir.Value, outer: ir.Value | None) -> None:
    for user, index in list(inner.uses()):
        user.replace_input_with(index, outer)


def _adopt_node(node: ir.Node, call: ir.Node, names: Names) -> None:
    """Name `node` after the call, with all it holds, and let it stand for what the call stands for."""
    for key in [k for k in node.metadata_props if k.startswith(_PREFIX)]:
        del node.metadata_props[key]
    set_origins(node, origins(call))
    node.name = names.fresh(f"{call.name}/{node.name or node.op_type}")
    for value in _values_inside(node):
        if value.name:
            value.name = names.fresh(f"{call.name}/{value.name}")


def _values_inside(node: ir.Node) -> Iterator[ir.Value]:
    """Outputs of the node and every value that its bodies define."""
    yield from node.outputs
    for attribute in node.attributes.values():
        bodies: tuple[ir.Graph, ...] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            bodies = (attribute.as_graph(),)
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies = tuple(attribute.as_graphs())
        for body in bodies:
            yield from body.inputs
            yield from [v for v in body.initializers.values() if not v.is_graph_input()]
            for inner in body:
                yield from _values_inside(inner)


def _hand_over(
    graph: ir.Graph, call: ir.Node, outputs: list[ir.Value | None], made: set[ir.Value], names: Names
) -> list[ir.Node]:
    """Let the body's results take over name and readers of the call's outputs; gives the Identity nodes needed.

    An Identity is needed where the function hands an input through, or one value out twice.
    """
    extra: list[ir.Node] = []
    taken: set[ir.Value] = set()
    for old, new in zip(call.outputs, outputs, strict=False):
        if not old.name or new is None:
            continue
        if new not in made or new in taken:
            identity = ir.node("Identity", [new], name=names.fresh(f"{call.name}/Identity"))
            set_origins(identity, origins(call))
            graph.insert_before(call, identity)
            extra.append(identity)
            new = identity.outputs[0]
        taken.add(new)
        name, shape, kind = old.name, old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        new.name, new.shape, new.type = name, shape or new.shape, kind or new.type
    return extra


def _drop_unused_functions(model: ir.Model) -> int:
    """Remove the functions that nothing calls any more, callers before callees; the number removed."""
    count = 0
    while True:
        called = {node.op_identifier() for node in model.graph.all_nodes()}
        for function in model.functions.values():
            called.update(node.op_identifier() for node in function.all_nodes())
        unused = [key for key in model.functions if key not in called]
        if not unused:
            return count
        for key in unused:
            del model.functions[key]
        count += len(unused)
