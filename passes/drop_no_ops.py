"""drop-no-ops: take out nodes that hand their input on unchanged, and nodes that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from h4hc.annotations import merge_origins
from h4hc.passbase import Pass, PassResult, Skip
from passes.no_op_rules import RULES
from passes.values import (
    Names,
    add_initializer,
    bypass,
    drop_unused_initializers,
    ints_attribute,
    is_standard,
    lost_origins,
    note_removed,
    rank,
    refuse_bypass,
    remove_dead,
    require_ir_4,
    sole_consumer,
    static_shape,
)

_MAX_ROUNDS = 8  # dropping one node can make its neighbour a no-op; chains longer than this wait for the next run


@dataclass(frozen=True)
class DropNoOps(Pass):
    """Drop nodes that change nothing: Identity, Dropout, casts and reshapes to the same, transposes that cancel.

    Before: x -> Identity -> Transpose(0,2,1) -> Transpose(0,2,1) -> Relu     After: x -> Relu
    Also merges Reshape after Reshape, drops a Transpose that another one repeats, and drops nodes and constants
    that nothing reads. Rules that need shapes apply after infer-shapes only. Names of model outputs stay; a node
    whose output a body of control flow reads stays. Numerics: bit-equal (float x + 0 and the mean over one element
    are kept, because they turn -0 into +0).
    """

    name: ClassVar[str] = "drop-no-ops"
    after: ClassVar[tuple[str, ...]] = ("infer-shapes",)

    def run(self, model: ir.Model) -> PassResult:
        """Repeat over the graph until nothing changes."""
        dropper = _Dropper(model)
        changed = 0
        for _ in range(_MAX_ROUNDS):
            dropper.skipped.clear()
            count = dropper.sweep()
            changed += count
            if not count:
                break
        changed += dropper.drop_unread_initializers()
        return PassResult(changed, lost_origins(model, dropper.reasons), dropper.skipped)


@dataclass
class _Dropper:
    model: ir.Model
    reasons: dict[str, str] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(self.model)

    def sweep(self) -> int:
        """One walk over the graph; the number of changes."""
        graph = self.model.graph
        changed = self._drop_unread()
        transposes: dict[tuple[ir.Value | None, tuple[int, ...]], ir.Value] = {}
        for node in graph:
            if node.graph is not graph:
                continue
            rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            found = rule(node) if rule is not None else None
            if found is None and is_standard(node, "Transpose"):
                found = _repeated_transpose(node, transposes)
            if found is not None:
                changed += self._bypass(node, *found)
            elif is_standard(node, "Reshape"):
                changed += self._merge_reshapes(node)
        return changed

    def _bypass(self, node: ir.Node, why: str, source: ir.Value) -> int:
        graph = self.model.graph
        refusal = refuse_bypass(graph, node.outputs[0], source)
        if refusal:
            self.skipped.append(Skip(str(node.name), f"{why}, but {refusal}"))
            return 0
        bypass(graph, node.outputs[0], source)
        return self._remove([node], why)

    def _remove(self, nodes: list[ir.Node], why: str) -> int:
        gone = remove_dead(self.model.graph, nodes)
        for node in gone:
            note_removed(self.reasons, node, why if node in nodes else "nothing reads its output any more")
        return len(gone)

    def drop_unread_initializers(self) -> int:
        """Constants that nothing reads, whether it was so in the file or is so now; the number removed."""
        initializers = self.model.graph.initializers
        before = len(initializers)
        drop_unused_initializers(self.model.graph, list(initializers.values()))
        return before - len(initializers)

    def _drop_unread(self) -> int:
        graph = self.model.graph
        unread = [n for n in graph if not any(v.uses() or v.is_graph_output() for v in n.outputs)]
        return self._remove(unread, "nothing reads its output")

    def _merge_reshapes(self, node: ir.Node) -> int:
        """Reshape(Reshape(x)) is one Reshape of x, when the shape is static and the first has no other reader."""
        source = node.inputs[0]
        inner = source.producer() if source is not None else None
        shape = static_shape(node.outputs[0])
        if inner is None or source is None or not is_standard(inner, "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            return 0
        if sole_consumer(source) is not node or shape is None or 0 in shape:
            return 0
        import numpy as np

        require_ir_4(self.model)
        name = self.names.fresh(f"{node.name}/shape")
        target = add_initializer(self.model.graph, name, np.asarray(shape, np.int64))
        merge_origins(node, [inner])
        node.replace_input_with(0, inner.inputs[0])
        node.replace_input_with(1, target)
        node.attributes.pop("allowzero", None)
        self._remove([inner], "merged into the Reshape after it")
        return 1


def _repeated_transpose(
    node: ir.Node, seen: dict[tuple[ir.Value | None, tuple[int, ...]], ir.Value]
) -> tuple[str, ir.Value] | None:
    """The Transpose that has already turned the same value in the same way."""
    dims = rank(node.inputs[0])
    perm = ints_attribute(node, "perm") or (tuple(reversed(range(dims))) if dims is not None else None)
    if perm is None:
        return None
    key = (node.inputs[0], perm)
    earlier = seen[key].producer() if key in seen else None
    if earlier is None or earlier.graph is not node.graph or earlier.inputs[0] is not node.inputs[0]:
        seen[key] = node.outputs[0]  # the first, or the first after another rule has taken the earlier one away
        return None
    return "the same Transpose is there already", seen[key]
