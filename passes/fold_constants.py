"""fold-constants: compute once, at compile time, what does not depend on the model's inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from h4hc.annotations import CONSTANT
from h4hc.passbase import Pass, PassResult, Skip
from passes.evaluation import NATIVE_TYPES, evaluate
from passes.local_shapes import infer_outputs, is_settled
from passes.values import (
    STANDARD_DOMAINS,
    constant,
    drop_unused_initializers,
    int_attribute,
    is_standard,
    is_tensor,
    lost_origins,
    note_removed,
    require_ir_4,
    static_shape,
    tensor_shape,
)

if TYPE_CHECKING:
    import numpy as np

# Never folded: each run gives another value.
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# Never folded: their work is not bounded by the size of what goes in and comes out.
_HEAVY = frozenset(
    {
        *("Attention", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"),
        *("NonMaxSuppression", "QLinearConv", "STFT", "DFT"),
    }
)
# The size of the result is not known before it is computed, but at most rank x 8 bytes for each input element.
_BOUNDED = frozenset({"Compress", "NonZero", "Unique"})
_GROWTH = "h4hc.growth_bytes"  # in graph.meta: what earlier runs of the pass have added
_MAX_COMPUTED_BYTES = 1 << 30  # results held at once while folding; more is left for the next run of the pass


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute nodes whose inputs are all constant, and the shapes of tensors of static shape.

    Before: Shape(x) -> Gather(0) -> Concat(.., -1) -> Reshape(x, .)     After: Reshape(x, <constant>)
    Constant nodes become initialisers, CastLike becomes Cast. Only standard, deterministic operators are computed.
    DequantizeLinear stays, so that int8 weights are stored as int8. A node that makes an output of the model
    stays. A node that would add more than `max_growth_bytes` to the file (or all of them more than
    `max_total_growth_bytes`) stays and is marked `h4hc.constant`: known, but not worth storing.
    Numerics: the values are bit-equal to what onnxruntime computes without optimisations. Its MatMul, Gemm and
    Conv may take another kernel for a stored operand than for a computed one: |d| <= 1e-6 max|y| behind them.
    """

    name: ClassVar[str] = "fold-constants"
    after: ClassVar[tuple[str, ...]] = ("infer-shapes", "split-functions")
    max_growth_bytes: int = 64 << 20
    max_total_growth_bytes: int = 256 << 20

    def run(self, model: ir.Model) -> PassResult:
        """Fold in one walk over the graph; shapes that depend on folded values are inferred on the way."""
        changed = int(require_ir_4(model))
        folder = _Folder(model, self, growth_bytes=int(model.graph.meta.get(_GROWTH, 0)))
        for node in model.graph:
            folder.visit(node)
        folder.flush()
        changed += folder.commit()
        model.graph.meta[_GROWTH] = folder.growth_bytes
        return PassResult(changed, lost_origins(model, folder.reasons), folder.skipped)


