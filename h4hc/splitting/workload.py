"""The same splits on level 2: a Workload with the parts, slices and joins that the split model lowers to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from h4hc.lowering.channels import PART
from h4hc.lowering.conv import conv_kind
from h4hc.lowering.dtypes import size_bytes
from h4hc.splits import Split, check_splits, scaled
from h4hc.workload import (
    BEHIND,
    EVERY,
    FIRST,
    ConvParams,
    Cut,
    ElementwiseParams,
    FullyConnectedParams,
    MatmulParams,
    MoveParams,
    Op,
    OpKind,
    OpParams,
    Tensor,
    Workload,
)


def split_workload(workload: Workload, splits: tuple[Split, ...]) -> Workload:
    """What `lower` makes of the model after `split_model` with the same splits, without touching ONNX.

    Raises: UserError with all splits that an operator does not take, and why.
    """
    taken = {*workload.op, *workload.tensor}
    check_splits(splits, {op.id: (op.by_output, op.by_input) for op in workload.ops}, taken)
    wanted = {split.op: split for split in splits}
    shop = _Shop(workload)
    for op in workload.ops:
        split = wanted.get(op.id)
        if split is None:
            shop.ops.append(op)
        else:
            shop.split(op, split)
    ops = shop.without_unread_joins()
    return replace(workload, ops=ops, tensors=tuple(_in_order(workload, ops, shop.tensors)))


def alone_in(workload: Workload, op: Op) -> Workload:
    """The workload with this operator only: enough to ask what its parts cost, and much quicker.

    Its parts cost there what they cost in the whole: what several operators read is read by several parts.
    """
    names = dict.fromkeys((*workload.inputs, *op.inputs, *op.weights, *op.outputs, *workload.outputs))
    return replace(workload, ops=(op,), tensors=tuple(workload.tensor[name] for name in names))


class _Shop:
    """Makes the operators of splits, in execution order, and their tensors."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.tensors = dict(workload.tensor)
        self.ops: list[Op] = []
        self._joined: dict[str, tuple[int, tuple[tuple[int, int], ...], tuple[str, ...]]] = {}
        self._passed_by: set[str] = set()  # results of joins whose parts an operator reads by themselves

    def split(self, op: Op, split: Split) -> None:
        """Slices, parts and join of one operator."""
        cut = op.by_output if split.axis == "output" else op.by_input
        assert isinstance(cut, Cut)  # checked
        parts = [self._part(op, split, cut, index) for index in range(len(split.counts))]
        results = tuple(part.outputs[0] for part in parts)
        whole = self.tensors[op.outputs[0]]
        if split.axis == "output":
            self._joined[whole.name] = (cut.axis, split.ranges, results)
            params: OpParams = MoveParams("move", "concat", whole.elements)
            join = self._move(op, split.join, params, results, whole, "Concat")
        else:
            behind = [i for i, stage in enumerate(cut.stages) if stage == BEHIND]
            constants = tuple(w for w, home in zip(op.weights, cut.homes, strict=True) if home == BEHIND)
            params = ElementwiseParams("elementwise", "add", whole.elements, 2)
            join = replace(
                self._move(op, split.join, params, results, whole, "Add"),
                kind=OpKind.ELEMENTWISE,
                op_types=("Add", *(op.op_types[i] for i in behind)),
                activation=op.activation,
                weights=constants,
                weight_bytes=sum(self.tensors[name].size_bytes for name in constants),
            )
        self.ops.append(join)

    def without_unread_joins(self) -> tuple[Op, ...]:
        """All operators but the joins that every reader passes by."""
        read = {name for op in self.ops for name in op.inputs} | set(self._workload.outputs)
        unread = self._passed_by - read
        return tuple(op for op in self.ops if not unread.intersection(op.outputs))

    def _part(self, op: Op, split: Split, cut: Cut, index: int) -> Op:
        start, stop = split.ranges[index]
        stages = (EVERY, FIRST) if index == 0 else (EVERY,)
        homes, members = cut.homes or (EVERY,) * len(op.weights), cut.stages or (EVERY,) * len(op.op_types)
        inputs, operand = [], 0
        for name, axis in zip(op.inputs, cut.inputs, strict=True):
            inputs.append(name if axis < 0 else self._share(op, split, cut, index, operand, name, axis))
            operand += axis >= 0
        weights = [
            name if axis < 0 else self._narrowed(name, f"{split.part(index)}/{name}", axis, split, cut, index).name
            for name, axis, home in zip(op.weights, cut.weights, homes, strict=True)
            if home in stages
        ]
        whole = op.outputs[0]
        result = f"{split.part(index)}/{whole}"
        if cut.axis < 0:
            self.tensors[result] = replace(self.tensors[whole], name=result)
        else:
            self._narrowed(whole, result, cut.axis, split, cut, index)
        params = part_params(op.params, split.axis, stop - start)
        part = replace(
            op,
            id=split.part(index),
            kind=conv_kind(params) if isinstance(params, ConvParams) and op.kind in _CONVS else op.kind,
            params=params,
            inputs=tuple(inputs),
            outputs=(result,),
            weights=tuple(weights),
            op_types=tuple(t for t, stage in zip(op.op_types, members, strict=True) if stage in stages),
            macs=op.macs * (stop - start) // cut.count,
            weight_bytes=sum(self.tensors[name].size_bytes for name in weights),
            input_bytes=sum(self.tensors[name].size_bytes for name in inputs),
            output_bytes=self.tensors[result].size_bytes,
            activation=op.activation if split.axis == "output" else "",
            by_output=PART,
            by_input=PART,
        )
        self.ops.append(part)
        return part

    def _share(self, op: Op, split: Split, cut: Cut, index: int, operand: int, name: str, axis: int) -> str:
        """The activation a part reads of one that is cut: an earlier split's part, or a slice."""
        dim = self.tensors[name].shape[axis]
        wanted = tuple(scaled(*r, dim, cut.count) for r in split.ranges)
        known = self._joined.get(name)
        if known is not None and known[:2] == (axis, wanted):
            self._passed_by.add(name)
            return known[2][index]
        which = split.slice(index, operand)
        made = self._narrowed(name, f"{which}/{name}", axis, split, cut, index)
        params = MoveParams("move", "slice", made.elements)
        self.ops.append(self._move(op, which, params, (name,), made, "Slice"))
        return made.name

    def _narrowed(self, name: str, new: str, axis: int, split: Split, cut: Cut, index: int) -> Tensor:
        tensor = self.tensors[name]
        start, stop = scaled(*split.ranges[index], tensor.shape[axis], cut.count)
        shape = (*tensor.shape[:axis], stop - start, *tensor.shape[axis + 1 :])
        made = replace(tensor, name=new, shape=shape, size_bytes=size_bytes(math.prod(shape), tensor.dtype))
        self.tensors[new] = made
        return made

    def _move(self, op: Op, name: str, params: OpParams, inputs: tuple[str, ...], made: Tensor, op_type: str) -> Op:
        """An operator that cuts or joins, in either order of its tensors."""
        return Op(
            id=name,
            kind=OpKind.MOVE,
            params=params,
            inputs=inputs,
            outputs=(made.name,),
            weights=(),
            origin=op.origin,
            op_types=(op_type,),
            dtype=made.dtype,
            macs=0,
            weight_bytes=0,
            input_bytes=sum(self.tensors[n].size_bytes for n in inputs),
            output_bytes=made.size_bytes,
            region=op.region,
        )


