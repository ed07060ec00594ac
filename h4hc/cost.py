"""cost: (Workload, System) -> CostTable: a Cost or a Rejection for each operator x mode, and what lies between them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal

from h4hc.costtypes import Capacity, Cost, DeviceModel, Interval, Mode, Rejection, Term, Violation
from h4hc.errors import CostModelError, Problem, UnsupportedOpError
from h4hc.system import HOST, MoveStep, Switch, System
from h4hc.workload import Layout, Op, Workload

MODEL_INPUT = ""  # producer of a model input, which starts on the host
MODEL_OUTPUT = ""  # consumer of a model output, which ends on the host, row-major; such a port has no other consumer


@dataclass(frozen=True)
class OpRow:
    """All answers about one operator: costs of its legal modes, rejections of the others."""

    op: str
    costs: tuple[Cost, ...]
    rejections: tuple[Rejection, ...]

    def cost(self, mode: Mode) -> Cost:
        """Cost of a legal mode; KeyError otherwise."""
        for cost in self.costs:
            if cost.mode == mode:
                return cost
        raise KeyError(f"{self.op} in mode {mode.name}")


@dataclass(frozen=True)
class Move:
    """What it takes to bring a port's tensor from device `src` to device `dst`; no steps = nothing to do."""

    src: str
    dst: str
    steps: tuple[MoveStep, ...]

    @functools.cached_property
    def latency(self) -> Interval:
        """Sum of its steps [ps]."""
        return functools.reduce(Interval.__add__, (s.latency for s in self.steps), Interval(0, 0, 0))

    @functools.cached_property
    def energy(self) -> Interval:
        """Sum of its steps [pJ]."""
        return functools.reduce(Interval.__add__, (s.energy for s in self.steps), Interval(0, 0, 0))


@dataclass(frozen=True)
class Port:
    """A tensor as some of its consumers want it: in one layout. Paid once for each device it is brought to.

    producer: op id, or MODEL_INPUT. consumers: op ids, or (MODEL_OUTPUT,).
    """

    tensor: str
    layout: Layout
    producer: str
    consumers: tuple[str, ...]
    moves: tuple[Move, ...]

    def move(self, src: str, dst: str) -> Move:
        """The move between two devices."""
        return next(m for m in self.moves if m.src == src and m.dst == dst)


@dataclass(frozen=True)
class Border:
    """What the host does once with a model input before anything reads it, or with an output at the end."""

    tensor: str
    steps: tuple[MoveStep, ...]


@dataclass(frozen=True)
class FollowUp:
    """What an operator saves on `device` when the operator before it in the order runs there as well.

    latency: the part of it that hides behind that operator [ps]; energy: what all devices leak in that time [pJ].
    """

    op: str
    device: str
    latency: Interval
    energy: Interval


def less_hidden(cost: Interval, hidden: Interval) -> Interval:
    """What is left of a cost: each bound is the extreme over both intervals, and none is below zero."""
    return Interval(max(0, cost.low - hidden.high), cost.nominal - hidden.nominal, cost.high - hidden.low)


@dataclass(frozen=True)
class CostTable:
    """Everything the partitioner needs, and nothing else. Rows follow the workload's execution order.

    arrivals, departures: the model's borders, and before them the devices' wake-up: the same in every plan.
    follow_ups: one for each operator and device where something hides; never more than the operator costs in any of
    its modes there. leakage_w: low, nominal and high power that all devices leak together; every energy in the table
    holds what leaks in its latency.
    """

    system: str
    rows: tuple[OpRow, ...]
    ports: tuple[Port, ...]
    arrivals: tuple[Border, ...]
    departures: tuple[Border, ...]
    switches: tuple[Switch, ...]
    capacities: tuple[Capacity, ...]
    follow_ups: tuple[FollowUp, ...]
    leakage_w: tuple[float, float, float]

    @functools.cached_property
    def row(self) -> dict[str, OpRow]:
        """Rows by op id."""
        return {r.op: r for r in self.rows}

    @functools.cached_property
    def follow_up(self) -> dict[tuple[str, str], FollowUp]:
        """Savings by op id and device."""
        return {(f.op, f.device): f for f in self.follow_ups}

    def switch(self, device: str) -> Switch:
        """Cost of a stay on `device`."""
        return next(s for s in self.switches if s.device == device)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return bytes(_adapter().dump_json(self, indent=1))

    @staticmethod
    def from_json(data: bytes) -> CostTable:
        """Inverse of `to_json`."""
        table = _adapter().validate_json(data)
        assert isinstance(table, CostTable)
        return table


Answers = dict[Mode, Cost | Violation]  # of operators that are alike: a network repeats its layers


