"""Names: each value defined once, before it is used; no cycle; nothing used that nobody makes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import BEFORE, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

_Late = tuple[int, int, str]  # node that uses, node that makes it (the same or later), value name


def check_names(scopes: list[Scope], limits: Limits, findings: Findings) -> None:
    """Fill `Scope.defined` and check single assignment, dangling names, order and cycles of every scope."""
    late: dict[int, list[_Late]] = defaultdict(list)
    for scope in scopes:
        _check_lengths(scope, limits, findings)
        _define(scope, findings)
    for scope in scopes:
        _check_uses(scope, late, findings)
        _check_outputs(scope, findings)
    for scope in scopes:
        if late[id(scope)]:
            _report_order(scope, late[id(scope)], findings)


def _check_lengths(scope: Scope, limits: Limits, findings: Findings) -> None:
    def check(name: str, where: str, what: str) -> None:
        if len(name) > limits.name_length:
            findings.add(
                f"a {what} name is too long",
                (where,),
                f"{len(name)} characters, limit name-length = {limits.name_length}",
                "rename it, or raise --limit name-length=...",
            )

    if scope.graph is not None:
        for group in (scope.graph.initializer, scope.graph.input, scope.graph.output, scope.graph.value_info):
            for item in group:
                check(item.name, scope.place(item.name), "tensor")
    for index, node in enumerate(scope.nodes):
        for text in (node.name, node.op_type, node.domain, node.overload):
            check(text, scope.node_name(index), "node, operator or domain")
        for text in (*node.input, *node.output):
            check(text, scope.place(text), "tensor")
        for attribute in node.attribute:
            check(attribute.name, scope.node_name(index), "attribute")


def _define(scope: Scope, findings: Findings) -> None:
    """Fill `scope.defined`; an initialiser may repeat an input (it is its default value), nothing else may repeat."""
    defined = scope.defined

    def twice(name: str, what: str) -> None:
        findings.add(
            f"the name {shown(name)!r} is defined twice",
            (scope.place(name),),
            f"{what}; ONNX demands that each value is assigned once (SSA)",
            "give each value a name of its own",
        )

    body, graph = scope.body, scope.graph
    inputs = list(body.input) if body is not None else [i.name for i in graph.input] if graph is not None else []
    for name in inputs:
        if name in defined:
            twice(name, "two inputs have it")
        if not name:
            findings.add("an input has no name", (scope.place("input"),), "every graph input needs a name")
        defined[name] = BEFORE
    initializers: set[str] = set()
    for name in _initializer_names(graph):
        if name in initializers:
            twice(name, "two initialisers have it")
        initializers.add(name)
        if not name:
            findings.add("an initialiser has no name", (scope.place("initializer"),), "every initialiser needs a name")
        defined[name] = BEFORE
    for index, node in enumerate(scope.nodes):
        for name in node.output:
            if name in defined and name:
                first = "an input or initialiser" if defined[name] == BEFORE else scope.node_name(defined[name])
                twice(name, f"made by {shown(first)} and by {shown(scope.node_name(index))}")
            elif name:
                defined[name] = index


def _initializer_names(graph: onnx.GraphProto | None) -> Iterable[str]:
    """Names of the initialisers, dense and sparse."""
    if graph is None:
        return []
    return [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]


def _check_uses(scope: Scope, late: dict[int, list[_Late]], findings: Findings) -> None:
    for index, node in enumerate(scope.nodes):
        for name in node.input:
            if not name:
                continue  # an optional input left out
            maker = scope.defined.get(name)
            if maker is not None:
                if maker >= index:
                    late[id(scope)].append((index, maker, name))
            elif not _captured(scope, name, late):
                findings.add(
                    f"a node uses {shown(name)!r}, which nothing makes",
                    (scope.node_name(index),),
                    "it is no input, no initialiser and no output of a node"
                    + ("" if scope.outer is None else ", here or in the graphs around"),
                    "the file lost a node or an initialiser: export the model again",
                )


def _captured(scope: Scope, name: str, late: dict[int, list[_Late]]) -> bool:
    """Whether a graph around `scope` makes `name`; notes a use before it is made."""
    inner, outer = scope, scope.outer
    while outer is not None:
        maker = outer.defined.get(name)
        if maker is not None:
            if maker >= inner.position:
                late[id(outer)].append((inner.position, maker, name))
            return True
        inner, outer = outer, outer.outer
    return False


def _check_outputs(scope: Scope, findings: Findings) -> None:
    body, graph = scope.body, scope.graph
    names = list(body.output) if body is not None else [o.name for o in graph.output] if graph is not None else []
    for name in names:
        if name in scope.defined and name:
            continue
        outside = scope.outer is not None and _captured(scope, name, defaultdict(list))
        findings.add(
            f"a graph gives out {shown(name)!r}, which " + ("is not its own" if outside else "nothing makes"),
            (scope.place(name),),
            "a body must not return an outer value directly" if outside else "no input, initialiser or node has it",
            "put an Identity node before it" if outside else "export the model again",
        )


def _report_order(scope: Scope, late: list[_Late], findings: Findings) -> None:
    cycle = _find_cycle(scope, late)
    if cycle:
        names = tuple(scope.node_name(i) for i in cycle)
        findings.add(
            "the graph has a cycle",
            names,
            " -> ".join(shown(n) for n in (*names[:8], names[0])) + (" (shortened)" if len(names) > 8 else ""),
            "ONNX graphs are acyclic; a loop is written with Loop or Scan",
        )
        return
    for user, maker, name in late:
        findings.add(
            f"a node uses {shown(name)!r} before it is made",
            (scope.node_name(user), scope.node_name(maker)),
            f"{shown(scope.node_name(maker))} makes it later in the file; ONNX demands topological order",
            "sort the nodes, for example with onnx_ir.passes.common.TopologicalSortPass",
        )


def _find_cycle(scope: Scope, late: list[_Late]) -> list[int]:
    """One cycle of nodes of `scope` in the order of the data flow, or an empty list.

    Nodes without a predecessor left are taken away (Kahn); every node that stays has one, so walking backwards
    from any of them must come round.
    """
    makers: dict[int, set[int]] = {i: set() for i in range(len(scope.nodes))}
    for index, node in enumerate(scope.nodes):
        makers[index].update(m for name in node.input if name and (m := scope.defined.get(name, BEFORE)) != BEFORE)
    for user, maker, _ in late:
        makers[user].add(maker)
    users: dict[int, list[int]] = defaultdict(list)
    for user, found in makers.items():
        for maker in sorted(found):
            users[maker].append(user)
    left = {user: len(found) for user, found in makers.items()}
    ready = [user for user, count in left.items() if count == 0]
    while ready:
        done = ready.pop()
        del left[done]
        for user in users[done]:
            left[user] -= 1
            if left[user] == 0:
                ready.append(user)
    if not left:
        return []
    seen: dict[int, int] = {}
    walk: list[int] = []
    at = min(left)
    while at not in seen:
        seen[at] = len(walk)
        walk.append(at)
        at = min(m for m in makers[at] if m in left)
    return walk[seen[at] :][::-1]
