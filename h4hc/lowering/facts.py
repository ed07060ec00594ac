"""What is known about every value of a model before its operators are lowered: shape, type, constant or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.errors import GraphError, Problem
from h4hc.lowering.bounds import Bound, bound, fit
from h4hc.lowering.dtypes import UNKNOWN, dtype_name, is_sized
from h4hc.lowering.inputs import is_standard
from h4hc.lowering.order import cycle_in, stable_order
from h4hc.lowering.site import Fact, Group, Site

OVERRIDABLE_SINCE_IR = 4  # before IR version 4 every initialiser had to be listed as an input too

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

# Operators whose shapes follow from their inputs' alone; one that lacks its shape was not inferred.
INFERRED = frozenset(
    {
        "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MatMul",
        "MatMulInteger", "MaxPool", "QLinearConv", "QLinearMatMul", "Softmax",
    }
)  # fmt: skip


@dataclass
class Known:
    """Facts of all values of the main graph and of all bodies.

    nodes: the main graph's in a topological order, ties as in the file. constant: values known at compile time.
    bounded, estimated, unsized: names of values whose size is an upper bound, an estimate, or that of a type
    without a size.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    facts: dict[ir.Value, Fact] = field(default_factory=dict)
    constant: dict[ir.Value, bool] = field(default_factory=dict)
    constant_nodes: dict[ir.Node, bool] = field(default_factory=dict)
    bounded: list[str] = field(default_factory=list)
    estimated: list[str] = field(default_factory=list)
    unsized: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    opset: int = 1


def learn(model: ir.Model) -> Known:
    """Walk the model once in topological order. Raises GraphError on a cycle; other problems are collected."""
    known = Known(opset=_opset(model))
    known.nodes = _sorted_nodes(list(model.graph))
    for value in model.graph.inputs:
        if not is_overwritten(model, value):
            _learn_input(known, value, None, main=True)
    _learn_initializers(known, model.graph, model)
    for node in known.nodes:
        _learn_node(known, node, main=True)
    bodies = [(body, node) for node in known.nodes for body in bodies_of(node)]
    while bodies:
        graph, outer = bodies.pop()
        _learn_body(known, graph, outer)
        bodies.extend((body, node) for node in graph for body in bodies_of(node))
    return known


def is_overwritten(model: ir.Model, value: ir.Value) -> bool:
    """Whether a graph input is only an initialiser listed twice, as IR versions before 4 demanded."""
    return model.ir_version < OVERRIDABLE_SINCE_IR and value.is_initializer()


def bodies_of(node: ir.Node) -> list[ir.Graph]:
    """Graphs in the attributes of a node, in the order of the attributes."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs


def captures_of(node: ir.Node) -> list[ir.Value]:
    """Values of enclosing graphs that the bodies of a node read or hand out, each once, in order of use."""
    stack = bodies_of(node)
    if not stack:
        return []
    inside: set[ir.Graph] = set()
    used: dict[ir.Value, None] = {}
    while stack:
        graph = stack.pop(0)
        inside.add(graph)
        for inner in graph:
            used.update((v, None) for v in inner.inputs if v is not None)
            stack.extend(bodies_of(inner))
        used.update((v, None) for v in graph.outputs)
    return [v for v in used if v.graph not in inside]


def read_by(node: ir.Node) -> list[ir.Value]:
    """Everything a node reads: its inputs, then what its bodies capture."""
    return [*(v for v in node.inputs if v is not None), *captures_of(node)]


def made_by(node: ir.Node) -> Iterator[ir.Value]:
    """Outputs of a node that are not left out."""
    return (v for v in node.outputs if v.name)


def _opset(model: ir.Model) -> int:
    imports = model.graph.opset_imports
    return int(imports.get("", imports.get("ai.onnx", 1)))


def _sorted_nodes(nodes: list[ir.Node]) -> list[ir.Node]:
    place = {node: index for index, node in enumerate(nodes)}
    after: list[list[int]] = []
    for node in nodes:
        makers = (v.producer() for v in read_by(node))
        after.append([place[m] for m in makers if m is not None and m in place])
    order, stuck = stable_order(after, range(len(nodes)))
    if stuck:
        cycle = [nodes[i] for i in cycle_in(after, stuck)]
        raise GraphError(
            "the graph has a cycle",
            tuple(name for n in cycle for name in (marks.origins(n) or (str(n.name),))),
            "each of these nodes needs the result of the one that follows",
            "an ONNX graph must be acyclic; export the model again",
        )
    return [nodes[i] for i in order]


def _dims(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) and d >= 0 else None for d in value.shape)


def _shape_of(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    return tuple(int(d) for d in tensor.shape.numpy())


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _static(dims: Sequence[int | None] | None) -> tuple[int, ...] | None:
    return None if dims is None or None in dims else tuple(d for d in dims if d is not None)


def _learn_input(known: Known, value: ir.Value, outer: Fact | None, main: bool) -> None:
    """A graph's input; `outer` is what flows into it where it is a body's."""
    dims, dtype = _dims(value), dtype_name(value.dtype)
    shape = _static(dims)
    if shape is not None and _is_tensor(value) and dtype != UNKNOWN:
        _note(known, value, Fact(shape, dtype, is_sized(dtype), is_sized(dtype)))
        return
    if main and _is_tensor(value):
        open_dims = [str(d) for d in value.shape] if value.shape is not None else []
        known.problems.append(
            Problem(
                f"the model input {value.name!r} has no static shape and type",
                (str(value.name),),
                f"shape [{', '.join(open_dims)}], element type {dtype}" if open_dims else f"no shape, type {dtype}",
                f"fix it: --input-shape {value.name}=...",
            )
        )
    guess = outer or Fact((), dtype, False, False, dimwise=False)
    fitted = fit(dims, Bound(guess.shape, guess.sound, guess.dimwise))
    exact = outer is not None and outer.exact and _is_tensor(value)
    dtype = guess.dtype if dtype == UNKNOWN else dtype
    _note(known, value, Fact(fitted.shape, dtype, exact, exact, fitted.dimwise))


def _learn_initializers(known: Known, graph: ir.Graph, model: ir.Model | None) -> None:
    for value in graph.initializers.values():
        if value.is_graph_input() and (model is None or not is_overwritten(model, value)):
            continue  # a default that the caller may override
        tensor = value.const_value
        assert tensor is not None
        dtype = dtype_name(tensor.dtype)
        known.constant[value] = True
        known.facts[value] = Fact(_shape_of(tensor), dtype, is_sized(dtype), is_sized(dtype))


def _learn_node(known: Known, node: ir.Node, main: bool) -> None:
    reads = read_by(node)
    for value in reads:
        if value not in known.facts:  # only a broken model: a value that nothing makes
            known.problems.append(
                Problem(f"{value.name!r} is read but made by nothing", marks.origins(node) or (str(node.name),))
            )
            known.facts[value] = Fact((), UNKNOWN, False, False, dimwise=False)
    for index, value in enumerate(node.outputs):
        if value.name:
            _learn_output(known, node, index, value, main)
    is_constant = _is_constant(known, node, reads)
    known.constant_nodes[node] = is_constant
    for value in made_by(node):
        known.constant[value] = is_constant


def _is_constant(known: Known, node: ir.Node, reads: list[ir.Value]) -> bool:
    """Whether a node's results are known at compile time, with a size: from constants, by no random operator."""
    if node.metadata_props.get(marks.CONSTANT) == "1":
        return True
    if is_standard(node) and node.op_type == "Constant":
        return True
    if not reads or node.op_type in RANDOM or bodies_of(node):
        return False
    if not all(known.constant.get(v, False) for v in reads):
        return False
    return all(known.facts[v].exact for v in made_by(node))


