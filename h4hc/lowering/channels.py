"""Along which axis each value of a product carries its channels: what a split of it cuts, and what it leaves whole.

From the anchor's result the output channels are followed forwards through what is fused behind it (an activation, a
bias of its own, QuantizeLinear), and from its operands backwards to the stored constants (DequantizeLinear, Transpose)
and to the activations that must be cut as well (the channels of a grouped convolution, the columns of a second
activation). Input channels are followed backwards only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from h4hc import annotations as marks
from h4hc.lowering.dtypes import is_float
from h4hc.lowering.elementwise import ACTIVATIONS, ARITHMETIC
from h4hc.lowering.facts import Known
from h4hc.lowering.inputs import biases, is_standard
from h4hc.lowering.same_bits import ROW_STEP, least_columns
from h4hc.lowering.site import Group, Lowered, canonical
from h4hc.units import ceil_div
from h4hc.workload import BEHIND, EVERY, FIRST, ConvParams, Cut, FullyConnectedParams, MatmulParams, OpKind

SPLIT_TYPES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
GEMM_WITHOUT_C = 11  # opset in which the third input became optional
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
LEAST = 2  # channels; one alone makes an image lie the same way in both orders, and a bias a scalar
PART = "it is a part of a split already"
_POINTWISE = frozenset({*ACTIVATIONS, *ARITHMETIC, "Clip", "Identity"})
_QUANTISED_SUM = (
    "it is quantised: a sum of partial results rounds in another order, so bits would change, and partial results are "
    "float, which no accelerator adds"
)


class Whole(Exception):
    """The operator cannot be cut; the text says why."""


@dataclass
class Slices:
    """A cut of one group in terms of its values: axis of each value that is cut (inner ones and those it reads)."""

    group: Group
    known: Known
    count: int = 0
    unit: int = 1
    least: int = LEAST
    axes: dict[ir.Value, int] = field(default_factory=dict)
    stages: dict[ir.Node, int] = field(default_factory=dict)
    uses: set[tuple[ir.Node, int]] = field(default_factory=set)  # inputs of nodes that take a share
    # by the names of values, which stay when the split of another operator puts a new value in the place of one
    axes_by_name: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()

    @property
    def summary(self) -> Cut:
        """The same for level 2."""
        group, stages = self.group, self.stages
        homes = [self._home(v) for v in group.constants] if stages else []
        return Cut(
            count=self.count,
            unit=self.unit,
            least=self.least,
            axis=-1 if stages else self.axes[group.outputs[0]],
            inputs=tuple(self.axes.get(v, -1) for v in group.inputs),
            weights=tuple(self.axes.get(v, -1) for v in group.constants),
            stages=tuple(stages[n] for n in group.members) if stages else (),
            homes=tuple(homes),
        )

    def _home(self, value: ir.Value) -> int:
        uses = [use for use in value.uses() if use.node in self.stages]
        return min(use_stage(use.node, use.idx, self.group.anchor, self.stages) for use in uses)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Shape of a value."""
        return self.known.facts[value].shape

    def back(self, node: ir.Node, index: int, axis: int) -> None:
        """Cut input `index` of `node` along `axis`, up to what the group reads."""
        self.uses.add((node, index))
        value = node.inputs[index]
        assert value is not None  # asked by the caller
        self._set(value, axis)
        maker = value.producer()
        if maker is None or maker not in self.group.members:
            if self.known.constant.get(value, False) and get_const_tensor(value) is None:
                raise Whole(f"its constant {value.name!r} is no stored tensor: nodes that were left unfolded make it")
        elif maker.op_type == "DequantizeLinear":
            self._scales(maker, axis)
            self.back(maker, 0, axis)
        elif maker.op_type == "Transpose":
            perm = maker.attributes.get_ints("perm", ()) or tuple(reversed(range(len(self.shape(value)))))
            self.back(maker, 0, perm[axis])
        else:
            raise Whole(f"{maker.op_type} stands between it and {value.name!r}")

    def forward(self, axis: int) -> None:
        """Cut the anchor's result along `axis`, and everything behind it."""
        self._set(self.group.anchor.outputs[0], axis)
        for node in self.group.members:
            if node is not self.group.anchor and any(self._is_cut_inside(v) for v in node.inputs):
                self._through(node)
        if len(self.group.outputs) != 1 or self.group.outputs[0] not in self.axes:
            raise Whole("not one result leaves it")

    def close(self) -> None:
        """All values are found. No value may be needed both whole and cut."""
        for node in self.group.members:
            for index, value in enumerate(node.inputs):
                if value in self.axes and (node, index) not in self.uses:
                    raise Whole(f"it reads {value.name!r} both whole and in shares")
        values = (*self.group.inputs, *self.group.constants, *(v for n in self.group.members for v in n.outputs))
        self.shapes = {str(v.name): self.shape(v) for v in values if v.name}
        self.axes_by_name = {str(v.name): axis for v, axis in self.axes.items()}
        self.inputs = frozenset(str(v.name) for v in self.group.inputs)

    def _is_cut_inside(self, value: ir.Value | None) -> bool:
        return value in self.axes and value is not None and value.producer() in self.group.members

    def _through(self, node: ir.Node) -> None:
        out = node.outputs[0]
        if out in self.axes:
            return  # on the way to an operand
        if node.op_type in QUANTISERS:
            source = node.inputs[0]
            if source not in self.axes:
                raise Whole(f"{node.op_type} takes its scale from the result")
            self.uses.add((node, 0))
            self._scales(node, self.axes[source])
            self._set(out, self.axes[source])
            return
        if not is_standard(node) or node.op_type not in _POINTWISE:
            raise Whole(f"{node.op_type} is fused behind it, whose channels may depend on each other")
        rank = len(self.shape(out))
        places = {rank - len(self.shape(v)) + self.axes[v] for v in node.inputs if v is not None and v in self.axes}
        (place, *others) = sorted(places)
        if others:
            raise Whole(f"the channels of two operands of {node.op_type} do not lie along one axis")
        for index, value in enumerate(node.inputs):
            if value is not None:
                self._operand(node, index, value, place - rank + len(self.shape(value)))
        self._set(out, place)

    def _operand(self, node: ir.Node, index: int, value: ir.Value, axis: int) -> None:
        if value in self.axes and value.producer() in self.group.members:
            self.uses.add((node, index))
            return
        shape = self.shape(value)
        if not self.known.constant.get(value, False):
            if value.producer() not in self.group.members:
                raise Whole(f"{node.op_type} behind it reads another activation")
            raise Whole(f"{node.op_type} behind it reads a value without its channels")
        if axis >= 0 and shape[axis] != 1:
            self.back(node, index, axis)

    def _set(self, value: ir.Value, axis: int) -> None:
        if self.axes.setdefault(value, axis) != axis:
            raise Whole(f"{value.name!r} would be cut along two axes")

    def _scales(self, node: ir.Node, axis: int) -> None:
        """Cut scale and zero point of a quantiser where they run along the channels."""
        for index in (1, 2):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or math.prod(self.shape(value)) == 1:
                continue
            if len(self.shape(value)) > 1:
                raise Whole(f"{node.op_type} has scales in blocks")
            if canonical(node.attributes.get_int("axis", 1), len(self.shape(node.outputs[0]))) == axis:
                self.back(node, index, 0)
                if index == 2:
                    self._same_symmetry(value)

    def _same_symmetry(self, value: ir.Value) -> None:
        """Parts must be symmetric where the whole is: a device takes the one and not the other."""
        tensor = get_const_tensor(value)
        assert tensor is not None  # asked by `back`
        nonzero = tensor.numpy().astype("float64") != 0
        if nonzero.any() and not nonzero.all():
            raise Whole(f"its zero points {value.name!r} are 0 in some channels only")


