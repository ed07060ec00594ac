"""What hides behind the operator before: which device is asked for which pair, and what the table makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from h4hc.cost import cost_table, less_hidden
from h4hc.costtypes import ZERO, Interval
from h4hc.errors import CostModelError
from h4hc.workload import Op, Workload
from tests.fake_compilation import FakeDevice, fake_system, fake_workload


@dataclass(frozen=True)
class Prefetching(FakeDevice):
    """Hides `part` of a hundred of an operator's own time, and keeps what it was asked."""

    part: int = 10
    asked: list[tuple[str, str]] = field(default_factory=list)

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        self.asked.append((before.id, op.id))
        time = min(self.cost(op, mode, workload).latency.nominal for mode in self.modes())
        return Interval(0, time * self.part // 100, time * 2)


def test_a_device_is_asked_for_neighbours_that_may_both_run_on_it() -> None:
    fast, host = (d for d in fake_system().devices)
    assert isinstance(fast, FakeDevice)
    device = Prefetching("fast", fast.macs_per_ns, fast.start_ps)
    system = replace(fake_system(), devices=(device, host))
    workload = fake_workload(8)  # dense, dense, softmax, dense, dense, softmax, dense, dense
    table = cost_table(workload, system)
    pairs = [("/net/layer0", "/net/layer1"), ("/net/layer3", "/net/layer4"), ("/net/layer6", "/net/layer7")]
    assert [(f.op, f.device) for f in table.follow_ups] == [(op, "fast") for _, op in pairs]
    assert set(device.asked) <= set(pairs)
    for saving in table.follow_ups:
        assert saving.energy == system.leakage_energy(saving.latency)
        assert saving.energy.nominal > 0
        assert table.follow_up[saving.op, "fast"] == saving


def test_operators_that_are_alike_are_asked_once_but_not_in_other_surroundings() -> None:
    fast, host = (d for d in fake_system().devices)
    assert isinstance(fast, FakeDevice)
    device = Prefetching("fast", fast.macs_per_ns, fast.start_ps)
    workload = fake_workload(60)
    table = cost_table(workload, replace(fake_system(), devices=(device, host)))
    assert len(table.follow_ups) == 20
    assert len(device.asked) <= 4  # the first pair, the last and those between
    ops = list(workload.ops)
    ops[4] = replace(ops[4], inputs=ops[3].inputs)  # reads what the operator before reads, not what it makes
    device.asked.clear()
    cost_table(replace(workload, ops=tuple(ops)), replace(fake_system(), devices=(device, host)))
    assert (ops[3].id, ops[4].id) in device.asked


def test_more_hidden_than_an_operator_costs_is_an_error() -> None:
    fast, host = (d for d in fake_system().devices)
    assert isinstance(fast, FakeDevice)
    device = Prefetching("fast", fast.macs_per_ns, fast.start_ps, part=101)
    with pytest.raises(CostModelError, match="hides more of an operator than it costs"):
        cost_table(fake_workload(8), replace(fake_system(), devices=(device, host)))


def test_what_is_left_of_a_cost() -> None:
    cost = Interval(10, 20, 30)
    assert less_hidden(cost, ZERO) == cost
    assert less_hidden(cost, Interval(1, 5, 8)) == Interval(2, 15, 29)
    assert less_hidden(cost, Interval(0, 20, 25)) == Interval(0, 0, 30)