_CONVS = frozenset({OpKind.CONV, OpKind.DEPTHWISE, OpKind.GROUPED_CONV})


def part_params(params: OpParams, axis: str, channels: int) -> OpParams:
    """Parameters of a part with so many of the channels that are cut."""
    if isinstance(params, ConvParams):
        if axis == "input":
            return replace(params, in_channels=channels)
        if params.groups == 1:
            return replace(params, out_channels=channels)
        groups = channels * params.groups // params.out_channels
        return replace(
            params, out_channels=channels, groups=groups, in_channels=params.in_channels // params.groups * groups
        )
    by_output = axis == "output"
    if isinstance(params, FullyConnectedParams):
        return replace(params, out_features=channels) if by_output else replace(params, in_features=channels)
    assert isinstance(params, MatmulParams)
    return replace(params, n=channels) if by_output else replace(params, k=channels)


def _in_order(workload: Workload, ops: Iterable[Op], tensors: dict[str, Tensor]) -> list[Tensor]:
    """The tensors that are used, in the order in which `lower` lists them."""
    names = dict.fromkeys(workload.inputs)
    for op in ops:
        names.update(dict.fromkeys((*op.inputs, *op.weights, *op.outputs)))
    names.update(dict.fromkeys(workload.outputs))
    return [tensors[name] for name in names]
