"""Finds the first node whose value differs between two models: runs both with their inner values as outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h4hc.compare import Difference, Tolerance, compare
from h4hc.graph_facts import origin_of, producers
from h4hc.ortrun import Level, OrtError, Runner

if TYPE_CHECKING:
    import onnx

BATCH_BYTES = 256 * 2**20  # inner values held at a time, of each model
UNKNOWN_BYTES = 2**20  # assumed for a value without a declared shape


@dataclass(frozen=True)
class FirstDifference:
    """nodes: the user's names of the node that makes `value`; op_type: of the candidate's node."""

    nodes: tuple[str, ...]
    op_type: str
    value: str
    difference: Difference


def first_difference(
    reference: onnx.ModelProto,
    candidate: onnx.ModelProto,
    feeds: Mapping[str, Any],
    tolerance: Tolerance | None,
    skip: Mapping[str, Any],
) -> FirstDifference | None:
    """The first value in the candidate's order that both models have and that is too far off.

    Compared at ORT_DISABLE_ALL, values in `skip` left out. A value whose shape or type differs may only have been
    renamed or laid out anew, so it counts only when nothing else does. None when no shared value differs.
    """
    known = producers(reference.graph)
    order = [name for node in candidate.graph.node for name in node.output if name in known and name not in skip]
    changed: FirstDifference | None = None
    for names in _batches(candidate, order):
        wanted, got = _values(reference, feeds, names), _values(candidate, feeds, names)
        for name in names:
            if name not in wanted or name not in got:
                continue
            difference = compare(wanted[name], got[name], tolerance)
            if difference.within:
                continue
            found = _found(candidate, name, difference)
            if not difference.why:
                return found
            changed = changed or found
    return changed


def _found(candidate: onnx.ModelProto, name: str, difference: Difference) -> FirstDifference:
    index, node = next((i, n) for i, n in enumerate(candidate.graph.node) if name in n.output)
    return FirstDifference(origin_of(node, index), node.op_type, name, difference)


def _batches(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[list[str]]:
    from onnx import helper

    sizes = {}
    for info in (*model.graph.value_info, *model.graph.output):
        tensor = info.type.tensor_type
        size = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if tensor.elem_type else 1
        for dim in tensor.shape.dim:
            size *= max(1, dim.dim_value)
        sizes[info.name] = size if tensor.HasField("shape") else UNKNOWN_BYTES
    batch: list[str] = []
    total = 0
    for name in names:
        size = sizes.get(name, UNKNOWN_BYTES)
        if batch and total + size > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch


def _values(model: onnx.ModelProto, feeds: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Inner values by name; those onnxruntime cannot give out (a sparse tensor, say) are absent."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        return Runner(probe.SerializeToString(), Level.DISABLE_ALL).run(feeds)
    except OrtError:
        if len(names) == 1:
            return {}
        half = len(names) // 2
        return {**_values(model, feeds, names[:half]), **_values(model, feeds, names[half:])}


def without_calls(model: onnx.ModelProto) -> onnx.ModelProto:
    """The partitioned model with its partitions written out in the main graph, under the values' own names.

    A call whose formal names are not its actual ones (not h4hc's work) stays a call: it can then only be named
    as a whole.
    """
    import onnx

    from h4hc.partitioned import DOMAIN

    bodies = {(f.domain, f.name): f for f in model.functions if f.domain == DOMAIN}
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    del flat.graph.node[:]
    for node in model.graph.node:
        body = bodies.get((node.domain, node.op_type))
        same = body is not None and list(body.input) == list(node.input) and list(body.output) == list(node.output)
        flat.graph.node.extend(body.node if body is not None and same else [node])
    del flat.graph.value_info[:]
    return flat
