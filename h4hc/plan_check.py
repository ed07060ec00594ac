"""check_plan: is this assignment a legal plan, and does it cost what it says? Written apart from the solver.

Shares no code with partition.py or planning/: it walks the table, and reads pins and forbids, by itself.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from h4hc.assignment import Assignment, Status
from h4hc.cost import CostTable
from h4hc.costtypes import Interval
from h4hc.fault import Fault
from h4hc.schedule import Schedule
from h4hc.timeline_check import check_timeline
from h4hc.workload import Workload


def check_plan(
    workload: Workload,
    table: CostTable,
    assignment: Assignment,
    plan: Schedule,
    pins: tuple[str, ...] = (),
    forbids: tuple[str, ...] = (),
) -> tuple[Fault, ...]:
    """Every fault of a plan; empty for a good one.

    Rules: coverage (each operator once, in order, one step each on its device), order (every input made before it
    is read), legality (the mode is in the table), demands (pins and forbids), units (as many distinct ones as the
    mode uses), capacity (no unit over its bytes), convexity (the partitions form no cycle), totals (recomputed from
    the table at the nominal and the worst bounds, summed over the steps, and the objective's value), proof (bound <=
    value, and equal where optimality is claimed), budget (latency and energy in the case planned for). A parallel plan
    has the rules of `timeline_check` in place of totals.
    """
    faults = [*_coverage(workload, table, assignment), *_order(workload)]
    if faults:
        return tuple(faults)
    return (
        *_legality(table, assignment),
        *_demands(workload, assignment, pins, forbids),
        *_steps(assignment, plan),
        *_capacity(table, assignment),
        *_convexity(workload, plan),
        *(
            check_timeline(workload, table, assignment, plan)
            if assignment.schema == "parallel"
            else _totals(table, assignment, plan)
        ),
        *_proof(assignment),
        *_limits(table, assignment),
    )


def _coverage(workload: Workload, table: CostTable, assignment: Assignment) -> list[Fault]:
    placed = [p.op for p in assignment.placements]
    expected = [op.id for op in workload.ops]
    if placed != expected:
        missing, extra = set(expected) - set(placed), set(placed) - set(expected)
        return [Fault("coverage", tuple(sorted(missing | extra)), "placements are not the operators in order")]
    unknown = sorted(set(expected) - {row.op for row in table.rows})
    return [Fault("coverage", tuple(unknown), "operators without a row in the table")] if unknown else []


def _order(workload: Workload) -> list[Fault]:
    known = set(workload.inputs)
    faults = []
    for op in workload.ops:
        late = tuple(name for name in op.inputs if name not in known)
        if late:
            faults.append(Fault("order", (op.id, *late), "read before they are made"))
        known.update(op.outputs)
    return faults


def _legality(table: CostTable, assignment: Assignment) -> list[Fault]:
    faults = []
    for placement in assignment.placements:
        legal = [cost.mode for cost in table.row[placement.op].costs]
        if placement.mode not in legal:
            faults.append(Fault("legality", (placement.op,), f"mode {placement.mode.name} is not legal"))
    return faults


def _demands(
    workload: Workload, assignment: Assignment, pins: tuple[str, ...], forbids: tuple[str, ...]
) -> list[Fault]:
    faults = []
    for demand, must in (*((pin, True) for pin in pins), *((forbid, False) for forbid in forbids)):
        left, _, device = demand.rpartition("=")
        for op in workload.ops:
            mode = assignment.mode[op.id]
            meant = any(n == left or fnmatchcase(n, left) for n in (op.id, op.kind, *op.origin, *op.op_types))
            if meant and (device in (mode.device, mode.name)) != must:
                faults.append(Fault("demands", (op.id,), f"runs on {mode.name} against {demand!r}"))
    return faults


def _steps(assignment: Assignment, plan: Schedule) -> list[Fault]:
    """The op steps are the operators in order, each on its device; so are the partitions."""
    expected = [(p.op, p.mode.device) for p in assignment.placements]
    if [(s.subject, s.device) for s in plan.steps if s.kind == "op"] != expected:
        return [Fault("coverage", (), "the steps are not the operators in order on their devices")]
    if sorted((op, part.device) for part in plan.partitions for op in part.ops) != sorted(expected):
        return [Fault("coverage", (), "a partition holds an operator of another device")]
    return []


def _capacity(table: CostTable, assignment: Assignment) -> list[Fault]:
    faults = []
    load: dict[tuple[str, int], int] = {}
    store = {cap.device: cap for cap in table.capacities}
    for placement in assignment.placements:
        cap, mode = store.get(placement.mode.device), placement.mode
        if cap is None:
            continue  # no such device: a fault of legality
        if cap.units == 1 and cap.unit_bytes is None:
            if placement.units:
                faults.append(Fault("units", (placement.op,), f"{mode.device} has no units to hold weights"))
            continue
        if len(set(placement.units)) != mode.units or not all(0 <= u < cap.units for u in placement.units):
            faults.append(Fault("units", (placement.op,), f"{mode.name} on units {placement.units} of {cap.units}"))
        share = next((c.unit_weight_bytes for c in table.row[placement.op].costs if c.mode == mode), 0)
        for unit in placement.units:
            load[mode.device, unit] = load.get((mode.device, unit), 0) + share
    for (device, unit), held in sorted(load.items()):
        limit = store[device].unit_bytes
        if limit is not None and held > limit:
            faults.append(Fault("capacity", (f"{device}[{unit}]",), f"{held} bytes in a unit of {limit}"))
    return faults


def _convexity(workload: Workload, plan: Schedule) -> list[Fault]:
    home = {op: part.id for part in plan.partitions for op in part.ops}
    if sorted(home) != sorted(op.id for op in workload.ops):
        return [Fault("coverage", (), "partitions do not hold each operator once")]
    order = {part.id: at for at, part in enumerate(plan.partitions)}
    maker = {name: op.id for op in workload.ops for name in op.outputs}
    edges = [
        (home[maker[name]], home[op.id])
        for op in workload.ops
        for name in op.inputs
        if name in maker and home[maker[name]] != home[op.id]
    ]
    if all(order[before] < order[after] for before, after in edges):
        return []
    import networkx as nx  # 0.2 s: only to name the cycle of a broken plan

    graph = nx.DiGraph(edges)
    if nx.is_directed_acyclic_graph(graph):
        return [Fault("order", tuple(order), "partitions are listed in an order that cannot run")]
    cycle = [edge[0] for edge in nx.find_cycle(graph)]
    return [Fault("convexity", tuple(cycle), "partitions wait for each other")]


def _totals(table: CostTable, assignment: Assignment, plan: Schedule) -> list[Fault]:
    faults = []
    summed = _walk(table, assignment, "nominal", "nominal")
    claimed = (assignment.latency_ps, assignment.energy_pj)
    if claimed != summed:
        faults.append(Fault("totals", (), f"assignment says {claimed}, the table adds up to {summed}"))
    ledger = (sum(s.latency.nominal for s in plan.steps), sum(s.energy.nominal for s in plan.steps))
    if ledger != summed:
        faults.append(Fault("totals", (), f"the ledger sums to {ledger}, the table adds up to {summed}"))
    worst = _walk(table, assignment, "high", "low")
    ledger = (sum(s.latency.high for s in plan.steps), sum(s.energy.high for s in plan.steps))
    if ledger != worst:
        faults.append(Fault("totals", (), f"the ledger sums to {ledger} at worst, the table to {worst}"))
    latency, energy = worst if assignment.case == "worst" else summed
    value = {"latency": latency, "energy": energy, "edp": latency * energy}[assignment.objective]
    if assignment.value != value:
        faults.append(Fault("totals", (), f"the objective is said to be {assignment.value}, and is {value}"))
    return faults


def _walk(table: CostTable, assignment: Assignment, cost_bound: str, saving_bound: str) -> tuple[int, int]:
    """Latency and energy at one bound of each cost and of each saving, with a plain list of what is due."""
    device = {p.op: p.mode.device for p in assignment.placements}
    due: list[tuple[Interval, Interval]] = []
    saved: list[tuple[Interval, Interval]] = []
    hides = {(f.op, f.device): [(f.latency, f.energy)] for f in table.follow_ups}
    last = "host"
    for at, placement in enumerate(assignment.placements):
        now = placement.mode.device
        due += [(s.latency, s.energy) for s in table.switches if s.device == now and now not in (last, "host")]
        due += [(c.latency, c.energy) for c in table.row[placement.op].costs if c.mode == placement.mode]
        if at and now == last:
            saved += hides.get((placement.op, now), [])
        last = now
    for port in table.ports:
        source = device.get(port.producer, "host")
        for target in sorted({device.get(consumer, "host") for consumer in port.consumers}):
            steps = [s for m in port.moves if (m.src, m.dst) == (source, target) for s in m.steps]
            due += [(s.latency, s.energy) for s in steps]
    due += [(s.latency, s.energy) for border in (*table.arrivals, *table.departures) for s in border.steps]
    latency, energy = (
        sum(getattr(pair[i], cost_bound) for pair in due) - sum(getattr(pair[i], saving_bound) for pair in saved)
        for i in (0, 1)
    )
    return latency, energy


def _proof(assignment: Assignment) -> list[Fault]:
    if assignment.bound > assignment.value:
        return [Fault("proof", (), f"bound {assignment.bound} above value {assignment.value}")]
    if assignment.status is Status.OPTIMAL and assignment.bound != assignment.value:
        return [Fault("proof", (), f"called optimal with bound {assignment.bound} below {assignment.value}")]
    return []


def _limits(table: CostTable, assignment: Assignment) -> list[Fault]:
    """Budgets of latency and energy, and what is said of the goals; bytes are counted by `memory.check`."""
    bounds = ("high", "low") if assignment.case == "worst" else ("nominal", "nominal")
    latency, energy = _walk(table, assignment, *bounds)
    faults = []
    for name, taken, limit in (
        ("latency", latency, assignment.budget.latency_ps),
        ("energy", energy, assignment.budget.energy_pj),
    ):
        if limit is not None and taken > limit:
            faults.append(Fault("budget", (name,), f"{taken} taken, {limit} allowed"))
    values = {"latency": latency, "energy": energy, "edp": latency * energy}
    for stage in assignment.stages:
        if stage.value != values.get(stage.goal, stage.value) or stage.bound > stage.value:
            faults.append(Fault("proof", (stage.goal,), f"said to be {stage.value} with bound {stage.bound}"))
    return faults
