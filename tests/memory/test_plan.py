"""Memory plans: what shares bytes, how long each lives, and a validator that names each fault made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from h4hc.compilation import CompileOptions
from h4hc.memory.check import check_memory
from h4hc.memory.plan import Buffer, MemoryPlan, Region
from h4hc.memory.planner import plan_memory
from h4hc.memory.problem import PackingStatus
from h4hc.memory.remark import sram_remark
from h4hc.schedule import Schedule
from h4hc.workload import OpKind, Workload
from tests.memory.plans import LAST, ROW, op, random_plan, small_system, steps_of, tensor

SYSTEM = small_system()


def faults(workload: Workload, schedule: Schedule, plan: MemoryPlan) -> set[str]:
    return {fault.rule for fault in check_memory(workload, schedule, SYSTEM, plan)}


def test_random_plans_pass_the_validator() -> None:
    kinds: set[str] = set()
    shared = 0
    for seed in range(300):
        workload, schedule = random_plan(seed, 14)
        plan = plan_memory(workload, schedule, SYSTEM)
        assert check_memory(workload, schedule, SYSTEM, plan) == (), f"seed {seed}"
        assert MemoryPlan.from_json(plan.to_json()) == plan
        kinds.update(b.kind for b in plan.regions[0].buffers)
        shared += sum(len(b.tensors) - 1 for b in plan.regions[0].buffers if b.kind != "weights")
    assert kinds == {"tensor", "copy", "weights"}
    assert shared > 300


def network() -> tuple[Workload, Schedule, MemoryPlan]:
    """x -> conv (channels last, weights) -> a; relu(a) -> b; view(b) -> c; add(c, c) -> d; pool(d) -> y, row-major."""
    ops = (
        op("conv", OpKind.CONV, ("x",), "a", LAST, ("w",)),
        op("relu", OpKind.ACTIVATION, ("a",), "b"),
        op("view", OpKind.VIEW, ("b",), "c"),
        op("add", OpKind.ELEMENTWISE, ("c", "c"), "d"),
        op("pool", OpKind.POOL, ("d",), "y", ROW),
    )
    tensors = (tensor("x", 40), *(tensor(n, 40, LAST) for n in "abcd"), tensor("y", 10), tensor("w", 70))
    workload = Workload("small", "as stored", ops, tensors, ("x",), ("y",))
    schedule = steps_of(workload, {o.id: "fast" for o in ops})
    return workload, schedule, plan_memory(workload, schedule, SYSTEM)


def test_what_shares_bytes_and_how_long_it_lives() -> None:
    _, schedule, plan = network()
    at = {(s.kind, s.subject): s.index for s in schedule.steps}
    end = len(schedule.steps)
    found = {b.name: (b.kind, b.tensors, b.start_step, b.end_step) for b in plan.regions[0].buffers}
    assert found == {
        "weights of fast": ("weights", ("w",), 0, end),
        "x": ("tensor", ("x",), 0, at["layout", "x"] + 1),
        "x as channels_last": ("copy", ("x",), at["layout", "x"], at["op", "conv"] + 1),
        "a": ("tensor", ("a", "b", "c", "d"), at["op", "conv"], at["layout", "d"] + 1),
        "d as row_major": ("copy", ("d",), at["layout", "d"], at["op", "pool"] + 1),
        "y": ("tensor", ("y",), at["op", "pool"], end),
    }
    region = plan.regions[0]
    # the weights lie on top, where their last line need not be whole
    assert (region.high_water_bytes, region.status) == (48 + 48 + 70, PackingStatus.OPTIMAL)


@pytest.mark.parametrize(
    ("name", "outputs", "second", "kind"),
    [
        ("an input of the model", ("y",), ("x",), OpKind.ACTIVATION),
        ("an output of the model", ("a", "y"), ("a",), OpKind.ACTIVATION),
        ("no work by element", ("y",), ("a",), OpKind.SOFTMAX),
    ],
)
def test_never_in_place(name: str, outputs: tuple[str, ...], second: tuple[str, ...], kind: OpKind) -> None:
    ops = (op("first", OpKind.CONV, ("x",), "a"), op("second", kind, second, "y"))
    workload = Workload(name, "as stored", ops, tuple(tensor(n, 40) for n in "xay"), ("x",), outputs)
    schedule = steps_of(workload, {"first": "host", "second": "host"})
    plan = plan_memory(workload, schedule, SYSTEM)
    assert all(len(b.tensors) == 1 for b in plan.regions[0].buffers)
    assert faults(workload, schedule, plan) == set()


def test_a_second_reader_or_another_shape_forbids_in_place() -> None:
    for readers, size in ((("a",), 40), (("a", "b"), 40), (("a",), 20)):
        ops = (
            op("first", OpKind.CONV, ("x",), "a"),
            op("second", OpKind.ELEMENTWISE, ("a",), "b"),
            op("third", OpKind.CONV, readers if len(readers) > 1 else ("b",), "y"),
        )
        sizes = {"x": 8, "a": 40, "b": size, "y": 8}
        workload = Workload("two", "as stored", ops, tuple(tensor(n, s) for n, s in sizes.items()), ("x",), ("y",))
        schedule = steps_of(workload, {o.id: "host" for o in ops})
        together = any({"a", "b"} <= set(b.tensors) for b in plan_memory(workload, schedule, SYSTEM).regions[0].buffers)
        assert together == (readers == ("a",) and size == 40)


def test_an_input_handed_on_and_a_tensor_without_bytes() -> None:
    workload = Workload("through", "as stored", (), (tensor("x", 40),), ("x",), ("x",))
    plan = plan_memory(workload, Schedule((), ()), SYSTEM)
    assert [(b.start_step, b.end_step) for b in plan.regions[0].buffers] == [(0, 1)]
    assert check_memory(workload, Schedule((), ()), SYSTEM, plan) == ()
    empty = replace(workload, tensors=(tensor("x", 0),))
    assert plan_memory(empty, Schedule((), ()), SYSTEM).regions[0].buffers == ()


Change = Callable[[Buffer], Buffer | None]


def changed(plan: MemoryPlan, name: str, change: Change, **of_region: object) -> MemoryPlan:
    """The plan with one buffer changed, or dropped."""
    region = plan.regions[0]
    buffers = [change(b) if b.name == name else b for b in region.buffers]
    made = replace(region, buffers=tuple(b for b in buffers if b is not None), **of_region)  # type: ignore[arg-type]
    return replace(plan, regions=(made,))


def test_each_fault_is_named() -> None:
    workload, schedule, plan = network()
    where = {b.name: b for b in plan.regions[0].buffers}
    assert faults(workload, schedule, plan) == set()
    cases: list[tuple[str, str, Change]] = [
        ("misaligned", "a", lambda b: replace(b, offset_bytes=b.offset_bytes + 1)),
        ("out of region", "a", lambda b: replace(b, offset_bytes=-16)),
        ("out of region", "a", lambda b: replace(b, offset_bytes=160)),
        ("high-water", "weights of fast", lambda b: replace(b, offset_bytes=4096)),
        ("overlap", "x as channels_last", lambda b: replace(b, offset_bytes=where["a"].offset_bytes)),
        ("missing tensor", "y", lambda b: None),
        ("missing tensor", "x as channels_last", lambda b: None),
        ("missing tensor", "weights of fast", lambda b: None),
        ("missing tensor", "a", lambda b: replace(b, tensors=("a", "b", "c"))),
        ("lifetime too short", "a", lambda b: replace(b, end_step=b.end_step - 1)),
        ("lifetime too short", "a", lambda b: replace(b, start_step=b.start_step + 1)),
        ("lifetime too short", "y", lambda b: replace(b, end_step=b.end_step - 1)),
        ("lifetime too short", "weights of fast", lambda b: replace(b, start_step=1)),
        ("size", "y", lambda b: replace(b, size_bytes=9)),
        ("size", "weights of fast", lambda b: replace(b, size_bytes=69)),
        ("twice", "y", lambda b: replace(b, tensors=("y", "a"))),
        ("twice", "y", lambda b: replace(b, name="x")),
    ]
    for rule, name, change in cases:
        found = faults(workload, schedule, changed(plan, name, change))
        assert rule in found, (rule, name, found)


def test_faults_of_the_region() -> None:
    workload, schedule, plan = network()
    same: Change = lambda b: b  # noqa: E731
    for rule, fields in (
        ("region", {"capacity_bytes": 5}),
        ("region", {"align_bytes": 8}),
        ("bound", {"lower_bound_bytes": 1}),
        ("bound", {"lower_bound_bytes": 10_000}),
        ("bound", {"status": PackingStatus.LIMIT}),
        ("high-water", {"high_water_bytes": 4096}),
    ):
        assert rule in faults(workload, schedule, changed(plan, "", same, **fields)), (rule, fields)
    assert faults(workload, schedule, replace(plan, steps=3)) == {"region"}
    assert faults(workload, schedule, replace(plan, regions=())) == {"region"}


def test_bytes_lost_while_they_are_still_needed_are_found_by_playing() -> None:
    """Lives that are said to be apart, and are not: no overlap is declared, but a reader finds other bytes."""
    ops = (
        op("one", OpKind.CONV, ("x",), "a"),
        op("two", OpKind.CONV, ("a",), "b"),
        op("three", OpKind.CONV, ("a", "b"), "y"),
    )
    workload = Workload("lost", "as stored", ops, tuple(tensor(n, 40) for n in "xaby"), ("x",), ("y",))
    schedule = steps_of(workload, {o.id: "host" for o in ops})
    plan = plan_memory(workload, schedule, SYSTEM)
    where = {b.name: b for b in plan.regions[0].buffers}
    made = changed(plan, "a", lambda b: replace(b, end_step=where["b"].start_step))
    made = changed(made, "b", lambda b: replace(b, offset_bytes=where["a"].offset_bytes))
    found = faults(workload, schedule, made)
    assert {"lost", "lifetime too short"} <= found
    assert "overlap" not in found
    unsafe = changed(plan, "a", lambda b: replace(b, tensors=("a", "b")))
    unsafe = changed(unsafe, "b", lambda b: None)
    assert "in-place unsafe" in faults(workload, schedule, unsafe)


def test_the_warning_rests_on_the_plan() -> None:
    workload, schedule, _ = network()
    for sram, words in ((166, ""), (165, "whatever the layout")):
        system = small_system(sram)
        plan = plan_memory(workload, schedule, system)
        remarks = sram_remark(plan, schedule)
        assert [d.code for d in remarks] == (["H4W120"] if words else [])
        assert all(words in d.what and "peak: 70 B, 40 B, 40 B" in d.what for d in remarks)
        assert all({"weights of fast", "x"} <= set(d.where) for d in remarks)
    region = Region("sram", 10, 1, 12, 9, PackingStatus.LIMIT, ())
    (open_case,) = sram_remark(MemoryPlan(0, (region,)), Schedule((), ()))
    assert "9 B is the least that is not ruled out" in open_case.what


@pytest.mark.slow
@pytest.mark.parametrize("sets", [(), ("npu.memory_mode=Sram_Only",)], ids=["default", "sram-only"])
def test_zoo_models_are_planned_at_the_bound(sets: tuple[str, ...]) -> None:
    from h4hc.api import compile_model
    from h4hc.zoo.build import build_model
    from h4hc.zoo.models import MODELS

    for name in MODELS:
        data = build_model(name, 0, False).SerializeToString(deterministic=True)
        done = compile_model(data, CompileOptions("npu+cim", sets=sets))
        assert done.workload is not None
        assert done.schedule is not None
        assert done.system is not None
        assert done.memory is not None
        region = done.memory.regions[0]
        print(name, region.capacity_bytes, region.high_water_bytes, region.lower_bound_bytes, f"{region.overhead:.2%}")
        assert region.overhead <= 0.05
        assert check_memory(done.workload, done.schedule, done.system, done.memory) == ()
