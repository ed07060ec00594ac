"""What the grouping passes share: reading constants, small questions about nodes, and merging operator groups.

The grouping passes only annotate (see `h4hc.annotations`). `Groups` keeps track of which node belongs to
which operator while a pass merges them, refuses a merge that would break the group law (every inner value
is used inside only, exactly one value leaves), and checks the law of the whole model at the end of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as notes
from h4hc.errors import PassError, Problem
from h4hc.passbase import PassResult, Skip
from passes.values import STANDARD_DOMAINS

MICROSOFT_DOMAIN = "com.microsoft"  # onnxruntime's own operators

# Relative error up to which a constant of the graph counts as the one in the formula: rounding of the type.
TOLERANCE = 1e-6
TOLERANCE_HALF = 1e-3
_HALF_TYPES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


# ---------------------------------------------------------------- constants


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The stored tensor behind `value`: an initialiser, a Constant node, or either behind Identity nodes.

    None for everything that can change between two runs, which includes an initialiser that is also a
    model input (the caller may override it).
    """
    while value is not None and not value.is_graph_input():
        producer = value.producer()
        if producer is None:
            return value.const_value
        if producer.op_type == "Constant" and producer.domain in STANDARD_DOMAINS:
            return get_const_tensor(value)
        if not is_op(producer, "Identity"):
            return None
        value = producer.inputs[0]
    return None


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is known at compile time; also if left unfolded because of its size (`h4hc.constant`)."""
    if value is None or value.is_graph_input():
        return False
    producer = value.producer()
    if producer is not None and producer.metadata_props.get(notes.CONSTANT) == "1":
        return True
    return constant(value) is not None


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element; None if it is not constant, not a number or has more elements."""
    tensor = constant(value)
    if tensor is None or tensor.size != 1 or tensor.dtype == ir.DataType.STRING:
        return None
    return float(tensor.numpy().reshape(-1)[0].real)


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """The numbers in a constant integer list (axes, permutations)."""
    tensor = constant(value)
    if tensor is None or tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    return tuple(int(i) for i in tensor.numpy().reshape(-1))


def tolerance(value: ir.Value | None) -> float:
    """How exactly a constant that works on `value` must match, relative."""
    return TOLERANCE_HALF if value is not None and value.dtype in _HALF_TYPES else TOLERANCE


def close(seen: float, wanted: float, relative: float) -> bool:
    """Whether `seen` is `wanted` up to rounding; zero is matched up to `relative` itself."""
    return math.isclose(seen, wanted, rel_tol=relative, abs_tol=relative if wanted == 0 else 0.0)


# ---------------------------------------------------------------- nodes and values


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these standard ONNX operators."""
    return node is not None and node.op_type in op_types and node.domain in STANDARD_DOMAINS


def is_quantize(node: ir.Node | None) -> bool:
    """Whether `node` is QuantizeLinear, the standard one or onnxruntime's."""
    return (
        node is not None and node.op_type == "QuantizeLinear" and node.domain in (*STANDARD_DOMAINS, MICROSOFT_DOMAIN)
    )


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether `node` is DequantizeLinear, the standard one or onnxruntime's."""
    return (
        node is not None and node.op_type == "DequantizeLinear" and node.domain in (*STANDARD_DOMAINS, MICROSOFT_DOMAIN)
    )


def dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of `value` if all of it is known: from the constant, else from the shape in the model."""
    tensor = constant(value)
    shape = tensor.shape if tensor is not None else None if value is None else value.shape
    if shape is None:
        return None
    known = tuple(d for d in shape if isinstance(d, int))
    return known if len(known) == len(shape) else None


def rank(value: ir.Value | None) -> int | None:
    """Number of axes of `value` if known."""
    tensor = constant(value)
    if tensor is not None:
        return len(tensor.shape)
    return None if value is None or value.shape is None else len(value.shape)


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Input number `index`, None if absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only node that uses `value` (perhaps at several inputs); None if there are more, or it is a model output."""
    consumers = value.consumers()
    return consumers[0] if len(consumers) == 1 and not value.is_graph_output() else None


