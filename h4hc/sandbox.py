"""Runs the C++ checker and shape inference of onnx in a bounded child process.

Both were written for well-meant files: neither bounds its time or memory. The child has limits on CPU time and address
space and the parent a wall clock; a file that breaks one is refused with the limit that it hit. Weights are not sent:
a tensor above a few hundred bytes is turned into an input of the same type and shape.
"""

from __future__ import annotations

import re
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.errors import GraphError, InternalError, ModelFileError
from h4hc.limits import Limits
from h4hc.loading.findings import Findings
from h4hc.units import format_bytes

if TYPE_CHECKING:
    import onnx

KEPT_BYTES = 1024  # shape operands and scales are smaller; weights are not
_CHILD = Path(__file__).parent / "loading" / "child.py"
_WALL_FACTOR, _WALL_SLACK_S = 5, 30  # a loaded machine may give the child a fifth of a core
_MEMORY_PER_BYTE = 8  # parsed protobuf against its bytes, measured on graphs of many small nodes
_CHECKER_NODE = re.compile(r"Bad node spec for node\. Name: (.*?) OpType: ")
_INFERENCE_ERROR = re.compile(r"\(op_type:([^,():]*)(?:, node name: ((?:[^()]|\([^()]*\))*))?\): ")
_NESTED = 2  # messages of that many levels come from inside a function or a body
_TEXT_CHARACTERS = 600
_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview")


@dataclass(frozen=True)
class Inference:
    """model: without weights and with inferred types, the big initialisers among its inputs; doubt: what the
    inference of onnx complained about inside a function or body, or empty."""

    model: onnx.ModelProto
    doubt: str


def infer_value_types(proto: onnx.ModelProto, limits: Limits) -> dict[str, onnx.TypeProto]:
    """Types and shapes of the values of the main graph, as far as onnx can infer them (data propagation on).

    Shapes that the file declares are believed only for graph inputs and for outputs of operators that onnx does not
    know. A dim of a value is missing (neither value nor parameter) when it is not known. Raises ModelFileError when
    the child hits a limit or crashes, GraphError when the shapes or types of the graph contradict each other.
    """
    graph = run_child(proto, limits, check=False).model.graph
    found: dict[str, onnx.TypeProto] = {}
    for group in (graph.input, graph.value_info, graph.output):
        found.update((v.name, v.type) for v in group if v.type.WhichOneof("value"))
    return found


def run_child(proto: onnx.ModelProto, limits: Limits, *, check: bool) -> Inference:
    """Infer types and shapes; with `check` the ONNX checker runs first.

    Errors as `infer_value_types`, and ModelFileError from the checker.
    """
    import onnx
    import onnx.onnx_cpp2py_export as extension

    body, check_tail, infer_tail = _skeleton(proto)
    parts = [b"ci" if check else b"i", *(m.SerializeToString() for m in (body, check_tail, infer_tail))]
    request = struct.pack("<4Q", *(len(p) for p in parts)) + b"".join(parts)
    answer = _call(str(extension.__file__), request, limits)
    kind, rest, doubt = answer[:1], answer[1:], ""
    if kind == b"M":
        raise _memory_error(limits, len(request))
    if kind == b"c":
        raise _checker_error(rest.decode("utf-8", "replace"))
    if kind == b"i":
        size = struct.unpack_from("<Q", rest)[0]
        doubt, rest = rest[8 : 8 + size].decode("utf-8", "replace"), rest[8 + size :]
        if doubt and (not rest or doubt.count("Inference error(s)") < _NESTED):
            raise _inference_error(doubt)
    model: onnx.ModelProto = onnx.ModelProto.FromString(rest)
    _drop_invented_dims(model.graph, {d for v in (*infer_tail.graph.input, *body.graph.value_info) for d in _params(v)})
    return Inference(model, _short(doubt))


def _params(value: onnx.ValueInfoProto) -> list[str]:
    return [d.dim_param for d in value.type.tensor_type.shape.dim if d.dim_param]


def _drop_invented_dims(graph: onnx.GraphProto, known: set[str]) -> None:
    """onnx names dims that it does not know `unk__0`, `unk__1` ...: only the user's names stay."""
    for value in (*graph.value_info, *graph.output):
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param not in known:
                dim.ClearField("dim_param")


def _call(extension: str, request: bytes, limits: Limits) -> bytes:
    memory = limits.shape_memory_bytes + _MEMORY_PER_BYTE * len(request)
    command = [sys.executable, "-I", "-S", str(_CHILD), extension, str(memory), str(limits.shape_seconds)]
    wall_s = _WALL_FACTOR * limits.shape_seconds + _WALL_SLACK_S
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=wall_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise _time_error(f"{wall_s} s on the clock", limits) from error
    if done.returncode == 0 and done.stdout:
        return done.stdout
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _time_error(f"{limits.shape_seconds} s of CPU time", limits)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelFileError(
            "the ONNX checker or shape inference crashed on this model",
            why=f"its process ended with {name}; memory limit {format_bytes(memory)}",
            hint="the file drives onnx into a bug: check it with onnx.checker, or export it again",
        )
    detail = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if detail and "memory" in detail[-1].lower():  # C++ dies of it in many ways
        raise _memory_error(limits, len(request))
    raise InternalError(
        "the process for shape inference did not start", why=detail[-1] if detail else f"exit {done.returncode}"
    )


