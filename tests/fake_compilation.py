"""A finished compilation of the contract's dataclasses and two small devices, for tests of what is said about one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

from h4hc.assignment import Assignment, Case, Objective
from h4hc.cost import CostTable, cost_table
from h4hc.costtypes import ZERO, Bound, Capacity, Cost, Interval, Mode, RidgePoint, Rule, Term, Violation
from h4hc.diagnostics import Diagnostic
from h4hc.goals import NO_BUDGET
from h4hc.memory.planner import plan_memory
from h4hc.partition import PartitionOptions, partition
from h4hc.passbase import Skip
from h4hc.pipeline import PassStep
from h4hc.schedule import schedule
from h4hc.stability import stability
from h4hc.system import MoveStep, Switch, System
from h4hc.workload import FullyConnectedParams, Layout, Op, OpKind, Tensor, Workload

if TYPE_CHECKING:
    from h4hc.compilation import Compilation

MACS_ONLY = Rule(
    "fast.macs",
    "the operator multiplies",
    lambda op, _: None if op.macs else Violation("0 MAC", "1 MAC or more", "fuse it into its producer"),
)


@dataclass(frozen=True)
class FakeDevice:
    """Time = macs / speed beside bytes / 4 B/ns, plus a start; `stores` bytes of weights in each of `units`."""

    name: str
    macs_per_ns: int
    start_ps: int
    units: int = 1
    stores: int | None = None
    family: str = "fake"

    def modes(self) -> tuple[Mode, ...]:
        return tuple(Mode(self.name, n) for n in range(1, self.units + 1))

    def rules(self) -> tuple[Rule, ...]:
        return () if self.name == "host" else (MACS_ONLY,)

    def mode_rejection(self, op: Op, mode: Mode) -> Violation | None:
        if mode.units > 3:
            return Violation(f"{mode.units} units", "3 units")
        return None

    def cost(self, op: Op, mode: Mode, workload: Workload) -> Cost:
        moved = op.input_bytes + op.weight_bytes + op.output_bytes
        compute = op.macs * 1000 // (self.macs_per_ns * mode.units)
        terms = (
            Term("compute", "parallel", Interval(compute, compute, 2 * compute), Interval.exact(op.macs), "mac_array"),
            Term("input", "parallel", Interval.exact(moved * 250), Interval.exact(moved * 3), "bus"),
            Term("start", "serial", Interval.exact(self.start_ps), Interval.exact(7), "host"),
        )
        return Cost.from_terms(
            mode,
            terms,
            cycles=compute,
            bound=Bound.COMPUTE if compute > moved * 250 else Bound.MEMORY,
            bytes_moved=(("bus", moved),),
            model=f"{self.name}.fake",
            marks=("guess", "published") if self.name == "fast" else ("derived",),
            unit_weight_bytes=-(-op.weight_bytes // mode.units) if self.stores else 0,
        )

    def hidden(self, before: Op, op: Op, workload: Workload) -> Interval:
        """The fast device fetches a part of an operator's weights during the one before it, if that has weights."""
        if self.name == "host" or not before.weight_bytes:
            return ZERO
        return Interval(op.weight_bytes, op.weight_bytes * 2, op.weight_bytes * 3)

    def area_mm2(self) -> tuple[float, float, float]:
        return 1.0, 2.0, 4.0

    def wake_up(self) -> tuple[Interval, Interval, tuple[str, ...]]:
        return Interval(0, 0, 0), Interval(0, 0, 0), ()

    def channel_step(self) -> int:
        return 1

    def inexact(self) -> str | None:
        return None

    def ridge_points(self) -> tuple[RidgePoint, ...]:
        return (RidgePoint(self.name, "bus", self.macs_per_ns * 1e9, 4e9),)

    def capacity(self) -> Capacity:
        return Capacity(self.name, self.units, self.stores)

    def leakage_w(self) -> tuple[float, float, float]:
        return 0.001, 0.002, 0.004

    def leakage_marks(self) -> tuple[str, ...]:
        return ("guess",)

    def weights_in_sram(self) -> bool:
        return False

    def summary(self) -> tuple[tuple[str, str], ...]:
        return (("speed", f"{self.macs_per_ns} MAC/ns [guess]"),)


class FakeInterconnect:
    """4 B/ns between devices; the model's border is quantised on the host."""

    def switch(self, device: str) -> Switch:
        return Switch(device, Interval(500, 1000, 2000), Interval.exact(11), ("guess",))

    def moves(self, tensor: Tensor, src: str, dst: str, have: Layout, want: Layout) -> tuple[MoveStep, ...]:
        size = tensor.size_bytes
        if src == dst:
            return ()
        cost = Interval(size * 200, size * 250, size * 300)
        return (MoveStep("transfer", "dma", size, cost, Interval.exact(size * 2), ("published",)),)

    def border(self, tensor: Tensor, direction: Literal["quantize", "dequantize"]) -> tuple[MoveStep, ...]:
        size = tensor.size_bytes
        return (MoveStep(direction, "host", size, Interval.exact(size * 100), Interval.exact(size), ("vendor",)),)