def op_row(op: Op, system: System, workload: Workload, known: Answers | None = None) -> OpRow:
    """Ask every device about one operator, in each of its modes. What is in `known` is not asked for again."""
    alike = {} if known is None else known
    costs: list[Cost] = []
    rejections: list[Rejection] = []
    for device in system.devices:
        rejected = device_rejection(op, device, workload)
        for mode in device.modes():
            if rejected is not None:
                rejections.append(replace(rejected, mode=mode))
                continue
            if mode not in alike:
                limit = device.mode_rejection(op, mode)
                alike[mode] = limit or _with_leakage(device.cost(op, mode, workload), system)
            answer = alike[mode]
            if isinstance(answer, Cost):
                costs.append(answer)
            else:
                code, rule = f"{device.family}.mode", "the mode's own limit holds"
                rejections.append(Rejection(mode, code, rule, answer.value, answer.limit, op.origin, answer.fix))
    return OpRow(op.id, tuple(costs), tuple(rejections))


def _likeness(op: Op, workload: Workload) -> tuple[object, ...]:
    """All that a cost, or the limits of a mode, may depend on: operators that are alike cost the same."""
    tensors = tuple(
        (replace(workload.tensor[name], name=""), name in workload.inputs, name in workload.outputs)
        for name in (*op.inputs, *op.outputs, *op.weights)
    )
    shared = tuple(len(workload.readers.get(name, ())) > 1 for name in op.inputs)  # parts others read are copied
    nameless = replace(op, id="", inputs=(), outputs=(), weights=(), origin=(), op_types=(), region="")
    return nameless, len(op.inputs), len(op.outputs), tensors, shared


def device_rejection(op: Op, device: DeviceModel, workload: Workload) -> Rejection | None:
    """First rule of `device` that `op` breaks, or None. The mode in it is the device's first."""
    for rule in device.rules():
        if rule.kinds is not None and op.kind not in rule.kinds:
            continue
        violation = rule.check(op, workload)
        if violation is not None:
            return Rejection(
                device.modes()[0],
                rule.code,
                rule.sentence,
                violation.value,
                violation.limit,
                op.origin,
                violation.fix,
            )
    return None


def _with_leakage(cost: Cost, system: System) -> Cost:
    leak = system.leakage_energy(cost.latency)
    term = Term("leakage", "serial", Interval(0, 0, 0), leak, "all devices")
    marks = _with_leakage_marks(cost.marks, system)
    return replace(cost, energy=cost.energy + leak, terms=(*cost.terms, term), marks=marks)


def _leaky_move(step: MoveStep, system: System) -> MoveStep:
    energy = step.energy + system.leakage_energy(step.latency)
    return replace(step, energy=energy, marks=_with_leakage_marks(step.marks, system))


def _with_leakage_marks(marks: tuple[str, ...], system: System) -> tuple[str, ...]:
    return tuple(sorted({*marks, *(mark for device in system.devices for mark in device.leakage_marks())}))


def make_ports(workload: Workload, system: System) -> tuple[Port, ...]:
    """Each tensor as some of its consumers want it, with what bringing it from device to device takes."""
    wanted: dict[tuple[str, Layout, bool], list[str]] = {}
    for op in workload.ops:
        order = op.layout or workload.tensor[(op.inputs or op.outputs)[0]].layout
        for name in op.inputs:
            consumers = wanted.setdefault((name, order, False), [])
            if op.id not in consumers:
                consumers.append(op.id)
    for name in workload.outputs:
        if name not in workload.inputs:  # an input handed on is where it belongs already
            wanted[name, Layout.ROW_MAJOR, True] = [MODEL_OUTPUT]
    known: Moves = {}
    return tuple(
        _port(name, layout, tuple(consumers), workload, system, known)
        for (name, layout, _), consumers in wanted.items()
    )


Moves = dict[tuple[object, ...], tuple[Move, ...]]  # by all that moves may depend on


def _port(
    name: str, layout: Layout, consumers: tuple[str, ...], workload: Workload, system: System, known: Moves
) -> Port:
    tensor = workload.tensor[name]
    producer = workload.producer.get(name, MODEL_INPUT)
    sources = (HOST,) if producer == MODEL_INPUT else system.device_names
    is_output = consumers == (MODEL_OUTPUT,)
    key = (replace(tensor, name=""), layout, sources, is_output)
    if key not in known:
        known[key] = tuple(
            Move(src, dst, tuple(_leaky_move(s, system) for s in steps))
            for src in sources
            for dst in ((HOST,) if is_output else system.device_names)
            for steps in [system.interconnect.moves(tensor, src, dst, tensor.layout, layout)]
        )
    return Port(name, layout, producer, consumers, known[key])


