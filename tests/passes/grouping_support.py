"""What the tests of the grouping passes share: build, run a pass, and hold the result against independent judges."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from h4hc import annotations as notes
from h4hc.passbase import Pass, PassResult

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'


def parse(body: str, opset: int = 17) -> onnx.ModelProto:
    """Model from the text form of ONNX without its header, shapes inferred."""
    model = onnx.parser.parse_model(HEADER.format(opset=opset) + body)
    return onnx.shape_inference.infer_shapes(model)


def graph(inputs: str, outputs: str, constants: str, body: str) -> str:
    """Text of a graph out of its parts."""
    return f"g ({inputs}) => ({outputs}) {f'<{constants}>' if constants else ''} {{ {body} }}"


def load(proto: onnx.ModelProto) -> ir.Model:
    """As the compiler has it after load."""
    model = ir.from_proto(proto)
    notes.stamp_origins(model)
    return model


def apply(proto: onnx.ModelProto, passes: Sequence[Pass]) -> tuple[ir.Model, list[PassResult]]:
    """Run passes; check the laws they all must obey.

    Valid ONNX, bit-equal on onnxruntime, origins conserved, groups lawful, and a second run changes nothing.
    """
    model = load(proto)
    before = notes.all_origins(model)
    results = [one.run(model) for one in passes]
    assert notes.all_origins(model) == before
    assert all(not result.removed for result in results)
    check_groups(model)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert_same_outputs(proto, after)
    for one in passes:
        assert one.run(model).changed == 0, f"{one.name} is not idempotent"
    assert ir.to_proto(model).SerializeToString() == after.SerializeToString()
    return model, results


def check_groups(model: ir.Model) -> None:
    """The group law, judged apart from the passes: contracting the groups leaves an acyclic graph, and a group of
    several nodes has one leaving value, or one for each output of an anchor with several."""
    nodes = list(model.graph)
    owner = {node: notes.group_id(node) for node in nodes}
    assert {notes.group_id(n) for n in nodes} <= {n.name for n in nodes}
    operators: nx.DiGraph[str] = nx.DiGraph()
    for node in nodes:
        operators.add_node(owner[node])
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer in owner and owner[producer] != owner[node]:
                operators.add_edge(owner[producer], owner[node])
    assert nx.is_directed_acyclic_graph(operators)
    for name, members in notes.group_members(model).items():
        if len(members) == 1:
            continue
        anchor = next(n for n in members if n.name == name)
        leaving = {
            v for n in members for v in n.outputs if v.is_graph_output() or any(c not in members for c in v.consumers())
        }
        used = [v for v in anchor.outputs if v.is_graph_output() or v.uses()]
        assert len(leaving) == 1 or 1 < len(leaving) <= len(used), (name, leaving)


def assert_same_outputs(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    """Both models give the same bits on onnxruntime without optimisations."""
    feeds = inputs_of(first)
    for a, b in zip(run(first, feeds), run(second, feeds), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def inputs_of(proto: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs: normal floats, small integers, random booleans."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in proto.graph.input:
        shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype == np.bool_:
            feeds[value.name] = np.asarray(rng.random(shape) < 0.5)
        elif np.issubdtype(dtype, np.integer):
            feeds[value.name] = np.asarray(rng.integers(0, 3, shape), dtype)
        else:
            feeds[value.name] = np.asarray(2 * rng.standard_normal(shape), dtype)
    return feeds


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a model on onnxruntime, one thread, optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def groups(model: ir.Model) -> dict[str, list[str]]:
    """Operator id -> sorted operator types of its nodes, for operators of several nodes."""
    found = notes.group_members(model)
    return {name: sorted(n.op_type for n in nodes) for name, nodes in found.items() if len(nodes) > 1}


def anchor(model: ir.Model, op_type: str) -> ir.Node:
    """The only anchor of this type; a group of several nodes wins over a single one."""
    found = [n for n in model.graph if n.op_type == op_type and notes.is_anchor(n)]
    several = [n for n in found if len(notes.group_members(model)[notes.group_id(n)]) > 1]
    (only,) = several or found
    return only


def stored(model: ir.Model, name: object) -> np.ndarray:
    """Numbers of the initialiser called `name`."""
    tensor = model.graph.initializers[str(name)].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def reasons(result: PassResult) -> str:
    """All skip reasons in one text."""
    return "\n".join(f"{s.node}: {s.why}" for s in result.skipped)
