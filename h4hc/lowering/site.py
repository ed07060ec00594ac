"""What a lowering function sees of an operator, and what it answers.

A lowering function takes a `Site` and returns a `Lowered`; it never sees the rest of the graph. When the
model contradicts itself there, it raises `Refused` with the problem; `lower` collects all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.errors import Problem
from h4hc.lowering.dtypes import size_bytes
from h4hc.workload import OpKind, OpParams


class Refused(Exception):
    """The model contradicts itself at this operator."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.what)


class Order(StrEnum):
    """In which physical order an operator works; `layouts.py` turns it into `Layout`s."""

    CHANNELS_LAST = "channels_last"
    ROW_MAJOR = "row_major"
    EITHER = "either"  # element by element or along one axis: whatever order its inputs have
    RESHAPE = "reshape"  # same elements in the same logical order, another shape
    TRANSPOSE = "transpose"  # axes permuted by `Lowered.axes`
    REDUCE = "reduce"  # the axes in `Lowered.axes` are gone


@dataclass(frozen=True)
class Fact:
    """What is known about a value.

    exact False: the shape depends on data; sound: its number of elements is then an upper bound; dimwise: so is
    each dimension by itself, where not, only their product means something.
    """

    shape: tuple[int, ...]
    dtype: str
    exact: bool = True
    sound: bool = True
    dimwise: bool = True

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in the type of the ONNX file."""
        return size_bytes(self.elements, self.dtype)


@dataclass(frozen=True)
class Vectors:
    """Along which axes of a tensor of this shape an operator's vectors run."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Lowered:
    """Class, parameters and MACs of one operator. axes: see `Order`.

    vectors: what decides, with the physical order, whether its vectors are innermost (`VectorParams.innermost`).
    turned: its formula takes an activation transposed, so that vectors are columns of a stored matrix.
    """

    kind: OpKind
    params: OpParams
    macs: int = 0
    order: Order = Order.ROW_MAJOR
    axes: tuple[int, ...] = ()
    activation: str = ""
    vectors: Vectors | None = None
    turned: bool = False


@dataclass(frozen=True)
class Group:
    """Nodes that run as one operator.

    inputs, outputs: values that enter and leave, without constants. constants: values read that are known at
    compile time, structural ones (shapes, axes) left out. origin: the user's nodes.
    """

    id: str
    anchor: ir.Node
    members: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    constants: tuple[ir.Value, ...]
    origin: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """One operator, seen from its anchor node. Indices are those of the anchor's inputs and outputs."""

    group: Group
    facts: Mapping[ir.Value, Fact]
    constant: Mapping[ir.Value, bool]  # values known at compile time
    opset: int

    @property
    def node(self) -> ir.Node:
        """The anchor."""
        return self.group.anchor

    def value(self, index: int) -> ir.Value | None:
        """Input `index`, or None when it is absent or left empty."""
        inputs = self.node.inputs
        return inputs[index] if index < len(inputs) else None

    def has(self, index: int) -> bool:
        """Whether the optional input is there."""
        return self.value(index) is not None

    def fact(self, index: int) -> Fact:
        """What is known about a required input. Raises Refused when it is absent."""
        value = self.value(index)
        if value is None:
            raise self.refuse(f"{self.node.op_type} lacks its required input {index}")
        return self.facts[value]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a required input."""
        return self.fact(index).shape

    def out(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an output of the anchor."""
        return self.facts[self.node.outputs[index]].shape

    def is_constant(self, index: int) -> bool:
        """Whether the input is there and known at compile time."""
        value = self.value(index)
        return value is not None and self.constant.get(value, False)

    def numbers(self, index: int) -> tuple[float, ...] | None:
        """Numbers of a small constant input, flattened; None when absent, not constant or not folded."""
        value = self.value(index)
        tensor = None if value is None else get_const_tensor(value)
        return None if tensor is None else tuple(tensor.numpy().ravel().tolist())

    def integers(self, index: int) -> tuple[int, ...] | None:
        """Like `numbers`, for integer inputs such as axes."""
        numbers = self.numbers(index)
        return None if numbers is None else tuple(int(n) for n in numbers)

    def ints(self, name: str) -> tuple[int, ...] | None:
        """List attribute, or None."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else tuple(attribute.as_ints())

    def integer(self, name: str, default: int) -> int:
        """Integer attribute, or the default of the operator's definition."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else int(attribute.as_int())

    def text(self, name: str, default: str) -> str:
        """String attribute, or the default of the operator's definition."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else str(attribute.as_string())

    def axes(self, index: int, attribute: str = "axes") -> tuple[int, ...] | None:
        """Axes given as attribute (older opsets) or as constant input; None when neither says."""
        given = self.ints(attribute)
        return self.integers(index) if given is None else given

    @property
    def elements(self) -> int:
        """The largest number of elements among the values that enter or leave the operator."""
        values = (*self.group.inputs, *self.group.outputs)
        return max((self.facts[v].elements for v in values), default=0)

    def refuse(self, what: str, why: str = "", hint: str = "") -> Refused:
        """The exception to raise; names the user's nodes."""
        origin = marks.origins(self.node) or (str(self.node.name),)
        return Refused(Problem(what, origin, why, hint))


def canonical(axis: int, rank: int) -> int:
    """Axis counted from the front: -1 of rank 4 is 3. An axis outside the rank is clamped into it."""
    positive = axis + rank if axis < 0 else axis
    return min(max(positive, 0), max(rank - 1, 0))