def output_slices(group: Group, lowered: Lowered, known: Known) -> Slices:
    """What a split by output channels cuts. Raises Whole."""
    found = Slices(group, known)
    node = _anchor(group, lowered)
    params, out = lowered.params, len(found.shape(node.outputs[0]))
    if isinstance(params, ConvParams):
        found.count, axis = params.out_channels, 1
        if params.groups > 1:
            if node.op_type == "ConvTranspose":
                raise Whole("it is a transposed convolution in groups")
            inner = params.in_channels // params.groups
            found.unit = params.out_channels // params.groups
            found.least = max(LEAST, found.unit * ceil_div(LEAST, inner))
            found.back(node, 0, 1)
        found.back(node, 1, 1 if node.op_type == "ConvTranspose" else 0)
        if _reads(node, 2):
            found.back(node, 2, 0)
        if _is_quantised(group) and params.groups == 1 and math.prod(params.out_spatial) == 1:
            found.unit = ROW_STEP
    elif isinstance(params, FullyConnectedParams) and not known.constant.get(_input(node, 1), False):
        found.count, axis = params.out_features, out - (2 if len(found.shape(_input(node, 1))) > 1 else 1)
        _out_axis(found, node, 0, "transA", -2)
        if _is_quantised(group) and params.positions == 1:
            found.unit = ROW_STEP
    else:
        assert isinstance(params, FullyConnectedParams | MatmulParams)
        found.count = params.out_features if isinstance(params, FullyConnectedParams) else params.n
        axis = out - 1
        _out_axis(found, node, 1, "transB", -1)
        if _is_quantised(group):
            inner = params.in_features if isinstance(params, FullyConnectedParams) else params.k
            found.least = max(LEAST, least_columns(found.count, inner))
            if node.attributes.get_int("transB", 0):
                found.unit = ROW_STEP
    if node.op_type == "Gemm" and _reads(node, 2):
        shape = found.shape(_input(node, 2))
        place = axis - 2 + len(shape)
        if place >= 0 and shape[place] != 1:
            found.back(node, 2, place)
    found.forward(axis)
    found.close()
    return found


