"""Cuts one operator's group of ONNX nodes into parts, puts them in its place, and joins their results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.lowering.channels import Slices, use_stage
from h4hc.splits import Split, scaled
from h4hc.workload import BEHIND, EVERY, FIRST

SLICE_BY_INPUTS = 10  # opset since which Slice takes starts, ends and axes as inputs


@dataclass(frozen=True)
class Joined:
    """A result that a Concat puts together: where its parts begin and end along `axis`, and the parts."""

    axis: int
    ranges: tuple[tuple[int, int], ...]
    parts: tuple[ir.Value, ...]


class Carver:
    """Splits groups of one model, in execution order.

    An activation that has to be sliced just where an earlier split joined it is read from that split's parts, and a
    Concat that nobody reads any more goes.
    """

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self._opset = int(model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 1)))
        self.joined: dict[str, Joined] = {}
        self.joins: dict[str, ir.Node] = {}
        self.passed_by: dict[str, None] = {}  # results of joins whose parts an operator reads by themselves
        self.read: dict[ir.Value, None] = {}  # constants of the operators that were split

    def split(self, split: Split, cut: Slices) -> None:
        """Replace one group by its parts and what joins them."""
        self.read.update((v, None) for v in cut.group.constants)
        works = [_Part(self, split, cut, index) for index in range(len(split.counts))]
        results = [work.build() for work in works]
        old = cut.group.outputs[0]
        last = old.producer()
        assert last is not None  # a group's result
        nodes = [node for work in works for node in work.nodes]
        join = self._concat if split.axis == "output" else _sum
        new = join(split, cut, results, nodes)
        self.graph.insert_after(last, nodes)
        _replace(old, new)
        for node in reversed(cut.group.members):
            self.graph.remove(node, safe=True)

    def _concat(self, split: Split, cut: Slices, parts: Sequence[ir.Value], nodes: list[ir.Node]) -> ir.Value:
        old = cut.group.outputs[0]
        axis = cut.axes[old]
        node = _node("Concat", split.join, parts, cut, {"axis": axis})
        nodes.append(node)
        self.joins[str(old.name)] = node
        new = _typed(node.outputs[0], "", old, cut.shape(old))
        self.joined[str(old.name)] = Joined(axis, split.ranges, tuple(parts))
        return new

    def slice(
        self, split: Split, cut: Slices, index: int, value: ir.Value, name: str
    ) -> tuple[ir.Value, ir.Node | None]:
        """The share of an activation that a part reads, and the Slice that makes it; none where a part is just that."""
        shape, axis = cut.shapes[str(value.name)], cut.axes_by_name[str(value.name)]
        ranges = tuple(scaled(*r, shape[axis], cut.count) for r in split.ranges)
        known = self.joined.get(str(value.name))
        if known is not None and (known.axis, known.ranges) == (axis, ranges):
            self.passed_by[str(value.name)] = None
            return known.parts[index], None
        start, stop = ranges[index]
        given: dict[str, Sequence[int]] = {"starts": [start], "ends": [stop], "axes": [axis]}
        if self._opset >= SLICE_BY_INPUTS:
            limits = [self.constant(f"{name}/{key}", ir.tensor(numbers)) for key, numbers in given.items()]
            node = _node("Slice", name, [value, *limits], cut, {})
        else:
            node = _node("Slice", name, [value], cut, dict(given))
        return _typed(node.outputs[0], f"{name}/{value.name}", value, _narrowed(shape, axis, stop - start)), node

    def constant(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """A new initialiser."""
        shape = ir.Shape([int(d) for d in tensor.shape if isinstance(d, int)])
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        self.graph.register_initializer(value)
        return value


class _Part:
    """One part of a group under construction."""

    def __init__(self, carver: Carver, split: Split, cut: Slices, index: int) -> None:
        self._carver, self._split, self._cut, self._index = carver, split, cut, index
        self._id = split.part(index)
        self._new: dict[str, ir.Value] = {}  # by the name of the value whose place it takes
        self._operands = 0  # activations sliced
        self.nodes: list[ir.Node] = []

    def build(self) -> ir.Value:
        """Make the nodes; gives the part's result."""
        cut, result = self._cut, self._cut.group.outputs[0]
        stages = (EVERY, FIRST) if self._index == 0 else (EVERY,)
        members = [n for n in cut.group.members if not cut.stages or cut.stages[n] in stages]
        last = result
        if cut.stages:
            last = _last_before_sum(cut) if self._index == 0 else cut.group.anchor.outputs[0]
        copies = {node: self._copy(node, members, last, str(result.name)) for node in members}
        names = {old: str(new.name) for old, new in self._new.items()}
        _annotate(copies[cut.group.anchor], cut, names, self._split, self._index)
        return self._new[str(last.name)]

    def _copy(self, node: ir.Node, members: Sequence[ir.Node], last: ir.Value, result: str) -> ir.Node:
        cut, anchor = self._cut, self._cut.group.anchor
        inputs = [self._input(v) if self._takes(node, i) else None for i, v in enumerate(node.inputs)]
        while inputs and inputs[-1] is None and node.inputs[len(inputs) - 1] is not None:
            inputs.pop()  # the bias, where it is another part's
        name = self._id if node is anchor else f"{self._id}/{node.name}"
        attributes = {a.name: a for a in node.attributes.values()}
        if node is anchor and node.attributes.get_int("group", 1) > 1:
            attributes["group"] = ir.AttrInt64("group", self._split.counts[self._index] // cut.unit)
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(attributes.values()),
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
            name=name,
            metadata_props=dict(node.metadata_props),
        )
        if len(members) > 1 or marks.GROUP in node.metadata_props:
            copy.metadata_props[marks.GROUP] = self._id
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if not old.name:
                new.name = old.name
                continue
            end = result if old is last else str(old.name)
            self._new[str(old.name)] = _typed(new, f"{self._id}/{end}", old, self._shape(old))
        self.nodes.append(copy)
        return copy

    def _takes(self, node: ir.Node, index: int) -> bool:
        cut = self._cut
        return not cut.stages or use_stage(node, index, cut.group.anchor, cut.stages) <= (
            FIRST if self._index == 0 else EVERY
        )

    def _shape(self, value: ir.Value) -> tuple[int, ...]:
        shape = self._cut.shapes[str(value.name)]
        axis = self._cut.axes_by_name.get(str(value.name))
        if axis is None:
            return shape
        start, stop = self._range(shape[axis])
        return _narrowed(shape, axis, stop - start)

    def _range(self, dim: int) -> tuple[int, int]:
        return scaled(*self._split.ranges[self._index], dim, self._cut.count)

    def _input(self, value: ir.Value | None) -> ir.Value | None:
        if value is None:
            return None
        name = str(value.name)
        if name in self._new:
            return self._new[name]
        axis = self._cut.axes_by_name.get(name)
        if axis is None:
            return value
        if name not in self._cut.inputs:
            tensor = get_const_tensor(value)
            assert tensor is not None  # asked when it was cut
            start, stop = self._range(self._cut.shapes[name][axis])
            array = tensor.numpy()[(slice(None),) * axis + (slice(start, stop),)].copy()
            new = self._carver.constant(f"{self._id}/{name}", ir.Tensor(array, dtype=tensor.dtype))
        else:
            which = self._split.slice(self._index, self._operands)
            new, node = self._carver.slice(self._split, self._cut, self._index, value, which)
            self._operands += 1
            self.nodes += [node] if node is not None else []
        self._new[name] = new
        return new


