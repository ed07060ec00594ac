"""The graph under construction: tensors of a Workload as tensors of a TFLite file, in memory order.

A Workload speaks in ONNX shapes with a layout beside them, TFLite in the order of memory. An emitter asks `read` for an
input as it wants it (shape, order) and gives its result to `finish`. What differs is bridged by RESHAPE, TRANSPOSE or
QUANTIZE, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from h4hc.errors import CostModelError
from h4hc.workload import Layout, Op, OpKind, Tensor, Workload
from targets.ethos_u.axes import memory_shape, order_of, working_layout
from targets.ethos_u.vendor.numbers import OTHER_SCALE, SCALE, Numbers
from targets.ethos_u.vendor.tflite import Array, Option, Quant, Ref, Shape, TfliteModel

DEFAULT = Quant.whole(SCALE)
OTHER = Quant.whole(OTHER_SCALE)
MOST_AXES = 4
KEEP_SCALE = frozenset({OpKind.VIEW, OpKind.MOVE, OpKind.POOL, OpKind.RESIZE, OpKind.REDUCE})


def few_axes(shape: Shape) -> Shape:
    """At most four axes: those of length one are dropped from the front, then leading axes are folded."""
    dims = list(shape)
    while len(dims) > MOST_AXES and 1 in dims:
        dims.remove(1)
    if len(dims) > MOST_AXES:
        dims = [prod(dims[: 1 - MOST_AXES]), *dims[1 - MOST_AXES :]]
    return tuple(dims)


def cannot(op: Op, why: str) -> CostModelError:
    """The error for an operator that TFLite has no form of."""
    return CostModelError(f"cannot write {op.id!r} as TFLite", op.origin, why)


@dataclass
class Network:
    """alone: one operator by itself; its inputs then come as it wants them, without a step that brings them there."""

    workload: Workload
    numbers: Numbers
    model: TfliteModel
    alone: bool
    inputs: dict[str, Ref] = field(default_factory=dict)
    values: dict[str, Ref] = field(default_factory=dict)
    _steps: dict[str, int] = field(default_factory=dict)

    def order(self, op: Op) -> Layout:
        """See axes.working_layout."""
        return working_layout(op, self.workload)

    def read(self, op: Op, name: str, shape: Shape | None = None, layout: Layout | None = None) -> Ref:
        """An input in the order `layout` (default: the operator's) and in `shape` (default: its own, in that order)."""
        tensor = self.workload.tensor[name]
        layout = layout or self.order(op)
        natural = memory_shape(tensor, layout)
        if name not in self.values:
            quant = self.numbers.quant(name) or DEFAULT
            first = (shape or natural) if self.alone else memory_shape(tensor)
            self.values[name] = self.inputs[name] = self.model.activation(name, first, quant)
        ref = self.values[name]
        if not self.alone and order_of(len(natural), layout) != order_of(len(natural), tensor.layout):
            ref = self._turned(op, self.reshaped(op, ref, memory_shape(tensor)), tensor, layout)
        return self.reshaped(op, ref, shape or natural)

    def _turned(self, op: Op, ref: Ref, tensor: Tensor, layout: Layout) -> Ref:
        have = order_of(len(tensor.shape), tensor.layout)
        return self.transposed(op, ref, tuple(have.index(a) for a in order_of(len(have), layout)))

    def result_quant(self, op: Op, name: str | None = None) -> Quant:
        """Quantisation of an output whose scale is free."""
        return self.numbers.quant(name or op.outputs[0]) or DEFAULT

    def step(
        self,
        op: Op,
        kind: str,
        inputs: Sequence[Ref | None],
        shape: Shape,
        quant: Quant | None = None,
        options: Mapping[str, Option] | None = None,
        dtype: str = "int8",
    ) -> Ref:
        """One TFLite operator with one result. quant None: that of the first input."""
        quant = quant or next(ref.quant for ref in inputs if ref is not None) or DEFAULT
        made = self.model.activation(self._name(op), shape, quant, dtype)
        self.model.operator(kind, inputs, [made], options)
        return made

    def _name(self, op: Op) -> str:
        count = self._steps[op.id] = self._steps.get(op.id, -1) + 1
        return f"{op.id}/{count}"

    def fresh(self, op: Op, shape: Shape, quant: Quant) -> Ref:
        """A result tensor for an operator with several of them."""
        return self.model.activation(self._name(op), shape, quant)

    def constant(self, op: Op, values: Array, quant: Quant | None) -> Ref:
        """A constant of an operator."""
        return self.model.constant(self._name(op), values, quant)

    def reshaped(self, op: Op, ref: Ref, shape: Shape) -> Ref:
        """The same bytes in another shape."""
        if ref.shape == shape:
            return ref
        if prod(ref.shape) != prod(shape):
            raise cannot(op, f"a tensor of {ref.shape} is wanted in the shape {shape}")
        return self.step(op, "RESHAPE", [ref, self.model.ints(shape)], shape)

    def transposed(self, op: Op, ref: Ref, perm: tuple[int, ...]) -> Ref:
        """Axes of memory reordered; nothing where the order stays."""
        if perm == tuple(range(len(perm))):
            return ref
        shape = tuple(ref.shape[a] for a in perm)
        return self.step(op, "TRANSPOSE", [ref, self.model.ints(perm)], shape)

    def finish(self, op: Op, ref: Ref, index: int = 0) -> None:
        """Take `ref` as output `index` of an operator; another scale than its own takes a QUANTIZE.

        Where numbers say nothing, an operator that rescales what it cannot rescale itself ends in another scale.
        """
        name = op.outputs[index]
        wanted = self.numbers.quant(name)
        if wanted is None and op.rescales and op.kind in KEEP_SCALE:
            wanted = OTHER if ref.quant == DEFAULT else DEFAULT
        if wanted is not None and wanted != ref.quant:
            ref = self.step(op, "QUANTIZE", [ref], ref.shape, wanted)
        expected = prod(self.workload.tensor[name].shape)
        if prod(ref.shape) != expected:
            raise cannot(op, f"its result has {prod(ref.shape)} of {expected} elements")
        self.values[name] = ref
