"""replace-layout: move Transposes through operators that do not care, where that makes them cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from h4hc.annotations import merge_origins, origins, set_origins
from h4hc.passbase import Pass, PassResult
from passes.layout_rules import Perm, Store, compose, data_inputs, inverse, is_indifferent_reader, move, transpose_perm
from passes.values import (
    Names,
    add_initializer,
    constant,
    drop_unused_initializers,
    lost_origins,
    note_removed,
    opset,
    rank,
    remove_dead,
    require_ir_4,
    sole_consumer,
    static_shape,
)

_Usage = tuple[ir.Node, int]  # a node, and which of its inputs
_WHY = "cancelled against other Transposes"


@dataclass(frozen=True)
class ReplaceLayout(Pass):
    """Cancel Transposes by moving them through elementwise, Concat, Pad, Slice, Softmax and reduction operators.

    Before: Conv -> Transpose(NHWC) -> Add(b) -> Relu -> Transpose(NCHW) -> Conv     After: Conv -> Add -> Relu -> Conv
    A connected region of such operators works in another order of axes as a whole, if the graph then has fewer
    Transposes than before; constants are transposed once, at compile time. A Transpose right after another is
    merged with it. At most `max_regions` regions are moved. The physical layout on a device is decided later.
    Numerics: bit-equal, but for reductions, which may add up in another order: |d| <= 1e-6 max|y| for float32.
    """

    name: ClassVar[str] = "replace-layout"
    after: ClassVar[tuple[str, ...]] = ("infer-shapes",)
    max_regions: int = 1000

    def run(self, model: ir.Model) -> PassResult:
        """Merge, then move one region at a time, as long as each saves a Transpose."""
        reasons: dict[str, str] = {}
        changed = _merge_consecutive(model)
        names = Names(model)
        budget = self.max_regions
        while budget > 0:
            moved = _sweep(model, names, reasons, budget)
            if not moved:
                break
            budget -= moved
            changed += moved + _merge_consecutive(model)
        return PassResult(changed, lost_origins(model, reasons))


def _sweep(model: ir.Model, names: Names, reasons: dict[str, str], budget: int) -> int:
    """Move every region that saves Transposes, once; the number moved."""
    moved = 0
    for nodes, dims in _regions(model):
        choice = _best(nodes, dims) if moved < budget else None
        if choice is not None:
            require_ir_4(model)
            _Mover(model, choice, names, reasons).apply()
            moved += 1
    return moved


def _merge_consecutive(model: ir.Model) -> int:
    """Transpose(Transpose(x)) is one Transpose, when nothing else reads the value between."""
    count = 0
    for node in model.graph:
        perm = transpose_perm(node)
        source = node.inputs[0] if perm is not None else None
        inner = source.producer() if source is not None else None
        before = transpose_perm(inner)
        if perm is None or source is None or inner is None or before is None or len(before) != len(perm):
            continue
        if sole_consumer(source) is not node:
            continue
        node.attributes["perm"] = ir.AttrInt64s("perm", compose(before, perm))
        node.replace_input_with(0, inner.inputs[0])
        merge_origins(node, [inner])
        model.graph.remove(inner, safe=True)
        count += 1
    return count


# ---------------------------------------------------------------- finding a region


@dataclass(frozen=True)
class _Region:
    """Nodes that will work on moved tensors, v' with v = Transpose(v', perm)."""

    nodes: tuple[ir.Node, ...]
    perm: Perm
    saved: int  # Transposes fewer


def _best(nodes: tuple[ir.Node, ...], dims: int) -> _Region | None:
    """The region, moved in the way that saves most Transposes; None when none is saved."""
    inside = set(nodes)
    options = [_Region(nodes, perm, _saved(nodes, inside, perm)) for perm in _perms(nodes, inside, dims)]
    best = max(options, key=lambda region: region.saved, default=None)
    return best if best is not None and best.saved > 0 else None


def _regions(model: ir.Model) -> list[tuple[tuple[ir.Node, ...], int]]:
    """Connected sets of nodes that can be moved together and touch a Transpose, each with the rank of its tensors."""
    version = opset(model)
    if not any(transpose_perm(n) for n in model.graph):
        return []
    position = {n: i for i, n in enumerate(model.graph)}
    ranks = {n: d for n in model.graph if (d := _movable_rank(n, version)) is not None}
    seen: set[ir.Node] = set()
    regions: list[tuple[tuple[ir.Node, ...], int]] = []
    for start, dims in ranks.items():
        if start in seen or not any(transpose_perm(n) for n in (*start.predecessors(), *start.successors())):
            continue
        seen.add(start)
        members, work = [start], [start]
        while work:
            for other in _neighbours(work.pop(), version, dims):
                if ranks.get(other) == dims and other not in seen:
                    seen.add(other)
                    members.append(other)
                    work.append(other)
        regions.append((tuple(sorted(members, key=position.__getitem__)), dims))
    return regions


def _movable_rank(node: ir.Node, version: int) -> int | None:
    """Rank of the tensors the node works on, when it can be moved at all."""
    named = [v for v in node.outputs if v.name]
    dims = rank(named[0]) if named else None
    if dims is None or dims < 2 or any(static_shape(v) is None or rank(v) != dims for v in named):
        return None
    inputs = data_inputs(node, version, dims)
    if inputs is None:
        return None
    return dims if all(_can_follow(node.inputs[i], dims) for i in inputs) else None


def _can_follow(value: ir.Value | None, dims: int) -> bool:
    """Whether an operand can be had in the new order: a tensor of that rank, a constant, or a single element."""
    shape = static_shape(value)
    if value is None or shape is None or len(shape) > dims:
        return False
    return len(shape) == dims or constant(value) is not None or all(d == 1 for d in shape)


def _follows(value: ir.Value, dims: int) -> bool:
    """Whether the operand is a tensor that moves (not a constant, not a single element of lower rank)."""
    return rank(value) == dims and constant(value) is None


def _neighbours(node: ir.Node, version: int, dims: int) -> Iterator[ir.Node]:
    for index in data_inputs(node, version, dims) or ():
        value = node.inputs[index]
        producer = value.producer() if value is not None and rank(value) == dims else None
        if producer is not None:
            yield producer
    for value in node.outputs:
        for use, index in value.uses():
            if index in (data_inputs(use, version, dims) or ()):
                yield use


def _boundary_inputs(nodes: tuple[ir.Node, ...], inside: set[ir.Node], dims: int) -> list[ir.Value]:
    """Tensors that enter the region along a moving axis order, each once."""
    found: dict[ir.Value, None] = {}
    for node in nodes:
        for value in _moving_inputs(node, dims):
            if value.producer() not in inside and _follows(value, dims):
                found.setdefault(value)
    return list(found)


def _moving_inputs(node: ir.Node, dims: int) -> list[ir.Value]:
    # The version matters only for whether a node can be moved at all, which is settled here: 13 allows the most.
    return [v for i in data_inputs(node, 13, dims) or () if (v := node.inputs[i]) is not None]


def _perms(nodes: tuple[ir.Node, ...], inside: set[ir.Node], dims: int) -> list[Perm]:
    """Orders worth trying: those in which some Transpose at the border disappears."""
    found: dict[Perm, None] = {}
    for value in _boundary_inputs(nodes, inside, dims):
        perm = transpose_perm(value.producer())
        if perm is not None and len(perm) == dims:
            found.setdefault(perm)
    for node in nodes:
        for value in node.outputs:
            for use, _ in value.uses():
                perm = transpose_perm(use)
                if perm is not None and len(perm) == dims:
                    found.setdefault(inverse(perm))
    return [perm for perm in found if perm != tuple(range(dims))]


def _saved(nodes: tuple[ir.Node, ...], inside: set[ir.Node], perm: Perm) -> int:
    """Transposes that go, less those that come, when the region is moved by `perm`."""
    identity, back, saved = tuple(range(len(perm))), inverse(perm), 0
    for value in _boundary_inputs(nodes, inside, len(perm)):
        producer, before = _arriving_transpose(value, inside)
        if producer is not None and before is not None:
            goes = not value.is_graph_output() and all(use in inside for use, _ in value.uses())
            saved += int(goes) - int(compose(before, back) != identity)
        else:
            saved -= 1
    for node in nodes:
        for value in node.outputs:
            saved += _saved_behind(value, inside, perm)
    return saved


def _arriving_transpose(value: ir.Value, inside: set[ir.Node]) -> tuple[ir.Node | None, Perm | None]:
    """The Transpose that makes a tensor entering the region, unless it reads the region's own, moved tensors."""
    producer = value.producer()
    before = transpose_perm(producer)
    source = producer.inputs[0] if producer is not None and before is not None else None
    if source is None or source.producer() in inside:
        return None, None
    return producer, before


