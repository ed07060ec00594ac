"""Which ONNX versions are taken, and that each operator set used is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.loading.findings import Findings, shown
from h4hc.loading.scopes import FunctionKey, Scope, domain_of, function_key

if TYPE_CHECKING:
    import onnx

# What onnxruntime 1.31 loads (tests/loading/test_versions.py holds these against the installed one). The lower bound
# is the oldest set of which it still has kernels: Relu of set 1 has none, Relu of set 6 has one; a few operators
# (of ai.onnx 1) never changed and run. So it is the operator, not the number, that decides below 7.
MAX_IR_VERSION = 13
MAX_OPSET = 26
MIN_OPSET = 1


def check_versions(model: onnx.ModelProto, findings: Findings) -> None:
    """IR version and version of the standard operator set, in the model and in its functions."""
    if not 1 <= model.ir_version <= MAX_IR_VERSION:
        findings.add(
            f"the file has ONNX IR version {model.ir_version}",
            ("ir_version",),
            f"h4hc and onnxruntime take 1 to {MAX_IR_VERSION}",
            "export with an older onnx package, or set model.ir_version = 10 before saving",
        )
    if not model.opset_import:
        findings.add("the file imports no operator set", ("opset_import",), "ONNX demands at least one", "export again")
    for where, imports in (
        ("opset_import", model.opset_import),
        *((f"function {f.domain}::{f.name}", f.opset_import) for f in model.functions),
    ):
        _check_imports(where, imports, findings)


def _check_imports(where: str, imports: object, findings: Findings) -> None:
    seen: dict[str, int] = {}
    for entry in imports:  # type: ignore[attr-defined]
        domain = domain_of(entry.domain)
        if seen.setdefault(domain, entry.version) != entry.version:
            findings.add(
                f"the operator set {shown(domain or 'ai.onnx')!r} is imported twice",
                (where,),
                f"versions {seen[domain]} and {entry.version}",
                "keep one of them",
            )
        top = MAX_OPSET if not domain else 2**31 - 1
        if not MIN_OPSET <= entry.version <= top:
            findings.add(
                f"operator set {shown(domain or 'ai.onnx')!r} version {entry.version} is not supported",
                (where,),
                f"h4hc and onnxruntime take {MIN_OPSET} to {top}",
                f"convert the model: onnx.version_converter.convert_version(model, {MAX_OPSET - 6})"
                if not domain
                else "",
            )


def check_domains(model: onnx.ModelProto, scopes: list[Scope], findings: Findings) -> None:
    """Every operator set that a node uses is imported by the model, or by the function around the node."""
    functions = {domain_of(f.domain) for f in model.functions}
    known: dict[FunctionKey | None, set[str]] = {None: {domain_of(o.domain) for o in model.opset_import}}
    known |= {function_key(f): {domain_of(o.domain) for o in f.opset_import} for f in model.functions}
    for scope in scopes:
        imported = known[scope.function]
        for index, node in enumerate(scope.nodes):
            domain = domain_of(node.domain)
            if domain in imported or domain in functions:
                continue
            findings.add(
                f"the operator set {shown(domain or 'ai.onnx')!r} is used but not imported",
                (scope.node_name(index),),
                f"operator {shown(node.op_type)!r}; imported: {', '.join(sorted(d or 'ai.onnx' for d in imported))}",
                "add it to opset_import",
            )
