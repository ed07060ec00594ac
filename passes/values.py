"""What the rewriting passes ask of a graph: constants, static shapes, fresh names, safe replacement of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from h4hc.annotations import all_origins, origins

if TYPE_CHECKING:
    import numpy as np

STANDARD_DOMAINS = ("", "ai.onnx")


def opset(model: ir.Model) -> int:
    """Version of the standard operator set; 1 when the model imports none (ONNX's own rule for IR < 3)."""
    imports = model.graph.opset_imports
    return int(imports.get("", imports.get("ai.onnx", 1)))


def is_standard(node: ir.Node, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the standard domain."""
    return node.domain in STANDARD_DOMAINS and node.op_type in op_types


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape when every dimension is a number >= 0, else None."""
    if value is None or value.shape is None:
        return None
    dims = tuple(value.shape)
    return dims if all(isinstance(d, int) and d >= 0 for d in dims) else None  # type: ignore[return-value]


def tensor_shape(tensor: ir.TensorProtocol) -> ir.Shape:
    """Shape of a stored tensor."""
    return ir.Shape([int(d) for d in tensor.shape if isinstance(d, int)])


def is_tensor(value: ir.Value) -> bool:
    """Whether the value is a dense tensor, as far as its type is known (unknown counts as tensor)."""
    return value.type is None or isinstance(value.type, ir.TensorType)


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, or None when not known."""
    return None if value is None or value.shape is None else len(value.shape)


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initialiser or of a Constant node's dense tensor, or None. Read only: they are shared."""
    if value is None or value.is_graph_input():  # an initialiser that is an input as well can be overridden
        return None
    if value.is_initializer():
        return None if value.const_value is None else value.const_value.numpy()
    node = value.producer()
    if node is None or not is_standard(node, "Constant"):
        return None
    attribute = node.attributes.get("value")
    if attribute is not None and not attribute.is_ref():
        return attribute.as_tensor().numpy()
    return _scalar_constant(node)


def _scalar_constant(node: ir.Node) -> np.ndarray | None:
    """Constant(value_int=..), (value_ints=..), (value_float=..), (value_floats=..); None for the other forms."""
    import numpy as np

    for name, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if name in node.attributes and not node.attributes[name].is_ref():
            return np.asarray(node.attributes[name].value, dtype=dtype)
    return None


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """Integer attribute, or the operator's own default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def ints_attribute(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """List attribute, or None when absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(int(v) for v in attribute.as_ints())


def node_input(node: ir.Node, index: int) -> ir.Value | None:
    """Input number `index`, or None when absent or left empty."""
    return node.inputs[index] if index < len(node.inputs) else None


def axes_of(node: ir.Node, index: int = 1) -> tuple[int, ...] | None:
    """Axes given as attribute (older opsets) or as constant input; () when not given, None when not constant."""
    given = ints_attribute(node, "axes")
    if given is not None:
        return given
    value = node_input(node, index)
    if value is None:
        return ()
    array = constant(value)
    return None if array is None else tuple(int(v) for v in array.ravel())


def is_inner_use(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether the body of some If, Loop or Scan reads the value or hands it out."""
    if any(use.graph is not graph for use, _ in value.uses()):
        return True
    return value.is_graph_output() and not any(value is out for out in graph.outputs)


def is_used(value: ir.Value) -> bool:
    """Whether anything reads the value: a node anywhere, or the model's outputs."""
    return bool(value.uses()) or value.is_graph_output()


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The one node input that reads the value; None when there are several, none, or it is a model output."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


class Names:
    """Hands out names that no value or node of the model bears, bodies of control flow included."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str] = set()
        for graph in model.graphs():
            self._taken.update(str(v.name) for v in graph.inputs)
            self._taken.update(graph.initializers)
            for node in graph:
                self._taken.add(str(node.name))
                self._taken.update(str(v.name) for v in node.outputs)

    def fresh(self, base: str) -> str:
        """`base`, or `base#2`, `base#3` ... when it is taken."""
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}#{count}"
        self._taken.add(name)
        return name


def require_ir_4(model: ir.Model) -> bool:
    """Make sure that initialisers need not be inputs too; whether anything changed.

    Before IR version 4 each initialiser had to be listed as an input (and could not be overridden), so a pass
    that adds one first brings the model to IR 4 and drops those inputs.
    """
    if model.ir_version >= 4:
        return False
    model.ir_version = 4
    inputs = [v for v in model.graph.inputs if not v.is_initializer()]
    if len(inputs) != len(model.graph.inputs):
        model.graph.inputs[:] = inputs
    return True


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register `array` as a new initialiser called `name`, which must be free."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def refuse_bypass(graph: ir.Graph, old: ir.Value, new: ir.Value) -> str:
    """Why readers of `old` cannot be given `new` instead, or empty.

    A body of control flow is never edited. The name of a model output is a promise to the user: `new` can only
    take it over when it is made by a node and is not promised under another name.
    """
    if is_inner_use(graph, old):
        return "the body of a control flow operator reads its output"
    if old.is_graph_output():
        if new.is_graph_output():
            return "its input and its output are both outputs of the model"
        if new.producer() is None:
            return "it makes an output of the model out of an input or a constant"
        if is_inner_use(graph, new):
            return "the body of a control flow operator reads its input"
    return ""


def bypass(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Give every reader of `old` the value `new`; a model output keeps its name. See `refuse_bypass`."""
    promised = old.is_graph_output()
    name, shape, kind = old.name, old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if promised:
        old.name = None
        new.name = name
        new.shape = new.shape if static_shape(new) is not None else shape
        new.type = new.type or kind


def remove_dead(graph: ir.Graph, candidates: Iterable[ir.Node]) -> list[ir.Node]:
    """Remove those of `candidates` that nothing reads, then what only they read; gives the removed nodes."""
    work = list(candidates)
    gone: list[ir.Node] = []
    while work:
        node = work.pop()
        if node.graph is not graph or any(is_used(v) for v in node.outputs):
            continue
        sources = [v.producer() for v in node.inputs if v is not None]
        graph.remove(node, safe=True)
        gone.append(node)
        work.extend(p for p in sources if p is not None)
    return gone


def drop_unused_initializers(graph: ir.Graph, candidates: Iterable[ir.Value | None]) -> None:
    """Remove those of the initialisers `candidates` that nothing reads any more; model inputs stay."""
    for value in candidates:
        if value is None or not value.is_initializer() or value.is_graph_input() or is_used(value):
            continue
        if graph.initializers.get(str(value.name)) is value:
            del graph.initializers[str(value.name)]


def lost_origins(model: ir.Model, reasons: Mapping[str, str]) -> dict[str, str]:
    """Those of `reasons` (origin -> why) that no node of the model stands for any more."""
    left = all_origins(model)
    return {name: why for name, why in reasons.items() if name not in left}


def note_removed(reasons: dict[str, str], node: ir.Node, why: str) -> None:
    """Write down why `node` goes, for each user node that it stands for."""
    for name in origins(node):
        reasons.setdefault(name, why)
