"""Operators that are no operators: containers of foreign binaries."""

from __future__ import annotations

from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import Scope


def check_operators(scopes: list[Scope], findings: Findings) -> None:
    """Refuse EPContext: a blob compiled for another device, which no CPU runs and whose path is opened unchecked."""
    for scope in scopes:
        for index, node in enumerate(scope.nodes):
            if node.op_type != "EPContext":
                continue
            source = next((a.s.decode("utf-8", "replace") for a in node.attribute if a.name == "source"), "")
            findings.add(
                "a node is a binary compiled for another execution provider",
                (scope.node_name(index),),
                f"operator EPContext, source {shown(source)!r}: no CPU runs it",
                "give the model that it was compiled from",
            )
