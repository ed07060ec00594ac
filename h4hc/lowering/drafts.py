"""Lower every group, collecting what is wrong with all of them."""

from __future__ import annotations

from collections.abc import Sequence

from h4hc.lowering.facts import Known
from h4hc.lowering.layouts import Draft
from h4hc.lowering.operators import lower_group
from h4hc.lowering.site import Group, Refused


def make_drafts(groups: Sequence[Group], known: Known) -> list[Draft]:
    """One draft a group, in the same order; a group that contradicts itself leaves a problem in `known` instead."""
    drafts = []
    for group in groups:
        try:
            lowered = lower_group(group, known)
        except Refused as refused:
            known.problems.append(refused.problem)
            continue
        inputs, outputs = (tuple(str(v.name) for v in values) for values in (group.inputs, group.outputs))
        drafts.append(Draft(group.id, lowered, inputs, outputs))
    return drafts