def _saved_behind(value: ir.Value, inside: set[ir.Node], perm: Perm) -> int:
    saved, restored = 0, value.is_graph_output()
    for use, _ in value.uses():
        then = transpose_perm(use) if use.graph is value.graph else None
        if then is not None:
            goes = compose(perm, then) == tuple(range(len(perm))) and not use.outputs[0].is_graph_output()
            saved += int(goes)
        elif use not in inside and not (use.graph is value.graph and is_indifferent_reader(use, perm)):
            restored = True
    return saved - int(restored)


# ---------------------------------------------------------------- moving it


def _uses(value: ir.Value) -> list[_Usage]:
    return [(use.node, use.idx) for use in value.uses()]


@dataclass
class _Mover:
    """Rewrites one region."""

    model: ir.Model
    region: _Region
    names: Names
    reasons: dict[str, str]
    moved_constants: dict[ir.Value, ir.Value] = field(default_factory=dict)
    touched: list[ir.Node] = field(default_factory=list)  # Transposes that may be unread now
    stand_for: tuple[str, ...] = ()  # origins for Transposes that are put in

    def apply(self) -> None:
        """Move inputs, nodes and outputs, then drop the Transposes nothing reads."""
        nodes, perm = self.region.nodes, self.region.perm
        inside, dims = set(nodes), len(self.region.perm)
        outside = {v: [u for u in _uses(v) if u[0] not in inside] for n in nodes for v in n.outputs if v.name}
        border = _boundary_inputs(nodes, inside, dims)
        old = [v for n in nodes for v in n.inputs]
        self.stand_for = self._origins_at_border(border, outside)
        arrivals = {value: self._arrival(value, nodes) for value in border}
        for node in nodes:
            self._move_inputs(node, arrivals, dims)
        for node in nodes:
            move(node, perm, self._store(node))
            for value in node.outputs:
                if value.name:
                    self._leave(node, value, outside[value])
        self._clean(old)

    def _origins_at_border(self, border: list[ir.Value], outside: dict[ir.Value, list[_Usage]]) -> tuple[str, ...]:
        near = [v.producer() for v in border] + [use for uses in outside.values() for use, _ in uses]
        return tuple(sorted({o for n in near if n is not None and transpose_perm(n) for o in origins(n)}))

    def _arrival(self, value: ir.Value, nodes: tuple[ir.Node, ...]) -> ir.Value:
        """`value` in the new order: what its Transpose read, or the output of a new Transpose."""
        back = inverse(self.region.perm)
        producer, before = _arriving_transpose(value, set(nodes))
        source = value
        if producer is not None and before is not None and producer.inputs[0] is not None:
            self.touched.append(producer)
            source, back = producer.inputs[0], compose(before, back)
        if back == tuple(range(len(back))):
            return source
        first = next(n for n in nodes if any(v is value for v in n.inputs))
        return self._transpose(source, back, f"{value.name}/moved", before=first).outputs[0]

    def _transpose(self, source: ir.Value, perm: Perm, base: str, before: ir.Node) -> ir.Node:
        node = ir.node("Transpose", [source], {"perm": list(perm)}, name=self.names.fresh(f"{base}/Transpose"))
        set_origins(node, self.stand_for)
        self.model.graph.insert_before(before, node)
        output = node.outputs[0]
        output.name, output.type = self.names.fresh(base), source.type
        shape = static_shape(source)
        if shape is not None:
            output.shape = ir.Shape([shape[a] for a in perm])
        return node

    def _move_inputs(self, node: ir.Node, arrivals: dict[ir.Value, ir.Value], dims: int) -> None:
        moving = {id(v) for v in _moving_inputs(node, dims)}
        for index, value in enumerate(node.inputs):
            if value is None or id(value) not in moving:
                continue
            if value in arrivals:
                node.replace_input_with(index, arrivals[value])
            elif constant(value) is not None:
                node.replace_input_with(index, self._moved_constant(value, dims))

    def _moved_constant(self, value: ir.Value, dims: int) -> ir.Value:
        array = constant(value)
        assert array is not None
        if array.size == 1 and array.ndim < dims:
            return value
        if value not in self.moved_constants:
            full = array.reshape((1,) * (dims - array.ndim) + array.shape)
            moved = np.ascontiguousarray(full.transpose(inverse(self.region.perm)))
            name = self.names.fresh(f"{value.name}/moved")
            self.moved_constants[value] = add_initializer(self.model.graph, name, moved)
        return self.moved_constants[value]

    def _store(self, node: ir.Node) -> Store:
        def store(array: np.ndarray, what: str) -> ir.Value:
            return add_initializer(self.model.graph, self.names.fresh(f"{node.name}/{what}"), array)

        return store

    def _leave(self, node: ir.Node, value: ir.Value, outside: list[_Usage]) -> None:
        """Give readers outside what they expect: nothing if they can take the moved tensor, else a Transpose.

        The restored tensor keeps the name, so that model outputs and bodies of control flow see no difference.
        """
        perm, graph = self.region.perm, self.model.graph
        shape = static_shape(value)
        assert shape is not None
        rest: list[_Usage] = []
        for use, index in outside:
            then = transpose_perm(use) if use.graph is graph else None
            if then is not None:
                self._read_moved(use, compose(perm, then))
            elif use.graph is graph and is_indifferent_reader(use, perm):
                move(use, perm, self._store(use))
            else:
                rest.append((use, index))
        name, promised = value.name, value.is_graph_output()
        moved_shape = ir.Shape([shape[a] for a in inverse(perm)])
        if not rest and not promised:
            value.shape = moved_shape
            return
        value.name = self.names.fresh(f"{name}/moved")
        value.shape = moved_shape
        following = ir.node("Transpose", [value], {"perm": list(perm)}, name=self.names.fresh(f"{name}/Transpose"))
        set_origins(following, self.stand_for)
        graph.insert_after(node, following)
        restored = following.outputs[0]
        restored.name, restored.type, restored.shape = name, value.type, ir.Shape(shape)
        for use, index in rest:
            use.replace_input_with(index, restored)
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = restored

    def _read_moved(self, transpose: ir.Node, perm: Perm) -> None:
        """A Transpose behind the region now reads the moved tensor; one that has nothing left to do goes."""
        transpose.attributes["perm"] = ir.AttrInt64s("perm", perm)
        output, source = transpose.outputs[0], transpose.inputs[0]
        if perm == tuple(range(len(perm))) and not output.is_graph_output() and source is not None:
            output.replace_all_uses_with(source)
            self.touched.append(transpose)

    def _clean(self, old: list[ir.Value | None]) -> None:
        for node in remove_dead(self.model.graph, self.touched):
            note_removed(self.reasons, node, _WHY)
        drop_unused_initializers(self.model.graph, old)
