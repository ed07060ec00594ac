"""Put the workload together: names, bytes, layouts, diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from h4hc import annotations as marks
from h4hc.diagnostics import Diagnostic
from h4hc.lowering.channels import cuts
from h4hc.lowering.control import Body, Control
from h4hc.lowering.facts import Known, bodies_of, is_overwritten
from h4hc.lowering.inputs import biases
from h4hc.lowering.layouts import Draft, Laid, lay_out
from h4hc.lowering.operators import NORM_KINDS, compute_dtype
from h4hc.lowering.plan import Plan
from h4hc.lowering.rescaling import rescales
from h4hc.lowering.site import Group
from h4hc.lowering.weights import weight_types
from h4hc.workload import ElementwiseParams, GenericParams, Layout, Op, OpParams, Tensor, Workload

KNOWN_DOMAINS = {  # of ONNX, and of the operators that onnxruntime adds
    *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"),
    *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"),
}
SCALED_INTEGERS = {"int8", "uint8", "int16"}  # types whose values carry a scale


def build_workload(
    model: ir.Model, groups: Sequence[Group], drafts: Sequence[Draft], known: Known, control: Control, plan: Plan
) -> Workload:
    """The workload of groups and their drafts, both in execution order."""
    inputs = [v for v in model.graph.inputs if not is_overwritten(model, v)]
    shapes = {str(v.name): f.shape for v, f in known.facts.items()}
    in_names = tuple(str(v.name) for v in inputs)
    out_names = tuple(str(v.name) for v in model.graph.outputs)
    laid, orders = lay_out(drafts, shapes, in_names, out_names)
    shop = _Shop(known, plan, orders, _bias_values(groups, known))
    for value in inputs:
        shop.tensor(value)
    ops = []
    for group, one in zip(groups, laid, strict=True):
        body = control.of(group.anchor, known) if bodies_of(group.anchor) else Body()
        ops.append(shop.op(group, one, body))
    for value in model.graph.outputs:
        shop.tensor(value)
    return Workload(
        name=model.graph.name or "model",
        precision=plan.precision,
        ops=tuple(ops),
        tensors=tuple(shop.tensors.values()),
        inputs=in_names,
        outputs=out_names,
        diagnostics=_diagnostics(groups, known, control, plan, set(shop.tensors), _turned(groups, laid)),
    )


class _Shop:
    """Makes operators, and each tensor once."""

    def __init__(self, known: Known, plan: Plan, orders: dict[str, Layout], bias: set[ir.Value]) -> None:
        self._known = known
        self._plan = plan
        self._orders = orders
        self._bias = bias
        self.tensors: dict[str, Tensor] = {}

    def tensor(self, value: ir.Value, name: str = "") -> Tensor:
        """The tensor of a value, under its own name or, inside a body, under one that is unique in the model."""
        name = name or str(value.name)
        if name not in self.tensors:
            fact, is_bias = self._known.facts[value], value in self._bias
            self.tensors[name] = Tensor(
                name=name,
                shape=fact.shape,
                dtype=self._plan.dtype(fact.dtype, is_bias),
                stored_dtype=fact.dtype,
                size_bytes=self._plan.size_bytes(fact, is_bias),
                layout=self._orders.get(name, Layout.ROW_MAJOR),
                exact=fact.exact,
            )
        return self.tensors[name]

    def op(self, group: Group, laid: Laid, body: Body) -> Op:
        """The operator of a group; what the bodies of control flow move and hold comes on top of its own."""
        read = [self.tensor(v) for v in group.inputs]
        weights = [self.tensor(v) for v in group.constants]
        weights += [
            self.tensor(v, f"{group.id}/{i}/{v.name}") for i, v in enumerate(body.constants) if v not in group.constants
        ]
        written = [self.tensor(v) for v in group.outputs]
        inner_read = sum(self._plan.size_bytes(fact) * times for fact, times, _ in body.traffic)
        inner_written = sum(self._plan.size_bytes(fact) * times for fact, _, times in body.traffic)
        lowered = laid.lowered
        dtype = self._plan.dtype(compute_dtype(group, self._known))
        by_output, by_input = cuts(group, lowered, self._known)
        return Op(
            id=group.id,
            kind=lowered.kind,
            params=_with_bodies(_by_reciprocal(lowered.params, dtype, group, self._known), body),
            inputs=tuple(t.name for t in read),
            outputs=tuple(t.name for t in written),
            weights=tuple(t.name for t in weights),
            origin=group.origin,
            op_types=tuple(node.op_type for node in group.members),
            dtype=dtype,
            macs=lowered.macs + body.macs,
            weight_bytes=sum(t.size_bytes for t in weights),
            input_bytes=sum(t.size_bytes for t in read) + inner_read,
            output_bytes=sum(t.size_bytes for t in written) + inner_written,
            layout=laid.layout,
            activation=lowered.activation,
            region=marks.region(group.anchor),
            weight_types=weight_types(group, self._known, self._plan),
            rescales=rescales(group, lowered, self._known),
            by_output=by_output,
            by_input=by_input,
        )


def _with_bodies(params: OpParams, body: Body) -> OpParams:
    """Control flow works through every element that its bodies write, as often as they run."""
    if not body.traffic or not isinstance(params, GenericParams):
        return params
    return replace(params, elements=max(params.elements, sum(fact.elements * times for fact, _, times in body.traffic)))


def _by_reciprocal(params: OpParams, dtype: str, group: Group, known: Known) -> OpParams:
    """In integers, x / constant is a product: the reciprocal goes into the constant's scale when the code is made."""
    if not isinstance(params, ElementwiseParams) or params.function != "div" or dtype not in SCALED_INTEGERS:
        return params
    divisor = group.anchor.inputs[1] if len(group.anchor.inputs) == 2 else None
    return replace(params, function="mul") if divisor is not None and known.constant.get(divisor, False) else params


