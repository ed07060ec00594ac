"""If, Loop, Scan: what their bodies compute, summed into one host operator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.lowering.facts import Known, bodies_of, made_by, read_by, scan_axis
from h4hc.lowering.inputs import structural
from h4hc.lowering.operators import lower_group
from h4hc.lowering.site import Fact, Group, Refused

SCAN_AXES_OPSET = 9  # before, Scan had a batch axis and no choice of axes


@dataclass(frozen=True)
class Body:
    """Sums over one run of a body, its own control flow included.

    read, written: values that its nodes read and write at run time, once for each node, with how often; bodies
    inside count as often as they run. constants: what it knows at compile time, each once.
    """

    macs: int = 0
    traffic: tuple[tuple[Fact, int, int], ...] = ()  # fact, times read, times written
    constants: tuple[ir.Value, ...] = ()


@dataclass
class Control:
    """Bodies of all control flow of a model, and the nodes whose number of runs is not known."""

    bodies: dict[ir.Graph, Body] = field(default_factory=dict)
    open_ended: list[str] = field(default_factory=list)

    def of(self, node: ir.Node, known: Known) -> Body:
        """What a node's bodies do: all runs of the body of Loop or Scan; of If the larger branch, by its MACs."""
        runs = trip_count(node, known)
        if runs is None:
            self.open_ended.extend(marks.origins(node) or (str(node.name),))
        parts = [self.bodies[graph] for graph in bodies_of(node)]
        constants = tuple(dict.fromkeys(v for part in parts for v in part.constants))
        if node.op_type == "If":
            worst = max(parts, key=lambda p: (p.macs, sum(f.size_bytes * (r + w) for f, r, w in p.traffic)))
            return Body(worst.macs, worst.traffic, constants)
        times = 1 if runs is None else runs
        traffic = tuple((fact, read * times, written * times) for part in parts for fact, read, written in part.traffic)
        return Body(sum(part.macs for part in parts) * times, traffic, constants)


def learn_control(model: ir.Model, known: Known) -> Control:
    """Sum every body, the innermost first; no recursion."""
    control = Control()
    graphs = [body for node in model.graph for body in bodies_of(node)]
    for graph in graphs:  # grows while it is walked: outer bodies stand before inner ones
        graphs.extend(body for node in graph for body in bodies_of(node))
    for graph in reversed(graphs):
        control.bodies[graph] = _sum_body(graph, known, control)
    return control


def trip_count(node: ir.Node, known: Known) -> int | None:
    """How often the body runs: of Scan the length of what it walks; of Loop its constant M, an upper bound where a
    condition may end it sooner; 1 for If; None when only running the model tells."""
    if node.op_type == "If":
        return 1
    if node.op_type == "Loop" and node.inputs[0] is not None:
        tensor = get_const_tensor(node.inputs[0])
        return None if tensor is None else max(0, int(tensor.numpy().ravel()[0]))
    if node.op_type == "Scan":
        scanned = int(node.attributes["num_scan_inputs"].as_int())
        value = node.inputs[len(node.inputs) - scanned]
        fact = None if value is None else known.facts[value]
        if fact is not None and fact.exact and known.opset < SCAN_AXES_OPSET:
            return math.prod(fact.shape[:2])  # (batch, sequence, ...), one run for each step of each sequence
        if fact is not None and fact.exact and fact.shape:
            return fact.shape[scan_axis(node, 0, len(fact.shape))]
    return None


def _sum_body(graph: ir.Graph, known: Known, control: Control) -> Body:
    macs = 0
    traffic: list[tuple[Fact, int, int]] = []
    constants: dict[ir.Value, None] = {}
    for node in graph:
        if known.constant_nodes[node]:
            continue
        group = _alone(node, known)
        constants.update((v, None) for v in group.constants)
        traffic.extend((known.facts[v], 1, 0) for v in group.inputs)
        traffic.extend((known.facts[v], 0, 1) for v in group.outputs)
        if bodies_of(node):
            inner = control.of(node, known)
            macs += inner.macs
            traffic.extend(inner.traffic)
            constants.update((v, None) for v in inner.constants)
            continue
        try:
            macs += lower_group(group, known).macs
        except Refused as refused:
            known.problems.append(refused.problem)
    return Body(macs, tuple(traffic), tuple(constants))


def _alone(node: ir.Node, known: Known) -> Group:
    """A node of a body as an operator; bodies carry no groups, for no pass changes them."""
    compiled_in = {node.inputs[i] for i in structural(node) if i < len(node.inputs)}
    reads = read_by(node)
    fixed = tuple(dict.fromkeys(v for v in reads if known.constant.get(v, False) and v not in compiled_in))
    inputs = tuple(dict.fromkeys(v for v in reads if not known.constant.get(v, False)))
    return Group(str(node.name), node, (node,), inputs, tuple(made_by(node)), fixed, marks.origins(node))