def drop_unread(graph: ir.Graph, carver: Carver) -> None:
    """Take out what the splits left without a reader: a Concat behind which parts read parts, whole weights."""
    for join in (carver.joins[name] for name in carver.passed_by):
        if not join.outputs[0].uses() and not join.outputs[0].is_graph_output():
            graph.remove(join, safe=True)
    for constant in carver.read:
        if constant.uses() or constant.is_graph_output():
            continue
        maker = constant.producer()
        if maker is not None and maker.graph is graph:
            graph.remove(maker, safe=True)  # a Constant: its origins are with the parts
        elif not constant.is_graph_input() and graph.initializers.get(str(constant.name)) is constant:
            del graph.initializers[str(constant.name)]


def _is_first(node: ir.Node, cut: Slices) -> bool:
    return cut.stages.get(node) == FIRST and not cut.known.constant_nodes[node]


def _sum(split: Split, cut: Slices, parts: Sequence[ir.Value], nodes: list[ir.Node]) -> ir.Value:
    """Add the two parts, then what stands behind the sum; one group."""
    old = cut.group.outputs[0]
    behind = [n for n in cut.group.members if cut.stages[n] == BEHIND]
    add = _node("Add", split.join, parts, cut, {})
    nodes.append(add)
    entering = _last_before_sum(cut)
    new = _typed(add.outputs[0], f"{split.join}/{entering.name}", entering, cut.shape(entering))
    if not behind:
        new.name = None
        return new
    renamed = {str(entering.name): new}
    for node in behind:
        inputs = [None if v is None else renamed.get(str(v.name), v) for v in node.inputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
            version=node.version,
            name=f"{split.join}/{node.name}",
            metadata_props=dict(node.metadata_props),
        )
        nodes.append(copy)
        for was, value in zip(node.outputs, copy.outputs, strict=True):
            renamed[str(was.name)] = _typed(value, f"{split.join}/{was.name}", was, cut.shape(was))
    own = {k: v for k, v in marks.params(cut.group.anchor).items() if k == "activation"}
    marks.join_group(add, nodes[-len(behind) :], activation=marks.activation(cut.group.anchor), params=own or None)
    result = renamed[str(old.name)]
    result.name = None
    return result