def _bias_values(groups: Sequence[Group], known: Known) -> set[ir.Value]:
    """Constants that are added to an accumulator; the offset of a norm is none."""
    found: set[ir.Value] = set()
    for group in groups:
        for node in group.members:
            found.update(v for i in biases(node) if i < len(node.inputs) and (v := node.inputs[i]) is not None)
        if marks.kind(group.anchor) not in NORM_KINDS:
            name = marks.params(group.anchor).get("bias", "")
            found.update(v for v in group.constants if v.name == name)
    return {v for v in found if known.constant.get(v, False)}


def _turned(groups: Sequence[Group], laid: Sequence[Laid]) -> tuple[str, ...]:
    """Origins of the products whose activation lies transposed."""
    turned = (group.origin for group, one in zip(groups, laid, strict=True) if one.lowered.turned)
    return tuple(dict.fromkeys(name for origin in turned for name in origin))


def _diagnostics(
    groups: Sequence[Group], known: Known, control: Control, plan: Plan, listed: set[str], turned: tuple[str, ...]
) -> tuple[Diagnostic, ...]:
    found = []
    if plan.int8:
        found.append(
            Diagnostic(
                "H4W110",
                "warning",
                "float model planned as int8: one byte an element, int32 biases; the plan holds for the model once it "
                "is quantised",
                hint="quantise before deployment, or plan with --precision stored",
            )
        )
    strange = tuple(str(group.anchor.name) for group in groups if group.anchor.domain not in KNOWN_DOMAINS)
    if strange:
        found.append(
            Diagnostic(
                "H4W116",
                "warning",
                "operators of a domain that neither ONNX nor onnxruntime defines: their cost is an estimate from their "
                "bytes, and stock onnxruntime cannot run them",
                strange,
                "replace them by standard operators, or give the model their definition as a function",
            )
        )
    notes = (
        ("H4W111", "note", known.bounded, "shapes that depend on data: sizes are upper bounds"),
        ("H4W112", "warning", known.estimated, "shapes that depend on data: sizes are estimates, no bound is known"),
        ("H4W113", "note", known.unsized, "tensors of text or of unknown type: sizes are estimates by element count"),
    )
    for code, severity, names, what in notes:
        where = tuple(name for name in names if name in listed)
        if where:
            found.append(Diagnostic(code, "note" if severity == "note" else "warning", what, where))
    if control.open_ended:
        found.append(
            Diagnostic(
                "H4W114",
                "warning",
                "loops whose number of runs is not known: their bodies are costed once",
                tuple(dict.fromkeys(control.open_ended)),
                "give the trip count as a constant",
            )
        )
    if turned:
        found.append(
            Diagnostic(
                "H4W115",
                "note",
                "products that read or write an activation transposed: its vectors are columns in memory; the time to "
                "turn them is in no cost",
                turned,
                "put the weights on the right, and a Transpose where one is needed, to have it costed",
            )
        )
    return tuple(found)
