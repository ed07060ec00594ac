"""overflow_error: the error for a table and demands that no plan fits."""

from __future__ import annotations

from collections.abc import Sequence

from h4hc.costtypes import Capacity
from h4hc.errors import InfeasibleError, PlanError, Problem
from h4hc.planning.baselines import Allowed
from h4hc.planning.plan_cost import PlanCosts


def overflow_error(costs: PlanCosts, allowed: Allowed, demanded: bool) -> InfeasibleError:
    """Why no plan fits: only a weight store can be the reason, through operators with nowhere else to go.

    demanded: whether a --pin or --forbid of the user holds. Raises: PlanError when no store explains it.
    """
    problems = []
    for device in sorted(costs.capacity):
        cap = costs.capacity[device]
        if cap.unit_bytes is None:
            continue
        bound_here = _captives(costs, allowed, device)
        if bound_here:
            problems.append(_overflow_problem(costs, cap, bound_here, demanded))
    if not problems:
        raise PlanError("the solver found no plan, and no weight store explains it", hint="this is a bug of h4hc")
    return InfeasibleError.of(tuple(problems))


def _captives(costs: PlanCosts, allowed: Allowed, device: str) -> list[tuple[int, int]]:
    """(bytes, position) of operators that may run on `device` only, largest first; bytes in their leanest mode."""
    found = []
    for at, modes in enumerate(allowed):
        if all(m.device == device for m in modes):
            found.append((min(m.units * costs.unit_bytes[at][m] for m in modes), at))
    return sorted(found, key=lambda item: (-item[0], item[1]))


def _overflow_problem(costs: PlanCosts, cap: Capacity, captives: Sequence[tuple[int, int]], demanded: bool) -> Problem:
    assert cap.unit_bytes is not None
    demand, supply = sum(size for size, _ in captives), cap.units * cap.unit_bytes
    names = tuple(costs.ids[at] for _, at in captives)
    need = -(-demand // cap.unit_bytes)
    more = f"--set {cap.device}.macros={max(need, cap.units + 1)} or more (shares are rounded up in each macro)"
    levers = [more, f"a larger {cap.device}.bank_bits"]
    if demanded:
        levers.append("drop a --pin or --forbid of the operators named")
    return Problem(
        f"the weights of {len(names)} operators that can run only on {cap.device} do not fit",
        names,
        f"resource {cap.device} weight store: demand {demand} bytes, bound {supply} bytes "
        f"({cap.units} units of {cap.unit_bytes}); each operator's share must fit in single units",
        " or ".join(levers),
    )
