"""Sorts the nodes of a legalised graph into the partitions of a schedule, and finds what crosses between them.

Works on protobuf nodes only; `partitioned.py` makes models out of the result.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.errors import InternalError

if TYPE_CHECKING:
    import onnx

    from h4hc.schedule import Partition


@dataclass(frozen=True)
class Part:
    """One partition: its nodes in an order that can run, and the values that cross its edge.

    inputs: every value read but not made inside: activations, weights, and what bodies of If, Loop and Scan
    capture. outputs: values made inside that something outside reads (all its last values when nothing does).
    inner: values made and used inside only.
    """

    id: str
    device: str
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inner: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """The constant nodes of the main graph, then the partitions in execution order."""

    prologue: tuple[onnx.NodeProto, ...]
    parts: tuple[Part, ...]

    @functools.cached_property
    def _constant_maker(self) -> dict[str, int]:
        return {name: i for i, node in enumerate(self.prologue) for name in node.output if name}

    def constants_for(self, part: Part) -> list[onnx.NodeProto]:
        """The constant nodes that `part` reads, directly or through each other, in the graph's order."""
        maker, found, todo = self._constant_maker, set[int](), list(part.inputs)
        while todo:
            index = maker.get(todo.pop())
            if index is not None and index not in found:
                found.add(index)
                todo.extend(uses(self.prologue[index]))
        return [self.prologue[i] for i in sorted(found)]


def uses(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names of the values `node` reads, without repeats: its inputs, then what its bodies capture from outside."""
    names = dict.fromkeys(name for name in node.input if name)
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.HasField("g") else []
        for graph in (*bodies, *attribute.graphs):
            names.update(dict.fromkeys(_captured(graph)))
    return tuple(names)


def _captured(graph: onnx.GraphProto) -> list[str]:
    """Values a body reads but does not make. Bodies are nested at most as deep as the loader allows."""
    own = {value.name for value in graph.input}
    own.update(tensor.name for tensor in graph.initializer)
    own.update(tensor.values.name for tensor in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    read = [name for node in graph.node for name in uses(node)]
    return [name for name in (*read, *(value.name for value in graph.output)) if name not in own]


def cut_graph(
    graph: onnx.GraphProto,
    group_of: Sequence[str],
    is_constant: Sequence[bool],
    partitions: Sequence[Partition],
) -> Cut:
    """Sort the nodes of `graph` into `partitions`.

    group_of, is_constant: for each node of the graph its operator, and whether it is marked as a value known at
    compile time. Raises InternalError listing every fault: an operator without nodes or in two partitions, a
    node in no partition that depends on an input, a value read before it is made.
    """
    order = _stable_order(graph)
    home = _homes(group_of, partitions)
    loose = {i for i in range(len(graph.node)) if group_of[i] not in home}
    _check_prologue(graph, loose, group_of, is_constant)
    members: dict[int, list[int]] = {p: [] for p in range(len(partitions))}
    for index in order:
        if index not in loose:
            members[home[group_of[index]]].append(index)
    parts = _parts(graph, partitions, members, loose)
    _check_order(graph, parts, loose)
    return Cut(tuple(graph.node[i] for i in order if i in loose), parts)


def _homes(group_of: Sequence[str], partitions: Sequence[Partition]) -> dict[str, int]:
    """Operator -> index of its partition."""
    home: dict[str, int] = {}
    known = set(group_of)
    for index, partition in enumerate(partitions):
        for op in partition.ops:
            if op in home:
                raise InternalError(f"operator {op!r} is in two partitions", where=(op,))
            if op not in known:
                raise InternalError(
                    f"operator {op!r} of partition {partition.id} has no node in the model", where=(op,)
                )
            home[op] = index
    return home


def _stable_order(graph: onnx.GraphProto) -> list[int]:
    """Indices of the nodes, sorted topologically; of those that are ready, the first in the graph comes first."""
    import heapq

    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    waits: list[set[int]] = [{maker[n] for n in uses(node) if n in maker} for node in graph.node]
    feeds: dict[int, list[int]] = {}
    for index, sources in enumerate(waits):
        for source in sorted(sources):
            feeds.setdefault(source, []).append(index)
    ready = [i for i, sources in enumerate(waits) if not sources]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in feeds.get(index, ()):
            waits[follower].discard(index)
            if not waits[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(graph.node):
        stuck = tuple(graph.node[i].name for i, sources in enumerate(waits) if sources)
        raise InternalError("the legalised graph has a cycle", where=stuck)
    return order


def _check_prologue(
    graph: onnx.GraphProto, loose: set[int], group_of: Sequence[str], is_constant: Sequence[bool]
) -> None:
    """A node in no partition must be a constant: it reads weights and other such nodes only."""
    weights = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    known = weights | {name for i in loose for name in graph.node[i].output}
    bad = [i for i in sorted(loose) if any(name not in known for name in uses(graph.node[i]))]
    if bad:
        marked = [graph.node[i].name for i in bad if is_constant[i]]
        why = f"they depend on data known only at run time{'; marked constant: ' + ', '.join(marked) if marked else ''}"
        raise InternalError(
            f"{len(bad)} nodes are in no partition of the schedule",
            where=tuple(graph.node[i].name for i in bad),
            why=f"{why} (operators {', '.join(sorted({group_of[i] for i in bad}))})",
        )


def _parts(
    graph: onnx.GraphProto, partitions: Sequence[Partition], members: dict[int, list[int]], loose: set[int]
) -> tuple[Part, ...]:
    """Find what each partition reads from outside and gives to outside."""
    outside = -1  # reader "partition" of the model's outputs and of the constant nodes
    readers: dict[str, set[int]] = {value.name: {outside} for value in graph.output}
    for index, numbers in (*members.items(), (outside, sorted(loose))):
        for number in numbers:
            for name in uses(graph.node[number]):
                readers.setdefault(name, set()).add(index)
    parts = []
    for index, partition in enumerate(partitions):
        nodes = [graph.node[i] for i in members[index]]
        made = list(dict.fromkeys(name for node in nodes for name in node.output if name))
        own = set(made)
        inputs = list(dict.fromkeys(name for node in nodes for name in uses(node) if name not in own))
        outputs = [name for name in made if readers.get(name, set()) - {index}]
        outputs = outputs or [name for name in made if name not in readers]
        inner = own - set(outputs)
        parts.append(
            Part(
                partition.id,
                partition.device,
                tuple(nodes),
                tuple(inputs),
                tuple(outputs),
                tuple(name for name in made if name in inner),
            )
        )
    return tuple(parts)


def _check_order(graph: onnx.GraphProto, parts: tuple[Part, ...], loose: set[int]) -> None:
    """Each partition may read only what exists when it starts."""
    here = {value.name for value in graph.input}
    here |= {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    here |= {name for i in loose for name in graph.node[i].output}
    for part in parts:
        late = tuple(name for name in part.inputs if name not in here)
        if late:
            raise InternalError(
                f"partition {part.id} reads values that do not exist when it starts", where=late, why="schedule order"
            )
        here.update(part.outputs)
