"""The peak of live tensors against a count that marks every byte at every step."""

from __future__ import annotations

from dataclasses import replace

from h4hc.live_memory import peak_live_bytes
from h4hc.workload import OpKind, Workload
from tests.random_plans import random_problem


def _by_hand(workload: Workload) -> int:
    """At each operator: inputs of the model not yet done with, tensors made and still to be read, its own output."""
    peak = 0
    for at in range(len(workload.ops)):
        made = {*workload.inputs, *(n for op in workload.ops[: at + 1] for n in op.outputs)}
        needed = (
            {n for op in workload.ops[at:] for n in op.inputs} | set(workload.outputs) | set(workload.ops[at].outputs)
        )
        if at == 0:
            needed |= set(workload.inputs)
        peak = max(peak, sum(workload.tensor[n].size_bytes for n in made & needed))
    return peak


def test_equals_a_count_by_hand() -> None:
    for seed in range(200):
        workload, _ = random_problem(seed, 9)
        sized = tuple(replace(t, size_bytes=(i * 37) % 101 + 1) for i, t in enumerate(workload.tensors))
        workload = replace(workload, tensors=sized)
        assert peak_live_bytes(workload)[0] == _by_hand(workload), f"seed {seed}"


def test_a_view_takes_no_bytes_of_its_own() -> None:
    workload, _ = random_problem(3, 1)
    assert len(workload.ops) == 1
    plain = replace(workload, outputs=("t0",))
    view = replace(plain, ops=(replace(plain.ops[0], kind=OpKind.VIEW),))
    assert peak_live_bytes(plain) == (8, "op0")
    assert peak_live_bytes(view) == (4, "op0")