def _learn_output(known: Known, node: ir.Node, index: int, value: ir.Value, main: bool) -> None:
    dims, dtype = _dims(value), dtype_name(value.dtype)
    shape = _static(dims)
    if (shape is None or dtype == UNKNOWN) and (tensor := get_const_tensor(value)) is not None:
        shape, dtype = _shape_of(tensor), dtype_name(tensor.dtype)
    if shape is not None and dtype != UNKNOWN and _is_tensor(value):
        _note(known, value, Fact(shape, dtype, is_sized(dtype), is_sized(dtype)))
        return
    if main and shape is None and _should_be_known(known, node):
        known.problems.append(
            Problem(
                f"the result of {node.op_type} has no shape",
                marks.origins(node) or (str(node.name),),
                f"{value.name!r} does not depend on data, so shape inference has to know it",
                "run the pass infer-shapes before",
            )
        )
    first = next((known.facts[v] for v in node.inputs if v is not None), None)
    if shape is None:
        alone = Group(str(node.name), node, (node,), (), (), (), ())
        guess = fit(dims, bound(Site(alone, known.facts, known.constant, known.opset), index))
        shape, sound, dimwise = guess.shape, guess.sound, guess.dimwise
    else:
        sound, dimwise = _is_tensor(value), True
    if dtype == UNKNOWN and first is not None:
        dtype, sound = first.dtype, False
    _note(known, value, Fact(shape, dtype, False, sound and is_sized(dtype), dimwise))


def _should_be_known(known: Known, node: ir.Node) -> bool:
    if not is_standard(node) or node.op_type not in INFERRED:
        return False
    return all(known.facts[v].exact for v in node.inputs if v is not None)


def _note(known: Known, value: ir.Value, fact: Fact) -> None:
    known.facts[value] = fact
    if fact.exact:
        return
    if not is_sized(fact.dtype):
        known.unsized.append(str(value.name))
    elif fact.sound:
        known.bounded.append(str(value.name))
    else:
        known.estimated.append(str(value.name))


def _learn_body(known: Known, graph: ir.Graph, outer: ir.Node) -> None:
    for index, value in enumerate(graph.inputs):
        _learn_input(known, value, _entering(known, outer, index), main=False)
    _learn_initializers(known, graph, None)
    for node in graph:
        _learn_node(known, node, main=False)


def _entering(known: Known, outer: ir.Node, index: int) -> Fact | None:
    """What flows into input `index` of a body: the outer input of the same place, less the axis that Scan walks."""
    if index >= len(outer.inputs) or outer.inputs[index] is None:
        return None
    value = outer.inputs[index]
    assert value is not None
    fact = known.facts[value]
    if outer.op_type == "Loop" and index == 0:
        return Fact((), "int64")
    if outer.op_type != "Scan":
        return fact
    scanned = int(outer.attributes["num_scan_inputs"].as_int())
    first = len(outer.inputs) - scanned
    if index < first or not fact.shape:
        return fact
    axis = scan_axis(outer, index - first, len(fact.shape))
    return Fact(fact.shape[:axis] + fact.shape[axis + 1 :], fact.dtype, fact.exact, fact.sound)


def scan_axis(node: ir.Node, number: int, rank: int) -> int:
    """The axis along which Scan walks its scan input `number`."""
    axes = node.attributes.get("scan_input_axes")
    axis = int(axes.as_ints()[number]) if axes is not None else 0
    return axis % rank