def _time_error(what: str, limits: Limits) -> ModelFileError:
    return ModelFileError(
        "the ONNX checker and shape inference take too long on this model",
        why=f"stopped after {what}, limit shape-seconds = {limits.shape_seconds}",
        hint="raise it with --limit shape-seconds=...",
    )


def _memory_error(limits: Limits, sent_bytes: int) -> ModelFileError:
    return ModelFileError(
        "the ONNX checker and shape inference take too much memory on this model",
        why=f"limit shape-memory-bytes = {format_bytes(limits.shape_memory_bytes)}, "
        f"and {_MEMORY_PER_BYTE} x {format_bytes(sent_bytes)} sent",
        hint="raise it with --limit shape-memory-bytes=...",
    )


def _short(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS] + " ..."


def _checker_error(message: str) -> ModelFileError:
    match = _CHECKER_NODE.search(message)
    where = (match[1],) if match and match[1] else ()
    return ModelFileError("the ONNX checker refuses the model", where, _short(message), "export the model again")


def _inference_error(message: str) -> GraphError:
    """One problem a node that the message names."""
    findings = Findings()
    found = list(_INFERENCE_ERROR.finditer(message))
    ends = [m.start() for m in found] + [len(message)]
    for match, end in zip(found, ends[1:], strict=True):
        name = match[2] or match[1]
        why = _short(message[match.end() : end])
        findings.add(f"the shapes or types at a {match[1]} contradict each other", (name,), why, "export again")
    if not found:
        findings.add("the shapes or types of the graph contradict each other", (), _short(message), "export again")
    return GraphError.of(tuple(findings.problems))


def _skeleton(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """(model without weights, inputs and outputs; inputs and outputs for the checker; the same for the inference).

    Protobuf merges messages that stand one behind the other, so body + tail is a model. The checker demands types and
    shapes that onnxruntime does not, and does not look at what they are: it gets scalars.
    """
    import onnx

    body = onnx.ModelProto(ir_version=max(proto.ir_version, 4))  # from 4 on initialisers need not be inputs
    body.opset_import.extend(proto.opset_import)
    body.functions.extend(proto.functions)
    unknown = opaque_values(proto)
    moved = _fill_body(proto, body.graph)
    body.graph.value_info.extend(v for v in proto.graph.value_info if v.name in unknown)
    check_tail, infer_tail = onnx.ModelProto(), onnx.ModelProto()
    infer_tail.graph.input.extend(v for v in proto.graph.input if v.name not in moved)
    infer_tail.graph.input.extend(onnx.helper.make_tensor_value_info(name, *moved[name]) for name in moved)
    for value in proto.graph.output:
        if value.name in unknown:
            infer_tail.graph.output.append(value)
        else:
            infer_tail.graph.output.add(name=value.name)
    for source, target in (
        (infer_tail.graph.input, check_tail.graph.input),
        (infer_tail.graph.output, check_tail.graph.output),
    ):
        target.extend(onnx.helper.make_tensor_value_info(v.name, onnx.TensorProto.FLOAT, []) for v in source)
    return body, check_tail, infer_tail


def opaque_values(proto: onnx.ModelProto) -> frozenset[str]:
    """Outputs of operators that onnx does not know: only the file can tell their types."""
    functions = {(f.domain, f.name) for f in proto.functions}
    return frozenset(
        name
        for node in proto.graph.node
        if node.domain not in _STANDARD_DOMAINS and (node.domain, node.op_type) not in functions
        for name in node.output
    )


def _fill_body(proto: onnx.ModelProto, graph: onnx.GraphProto) -> dict[str, tuple[int, list[int]]]:
    """Copy nodes and small constants into `graph`; returns the tensors left out: name -> element type, dims."""
    source = proto.graph
    moved = {s.values.name: (s.values.data_type, list(s.dims)) for s in source.sparse_initializer}
    graph.name = source.name or "graph"
    for tensor in source.initializer:
        if _data_length(tensor) <= KEPT_BYTES:
            graph.initializer.append(tensor)
        else:
            moved[tensor.name] = (tensor.data_type, list(tensor.dims))
    for index, node in enumerate(source.node):
        constant = _constant_tensor(node)
        if constant is not None and _data_length(constant) > KEPT_BYTES:
            moved[node.output[0]] = (constant.data_type, list(constant.dims))
            continue
        graph.node.append(node)
        if not node.name:
            graph.node[-1].name = f"{node.op_type}_{index}"  # the name that messages and origins use
    return moved


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    return next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)


def _data_length(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's data, from its dims: they agree by now, and `raw_data` would be copied to be measured."""
    from h4hc.loading.tensors import data_bytes

    return data_bytes(tensor.data_type, tensor.dims)