def cost_table(workload: Workload, system: System) -> CostTable:
    """Cost of every operator in every mode, and of every tensor between every pair of devices.

    Raises UnsupportedOpError, listing all operators that no device can run; CostModelError from a model
    asked outside its range.
    """
    numbers: dict[tuple[object, ...], int] = {}
    alike = [numbers.setdefault(_likeness(op, workload), len(numbers)) for op in workload.ops]
    known: list[Answers] = [{} for _ in numbers]
    rows = tuple(op_row(op, system, workload, known[kind]) for op, kind in zip(workload.ops, alike, strict=True))
    stuck = [row for row in rows if not row.costs]
    if stuck:
        raise UnsupportedOpError.of(
            tuple(
                Problem(
                    f"no device of {system.name} can run {row.op!r}",
                    row.rejections[0].origin if row.rejections else (),
                    "; ".join(f"{r.mode.name}: {r.rule} ({r.value}; limit {r.limit})" for r in row.rejections),
                    "add a host to the system, or change the model",
                )
                for row in stuck
            )
        )
    switches = []
    for name in system.device_names:
        switch = system.interconnect.switch(name)
        energy = switch.energy + system.leakage_energy(switch.latency)
        marks = _with_leakage_marks(switch.marks, system) if name != HOST else switch.marks
        switches.append(replace(switch, energy=energy, marks=marks))
    arrivals = _wake_ups(system) + _borders(workload, system, workload.inputs, "quantize")
    departures = _borders(workload, system, workload.outputs, "dequantize")
    ports = make_ports(workload, system)
    follow_ups = _follow_ups(workload, system, rows, alike)
    capacities = system.capacities()
    leakage_w = system.leakage_w
    return CostTable(system.name, rows, ports, arrivals, departures, tuple(switches), capacities, follow_ups, leakage_w)


def _follow_ups(workload: Workload, system: System, rows: tuple[OpRow, ...], alike: list[int]) -> tuple[FollowUp, ...]:
    """Ask each device that may run two neighbours of the order what the second of them saves there.

    alike: a number for each operator, the same for operators that are alike.
    Raises: CostModelError for a device that hides more of an operator than it costs.
    """
    known: dict[tuple[object, ...], Interval] = {}
    found = []
    for at in range(1, len(rows)):
        before, op = workload.ops[at - 1], workload.ops[at]
        made = (*before.inputs, *before.outputs, *before.weights)
        shared = tuple(made.index(name) if name in made else -1 for name in (*op.inputs, *op.weights))
        earlier = {cost.mode.device for cost in rows[at - 1].costs}
        for device in system.devices:
            costs = [cost for cost in rows[at].costs if cost.mode.device == device.name]
            if not costs or device.name not in earlier:
                continue
            key = (alike[at - 1], alike[at], shared, device.name)
            if key not in known:
                known[key] = device.hidden(before, op, workload)
            hidden = known[key]
            if hidden.nominal > min(cost.latency.nominal for cost in costs):
                raise CostModelError(
                    f"{device.name} hides more of an operator than it costs",
                    op.origin,
                    f"{hidden.nominal} ps of {min(cost.latency.nominal for cost in costs)} ps behind {before.id!r}",
                    "this is a bug of the device's family",
                )
            if hidden.high:
                found.append(FollowUp(op.id, device.name, hidden, system.leakage_energy(hidden)))
    return tuple(found)


def _wake_ups(system: System) -> tuple[Border, ...]:
    """An inference's share of waking the devices. All of them wake with the system, as all of them leak with it."""
    found = []
    for device in system.devices:
        latency, energy, marks = device.wake_up()
        if latency.high or energy.high:
            step = MoveStep("wake_up", device.name, 0, latency, energy, marks)
            found.append(Border(device.name, (_leaky_move(step, system),)))
    return tuple(found)


def _borders(
    workload: Workload, system: System, names: tuple[str, ...], direction: Literal["quantize", "dequantize"]
) -> tuple[Border, ...]:
    """Conversions of the model's own tensors; an input that no operator reads, or is only handed on, needs none."""
    inner = {name for op in workload.ops for name in (*op.inputs, *op.outputs)} - (
        set(workload.inputs) if direction == "dequantize" else set()
    )
    found = []
    for name in dict.fromkeys(names):
        steps = system.interconnect.border(workload.tensor[name], direction) if name in inner else ()
        if steps:
            found.append(Border(name, tuple(_leaky_move(s, system) for s in steps)))
    return tuple(found)


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(CostTable)
