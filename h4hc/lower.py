"""lower: (onnx_ir.Model after the passes, precision) -> Workload. The steps are in `lowering/`, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from h4hc.errors import GraphError
from h4hc.workload import Workload

if TYPE_CHECKING:
    import onnx_ir as ir

Precision = Literal["auto-int8", "stored"]


def lower(model: ir.Model, precision: Precision) -> Workload:
    """Typed operators of a legalised model, in execution order, with MACs and bytes.

    Every group of nodes becomes one operator; what has no class of its own becomes a generic host operator. With
    "auto-int8" a float model is planned as int8 (one byte an element, int32 bias), which a diagnostic says; a
    model that holds any quantising operator, and every model with "stored", keeps its types. The model is only
    read. Raises GraphError with all problems found: shapes that contradict each other or are missing, cycles,
    nodes without a name.
    """
    from h4hc.lowering.control import learn_control
    from h4hc.lowering.drafts import make_drafts
    from h4hc.lowering.facts import learn
    from h4hc.lowering.groups import make_groups
    from h4hc.lowering.plan import Plan
    from h4hc.lowering.result import build_workload

    known = learn(model)
    groups = make_groups(model, known)
    control = learn_control(model, known)
    drafts = make_drafts(groups, known)
    if known.problems:
        raise GraphError.of(tuple(known.problems))
    plan = Plan.choose(model, known, precision)
    return build_workload(model, groups, drafts, known, control, plan)