def other_operand(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The second operand of a two-operand node that uses `value` exactly once."""
    if len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is value:
        return None if second is value else second
    return first if second is value else None


def scalar_operand(node: ir.Node) -> tuple[ir.Value, float, int] | None:
    """(varying operand, constant, position of the constant) of x + c, c - x, x * c ..., else None.

    A constant of more axes than the other operand would change the shape and is not accepted.
    """
    if len(node.inputs) != 2:
        return None
    for position in (1, 0):
        number = scalar(node.inputs[position])
        varying = node.inputs[1 - position]
        if number is None or varying is None:
            continue
        axes, known = rank(node.inputs[position]) or 0, rank(varying)
        if axes <= 1 or (known is not None and axes <= known):
            return varying, number, position
    return None


def describe(node: ir.Node) -> str:
    """How messages name a node: type and the user's own name."""
    names = notes.origins(node)
    return f"{node.op_type} {names[0] if names else node.name!s}"


# ---------------------------------------------------------------- groups


@dataclass(frozen=True)
class Exit:
    """A value used outside its group, and by whom."""

    value: ir.Value
    user: str

    def __str__(self) -> str:
        return f"{self.value.name} ({self.user})"


class Groups:
    """The operators of the main graph: which nodes form each, and merging them under the group law."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._members = notes.group_members(model)
        self._by_name = {str(node.name): node for node in model.graph}

    def members(self, node: ir.Node) -> list[ir.Node]:
        """All nodes of the operator that `node` belongs to; empty for a node of a subgraph body."""
        if node.graph is not self._graph:
            return []
        return self._members[notes.group_id(node)]

    def anchor(self, node: ir.Node) -> ir.Node:
        """The node that names the operator of `node`."""
        return self._by_name[notes.group_id(node)]

    def single(self, node: ir.Node) -> bool:
        """Whether `node` is an operator by itself."""
        return len(self.members(node)) == 1

    def anchors(self) -> Iterator[ir.Node]:
        """Anchor of each operator, in the order of the operators' first nodes when the pass began."""
        for name in list(self._members):
            if name in self._members:
                yield self._by_name[name]

    def add(self, node: ir.Node) -> None:
        """Take notice of a node that a pass has put into the graph."""
        self._members[notes.group_id(node)] = [node]
        self._by_name[str(node.name)] = node

    def drop(self, node: ir.Node) -> None:
        """Take notice of an ungrouped node that a pass has removed from the graph."""
        self._members.pop(str(node.name))
        self._by_name.pop(str(node.name))

    def fresh_name(self, base: str) -> str:
        """A node name that is not taken yet: `base#2`, `base#3` ..."""
        count = 2
        while f"{base}#{count}" in self._by_name:
            count += 1
        return f"{base}#{count}"

    def union(self, nodes: Iterable[ir.Node]) -> list[ir.Node]:
        """The nodes of all operators that `nodes` belong to, each once."""
        return list({member: None for node in nodes for member in self.members(node)})

    def obstacle(self, nodes: Iterable[ir.Node], *, several: bool = False) -> str:
        """Why the operators of `nodes` cannot become one; empty if they can.

        `several` lets more than one value leave: for an operator that has several outputs itself.
        """
        union = self.union(nodes)
        for node in union:
            if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
                return f"{describe(node)} holds a subgraph"
        exits = leaving(union)
        if not exits:
            return "nothing uses the result"
        if len({e.value for e in exits}) > 1 and not several:
            return "more than one value would leave the operator: " + ", ".join(map(str, exits))
        return ""

    def merge(
        self,
        anchor: ir.Node,
        nodes: Iterable[ir.Node],
        *,
        kind: str = "",
        activation: str = "",
        params: dict[str, object] | None = None,
    ) -> None:
        """Make one operator, named by `anchor`, out of the operators of all these nodes.

        The caller has asked `obstacle` first. `params` are added to those the anchor has.
        """
        union = self.union((anchor, *nodes))
        for member in union:
            self._members.pop(notes.group_id(member), None)
            if member is not anchor and notes.is_anchor(member):
                notes.clear_group(member)
        notes.join_group(
            anchor,
            [member for member in union if member is not anchor],
            kind=kind,
            activation=activation,
            params=None if params is None else {**notes.params(anchor), **params},
        )
        self._members[str(anchor.name)] = union

    def check(self) -> None:
        """Hold every group of more than one node against the group law. Raises PassError with all faults."""
        faults: list[Problem] = []
        for name, nodes in self._members.items():
            if len(nodes) < 2:
                continue
            anchor = self._by_name.get(name)
            if anchor is None or anchor not in nodes:
                faults.append(Problem(f"operator {name!r} has no anchor node", (name,)))
                continue
            exits = {e.value: e for e in leaving(nodes)}
            if len(exits) != 1 and not (exits and len(used_outputs(anchor)) > 1):
                seen = ", ".join(map(str, exits.values())) or "none"
                faults.append(
                    Problem(f"operator {name!r} does not have exactly one result", (name,), f"values leaving: {seen}")
                )
        if faults:
            raise PassError.of(tuple(faults))


def group_each(model: ir.Model, group: Callable[[Groups, ir.Node], str | None]) -> PassResult:
    """Offer every node of the main graph to `group`: None if it made an operator of it, "" if there is none to make,
    else why not.
    """
    result, groups = PassResult(), Groups(model)
    for node in model.graph:
        why = group(groups, node)
        if why is None:
            result.changed += 1
        elif why:
            result.skipped.append(Skip(str(node.name), why))
    groups.check()
    return result


def used_outputs(node: ir.Node) -> list[ir.Value]:
    """Outputs of `node` that something uses."""
    return [v for v in node.outputs if v.is_graph_output() or v.uses()]


def leaving(nodes: Collection[ir.Node]) -> list[Exit]:
    """Values made by `nodes` and used elsewhere: by another node, by a subgraph body, as model output."""
    inside = set(nodes)
    exits = []
    for node in nodes:
        for value in node.outputs:
            outside = next((c for c in value.consumers() if c not in inside), None)
            if value.is_graph_output():
                exits.append(Exit(value, "a model output"))
            elif outside is not None:
                exits.append(Exit(value, f"used by {describe(outside)}"))
    return exits
