"""Counts what model-local functions grow to, before onnx or onnxruntime writes them out.

24 levels of f_i(x) = f_(i-1)(f_(i-1)(x)) take 1.5 kB of file and stand for 2^24 nodes; the count is done on the call
graph, one visit a function.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from h4hc.limits import Limits
from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import FunctionKey, Scope, call_key, function_key

if TYPE_CHECKING:
    import onnx

_CEILING = 10**18  # sizes stop here, or a chain of 10 000 doublings would make numbers of 10 000 bits

_Calls = dict[FunctionKey | None, Counter[FunctionKey]]


def _text(key: FunctionKey | None) -> str:
    if key is None:
        return "the main graph"
    domain, name, overload = key
    return shown(f"{domain}::{name}" + (f":{overload}" if overload else ""))


def check_functions(model: onnx.ModelProto, scopes: list[Scope], limits: Limits, findings: Findings) -> None:
    """No function twice, none that calls itself, and limits on the depth and the size of the expansion.

    size(f) = own nodes + sum over calls of (size(callee) - 1), subgraphs included; depth(f) = 1 + largest depth called.
    """
    known: set[FunctionKey] = set()
    for function in model.functions:
        key = function_key(function)
        if key in known:
            findings.add("a function is defined twice", (_text(key),), "domain, name and overload are the same")
        known.add(key)
    if not known:
        return
    own: Counter[FunctionKey | None] = Counter()
    calls: _Calls = {None: Counter(), **{key: Counter() for key in known}}
    for scope in scopes:
        own[scope.function] += len(scope.nodes)
        calls[scope.function].update(key for node in scope.nodes if (key := call_key(node)) in known)
    order = _callees_first(calls, findings)
    if order is None:
        return
    size: dict[FunctionKey | None, int] = {}
    depth: dict[FunctionKey | None, int] = {}
    for at in order:
        grown = own[at] + sum(times * (size[callee] - 1) for callee, times in calls[at].items())
        size[at] = min(grown, _CEILING)
        depth[at] = 1 + max((depth[callee] for callee in calls[at]), default=0)
        if size[at] > limits.expanded_nodes:
            about = f"more than {_CEILING}" if size[at] == _CEILING else str(size[at])
            findings.add(
                "the model-local functions grow too large when written out",
                (_text(at),),
                f"{about} nodes, limit expanded-nodes = {limits.expanded_nodes}",
                "raise it with --limit expanded-nodes=...",
            )
            return
        if depth[at] - 1 > limits.function_nesting:
            findings.add(
                "model-local functions call each other too deeply",
                (_text(at),),
                f"deeper than limit function-nesting = {limits.function_nesting}",
                "raise it with --limit function-nesting=...",
            )
            return


def _callees_first(calls: _Calls, findings: Findings) -> list[FunctionKey | None] | None:
    """All functions, each after those it calls (explicit stack); None, with a finding, if one calls itself."""
    order: list[FunctionKey | None] = []
    state: dict[FunctionKey | None, bool] = {}  # False: on the way down, True: done
    for root in calls:
        stack: list[tuple[FunctionKey | None, list[FunctionKey]]] = []
        if root not in state:
            state[root] = False
            stack.append((root, sorted(calls[root])))
        while stack:
            at, rest = stack[-1]
            if not rest:
                state[at] = True
                order.append(at)
                stack.pop()
                continue
            callee = rest.pop()
            if callee not in state:
                state[callee] = False
                stack.append((callee, sorted(calls[callee])))
            elif not state[callee]:
                names = [_text(key) for key, _ in stack]
                loop = names[names.index(_text(callee)) :]
                findings.add(
                    "model-local functions call themselves",
                    tuple(loop),
                    " -> ".join((*loop[:8], loop[0])),
                    "ONNX forbids recursive functions",
                )
                return None
    return order