def fake_system() -> System:
    devices = (FakeDevice("fast", 64, 200, units=4, stores=4096), FakeDevice("host", 1, 10))
    return System("fake", "two fake devices", "ab" * 32, devices, FakeInterconnect(), 1 << 20, (("fast.units", "4"),))


def fake_workload(ops: int = 8, *, prefix: str = "/net/") -> Workload:
    """A chain of fully connected layers and activations, every third one an activation, each of two user nodes."""
    tensors = [Tensor("x", (1, 32), "int8", "float32", 32, Layout.ROW_MAJOR)]
    made: list[Op] = []
    for i in range(ops):
        name = f"{prefix}layer{i}"
        source, out = tensors[-1].name if i == 0 else f"t{i - 1}", f"t{i}"
        dense = i % 3 != 2
        tensors.append(Tensor(out, (1, 32), "int8", "float32", 32, Layout.ROW_MAJOR))
        weights: tuple[str, ...] = ()
        if dense:
            weights = (f"w{i}",)
            tensors.append(Tensor(f"w{i}", (32, 32), "int8", "float32", 1024, Layout.ROW_MAJOR))
        made.append(
            Op(
                id=name,
                kind=OpKind.FULLY_CONNECTED if dense else OpKind.SOFTMAX,
                params=FullyConnectedParams("fully_connected", 1, 32, 32),
                inputs=(source,),
                outputs=(out,),
                weights=weights,
                origin=(name, f"{name}/Relu") if dense else (name,),
                op_types=("MatMul", "Relu") if dense else ("Softmax",),
                dtype="int8",
                macs=1024 if dense else 0,
                weight_bytes=1024 if dense else 0,
                input_bytes=32,
                output_bytes=32,
            )
        )
    remark = Diagnostic("H4W001", "warning", f"the free batch of {prefix}x is taken as 1", ("x",), "--fix-dim")
    return Workload("fake", "planned int8", tuple(made), tuple(tensors), ("x",), (f"t{ops - 1}",), (remark,))


def compile_fake(
    workload: Workload | None = None,
    *,
    objective: Objective = Objective.LATENCY,
    pins: tuple[str, ...] = (),
    forbids: tuple[str, ...] = (),
    why: str = "it returned its input",
    robust: bool = False,
    stable: bool = False,
) -> Compilation:
    """The real cost table, partitioner and scheduler on fake devices, dressed as `h4hc.api.Compilation`."""
    workload = workload or fake_workload()
    system = fake_system()
    table = cost_table(workload, system)
    wish = PartitionOptions(objective, pins, forbids)
    nominal = partition(workload, table, wish) if robust else None
    wish = replace(wish, case=Case.WORST) if robust else wish
    plan = partition(workload, table, wish)
    first = workload.ops[0].origin[0]
    step = PassStep("drop-no-ops", 1, 9, 8, ((f"{first}/Identity", why),), (Skip(first, "two users"),), (), seconds=0.1)
    graph = SimpleNamespace(__len__=None)
    graph = cast(SimpleNamespace, list(range(9)))
    steps = schedule(workload, plan.assignment, table)
    result = SimpleNamespace(
        options=SimpleNamespace(
            target="fake",
            sets=(),
            objective=objective,
            goals=(),
            budget=NO_BUDGET,
            pins=pins,
            forbids=forbids,
            gap=0.0,
            schema="sequential",
            time_limit_s=60.0,
            robust=robust,
            precision="auto-int8",
            input_shapes=(),
            fix_dims=(),
            passes="default",
            limits=(),
        ),
        loaded=SimpleNamespace(
            name=workload.name,
            sha256="cd" * 32,
            diagnostics=(),
            model=SimpleNamespace(opset_imports={"": 17}, graph=graph),
        ),
        run=SimpleNamespace(steps=(step,)),
        workload=workload,
        system=system,
        table=table,
        assignment=plan.assignment,
        baselines=plan.baselines,
        nominal_optimum=nominal.assignment if nominal else None,
        stability=stability(workload, table, plan, wish) if stable else None,
        schedule=steps,
        memory=plan_memory(workload, steps, system),
        diagnostics=workload.diagnostics,
        seconds={},
    )
    return cast("Compilation", result)


def total(table: CostTable, workload: Workload, assignment: Assignment) -> tuple[int, int]:
    """Nominal latency [ps] and energy [pJ] of a plan by walking its schedule."""
    laid = schedule(workload, assignment, table)
    return laid.latency.nominal, laid.energy.nominal
