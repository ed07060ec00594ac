"""What h4hc writes on ONNX nodes: origin, operator group, region. The only place that knows the keys.

A *group* is a set of nodes that runs as one operator (Conv + Relu, or DequantizeLinear + Conv +
QuantizeLinear). Grouping leaves the ONNX arithmetic untouched: the nodes stay as the executable
definition of the operator, and the annotation is how the compiler reads them. A group has one anchor
node, whose operator type and attributes give the parameters, exactly one value used outside (an
operator with several outputs is a group of its own), and so is convex.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable

import onnx_ir as ir

ORIGIN = "h4hc.origin"  # JSON list of the user's node names
GROUP = "h4hc.op"  # id of the operator this node belongs to = name of its anchor
KIND = "h4hc.kind"  # on the anchor: what the group computes, when the anchor's op_type does not say it
PARAMS = "h4hc.params"  # on the anchor: JSON object of what the pattern recognised (epsilon, axis, value names)
ACTIVATION = "h4hc.activation"  # on the anchor: fused activation function
REGION = "h4hc.region"  # named region (attention block)
PART = "h4hc.part"  # on the anchor: id of the operator that this one is a part of
CONSTANT = "h4hc.constant"  # "1": value known at compile time but left unfolded because of its size


def origins(node: ir.Node) -> tuple[str, ...]:
    """Names of the user's nodes this node stands for; empty before `stamp_origins`."""
    text = node.metadata_props.get(ORIGIN)
    return decode_origins(text) if text else ()


@functools.lru_cache(maxsize=1 << 16)  # each pass asks every node
def decode_origins(text: str) -> tuple[str, ...]:
    """The names that the value of the ORIGIN key holds."""
    return tuple(json.loads(text))


def set_origins(node: ir.Node, names: Iterable[str]) -> None:
    """Set the origins, sorted and without repeats."""
    node.metadata_props[ORIGIN] = json.dumps(sorted(set(names)))


def merge_origins(target: ir.Node, sources: Iterable[ir.Node]) -> None:
    """Let `target` also stand for everything that `sources` stand for."""
    names = set(origins(target))
    for node in sources:
        names.update(origins(node))
    set_origins(target, names)


def stamp_origins(model: ir.Model) -> None:
    """Give each node of the main graph a unique name, and its own name as origin; done once, at load.

    A nameless node gets `<op_type>_<index>`; a repeated name gets `#2`, `#3` ... behind it.
    """
    taken: set[str] = set()
    for index, node in enumerate(model.graph):
        base = node.name or f"{node.op_type}_{index}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}#{count}"
        taken.add(name)
        node.name = name
        set_origins(node, (name,))


def all_origins(model: ir.Model) -> frozenset[str]:
    """Every user node that some node of the main graph stands for."""
    return frozenset(name for node in model.graph for name in origins(node))


def group_id(node: ir.Node) -> str:
    """Operator this node belongs to; a node outside any group is an operator of its own."""
    return node.metadata_props.get(GROUP) or str(node.name)


def is_anchor(node: ir.Node) -> bool:
    """Whether this node names its group."""
    return group_id(node) == node.name


def group_members(model: ir.Model) -> dict[str, list[ir.Node]]:
    """Operator id -> its nodes in graph order; operators in order of first appearance."""
    members: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        members.setdefault(group_id(node), []).append(node)
    return members


def join_group(
    anchor: ir.Node,
    nodes: Iterable[ir.Node],
    *,
    kind: str = "",
    activation: str = "",
    params: dict[str, object] | None = None,
) -> None:
    """Put `nodes` into the group named by `anchor`; empty arguments leave what the anchor already says."""
    for node in (anchor, *nodes):
        node.metadata_props[GROUP] = str(anchor.name)
    if kind:
        anchor.metadata_props[KIND] = kind
    if activation:
        anchor.metadata_props[ACTIVATION] = activation
    if params is not None:
        anchor.metadata_props[PARAMS] = json.dumps(params, sort_keys=True)


def clear_group(node: ir.Node) -> None:
    """Forget what `node` said as the anchor of a group, and the group; origins and region stay."""
    for key in (GROUP, KIND, PARAMS, ACTIVATION):
        node.metadata_props.pop(key, None)


def kind(anchor: ir.Node) -> str:
    """Recognised kind of the group, or empty."""
    return anchor.metadata_props.get(KIND, "")


def params(anchor: ir.Node) -> dict[str, object]:
    """Recognised parameters of the group, or an empty dict."""
    text = anchor.metadata_props.get(PARAMS)
    return dict(json.loads(text)) if text else {}


def activation(anchor: ir.Node) -> str:
    """Fused activation of the group, or empty."""
    return anchor.metadata_props.get(ACTIVATION, "")


def part_of(anchor: ir.Node) -> str:
    """Id of the operator that this one is a part of, or empty."""
    return anchor.metadata_props.get(PART, "")


def region(node: ir.Node) -> str:
    """Named region of this node, or empty."""
    return node.metadata_props.get(REGION, "")
