"""border: what the host spends to quantise the model's inputs and to dequantise its outputs, the same in every plan.

A float image is converted on the host, in the NPU-only system as well as with a CIM: time that no placement can save,
and that a sensor which delivers int8 would not need. So each saving is also told without it.
"""

from __future__ import annotations

from h4hc.cost import CostTable
from h4hc.planning.plan_cost import Pair
from h4hc.system import HOST
from h4hc.workload import OpKind, Workload


def border_cost(workload: Workload, table: CostTable) -> Pair:
    """Nominal (latency [ps], energy [pJ]) of the border.

    The table's arrivals and departures of a model that is planned as int8; of a quantised one the conversions that
    read a model input or make a model output.
    """
    steps = [step for border in (*table.arrivals, *table.departures) for step in border.steps]
    pairs = [(step.latency.nominal, step.energy.nominal) for step in steps]
    ends = {*workload.inputs, *workload.outputs}
    for op in workload.ops:
        if op.kind is OpKind.QUANTIZE and ends & {*op.inputs, *op.outputs}:
            own = [cost for cost in table.row[op.id].costs if cost.mode.device == HOST]
            pairs += [(cost.latency.nominal, cost.energy.nominal) for cost in own]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
