"""Plans a person would draw by hand, on the same cost table: host-only, npu-only, cim-only, greedy per operator.

They are printed beside the chosen plan, and they are the solver's fallback: a plan is never worse than any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h4hc.costtypes import Mode
from h4hc.planning.plan_cost import Pair, PlanCosts, Weights
from h4hc.planning.stores import Stores, Units
from h4hc.system import HOST

Allowed = Sequence[Sequence[Mode]]
Tight = Mapping[str, bool]  # device -> whether its weight store can overflow (`dominance.tight_devices`)
Plan = tuple[tuple[Mode, ...], Units]  # modes by position, and the units that hold the weights


@dataclass(frozen=True)
class Baseline:
    """A named plan with its exact totals; modes is empty and `why` says why when there is no such plan."""

    name: str
    modes: tuple[Mode, ...]
    units: Units
    latency_ps: int
    energy_pj: int
    why: str = ""


def only(costs: PlanCosts, allowed: Allowed, tight: Tight, device: str) -> Plan | str:
    """Everything on `device` that may run there and fits, the rest on the host; a reason if the host may not.

    On `device` each operator takes its fastest mode; operators are offered in execution order, and one that no
    longer fits into the weight store goes to the host.
    """
    return _in_order(costs, allowed, tight, lambda at, modes: _prefer(costs, at, modes, device))


def greedy(costs: PlanCosts, allowed: Allowed, tight: Tight, value: Callable[[Pair], int]) -> Plan | str:
    """Each operator in its own cheapest mode that still fits, blind to moves and switches."""
    return _in_order(costs, allowed, tight, lambda at, modes: sorted(modes, key=lambda m: value(costs.op[at][m])))


def _prefer(costs: PlanCosts, at: int, modes: Sequence[Mode], device: str) -> list[Mode]:
    there = sorted((m for m in modes if m.device == device), key=lambda m: (costs.op[at][m], m.units))
    host = [m for m in modes if m.device == HOST and device != HOST]
    return [*there, *host]


def _in_order(
    costs: PlanCosts, allowed: Allowed, tight: Tight, rank: Callable[[int, Sequence[Mode]], list[Mode]]
) -> Plan | str:
    """Take each operator's best-ranked mode that fits into what is left of the stores."""
    chosen: list[Mode] = []
    stores = Stores(costs, tight)
    for at, modes in enumerate(allowed):
        mode = next((m for m in rank(at, modes) if stores.place(at, m)), None)
        if mode is None:
            return f"{costs.ids[at]} may run on none of its devices, or no longer fits"
        chosen.append(mode)
    return tuple(chosen), stores.units(chosen)


def improve(costs: PlanCosts, allowed: Allowed, tight: Tight, start: Plan, weights: Weights) -> Plan:
    """Descend by single moves until none helps: (objective, then latency + energy, then the order of modes).

    Exact integers throughout, so on the solver's plan this removes what its tolerances left and makes ties
    fall the same way each time. Capacity is respected; operators are visited in execution order, after the first
    pass those alone for which something changed: a neighbour, or the store that had no room for them.
    """
    modes = list(start[0])
    devices = [m.device for m in modes]
    stores = Stores(costs, tight)
    stores.fill(modes, start[1])
    todo = {at for at, options in enumerate(allowed) if len(options) > 1}
    crowded: set[int] = set()  # operators that a store had no room for
    while todo:
        visit, todo, changed = sorted(todo), set(), False
        for at in visit:
            old, crowded = modes[at], crowded - {at}
            for mode in _better_modes(costs, allowed[at], at, modes[at], devices, weights):
                if stores.place(at, mode):
                    modes[at], devices[at] = mode, mode.device
                    break
                crowded.add(at)
            if modes[at] != old:
                changed = True
                todo |= {n for n in costs.neighbours(at) if len(allowed[n]) > 1}
        if changed:
            todo |= crowded
    return tuple(modes), stores.units(modes)


def _better_modes(
    costs: PlanCosts, options: Sequence[Mode], at: int, now: Mode, devices: list[str], weights: Weights
) -> list[Mode]:
    """Modes of one operator that beat the one it has, all else as it is, best first."""
    elsewhere: dict[str, Pair] = {}
    for device in {m.device for m in options}:
        devices[at] = device
        elsewhere[device] = costs.elsewhere(at, devices)
    devices[at] = now.device

    def key(mode: Mode) -> tuple[int, int, int]:
        own, rest = costs.op[at][mode], elsewhere[mode.device]
        pair = own[0] + rest[0], own[1] + rest[1]
        return weights.of(pair), pair[0] + pair[1], options.index(mode)

    ranked = sorted((key(mode), mode) for mode in options)
    mine = key(now)
    return [mode for rank, mode in ranked if rank < mine]


def baselines(costs: PlanCosts, allowed: Allowed, tight: Tight, value: Callable[[Pair], int]) -> tuple[Baseline, ...]:
    """All baselines, sorted by name: one for each device of the system, and greedy by `value` of (ps, pJ)."""
    plans: dict[str, Plan | str] = {f"{device}-only": only(costs, allowed, tight, device) for device in costs.capacity}
    plans["greedy"] = greedy(costs, allowed, tight, value)
    return tuple(_baseline(costs, name, plans[name]) for name in sorted(plans))


def _baseline(costs: PlanCosts, name: str, plan: Plan | str) -> Baseline:
    if isinstance(plan, str):
        return Baseline(name, (), {}, 0, 0, plan)
    return Baseline(name, *plan, *costs.total(plan[0]))