def _last_before_sum(cut: Slices) -> ir.Value:
    first = [n for n in cut.group.members if n is cut.group.anchor or _is_first(n, cut)]
    return first[-1].outputs[0]


def _annotate(anchor: ir.Node, cut: Slices, names: dict[str, str], split: Split, index: int) -> None:
    """What the anchor of a part says: whose part it is, all origins, and its parameters under their new names."""
    anchor.metadata_props[marks.PART] = split.op
    marks.set_origins(anchor, cut.group.origin)
    params = marks.params(anchor)
    if split.axis == "input":
        anchor.metadata_props.pop(marks.ACTIVATION, None)
        params.pop("activation", None)
        if index and params.get("bias"):
            params["bias"] = ""
    if params:
        features = "out_features" if split.axis == "output" else "in_features"
        if features in params:
            params[features] = split.counts[index]
        anchor.metadata_props[marks.PARAMS] = json.dumps(_renamed(params, names, len(anchor.inputs)), sort_keys=True)


def _renamed(params: dict[str, object], names: dict[str, str], inputs: int) -> dict[str, object]:
    """Parameters with the names of a part's own values; the keys are those that the grouping passes write."""

    def new(name: object) -> object:
        return names.get(name, name) if isinstance(name, str) else name

    found = {key: new(value) if key in ("weight", "bias", "input") else value for key, value in params.items()}
    activation, qdq = params.get("activation"), params.get("qdq")
    if isinstance(activation, dict):
        found["activation"] = {k: new(v) if k == "slope" else v for k, v in activation.items()}
    if isinstance(qdq, dict):
        found["qdq"] = {
            "inputs": [None if pair is None else [new(n) for n in pair] for pair in qdq["inputs"][:inputs]],
            "outputs": [[new(n) for n in pair] for pair in qdq["outputs"]],
            "tensors": {str(new(k)): [new(n) for n in pair] for k, pair in qdq["tensors"].items()},
        }
    return found


def _node(
    op_type: str, name: str, inputs: Iterable[ir.Value], cut: Slices, attributes: dict[str, int | Sequence[int]]
) -> ir.Node:
    """A node that joins or cuts: stands for the whole operator, in its region."""
    node = ir.node(op_type, list(inputs), attributes, name=name)
    marks.set_origins(node, cut.group.origin)
    region = marks.region(cut.group.anchor)
    if region:
        node.metadata_props[marks.REGION] = region
    return node


def _typed(value: ir.Value, name: str, like: ir.Value, shape: Sequence[int]) -> ir.Value:
    value.name, value.type, value.shape = name or None, like.type, ir.Shape(shape)
    return value


def _narrowed(shape: tuple[int, ...], axis: int, dim: int) -> tuple[int, ...]:
    return (*shape[:axis], dim, *shape[axis + 1 :])


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Give the readers of `old` the value `new`, under the old name."""
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    new.name = name
