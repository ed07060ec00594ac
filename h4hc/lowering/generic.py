"""The operators that only a host runs: class generic, cost from bytes, MACs where the operator multiplies."""

from __future__ import annotations

from h4hc.lowering.site import Lowered, Order, Site
from h4hc.workload import GenericParams, OpKind


def generic(site: Site, macs: int = 0) -> Lowered:
    """Host operator named as the user wrote it; `elements` is the largest of inputs and outputs."""
    params = GenericParams("generic", site.node.op_type, site.node.domain, site.elements)
    return Lowered(OpKind.GENERIC, params, macs, Order.ROW_MAJOR)
