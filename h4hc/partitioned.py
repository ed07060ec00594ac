"""emit: (legalised model, Schedule) -> the partitioned ONNX, and one stand-alone ONNX a partition.

The partitioned model's main graph has one call a partition; each partition is a model-local function in
the domain `h4hc.partition`. Weights stay initialisers of the main graph and are passed in, so a reader can
see what a partition must have loaded. Arithmetic is untouched: the functions hold the legalised model's own
nodes, so stock onnxruntime, which inlines them, gives the same bits.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.annotations import CONSTANT, ORIGIN, decode_origins, group_id
from h4hc.errors import InternalError, LimitError
from h4hc.partition_cut import Cut, Part, cut_graph, uses

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from h4hc.schedule import Schedule

DOMAIN = "h4hc.partition"
DOMAIN_VERSION = 1
IR_VERSION = 10  # FunctionProto.value_info, FunctionProto.metadata_props and NodeProto.metadata_props appeared here
PARTITION = "h4hc.partition"  # metadata key on call, function and model: the partition's id
DEVICE = "h4hc.device"  # metadata key: the device it runs on


@dataclass(frozen=True)
class Emitted:
    """The three forms of a planned model: legalised, partitioned, and each partition on its own by id."""

    legalised: onnx.ModelProto
    partitioned: onnx.ModelProto
    partitions: dict[str, onnx.ModelProto]


def emit(model: ir.Model, schedule: Schedule) -> Emitted:
    """All forms of a planned model, serialised once; see `partitioned_model` and `partition_models`."""
    import onnx

    legal, cut = _cut(model, schedule)
    copy = onnx.ModelProto()
    copy.CopyFrom(legal)
    return Emitted(legal, _with_calls(copy, cut), _standalones(legal, cut))


def partitioned_model(model: ir.Model, schedule: Schedule) -> onnx.ModelProto:
    """The whole model with one function call a partition, in execution order.

    Bit-equal to `model` on onnxruntime with optimisations off. Nodes that belong to no operator of the plan must
    be computable from constants alone; they stay in the main graph, before the calls. Raises InternalError when
    the schedule does not cover the model or is not in an order that can run.
    """
    return _with_calls(*_cut(model, schedule))


def _with_calls(proto: onnx.ModelProto, cut: Cut) -> onnx.ModelProto:
    """Replace the nodes of `proto` by the prologue and one call a partition."""
    inner = {name for part in cut.parts for name in part.inner}
    types, imports = _known_types(proto), _Imports(proto)
    taken = {f.name for f in proto.functions if f.domain == DOMAIN}
    names = {node.name for node in cut.prologue}
    calls = []
    for part in cut.parts:
        function = _function(imports, part, types)
        function.name = _unused(part.id, taken)
        taken.add(function.name)
        call = _call(part, function.name)
        call.name = _unused(part.id, names)
        names.add(call.name)
        calls.append(call)
        proto.functions.append(function)
    nodes = [*cut.prologue, *calls]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    kept = [info for info in proto.graph.value_info if info.name not in inner]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    if DOMAIN not in {opset.domain for opset in proto.opset_import}:
        proto.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    return proto


def partition_models(model: ir.Model, schedule: Schedule) -> dict[str, onnx.ModelProto]:
    """One stand-alone model a partition, by partition id, in execution order; its weights are inside.

    Run one after another, each fed with the model's inputs and the outputs of those before it, they reproduce
    the model bit for bit. Inputs and outputs keep the names, types and shapes they have in the legalised model.
    Raises InternalError when the type of a tensor between partitions cannot be told.
    """
    return _standalones(*_cut(model, schedule))


def _standalones(proto: onnx.ModelProto, cut: Cut) -> dict[str, onnx.ModelProto]:
    types, imports, constants = _complete_types(proto, cut), _Imports(proto), _Constants(proto.graph)
    models = {}
    for part in cut.parts:
        before = cut.constants_for(part)
        models[part.id] = model = _standalone(part, before, constants, types)
        model.ir_version = proto.ir_version
        nodes = [*before, *part.nodes]
        model.opset_import.extend(imports.opsets(nodes))
        model.functions.extend(imports.functions(nodes))
        _spell_out_defaults(model.graph.node, model.opset_import)
    return models


def model_bytes(proto: onnx.ModelProto) -> bytes:
    """Serialise; the same bytes for the same model. Raises LimitError over protobuf's 2 GiB."""
    try:
        return bytes(proto.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's upb raises EncodeError, its Python form ValueError
        raise LimitError(
            f"the model {proto.graph.name!r} cannot be written as one ONNX file",
            why=f"protobuf holds at most 2 GiB: {error}",
            hint="use a model with smaller weights",
        ) from error


def _cut(model: ir.Model, schedule: Schedule) -> tuple[onnx.ModelProto, Cut]:
    """Serialise the model (a copy: the caller's model stays as it is) and cut its nodes by partition."""
    proto = legalised_model(model)
    group_of = [group_id(node) for node in model.graph]
    is_constant = [node.metadata_props.get(CONSTANT) == "1" for node in model.graph]
    return proto, cut_graph(proto.graph, group_of, is_constant, schedule.partitions)


def legalised_model(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf with all weights inside, at an IR version that can hold annotated functions."""
    import onnx
    import onnx_ir as ir

    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            value = model.graph.initializers[tensor.name].const_value
            assert value is not None
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = value.tobytes()
    if proto.ir_version < 4:  # there each weight had to be an input as well; since 4 that means "may be overridden"
        weights = {tensor.name for tensor in proto.graph.initializer}
        inputs = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, IR_VERSION)
    return proto


def _function(imports: _Imports, part: Part, types: dict[str, onnx.ValueInfoProto]) -> onnx.FunctionProto:
    """The body of one partition; formal names equal the actual ones."""
    import onnx

    function = onnx.FunctionProto(domain=DOMAIN, doc_string=f"partition {part.id} on {part.device}")
    function.input.extend(part.inputs)
    function.output.extend(part.outputs)
    function.node.extend(part.nodes)
    function.opset_import.extend(imports.opsets(part.nodes))
    _spell_out_defaults(function.node, function.opset_import)
    known = [*part.inputs, *(name for node in part.nodes for name in node.output if name)]
    function.value_info.extend(types[name] for name in known if name in types)
    _put(function, PARTITION, part.id)
    _put(function, DEVICE, part.device)
    return function


def _spell_out_defaults(nodes: Iterable[onnx.NodeProto], opsets: Iterable[onnx.OperatorSetIdProto]) -> None:
    """Write the default attributes of operators that ONNX itself defines as functions, in place.

    ONNX' inference does not fill them in: without `axes` a MeanVarianceNormalization is refused by the checker, and
    inside a model-local function by onnxruntime too (ONNX 1.23, onnxruntime 1.31).
    """
    import onnx

    versions = {_plain(opset.domain): opset.version for opset in opsets}
    for node in _walk(nodes):
        try:
            schema = onnx.defs.get_schema(node.op_type, versions.get(_plain(node.domain), 1), _plain(node.domain))
        except onnx.defs.SchemaError:
            continue  # an operator of onnxruntime's own or a model-local function: ONNX knows no defaults for it
        if schema.has_function:  # type: ignore[attr-defined]  # not in ONNX' type stubs
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in sorted(schema.attributes.items()):
                if name not in given and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
                    node.attribute.append(attribute.default_value)


def _call(part: Part, function: str) -> onnx.NodeProto:
    """The call node; it stands for all the user's nodes inside."""
    import json

    import onnx

    node = onnx.NodeProto(op_type=function, domain=DOMAIN, input=part.inputs, output=part.outputs)
    origin: set[str] = set()
    for inner in part.nodes:
        for prop in inner.metadata_props:
            if prop.key == ORIGIN:
                origin.update(decode_origins(prop.value))
    _put(node, ORIGIN, json.dumps(sorted(origin)))
    _put(node, PARTITION, part.id)
    _put(node, DEVICE, part.device)
    return node


class _Constants:
    """The weights of a graph by name, so that a partition's are found without a walk over all of them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._fed = {value.name for value in graph.input}  # a weight that is an input too may be overridden
        self._dense = {tensor.name: (at, tensor) for at, tensor in enumerate(graph.initializer)}
        self._sparse = {tensor.values.name: (at, tensor) for at, tensor in enumerate(graph.sparse_initializer)}

    def add_to(self, graph: onnx.GraphProto, needed: set[str]) -> set[str]:
        """Copy the weights needed, in the model's order; names that thereby need no input."""
        dense = sorted((self._dense[name] for name in needed & self._dense.keys()), key=lambda item: item[0])
        sparse = sorted((self._sparse[name] for name in needed & self._sparse.keys()), key=lambda item: item[0])
        graph.initializer.extend(tensor for _, tensor in dense)
        graph.sparse_initializer.extend(tensor for _, tensor in sparse)
        return (needed & (self._dense.keys() | self._sparse.keys())) - self._fed


def _standalone(
    part: Part, before: list[onnx.NodeProto], constants: _Constants, types: dict[str, onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """One partition with its weights and the constant nodes it reads (`before`)."""
    import onnx

    out = onnx.ModelProto(producer_name="h4hc")
    out.graph.name = part.id
    nodes = [*before, *part.nodes]
    out.graph.node.extend(nodes)
    inside = {name for node in before for name in node.output}
    inside |= constants.add_to(out.graph, {*part.inputs, *(name for node in before for name in uses(node))})
    out.graph.input.extend(types[name] for name in part.inputs if name not in inside)
    out.graph.output.extend(types[name] for name in part.outputs)
    shown = {value.name for value in (*out.graph.input, *out.graph.output)}
    inner = [name for node in nodes for name in node.output if name and name not in shown]
    out.graph.value_info.extend(types[name] for name in inner if name in types)
    _put(out, PARTITION, part.id)
    _put(out, DEVICE, part.device)
    return out


def _put(where: onnx.NodeProto | onnx.FunctionProto | onnx.ModelProto, key: str, value: str) -> None:
    where.metadata_props.add(key=key, value=value)


def _unused(name: str, taken: Container[str]) -> str:
    """`name`, with `_2`, `_3` ... behind it when something else has that name already."""
    result, count = name, 1
    while result in taken:
        count += 1
        result = f"{name}_{count}"
    return result


class _Imports:
    """What of a model's operator sets and model-local functions a list of its nodes needs."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._opsets = [(_plain(opset.domain), opset) for opset in proto.opset_import]
        self._functions = {(f.domain, f.name): (at, f) for at, f in enumerate(proto.functions)}

    def opsets(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
        """Imports that the nodes and the bodies inside them need, plus those of functions they call."""
        nodes = list(nodes)
        domains = {_plain(node.domain) for node in _walk(nodes)}
        for function in self.functions(nodes):
            domains.update(_plain(opset.domain) for opset in function.opset_import)
        return [opset for domain, opset in self._opsets if domain in domains]

    def functions(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.FunctionProto]:
        """The functions that the nodes call, directly or through others, in the model's order."""
        if not self._functions:
            return []
        found: set[tuple[str, str]] = set()
        todo = list(_walk(nodes))
        while todo:
            node = todo.pop()
            key = (node.domain, node.op_type)
            if key in self._functions and key not in found:
                found.add(key)
                todo.extend(_walk(self._functions[key][1].node))
        return [function for _, function in sorted((self._functions[key] for key in found), key=lambda item: item[0])]


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _walk(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """`nodes` and all nodes in their bodies."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack.extend(graph.node)


def _known_types(proto: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Type of each value the model declares one for; weights get theirs from their data."""
    from onnx import helper

    types = {t.name: helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer}
    for value in (*proto.graph.value_info, *proto.graph.output, *proto.graph.input):
        if value.type.WhichOneof("value") is not None:
            types[value.name] = value
    return types


def _complete_types(proto: onnx.ModelProto, cut: Cut) -> dict[str, onnx.ValueInfoProto]:
    """`_known_types`; for values between partitions that have none, those ONNX infers, else those onnxruntime does."""
    import onnx

    from h4hc.limits import Limits
    from h4hc.ortrun import value_types
    from h4hc.sandbox import infer_value_types

    between = [name for part in cut.parts for name in (*part.inputs, *part.outputs)]
    sparse = {tensor.values.name for tensor in proto.graph.sparse_initializer}

    def missing() -> list[str]:
        return sorted({name for name in between if name not in types} - sparse)

    types = _known_types(proto)
    if missing():
        for name, kind in infer_value_types(proto, Limits()).items():
            if kind.WhichOneof("value") is not None:
                types.setdefault(name, onnx.ValueInfoProto(name=name, type=kind))
    if missing():
        types.update(value_types(proto, missing()))
    if missing():
        raise InternalError("the type of a tensor between two partitions is unknown", where=tuple(missing()))
    return types
