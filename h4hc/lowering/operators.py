"""One group of nodes -> one typed operator, without names of tensors, layouts or bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from h4hc import annotations as marks
from h4hc.lowering import dtypes, vector
from h4hc.lowering.facts import Known, bodies_of
from h4hc.lowering.generic import generic
from h4hc.lowering.inputs import QUANTISATION
from h4hc.lowering.site import Fact, Group, Lowered, Order, Site
from h4hc.lowering.table import function_of, macs_of
from h4hc.workload import ElementwiseParams, GenericParams, OpKind


def lower_group(group: Group, known: Known) -> Lowered:
    """Class, parameters and MACs of a group.

    A kind that a pass has recognised decides, else the anchor's operator type. An operator with a tensor whose
    shape depends on data is a host operator, with the MACs of the shapes' bounds; so is one that makes its result
    out of constants alone (a constant output of the model). Raises Refused.
    """
    site = Site(group, known.facts, known.constant, known.opset)
    if bodies_of(group.anchor):
        node = group.anchor
        params = GenericParams("generic", node.op_type, node.domain, site.elements)
        return Lowered(OpKind.CONTROL_FLOW, params)
    if not group.inputs or not all(known.facts[v].exact for v in (*group.inputs, *group.outputs)):
        return generic(site, macs_of(site))
    recognised = _KINDS.get(marks.kind(group.anchor))
    lowered = function_of(group.anchor)(site) if recognised is None else recognised(site)
    if (lowered.kind == OpKind.VIEW or lowered.order == Order.TRANSPOSE) and site.is_constant(0):
        return generic(site)  # the data is constant, only how to arrange it is not: nothing there to be a view of
    if lowered.macs and not compute_dtype(group, known).startswith("float") and _rescales_at_run_time(site):
        return generic(site, lowered.macs)
    fused = marks.activation(group.anchor)
    if lowered.kind == OpKind.ACTIVATION or not fused:
        return lowered
    return replace(lowered, activation=fused)


def compute_dtype(group: Group, known: Known) -> str:
    """Type an operator computes in, as stored.

    Float as soon as one tensor in or out is: such an operator mixes precisions or converts, and is host work.
    Else the first integer below 32 bits, which is a quantised type; else the type of its first input (or output).
    """
    facts = [known.facts[v] for v in (*group.inputs, *group.outputs)]
    for wanted in (dtypes.is_float, _is_quantised):
        for fact in facts:
            if wanted(fact.dtype):
                return fact.dtype
    return facts[0].dtype if facts else dtypes.UNKNOWN


def _is_quantised(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "float8", "float4")) and not dtype.endswith(("32", "64"))


def _rescales_at_run_time(site: Site) -> bool:
    """Whether a scale or zero point of an integer product is computed: no accelerator takes those as data."""
    found = QUANTISATION.get(site.node.op_type, ())
    return any(site.has(i) and not site.is_constant(i) for i in found)


def _result(site: Site) -> Fact:
    return site.facts[site.group.outputs[0]]


def _norm(site: Site) -> Lowered:
    params = marks.params(site.node)
    source = next((v for v in site.group.inputs if v.name == params.get("input")), site.group.inputs[0])
    shape = site.facts[source].shape
    axes = params.get("axes")
    found = tuple(int(a) for a in axes) if isinstance(axes, list) else (-1,)
    return vector.norm_of_parts(marks.kind(site.node), shape, found)


def _activation(site: Site) -> Lowered:
    function = marks.activation(site.node)
    params = ElementwiseParams("elementwise", function, _result(site).elements, 1)
    return Lowered(OpKind.ACTIVATION, params, 0, Order.EITHER)


def _requantize(site: Site) -> Lowered:
    params = ElementwiseParams("elementwise", "requantize", math.prod(_result(site).shape), 1)
    return Lowered(OpKind.QUANTIZE, params, 0, Order.EITHER)


NORM_KINDS = ("layer_norm", "rms_norm")

# What passes write into `h4hc.kind`, where the anchor's operator type does not say it.
_KINDS: dict[str, Callable[[Site], Lowered]] = {
    **dict.fromkeys(NORM_KINDS, _norm),
    "activation": _activation,
    "requantize": _requantize,
}
