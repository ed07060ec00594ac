"""How many bytes of tensors a model has alive at once, before it is placed. `h4hc/memory/` plans a placed one."""

from __future__ import annotations

from h4hc.workload import OpKind, Workload


def peak_live_bytes(workload: Workload) -> tuple[int, str]:
    """Largest sum of bytes of tensors alive during one operator, and that operator's id.

    A tensor lives from the operator that makes it (the start, for a model input) to its last reader (the end, for
    a model output). A view shares its input's bytes. What works in place can do with less, copies in another layout
    need more: that is decided with the placement.
    """
    holder: dict[str, str] = {name: name for name in workload.inputs}
    last: dict[str, int] = {}
    born: dict[str, int] = dict.fromkeys(workload.inputs, 0)
    for at, op in enumerate(workload.ops):
        for name in op.inputs:
            last[holder.get(name, name)] = at
        for name in op.outputs:
            shares = op.kind is OpKind.VIEW and bool(op.inputs)
            holder[name] = holder.get(op.inputs[0], op.inputs[0]) if shares else name
            born.setdefault(holder[name], at)
            last[holder[name]] = at
    for name in workload.outputs:
        last[holder.get(name, name)] = len(workload.ops) - 1
    change = [0] * (len(workload.ops) + 1)
    for name, start in born.items():
        change[start] += workload.tensor[name].size_bytes
        change[last.get(name, start) + 1] -= workload.tensor[name].size_bytes
    best, where, live = 0, "", 0
    for at, op in enumerate(workload.ops):
        live += change[at]
        if live > best:
            best, where = live, op.id
    return best, where
