"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear that stand alone: conversions at a border."""

from __future__ import annotations

from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import ElementwiseParams, OpKind

FUNCTIONS: dict[str, str] = {
    "DequantizeLinear": "dequantize",
    "DynamicQuantizeLinear": "dynamic_quantize",
    "QuantizeLinear": "quantize",
}


def quantize(site: Site) -> Lowered:
    """One converted element each; scales and zero points are parameters."""
    function = FUNCTIONS[site.node.op_type]
    if len(site.group.members) > 1:
        function = "requantize"
    params = ElementwiseParams("elementwise", function, site.fact(0).elements, 1)
    return Lowered(OpKind.QUANTIZE, params, 0, Order.EITHER)