def input_slices(group: Group, lowered: Lowered, known: Known) -> Slices:
    """What a split by input channels cuts: operands only; bias with the first part, what follows behind the sum."""
    found = Slices(group, known)
    node = _anchor(group, lowered)
    if any(not is_float(known.facts[v].dtype) for v in (*group.inputs, *group.outputs)):
        raise Whole(_QUANTISED_SUM)
    params = lowered.params
    if isinstance(params, ConvParams):
        if params.groups > 1:
            raise Whole("the input channels of its groups are not summed: split it by output channels")
        found.count, axes = params.in_channels, (1, 0 if node.op_type == "ConvTranspose" else 1)
    else:
        assert isinstance(params, FullyConnectedParams | MatmulParams)
        found.count = params.in_features if isinstance(params, FullyConnectedParams) else params.k
        left, right = (len(found.shape(_input(node, i))) for i in (0, 1))
        axes = _matrix_axis(node, "transA", left, -1), _matrix_axis(node, "transB", right, -2)
        if node.op_type == "Gemm" and _reads(node, 2) and known.opset < GEMM_WITHOUT_C:
            raise Whole(f"Gemm of opset {known.opset} has no form without an added matrix")
    for index, axis in enumerate(axes):
        found.back(node, index, axis)
    found.close()
    found.stages = _stages(group)
    inner = {v for n in group.members for v in n.outputs}
    for node in group.members:
        if found.stages[node] != BEHIND:
            for value in node.inputs:
                if value is not None and known.constant.get(value, False) and value not in {*group.constants, *inner}:
                    raise Whole(f"its constant {value.name!r} is one number, which the activation behind it takes in")
    return found


def cuts(group: Group, lowered: Lowered, known: Known) -> tuple[Cut | str, Cut | str]:
    """`Op.by_output` and `Op.by_input`."""
    if lowered.kind not in PRODUCTS:
        return "", ""
    found: list[Cut | str] = []
    for make in (output_slices, input_slices):
        try:
            found.append(make(group, lowered, known).summary)
        except Whole as why:
            found.append(str(why))
    return found[0], found[1]


PRODUCTS = frozenset(
    {
        *(OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV, OpKind.CONV_TRANSPOSE),
        *(OpKind.FULLY_CONNECTED, OpKind.MATMUL),
    }
)


def _anchor(group: Group, lowered: Lowered) -> ir.Node:
    node = group.anchor
    if marks.part_of(node):
        raise Whole(PART)
    if lowered.kind not in PRODUCTS:
        raise Whole("")
    if not is_standard(node) or node.op_type not in SPLIT_TYPES:
        raise Whole(f"it is {node.op_type}: only {', '.join(SPLIT_TYPES)} are split")
    return node


def _is_quantised(group: Group) -> bool:
    return any(n.op_type == "QuantizeLinear" for n in group.members)


def _out_axis(found: Slices, node: ir.Node, index: int, transposed: str, axis: int) -> None:
    rank = len(found.shape(_input(node, index)))
    if rank < 2:
        raise Whole("it has one output channel: the operand is a vector")
    found.back(node, index, _matrix_axis(node, transposed, rank, axis))


def _matrix_axis(node: ir.Node, transposed: str, rank: int, axis: int) -> int:
    """The axis -1 or -2 of a matrix operand as it is stored, counted from the front; a vector has one."""
    if rank < 2:
        return 0
    return rank + (-3 - axis if node.attributes.get_int(transposed, 0) else axis)


def use_stage(node: ir.Node, index: int, anchor: ir.Node, stages: Mapping[ir.Node, int]) -> int:
    """Stage in which input `index` of a node is read: the bias of the anchor itself is read by the first part alone."""
    return FIRST if node is anchor and index in biases(node) else stages[node]


def _stages(group: Group) -> dict[ir.Node, int]:
    """Bias with the first part; nodes behind the bias, or the anchor, behind the sum; the rest in every part."""
    anchor = group.anchor
    stages = dict.fromkeys(group.members, EVERY)
    bias = marks.params(anchor).get("bias", "")
    behind = set(anchor.outputs)
    for node in group.members:
        if node is not anchor and any(v in behind for v in node.inputs):
            behind.update(node.outputs)
            is_bias = bool(bias) and any(_stored_name(v, group) == bias for v in node.inputs)
            stages[node] = FIRST if is_bias and node.op_type == "Add" else BEHIND
    for node in reversed(group.members):  # what makes an operand goes where the operand is read
        uses = [use for v in node.outputs for use in v.uses() if use.node in stages]
        if node is not anchor and stages[node] == EVERY and uses:
            stages[node] = min(use_stage(use.node, use.idx, anchor, stages) for use in uses)
    return stages


def _stored_name(value: ir.Value | None, group: Group) -> str:
    maker = None if value is None else value.producer()
    if maker is not None and maker in group.members and maker.op_type == "DequantizeLinear":
        value = maker.inputs[0]
    return "" if value is None else str(value.name)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None  # operands are not optional
    return value


def _reads(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None
