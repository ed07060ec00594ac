"""Load: bytes of an ONNX file, taken as hostile until checked, to a model with origins.

Order matters: everything is checked by own code with bounded work before the C++ of onnx sees the model, that runs in
a bounded child process, and onnxruntime sees it only after both.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.diagnostics import Diagnostic
from h4hc.errors import ModelFileError
from h4hc.limits import Limits

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from h4hc.loading.scopes import Scope

_NAME_LENGTH = 48


@dataclass(frozen=True)
class LoadedModel:
    """A checked model.

    original: bytes of the user's model, self-contained (external data put inside; else the file as it is);
    model: the same as IR, with origins stamped, unknown dims freed, contradicted shape notes removed, sparse
    tensors dense; sha256: of `original`, hex; name: `[a-z0-9_]{1,48}`, from the file name.
    """

    original: bytes
    model: ir.Model
    sha256: str
    name: str
    diagnostics: tuple[Diagnostic, ...]


def sanitized_name(stem: str) -> str:
    """File stem as a name fit for output files.

    >>> sanitized_name("MobileNet-v2 (1.0)"), sanitized_name("../é")
    ('mobilenet_v2_1_0', 'model')
    """
    return re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:_NAME_LENGTH].strip("_") or "model"


def load_model(path: Path, limits: Limits) -> LoadedModel:
    """Read and check the model at `path`; external data is looked for in its folder and below.

    Raises UserError when there is no such file, ModelFileError (with all problems found) when it is malformed,
    unsafe or over a limit, UnsupportedOpError when an input is a map.
    """
    from h4hc.loading.read_file import read_model_file

    data = read_model_file(path, limits)
    return _load(data, path.parent, limits, sanitized_name(path.stem), path.name)


def load_bytes(data: bytes, base_dir: Path | None, limits: Limits, name: str) -> LoadedModel:
    """As `load_model`, for a model in memory; without `base_dir` it must not have external data."""
    if len(data) > limits.model_bytes:
        raise ModelFileError(
            "the model is too big", where=(name,), why=f"{len(data)} bytes, limit model-bytes = {limits.model_bytes}"
        )
    return _load(data, base_dir, limits, sanitized_name(name), name)


def _load(data: bytes, base_dir: Path | None, limits: Limits, name: str, file_name: str) -> LoadedModel:
    from h4hc.loading.inferred import check_budget, settle_declared
    from h4hc.loading.types import drop_map_types
    from h4hc.sandbox import opaque_values, run_child

    proto = parse_model(data, limits, file_name)
    scopes, notes, external = check_model(proto, base_dir, limits)
    original = external if external is not None else data
    inference = run_child(proto, limits, check=True)
    if inference.doubt:
        notes += (Diagnostic("H4W303", "warning", "shape inference failed inside a node", hint=inference.doubt),)
    check_budget(proto, inference.model, limits)
    notes += settle_declared(proto, inference.model, opaque_values(proto))
    drop_map_types(proto, scopes)
    from h4hc import annotations  # brings onnx_ir and sympy: half a second that a refused file need not cost

    model = _to_ir(proto)
    _forget_annotations(model)
    notes += _repeated_names(model)
    annotations.stamp_origins(model)
    return LoadedModel(original, model, hashlib.sha256(original).hexdigest(), name, notes)


def parse_model(data: bytes, limits: Limits, file_name: str) -> onnx.ModelProto:
    """The bytes as protobuf. Raises ModelFileError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from h4hc.loading.wire import check_wire

    check_wire(data, limits, file_name)
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelFileError("the file is not a valid ONNX model", where=(file_name,), why=str(error)) from error
    if not proto.HasField("graph"):
        raise ModelFileError(
            "the file is not a valid ONNX model",
            where=(file_name,),
            why="it has no graph",
            hint="is it a tensor (.pb) file, or another protobuf?",
        )
    return proto


def check_model(
    proto: onnx.ModelProto, base_dir: Path | None, limits: Limits
) -> tuple[list[Scope], tuple[Diagnostic, ...], bytes | None]:
    """All own checks; puts external data inside, then cleans `proto` up, both in place.

    Returns the scopes, notes for the user, and the self-contained original if the file had external data.
    Raises ModelFileError. Values (scales, sizes) are looked at only when the structure is sound.
    """
    from h4hc.loading import clean, functions, names, operators, quantization, static_size, tensors, types, versions
    from h4hc.loading.external import ExternalFiles
    from h4hc.loading.findings import Findings
    from h4hc.loading.scopes import collect_scopes

    findings = Findings()
    versions.check_versions(proto, findings)
    scopes = collect_scopes(proto, limits, findings)
    findings.raise_if_any()
    names.check_names(scopes, limits, findings)
    versions.check_domains(proto, scopes, findings)
    operators.check_operators(scopes, findings)
    functions.check_functions(proto, scopes, limits, findings)
    types.check_types(scopes, limits, findings)
    with ExternalFiles(base_dir, limits, findings) as files:
        external = tensors.check_tensors(scopes, files, limits, findings)
    findings.raise_if_any()
    tensors.collect_constants(scopes)
    quantization.check_quantization(scopes, findings)
    static_size.check_static_sizes(scopes, limits, findings)
    findings.raise_if_any()
    original = proto.SerializeToString(deterministic=True) if external else None
    notes = clean.clean_model(proto, scopes, limits, findings)
    findings.raise_if_any()
    return scopes, notes, original


def _to_ir(proto: onnx.ModelProto) -> ir.Model:
    import onnx_ir as ir

    try:
        return ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx_ir raises what it meets: a hostile file must not become a traceback
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelFileError(
            "the model holds something that the compiler's representation cannot",
            why=f"{type(cause).__name__}: {str(cause)[:300]}",
            hint="export the model again",
        ) from error


def _repeated_names(model: ir.Model) -> tuple[Diagnostic, ...]:
    """A warning when nodes share a name: ONNX allows it, onnxruntime does not load it, and people cannot tell them."""
    from h4hc.loading.findings import shown

    counts = Counter(node.name for node in model.graph if node.name)
    repeated = tuple(sorted(name for name, count in counts.items() if count > 1))
    if not repeated:
        return ()
    what = "a node name is used twice" if len(repeated) == 1 else f"{len(repeated)} node names are used twice"
    first = shown(repeated[0])
    why = f"the second one is called {first}#2 here; onnxruntime does not load the model as it is"
    return (Diagnostic("H4W304", "warning", what, tuple(shown(n) for n in repeated[:20]), f"rename the nodes: {why}"),)


def _forget_annotations(model: ir.Model) -> None:
    """Take out the compiler's own marks: in a file they are leftovers of another run, or forged."""
    for node in model.graph.all_nodes():
        for key in [k for k in node.metadata_props if k.startswith("h4hc.")]:
            del node.metadata_props[key]
