"""A device's wake-up is a step of every plan, once; one whose outputs are inexact is named when it is used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from h4hc.assignment import Objective
from h4hc.cost import cost_table
from h4hc.costtypes import Interval
from h4hc.inexact import inexact_remarks
from h4hc.partition import PartitionOptions, partition
from h4hc.plan_check import check_plan
from h4hc.schedule import schedule
from h4hc.system import System
from tests.fake_compilation import FakeDevice, fake_system, fake_workload

WAKE = Interval(10, 100, 1000), Interval(1, 2, 3), ("guess",)


@dataclass(frozen=True)
class Sleepy(FakeDevice):
    """Wakes at a price, and rounds."""

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        return WAKE

    def inexact(self) -> str | None:
        return "sums are rounded"


def _sleepy() -> System:
    fast, host = fake_system().devices
    assert isinstance(fast, FakeDevice)
    return replace(fake_system(), devices=(Sleepy("fast", fast.macs_per_ns, fast.start_ps), host))


def test_a_wake_up_is_paid_once_by_every_plan() -> None:
    workload, system = fake_workload(5), _sleepy()
    awake, asleep = cost_table(workload, fake_system()), cost_table(workload, system)
    leaked = system.leakage_energy(WAKE[0])
    for objective in (Objective.LATENCY, Objective.ENERGY):
        before = partition(workload, awake, PartitionOptions(objective)).assignment
        after = partition(workload, asleep, PartitionOptions(objective)).assignment
        assert after.latency_ps - before.latency_ps == WAKE[0].nominal
        assert after.energy_pj - before.energy_pj == WAKE[1].nominal + leaked.nominal
        plan = schedule(workload, after, asleep)
        assert [s.latency for s in plan.steps if s.kind == "wake_up"] == [WAKE[0]]
        assert check_plan(workload, asleep, after, plan) == ()


def test_an_inexact_device_is_named_with_its_operators_when_used() -> None:
    workload, system = fake_workload(5), _sleepy()
    used = partition(workload, cost_table(workload, system), PartitionOptions()).assignment
    (remark,) = inexact_remarks(used, system)
    assert remark.severity == "warning"
    assert "sums are rounded" in remark.what
    assert set(remark.where) == {p.op for p in used.placements if p.mode.device == "fast"}
    assert inexact_remarks(used, fake_system()) == ()
    away = partition(workload, cost_table(workload, system), PartitionOptions(forbids=("*=fast",))).assignment
    assert inexact_remarks(away, system) == ()