@dataclass
class _Folder:
    """One walk: what is known so far, what waits to be computed, what will go."""

    model: ir.Model
    options: FoldConstants
    known: dict[ir.Value, np.ndarray] = field(default_factory=dict)  # computed here
    tensors: dict[ir.Value, ir.TensorProtocol] = field(default_factory=dict)  # held by Constant nodes
    pending: list[ir.Node] = field(default_factory=list)
    waiting: set[ir.Value] = field(default_factory=set)  # outputs of `pending`
    unfolded: set[ir.Value] = field(default_factory=set)  # constant, but left in the graph because of their size
    fresh: set[ir.Value] = field(default_factory=set)  # values of which this walk learnt something
    folded: list[ir.Node] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    marked: int = 0
    replaced: int = 0
    growth_bytes: int = 0
    computed_bytes: int = 0

    # ------------------------------------------------------------ the walk

    def visit(self, node: ir.Node) -> None:
        """Decide about one node; all nodes before it have been visited."""
        if is_standard(node, "Constant"):
            self._visit_constant(node)
            return
        if is_standard(node, "CastLike"):
            self.replaced += _replace_cast_like(node)
        inputs = [v for v in node.inputs if v is not None]
        if is_standard(node, "Shape", "Size") and self._visit_shape(node):
            return
        news = any(v in self.fresh or v in self.waiting for v in inputs)
        if news and not all(is_settled(v) for v in node.outputs if v.name):
            self._infer(node)
        if inputs and all(self._is_constant(v) for v in inputs):
            self._visit_computable(node)

    def _visit_constant(self, node: ir.Node) -> None:
        tensor = _constant_tensor(node)
        if tensor is None:
            self.skipped.append(Skip(str(node.name), "its value is given in a form that cannot be stored as a tensor"))
            return
        value = node.outputs[0]
        self.tensors[value] = tensor
        value.shape, value.type = tensor_shape(tensor), ir.TensorType(tensor.dtype)
        self._fold(node, "stored as a constant of the model")

    def _visit_shape(self, node: ir.Node) -> bool:
        import numpy as np

        source = node.inputs[0]
        if source in self.waiting and not is_settled(source):
            self.flush()
        shape = static_shape(source)
        if shape is None or source is None or not is_tensor(source):
            return False
        if node.op_type == "Size":
            array = np.asarray(math.prod(shape), np.int64)
        else:
            end = node.attributes.get("end")
            part = slice(int_attribute(node, "start", 0), None if end is None else int(end.as_int()))
            array = np.asarray(shape[part], np.int64)
        self._learn(node.outputs[0], array)
        self._fold(node, f"the shape of {source.name!r} is static")
        return True

    def _visit_computable(self, node: ir.Node) -> None:
        why = self._refusal(node)
        if why:
            self.skipped.append(Skip(str(node.name), why))
            return
        if not all(is_settled(v) for v in node.outputs if v.name):
            self._infer(node)
        size = self._output_bytes(node)
        if size is None:
            self.skipped.append(Skip(str(node.name), "the size of its output is not known before it runs"))
            return
        growth = size - sum(self._nbytes(v) for v in dict.fromkeys(node.inputs) if v is not None)
        too_large = self._too_large(node, growth, size)
        if too_large:
            self._mark(node, too_large)
            return
        self.growth_bytes += max(growth, 0)
        self.computed_bytes += size
        self.pending.append(node)
        self.waiting.update(v for v in node.outputs if v.name)

    def _too_large(self, node: ir.Node, growth: int, size: int) -> str:
        if any(v in self.unfolded for v in node.inputs):
            return "one of its inputs is constant but too large to be stored"
        if growth > self.options.max_growth_bytes:
            limit = f"max-growth-bytes is {self.options.max_growth_bytes}"
            return f"its value is constant, but storing it adds {growth} bytes ({limit})"
        total = self.growth_bytes + max(growth, 0)
        if total > self.options.max_total_growth_bytes:
            limit = f"max-total-growth-bytes is {self.options.max_total_growth_bytes}"
            return f"its value is constant, but storing it brings the growth of the file to {total} bytes ({limit})"
        if self.computed_bytes + size > _MAX_COMPUTED_BYTES:
            return f"its value is constant, but one run of the pass computes at most {_MAX_COMPUTED_BYTES} bytes"
        return ""

    def _refusal(self, node: ir.Node) -> str:
        """Why this node is never computed at compile time, whatever its size; or empty."""
        if node.op_type == "DequantizeLinear":
            return "quantised constants stay quantised"
        if node.domain not in STANDARD_DOMAINS:
            return f"operators of domain {node.domain!r} are not computed at compile time"
        if node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.inputs) > 2):
            return "its value is random"
        if node.op_type in _HEAVY:
            return "the work it takes is not bounded by the size of its tensors"
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return "control flow is not computed at compile time"
        values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.name]
        if not all(is_tensor(v) for v in values):
            return "sequences and optionals cannot be stored as constants"
        odd = next((v.dtype for v in values if v.dtype is not None and v.dtype not in NATIVE_TYPES), None)
        return f"values of type {odd.name} are not computed at compile time" if odd is not None else ""

    # ------------------------------------------------------------ what is known

    def _is_constant(self, value: ir.Value) -> bool:
        if value in self.known or value in self.tensors or value in self.waiting or value in self.unfolded:
            return True
        return value.is_initializer() and not value.is_graph_input() and value.const_value is not None

    def _array(self, value: ir.Value) -> np.ndarray | None:
        if value in self.known:
            return self.known[value]
        if value in self.tensors:
            return self.tensors[value].numpy()
        return constant(value)

    def _infer(self, node: ir.Node) -> None:
        """Look at the node again with what this walk has learnt; first compute the inputs if they wait."""
        if any(v in self.waiting for v in node.inputs):
            self.flush()
        inputs = {v: self._array(v) for v in node.inputs if v is not None}
        values = {v: array for v, array in inputs.items() if array is not None}
        if infer_outputs(node, self.model.graph.opset_imports, values):
            self.fresh.update(node.outputs)

    def _output_bytes(self, node: ir.Node) -> int | None:
        """Bytes of the outputs, or an upper bound for them; None when not even that is known."""
        total = 0
        for value in node.outputs:
            if not value.name:
                continue
            if not is_settled(value):
                if node.op_type not in _BOUNDED:
                    return None
                shape = static_shape(node.inputs[0])
                if shape is None:
                    return None
                total += max(len(shape), 1) * 8 * math.prod(shape)
            else:
                total += self._nbytes(value)
        return total

    def _nbytes(self, value: ir.Value) -> int:
        shape = static_shape(value)
        if value.const_value is not None and value.is_initializer():
            return int(value.const_value.nbytes)
        return 0 if shape is None or value.dtype is None else math.ceil(math.prod(shape) * value.dtype.itemsize)

    # ------------------------------------------------------------ results

    def flush(self) -> None:
        """Compute the pending nodes."""
        if not self.pending:
            return
        nodes, self.pending = self.pending, []
        known: dict[ir.Value, np.ndarray] = {}
        for value in dict.fromkeys(v for n in nodes for v in n.inputs if v is not None and v not in self.waiting):
            array = self._array(value)
            assert array is not None
            known[value] = array
        self.waiting.clear()
        values, failed = evaluate(nodes, known, self.model.graph.opset_imports)
        for value, array in values.items():
            self._learn(value, array)
        for node in nodes:
            if node in failed:
                self.skipped.append(Skip(str(node.name), failed[node]))
            else:
                self._fold(node, "its inputs are all constant")

    def _learn(self, value: ir.Value, array: np.ndarray) -> None:
        self.known[value] = array
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self.fresh.add(value)

    def _fold(self, node: ir.Node, why: str) -> None:
        self.fresh.update(node.outputs)
        if not any(v.is_graph_output() for v in node.outputs):
            self.folded.append(node)
            note_removed(self.reasons, node, why)

    def _mark(self, node: ir.Node, why: str) -> None:
        self.skipped.append(Skip(str(node.name), why))
        self.unfolded.update(v for v in node.outputs if v.name)
        if node.metadata_props.get(CONSTANT) != "1":
            node.metadata_props[CONSTANT] = "1"
            self.marked += 1

    def commit(self) -> int:
        """Take the folded nodes out, store the values that are still read; the number of changes."""
        graph = self.model.graph
        for node in reversed(self.folded):
            sources = list(node.inputs)
            for value in node.outputs:
                if value.uses():
                    self._store(graph, value)
            graph.remove(node, safe=True)
            drop_unused_initializers(graph, sources)
        return len(self.folded) + self.marked + self.replaced

    def _store(self, graph: ir.Graph, value: ir.Value) -> None:
        """Put an initialiser of the same name in the place of `value`; bodies of control flow see no difference."""
        tensor = self.tensors.get(value)
        if tensor is None:
            tensor = ir.tensor(self.known[value])
        kind, shape = ir.TensorType(tensor.dtype), tensor_shape(tensor)
        new = ir.Value(name=value.name, type=kind, shape=shape, const_value=tensor)
        value.replace_all_uses_with(new)
        graph.register_initializer(new)


def _replace_cast_like(node: ir.Node) -> int:
    """CastLike reads only the type of its second input: once that is known it is a Cast; the number of changes."""
    like = node.inputs[1]
    if like is None or like.dtype is None:
        return 0
    node.op_type = "Cast"
    node.attributes["to"] = ir.AttrInt64("to", int(like.dtype))
    node.resize_inputs(1)
    return 1


def _constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor that a Constant node holds, in any of its spellings; None for a form that is not a dense tensor."""
    attribute = node.attributes.get("value")
    if attribute is not None:
        return None if attribute.is_ref() else attribute.as_tensor()
    for name in ("value_string", "value_strings"):
        if name in node.attributes and not node.attributes[name].is_ref():
            given = node.attributes[name].value
            texts = [given] if isinstance(given, str) else list(given)
            shape = ir.Shape(() if isinstance(given, str) else (len(texts),))
            return ir.StringTensor([t.encode() for t in texts], shape=shape)
    array = constant(node.outputs[0])
    return None if array is None else ir.tensor(array)
