"""What layers and whole networks cost on one device, without placing anything: no solver, no choice of a device.

A layer of a table is costed by itself. A network runs on one device as far as it goes and on the host for the rest; its
total is the sum over its operators, less what hides behind the operator before (`CostTable.follow_ups`), as the NPU
vendor's compiler sums it. Cycles are latency * clock of the device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from h4hc.assignment import Assignment, Case, Objective, Placement, Status
from h4hc.cost import CostTable, OpRow, op_row
from h4hc.costtypes import ZERO, Cost, DeviceModel, Interval, Rejection
from h4hc.errors import H4hcError, InfeasibleError, Problem, UserError
from h4hc.layer_table import LayerRow
from h4hc.model_error import Errors
from h4hc.schedule import Schedule, schedule
from h4hc.system import HOST, System, no_device
from h4hc.units import PS_PER_S
from h4hc.vendor_names import NPU_FAMILY, Config, configured, npu
from h4hc.workload import Op, Workload

LANES = {"mac_array": "npu"}  # resources that the vendor's tables call otherwise


def cycles(latency_ps: int, clock_hz: int) -> float:
    """Time as cycles of a clock: ps * Hz / 1e12."""
    return latency_ps * clock_hz / PS_PER_S


def lane_cycles(cost: Cost) -> dict[str, float]:
    """Nominal cycles for which each resource that works in parallel is busy: npu (the array), sram, flash, ...

    Empty for a device without a clock.
    """
    lanes: dict[str, float] = {}
    for term in cost.terms if cost.clock_hz else ():
        if term.role == "parallel":
            name = LANES.get(term.resource, term.resource)
            lanes[name] = lanes.get(name, 0.0) + cycles(term.latency.nominal, cost.clock_hz)
    return lanes


# --- layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerCost:
    """One layer of a table on one device; cost is None where a rule refuses it.

    system: the one it was costed on; comparable: whether the row's reference columns speak of this device.
    """

    row: LayerRow
    system: str
    device: str
    cost: Cost | None
    refused: Rejection | None
    comparable: bool

    @property
    def total_cycles(self) -> float | None:
        """Nominal latency in cycles; None where there is no cost or no clock."""
        return cycles(self.cost.latency.nominal, self.cost.clock_hz) if self.cost and self.cost.clock_hz else None

    def error(self, lane: str) -> float | None:
        """Predicted / reference - 1 of `total`, `npu`, `sram` ...; None without a reference or one of zero."""
        reference = self.row.reference(lane) if self.comparable else None
        if not reference or self.cost is None or not self.cost.clock_hz:
            return None
        predicted = self.total_cycles if lane == "total" else lane_cycles(self.cost).get(lane, 0.0)
        assert predicted is not None
        return predicted / reference - 1


def cost_layers(
    rows: Sequence[LayerRow], target: str, sets: tuple[str, ...], device: str | None, name: str = "line "
) -> tuple[LayerCost, ...]:
    """Cost of every row on the NPU its names choose, that of `target` where it names none; or on `device` of `target`.

    A `device` that is an NPU stands for rows without names only: the others have an NPU of their own either way. Of
    several modes of a device the fastest counts. name: stands before a line's number in messages, "file:". Raises
    UserError for a device the target has not, and with the lines for names that are not known; what `load_system`
    raises for `target`, also where every row names another.
    """
    from h4hc.target_file import load_system

    own = load_system(target)  # without `sets`, which may be meant for the NPUs of the rows
    kind = NPU_FAMILY if device is None else own.device(device).family
    if kind != NPU_FAMILY or not any(row.named for row in rows):
        system = load_system(target, sets)
        chosen = npu(system) if device is None else system.device(device)
        return tuple(_layer_cost(row, system, chosen) for row in rows)
    systems = _systems(rows, target, sets, device, name)
    used = [systems[row.config] for row in rows]
    return tuple(_layer_cost(row, system, chosen) for row, (system, chosen) in zip(rows, used, strict=True))


def _systems(
    rows: Sequence[LayerRow], target: str, sets: tuple[str, ...], device: str | None, name: str
) -> dict[Config, tuple[System, DeviceModel]]:
    """System and NPU of each configuration that the rows name; all that cannot be had are told at once.

    device: the NPU of rows without names; None: the only one of the target.
    """
    lines: dict[Config, list[int]] = {}
    for row in rows:
        lines.setdefault(row.config, []).append(row.line)
    systems: dict[Config, tuple[System, DeviceModel]] = {}
    problems: list[Problem] = []
    for config, at in lines.items():
        try:
            system = configured(config, target, sets)
            systems[config] = system, npu(system) if config.text or device is None else system.device(device)
        except H4hcError as error:
            where = f"{name}{at[0]}" + (f" and {len(at) - 1} more" if len(at) > 1 else "")
            problems += [Problem(p.what, (where, *p.where), p.why, p.hint) for p in error.problems]
    if problems:
        raise UserError.of(tuple(problems))
    return systems


def _layer_cost(row: LayerRow, system: System, device: DeviceModel) -> LayerCost:
    workload = row.workload
    answers = op_row(workload.ops[0], system, workload)
    costs = [c for c in answers.costs if c.mode.device == device.name]
    refused = next((r for r in answers.rejections if r.mode.device == device.name), None)
    best = min(costs, key=lambda c: (c.latency.nominal, c.energy.nominal, c.mode.units), default=None)
    comparable = not row.named or device.family == NPU_FAMILY
    return LayerCost(row, system.name, device.name, best, None if best else refused, comparable)


@dataclass(frozen=True)
class KindError:
    """|predicted / reference - 1| over the layers of one kind: median, 95th percentile (nearest rank), worst."""

    kind: str
    layers: int
    median: float
    p95: float
    worst: float
    worst_layer: str


def errors_by_kind(costs: Iterable[LayerCost], lane: str = "total") -> tuple[KindError, ...]:
    """Errors of every kind that has references, by name; the last entry, `all`, is of all of them."""
    found: dict[str, list[tuple[float, str]]] = {}
    for cost in costs:
        error = cost.error(lane)
        if error is not None:
            entry = abs(error), cost.row.layer
            found.setdefault(cost.row.kind, []).append(entry)
    everything = [e for kind in sorted(found) for e in found[kind]]
    kinds = [_kind_error(kind, found[kind]) for kind in sorted(found)]
    return (*kinds, _kind_error("all", everything)) if everything else ()


def _kind_error(kind: str, errors: list[tuple[float, str]]) -> KindError:
    found = Errors.of(error for error, _ in errors)
    return KindError(kind, len(errors), found.median, found.p95, *max(errors))


# --- networks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpEstimate:
    """One operator in a network on one device. latency, energy: after what hides behind the operator before.

    hidden_ps: that part, nominal; refused: the rule for which it is on the host, "weight store full", or "".
    """

    op: Op
    cost: Cost
    latency: Interval
    energy: Interval
    hidden_ps: int
    refused: str


@dataclass(frozen=True)
class NetworkEstimate:
    """A network with all on `device` that it runs and holds, the rest on the host.

    here, host: sums over the operators there; between: moves, stays and the model's borders; the three make `latency`
    and `energy`. clock_hz: of the device, 0 without one.
    """

    device: str
    ops: tuple[OpEstimate, ...]
    here: tuple[Interval, Interval]
    host: tuple[Interval, Interval]
    between: tuple[Interval, Interval]
    clock_hz: int

    @property
    def latency(self) -> Interval:
        """Of the whole network [ps]."""
        return self.here[0] + self.host[0] + self.between[0]

    @property
    def energy(self) -> Interval:
        """Of the whole network [pJ]."""
        return self.here[1] + self.host[1] + self.between[1]


def estimate_network(workload: Workload, table: CostTable, device: str) -> NetworkEstimate:
    """Everything on `device` that may run there and fits, the rest on the host, in exact sums of the cost table.

    Raises InfeasibleError when an operator may run on neither; UserError for an unknown device.
    """
    from h4hc.planning.baselines import only
    from h4hc.planning.dominance import tight_devices
    from h4hc.planning.plan_cost import PlanCosts

    if all(capacity.device != device for capacity in table.capacities):
        raise no_device(table.system, device, (capacity.device for capacity in table.capacities))
    costs = PlanCosts(table)
    allowed = tuple(tuple(c.mode for c in row.costs if c.mode.device in (device, HOST)) for row in table.rows)
    plan = only(costs, allowed, tight_devices(costs, allowed), device)
    if isinstance(plan, str):
        raise InfeasibleError(f"the network does not run on {device} and the host alone", why=plan)
    modes, units = plan
    placements = tuple(
        Placement(op.id, mode, units.get(at, ())) for at, (op, mode) in enumerate(zip(workload.ops, modes, strict=True))
    )
    latency, energy = costs.total(modes)
    fixed = Status.FEASIBLE  # nothing is searched, so nothing is proved
    assignment = Assignment(
        Objective.LATENCY, Case.NOMINAL, placements, latency, energy, latency, 0, 1.0, fixed, "no choice"
    )
    return _summed(workload, table, device, assignment, schedule(workload, assignment, table))


def _summed(
    workload: Workload, table: CostTable, device: str, assignment: Assignment, plan: Schedule
) -> NetworkEstimate:
    steps = {step.subject: step for step in plan.steps if step.kind == "op"}
    rows = []
    for op in workload.ops:
        step, cost = steps[op.id], table.row[op.id].cost(assignment.mode[op.id])
        refused = "" if cost.mode.device == device else _refusal(table.row[op.id], device)
        hidden = cost.latency.nominal - step.latency.nominal
        rows.append(OpEstimate(op, cost, step.latency, step.energy, hidden, refused))
    ops: Mapping[bool, list[tuple[Interval, Interval]]] = {True: [], False: []}
    for row in rows:
        ops[row.cost.mode.device == device].append((row.latency, row.energy))
    between = [(step.latency, step.energy) for step in plan.steps if step.kind != "op"]
    clock_hz = max((r.cost.clock_hz for r in rows if r.cost.mode.device == device), default=0)
    return NetworkEstimate(device, tuple(rows), _sum(ops[True]), _sum(ops[False]), _sum(between), clock_hz)


def _refusal(row: OpRow, device: str) -> str:
    """Why an operator is not on a device: the rule it breaks there, or the weights before it left no room."""
    if any(cost.mode.device == device for cost in row.costs):
        return "weight store full"
    return next(f"{r.code}: {r.value}" for r in row.rejections if r.mode.device == device)


def _sum(pairs: Iterable[tuple[Interval, Interval]]) -> tuple[Interval, Interval]:
    return functools.reduce(lambda a, b: (a[0] + b[0], a[1] + b[1]), pairs, (ZERO, ZERO))
